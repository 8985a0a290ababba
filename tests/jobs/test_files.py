"""A file under its final name is complete, and has one owner."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import HANGS, until
from slicesampling.jobs.files import own, replacing, write_text

LIBRARY = str(Path(__file__).parents[2] / "workflow/scripts")


def test_a_failure_leaves_the_old_file_and_no_scratch(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    write_text(path, "old")
    with pytest.raises(RuntimeError, match=r"\.tsv"), replacing(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise RuntimeError(temporary.suffix)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"full.*table\.tsv"), replacing(tmp_path / "table.tsv"):
        raise OSError(errno.ENOSPC, "full")


def test_a_folder_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    for name in ("first", "second"):
        with replacing(tmp_path / "shard0") as folder:
            folder.mkdir()
            (folder / name).touch()
    assert [path.name for path in (tmp_path / "shard0").iterdir()] == ["second"]


OWNER = """
import signal, sys
from slicesampling.jobs.files import own
own(sys.argv[1], sys.argv[2])
print("owned", flush=True)
signal.pause()
"""


def test_one_process_at_a_time_owns_a_file_and_death_frees_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "checkpoints/uss-1.owner"
    command = [sys.executable, "-c", OWNER, str(path), "SLURM job 7"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": LIBRARY}) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"owned\n"
        owned: list[int] = []
        second = threading.Thread(target=lambda: owned.append(own(path, "SLURM job 8")))
        second.start()
        until(lambda: "waiting for SLURM job 7, which runs the same job" in caplog.text)
        assert owned == []
        first.kill()
    second.join(HANGS)
    assert path.read_text() == "SLURM job 8"
    os.close(owned[0])
