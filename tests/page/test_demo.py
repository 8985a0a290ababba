"""Laws of `make annotate-demo`: a run that has ended is the page's to try, and stays as it is."""

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path

import torch
from commands import COMMAND
from conftest import SMALLEST
from slicesampling.answers.store import NO_STRUCTURE, Answers
from slicesampling.cohort.volumes import load_preprocessed, read_canonical_mask, volume_folders
from slicesampling.domain.records import read_table
from slicesampling.learning.compute import Compute
from slicesampling.learning.inference import LIVER
from slicesampling.learning.networks.interface import load_model
from slicesampling.page.work import Work

LINE = [sys.executable, "-u", "-m", COMMAND, "annotate", *SMALLEST, "--port", "0"]


@contextmanager
def served(run: Path, folder: Path) -> Iterator[list[str]]:
    """Serve the slices of `run` from `folder`, and give what was printed, with the address in the last line."""
    command = [*LINE, "--directory", str(run), "--demo", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines: list[str] = []
        assert process.stdout
        while not lines or "http://" not in lines[-1]:
            line = process.stdout.readline()
            assert line, "".join(lines)
            lines.append(line)
        try:
            yield lines
        finally:
            process.kill()


def refused(run: Path, folder: Path) -> str:
    done = subprocess.run(
        [*LINE, "--directory", str(run), "--demo", str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_a_run_that_has_ended_is_there_to_try_and_stays_as_it_is(run: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (run / "results").rglob("*")}
    folder = tmp_path / "try"
    with served(run, folder) as lines:
        assert "are not used for training" in lines[0]
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        with browser.open(lines[-1].split()[-1]) as page:
            assert b"<title>Annotate</title>" in page.read()
    query = read_table(run / "results/queries/seed1/uss-1.tsv")
    asked = read_table(folder / "results/work_lists/uss-1.tsv")
    assert asked[["volume", "slice", "rank"]].equals(query[["volume", "slice", "rank"]].head(12))
    assert set(asked["people"]) == {1}
    proposals = {path.name.removesuffix(".nii.gz"): path for path in folder.glob("results/proposals/uss-1/*")}
    assert set(proposals) == set(asked.loc[asked["start"] == "proposal", "volume"])
    model = load_model(run / "results/models/seed1/initial/model.pt", Compute(torch.device("cpu"), tile_memory=2**30))
    for volume, path in proposals.items():
        image = load_preprocessed(volume_folders(run.glob("results/preprocessed/shard*[0-9]"))[volume]).image
        assert (read_canonical_mask(path) == (model.probability(torch.tensor(image)) > LIVER).numpy()).all()

    work = Work(folder / "results", folder / "annotations", 20)
    opened = work.open("Anna", "tab")
    given = {name: opened["item"][name] for name in ("round", "volume", "slice")}
    answer = {
        "answer": NO_STRUCTURE,
        "runs": [],
        "seconds": 1,
        "start": "empty",
        "comment": "",
        "opened": opened["opened"],
    }
    work.answer({**given, **answer, "annotator": "Anna"})
    with served(run, folder) as lines:  # again: what was drawn is kept
        assert "Continuing with" in lines[0]
    assert len(Answers(folder / "annotations").all) == 1
    assert {path: path.stat().st_mtime_ns for path in (run / "results").rglob("*")} == before


def test_where_there_is_nothing_to_try_a_line_says_what_to_do(tmp_path: Path) -> None:
    assert "uss-1.tsv: does not exist; run make demo first" in refused(tmp_path, tmp_path / "try")
    assert not (tmp_path / "try").exists()
    (tmp_path / "results").mkdir()
    assert "accepted: a folder outside of it" in refused(tmp_path, tmp_path / "results/try")
