"""The real workflow with people: a scripted annotator who answers as the reference ends as the simulated one does."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
import yaml
from commands import COMMAND
from conftest import SMALLEST, Shared, job_counts, snakemake
from scans import grid_of, write_nifti
from slicesampling.answers.rounds import open_round, unanswered
from slicesampling.answers.store import CANNOT_TELL, MASK, NO_STRUCTURE, Answer, Answers, to_runs
from slicesampling.cohort.table import initial_set
from slicesampling.cohort.volumes import load_preprocessed, read_canonical_mask, volume_folders
from slicesampling.domain.records import read_table
from slicesampling.phantom.files import write_volume
from slicesampling.phantom.sites import plan_cohort

ROUNDS = 3
SETTINGS: dict[str, Any] = {
    "strategies": ["uss"],
    "custom_strategies": {},
    "iterations": ROUNDS,
    "slices_per_iteration": 4,
}
WAITS = "Round {}: 4 slices of {} wait for annotation. Run make annotate, then the same command again."


def overlay(folder: Path, **settings: Any) -> list[str]:
    """Return the arguments of a run in `folder` with further settings."""
    path = folder / "overlay.yaml"
    path.write_text(yaml.safe_dump(SETTINGS | settings))
    return [*SMALLEST, str(path)]


def command(folder: Path, *arguments: str, code: int = 0) -> str:
    """Run slicesampling answers in `folder`, and return what it printed."""
    line = [sys.executable, "-m", COMMAND, "answers", *arguments]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def cohort(shared: Shared) -> pd.DataFrame:
    """The phantom of the smallest run as files, and the table of its volumes."""
    with Path(SMALLEST[1]).open(encoding="utf-8") as file:
        settings = {"seed": 1, "hard_cases": 0.1, **yaml.safe_load(file)["phantom"], "excluded": 0}

    def write(folder: Path) -> None:
        table = plan_cohort(settings, str(folder))
        for row in table.to_dict("records"):
            write_volume(row, settings)
        table.to_csv(folder / "cohort.tsv", sep="\t", index=False)

    return read_table(shared("phantom", write) / "cohort.tsv")


def answer(name: str, row: Any, mask: np.ndarray, annotator: str = "anna", what: str | None = None) -> Answer:
    what = what or (MASK if mask.any() else NO_STRUCTURE)
    moments = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"
    return Answer(name, row.volume, row.slice, annotator, what, mask.shape, to_runs(mask), 30.0, *moments, row.start)


@pytest.mark.slow
def test_people_who_answer_as_the_reference_end_with_the_models_of_the_simulated_annotator(
    cohort: pd.DataFrame, tmp_path: Path
) -> None:
    """Three rounds through Snakemake: the same ledgers and weights, bit for bit; then all volumes are segmented."""
    simulated, people = tmp_path / "simulated", tmp_path / "people"
    for folder in (simulated, people):
        folder.mkdir()
    cohort.to_csv(tmp_path / "full.tsv", sep="\t", index=False)
    last = f"results/models/seed1/uss-{ROUNDS}-converged/model.pt"
    snakemake(simulated, last, *overlay(simulated, cohort=str(tmp_path / "full.tsv")))

    pool = cohort.loc[cohort["split"] == "pool", "volume"]
    given = initial_set(pool, 1, 1)
    partly = cohort[cohort["split"] != "test"].copy()
    partly.loc[(partly["split"] == "pool") & ~partly["volume"].isin(given), "label"] = ""
    partly.to_csv(tmp_path / "partly.tsv", sep="\t", index=False)
    arguments = overlay(people, cohort=str(tmp_path / "partly.tsv"), annotator="people")
    references = volume_folders(simulated.glob("results/preprocessed/shard*[0-9]"))
    for number in range(1, ROUNDS + 1):
        output = snakemake(people, *arguments)
        lists, answers = people / "results/work_lists", Answers(people / "annotations")
        name = open_round(lists, answers)
        assert name == f"uss-{number}"
        asked = read_table(lists / f"{name}.tsv")
        volumes = asked["volume"].nunique()
        line = WAITS.format(number, "1 volume" if volumes == 1 else f"{volumes} volumes")
        assert output.count(line) == 1
        for again in (snakemake(people, *arguments), snakemake(people, *arguments, "--dry-run")):
            assert line in again
            assert "Nothing to be done" in again
        masks = (people / f"results/proposals/{name}").glob("*.nii.gz")
        proposals = {path.name.removesuffix(".nii.gz") for path in masks}
        assert proposals == set(asked.loc[asked["start"] == "proposal", "volume"])
        assert "has no answer yet" in command(people, "close", code=1)
        for row in asked.itertuples():
            mask = load_preprocessed(references[str(row.volume)]).mask[row.slice] == 1
            for annotator in ("anna", "ben")[: int(str(row.people))]:
                answers.add(answer(name, row, mask, annotator))
        assert unanswered(asked, answers).empty
        assert "all slices are annotated" in command(people, "status")
        command(people, "close")
        assert "no round is open" in command(people, "close", code=1)
    output = snakemake(people, *arguments)
    assert "People have ended the loop" in output
    assert "Nothing to be done" in snakemake(people, *arguments)
    for model in ("initial", *(f"uss-{number}" for number in range(1, ROUNDS + 1))):
        for file in (f"annotations/seed1/{model}.tsv", f"models/seed1/{model}/model.pt"):
            assert (people / "results" / file).read_bytes() == (simulated / "results" / file).read_bytes(), file
    assert (people / last).read_bytes() == (simulated / last).read_bytes()

    review = read_table(people / "results/review.tsv")
    assert set(review["volume"]) == set(partly["volume"])
    assert review["uncertainty"].is_monotonic_decreasing
    page = (people / "results/annotation.html").read_text(encoding="utf-8")
    assert "This run has no table2_annotations" in page
    assert "power law" in page
    assert (people / "results/tables/table1_cohort.md").exists()
    assert not (people / "results/tables/table4_dice.md").exists()
    line = [sys.executable, "-m", COMMAND, "export", f"uss-{ROUNDS}-converged", "--to", "exported"]
    subprocess.run(line, cwd=people, check=True, capture_output=True)
    for volume in partly["volume"]:
        image = nibabel.load(people / f"exported/{volume}.nii.gz")
        segmented = next(people.glob(f"results/segmentations/seed1/*/shard*/{volume}.nii.gz"))
        assert np.asarray(image.dataobj).any() == read_canonical_mask(segmented).any()


@pytest.mark.slow
def test_people_begin_without_any_mask_of_the_pool_and_end_when_they_like(tmp_path: Path) -> None:
    """One volume for validation, annotated in part, is all that has a mask; one to test has none."""
    rows = []
    for number, split in enumerate(["pool", "pool", "val", "test"]):
        shape = (40 + number, 60, 60)
        z, y, x = np.indices(shape)
        liver = ((z - 20) / 12) ** 2 + ((y - 25) / 14) ** 2 + ((x - 20) / 12) ** 2 < 1
        body = ((y - 30) / 28) ** 2 + ((x - 30) / 28) ** 2 < 1
        image = np.where(liver, 120, np.where(body, 20, -1000)).astype(np.int16)
        labels = liver.astype(np.uint8)
        labels[30:] = 7
        grid = grid_of(shape, (6.0, 4.0, 4.0))
        files = [write_nifti(tmp_path / f"{name}{number}.nii", array, grid) for name, array in
                 (("ct", image), ("liver", labels))]  # fmt: skip
        label, ignored = (str(files[1]), "7") if split == "val" else ("", "")
        rows.append([f"v{number}", f"p{number}", "here", split, str(files[0]), label, ignored])
    columns = ["volume", "patient", "site", "split", "image", "label", "ignore_value"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "cohort.tsv", sep="\t", index=False)
    settings = {"cohort": "cohort.tsv", "annotator": "people", "initial_volumes": 2}
    arguments = overlay(tmp_path, **settings, people={"initial_slices": 6, "twice": 0.5})
    output = snakemake(tmp_path, *arguments)
    assert "First round: 6 slices of 2 volumes wait for annotation. Run make annotate" in output
    assert "train" not in job_counts(output)
    lists, answers = tmp_path / "results/work_lists", Answers(tmp_path / "annotations")
    asked = read_table(lists / "initial.tsv")
    assert asked["people"].value_counts().to_dict() == {1: 3, 2: 3}
    assert set(asked["start"]) == {"empty"}
    assert "nothing is annotated" in command(tmp_path, "finish", code=1)
    folders = volume_folders(tmp_path.glob("results/preprocessed/shard*[0-9]"))
    for row in list(asked.itertuples())[:5]:
        bright = load_preprocessed(folders[str(row.volume)]).image[row.slice] > 70
        told = CANNOT_TELL if row.rank == 4 else None
        answers.add(answer("initial", row, np.zeros_like(bright) if told else bright, what=told))
    command(tmp_path, "close")  # early
    output = snakemake(tmp_path, *arguments)
    assert "Round 1: 4 slices of" in output
    ledger = read_table(tmp_path / "results/annotations/seed1/initial.tsv")
    assert ledger[["volume", "slice"]].to_numpy().tolist() == asked[["volume", "slice"]].head(4).to_numpy().tolist()
    again = read_table(lists / "uss-1.tsv").merge(asked.head(5), on=["volume", "slice"])
    assert again.empty  # nobody is asked again, also where nobody could tell
    command(tmp_path, "finish")
    output = snakemake(tmp_path, *arguments)
    assert "People have ended the loop" in output
    assert len(list(tmp_path.glob("results/segmentations/seed1/initial-converged/shard*/*.nii.gz"))) == 4
    assert set(read_table(tmp_path / "results/review.tsv")["volume"]) == {"v0", "v1", "v2", "v3"}
    assert "people have ended the loop" in command(tmp_path, "status")
    assert "delete this file to continue" in command(tmp_path, "close", code=1)
