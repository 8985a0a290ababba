"""Names are text: volumes, patients and sites may be called what a reader of tables takes for something else."""

import csv
from pathlib import Path

import pytest
from conftest import SMALLEST, snakemake
from slicesampling.domain.records import read_table, write_table

ODD = sorted(("NA", "null", "007", "1e5", "None", "nan", "TRUE", "7", "100000"))
"""For missing values, numbers, the same number twice and a truth value; in the order of the plain names."""
ODD_SITES = ["NA", "null"]


def cells(path: Path, names: dict[str, str]) -> list[list[str]]:
    """Return the cells of a table, with each name that stands alone in a cell replaced."""
    with path.open(newline="") as file:
        rows = csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        return [[names.get(cell, cell) for cell in row] for row in rows]


@pytest.mark.slow
def test_odd_names_give_the_tables_of_plain_ones(run: Path, tmp_path: Path) -> None:
    """With dropout that drops nothing, because what it drops follows from the names of volumes."""
    cohort = read_table(run / "results/cohort/cohort.tsv").sort_values("volume").reset_index(drop=True)
    for column in ("image", "label"):
        cohort[column] = [str(run / path) for path in cohort[column]]
    cohort = cohort[cohort["volume"].isin(read_table(run / "results/cohort/volumes.tsv")["volume"])].head(len(ODD))
    plain = {
        "volume": [f"volume{number}" for number in range(len(cohort))],
        "patient": [f"patient{number}" for number in range(len(cohort))],
        "site": [f"area{number % 2}" for number in range(len(cohort))],
    }
    odd = {
        "volume": ODD[: len(cohort)],
        "patient": ODD[: len(cohort)],
        "site": [ODD_SITES[number % 2] for number in range(len(cohort))],
    }
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("{iterations: 1, network: {aunet: {dropout: 1.0e-12}}}")
    for kind, names in (("plain", plain), ("odd", odd)):
        write_table(tmp_path / f"{kind}.tsv", cohort.assign(**names))
        arguments = [*SMALLEST, str(overlay), "--config", f"cohort={tmp_path / kind}.tsv"]
        snakemake(tmp_path / kind, *arguments)
    other = {"site area0": f"site {ODD_SITES[0]}", "site area1": f"site {ODD_SITES[1]}"}
    for column in plain:
        other.update(zip(plain[column], odd[column], strict=True))
    compared = [
        path.relative_to(tmp_path / "plain")
        for pattern in ("tables/*.csv", "queries/**/*.tsv", "annotations/**/*.tsv", "evaluation/**/*.tsv")
        for path in sorted((tmp_path / "plain/results").glob(pattern))
    ]
    assert len(compared) > 30
    for path in compared:
        assert cells(tmp_path / "odd" / path, {}) == cells(tmp_path / "plain" / path, other), path
    assert {row[0] for row in cells(tmp_path / "odd/results/tables/table1_cohort.csv", {})[1:]} >= set(ODD_SITES)
