"""What failed jobs said is told last, once each, and nothing else."""

from pathlib import Path

import pytest
from slicesampling.jobs.failures import MOST_LINES, failures

BLOCK = """[Sat Nov 28 10:17:18 2026]
Error in rule {rule}:
    message: None
    jobid: 2
    input: a, b, {rule}, c
    output: results/x
    log: {log} (check log file(s) for error details)
"""


def told(folder: Path, logs: dict[str, str], blocks: list[tuple[str, str]]) -> str:
    text = "Error in rule of no job\n" + "".join(BLOCK.format(rule=rule, log=log) for rule, log in blocks)
    (folder / "snakemake.log").write_text(text, encoding="utf-8")
    for name, content in logs.items():
        (folder / name).write_text(content, encoding="utf-8")
    return failures([folder / "snakemake.log"], folder)


def test_each_failed_job_is_told_once_in_its_own_words(tmp_path: Path) -> None:
    logs = {
        "check.log": "INFO begun\nerror: first attempt\nINFO again\nerror: t.tsv: 2 faults\n  row 2\n  row 3\n",
        "train.log": "INFO begun\nTraceback (most recent call last):\n  File x\nValueError: is odd\n",
        "mended.log": "INFO begun\nINFO ended\n",
    }
    blocks = [("check", "check.log"), ("train", "train.log"), ("train", "train.log"), ("mended", "mended.log")]
    blocks += [("killed", "there-is-none.log")]
    assert told(tmp_path, logs, blocks) == (
        "check failed, see check.log\nerror: t.tsv: 2 faults\n  row 2\n  row 3\n\n"
        "train failed, see train.log\nerror: ValueError: is odd"
    )
    assert told(tmp_path, {}, []) == ""


def test_logs_that_cannot_be_read_hide_no_others(tmp_path: Path) -> None:
    (tmp_path / "b.log").write_bytes(b"\xff\nerror: \xe9t\xe9.nii: is missing")
    blocks = "".join(BLOCK.format(rule=rule, log=f"{rule}.log") for rule in "ab")
    (tmp_path / "snakemake.log").write_bytes(b"\xff\n" + blocks.encode())
    (tmp_path / "a.log").mkdir()
    said = failures([tmp_path / "none.log", tmp_path / "snakemake.log"], tmp_path)
    assert said == "b failed, see b.log\nerror: \ufffdt\ufffd.nii: is missing"


@pytest.mark.parametrize(("lines", "more"), [(MOST_LINES, ""), (MOST_LINES + 3, "  … and 3 more lines")])
def test_long_lists_are_cut(tmp_path: Path, lines: int, more: str) -> None:
    content = "\n".join(["error: many faults", *(f"  row {k}" for k in range(2, lines + 1))])
    said = told(tmp_path, {"a.log": content}, [("check", "a.log")]).splitlines()
    assert said[1 : MOST_LINES + 1] == content.splitlines()[:MOST_LINES]
    assert said[MOST_LINES + 1 :] == [more] * bool(more)
