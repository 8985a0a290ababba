"""Laws of the study's records: what is collected of runs, and what can be laid out again from it."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import ROOT, SMALLEST, snakemake

sys.path.insert(0, str(ROOT / "benchmarks"))
import study
import study_equal_steps

MADE = ["tables", "table", "plot", "paper_comparison", "overview", "claims"]


@pytest.fixture
def records(tmp_path: Path) -> Path:
    return tmp_path / "records"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_what_was_collected_twice_is_there_once_and_comes_back_as_it_was(
    run: Path, records: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        study.collect(run / "results", records)
    study.restore(tmp_path / "again/results", records)
    for part in ("evaluation", "cohort"):
        restored = contents(tmp_path / "again/results" / part)
        assert restored
        assert restored.items() <= contents(run / "results" / part).items()
    last = pd.read_csv(run / "results/annotations/seed1/uss-2.tsv", sep="\t")
    assert pd.read_csv(tmp_path / "again/results/annotations/seed1/uss-2.tsv", sep="\t").equals(last)


def test_runs_add_up_and_a_later_one_replaces_its_strategies(run: Path, records: Path, tmp_path: Path) -> None:
    study.collect(run / "results", records)
    first = study.read(records / "metrics.tsv.xz")
    other = tmp_path / "other/results"
    study.restore(other, records)
    for name in study.RECORDS:
        table = study.read(other / f"evaluation/{name}.tsv")
        study.write(table[table["strategy"] == "uss"].assign(seed="2"), other / f"evaluation/{name}.tsv")
    study.collect(other, records)
    both = study.read(records / "metrics.tsv.xz")
    assert both.head(len(first)).equals(first)
    assert set(both["seed"].tail(len(both) - len(first))) == {"2"}
    assert len(both) - len(first) == (first["strategy"] == "uss").sum()


def test_only_strategies_that_all_seeds_have_come_back(run: Path, records: Path, tmp_path: Path) -> None:
    study.collect(run / "results", records)
    study.restore(tmp_path / "begun/results", records)
    begun = tmp_path / "begun/results/annotations/seed2/uss-1.tsv"
    begun.parent.mkdir()
    shutil.copy(run / "results/annotations/seed1/uss-1.tsv", begun)
    study.collect(tmp_path / "begun/results", records)
    ledgers = study.read(records / "ledgers.tsv.xz")
    assert study.complete(ledgers) == ([1], ["uvs", "uss"])
    second = ledgers[ledgers["strategy"] == "uss"].assign(seed="2")
    study.write(pd.concat([ledgers, second]), records / "ledgers.tsv.xz")
    study.restore(tmp_path / "again/results", records)
    recorded = (tmp_path / "again/recorded.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(recorded) == {"seeds": [1, 2], "strategies": ["uss"]}
    metrics = study.read(tmp_path / "again/results/evaluation/metrics.tsv")
    assert set(metrics["strategy"]) == {"initial", "uss", "pool"}
    assert not list((tmp_path / "again/results/annotations").glob("*/uvs-*.tsv"))


def test_a_run_of_other_volumes_is_refused(run: Path, records: Path, tmp_path: Path) -> None:
    study.collect(run / "results", records)
    study.restore(tmp_path / "other/results", records)
    path = tmp_path / "other/results/cohort/cohort.tsv"
    path.write_text(path.read_text(encoding="utf-8").replace("p001", "p009"), encoding="utf-8")
    with pytest.raises(SystemExit, match=r"cohort/cohort\.tsv: is not what .* holds"):
        study.collect(tmp_path / "other/results", records)


def test_a_run_may_know_more_of_its_volumes_than_the_records(run: Path, records: Path) -> None:
    study.collect(run / "results", records)
    now = study.read(records / "volumes.tsv.xz")
    study.write(now.drop(columns="touches"), records / "volumes.tsv.xz")
    study.collect(run / "results", records)
    assert study.read(records / "volumes.tsv.xz").equals(now)


@pytest.mark.parametrize("act", [study.collect, study.restore])
def test_a_folder_without_tables_is_refused_in_a_line(tmp_path: Path, act: Callable[[Path, Path], None]) -> None:
    with pytest.raises(SystemExit, match=r"error: .*\.tsv(\.xz)?: is missing; accepted: the folder of a run"):
        act(tmp_path / "results", tmp_path / "records")
    with pytest.raises(SystemExit, match="holds no evaluated model; accepted: the folder of a run"):
        list(study.evaluated(tmp_path))


@pytest.mark.slow
def test_the_tables_of_the_records_are_those_of_the_run(run: Path, records: Path, tmp_path: Path) -> None:
    study.collect(run / "results", records)
    study.restore(tmp_path / "again/results", records)
    recorded = str(tmp_path / "again/recorded.yaml")
    snakemake(
        tmp_path / "again", *SMALLEST, recorded, "--allowed-rules", *MADE, "--rerun-triggers", "mtime", "--", "tables"
    )
    made = contents(tmp_path / "again/results/tables")
    assert made == contents(run / "results/tables")
    for page in ("overview", "claims", "this_run_and_the_paper"):
        assert (tmp_path / f"again/results/{page}.html").read_bytes() == (run / f"results/{page}.html").read_bytes()


@pytest.mark.parametrize(
    ("compare", "rows"), [(study_equal_steps.compare, 5), (study_equal_steps.compare_iterations, 2)]
)
def test_the_page_of_the_study_has_the_tables_of_equal_steps(
    capsys: pytest.CaptureFixture[str], compare: Callable[[], None], rows: int
) -> None:
    def cells(text: str) -> list[list[str]]:
        return [[cell.strip() for cell in line.split("|")] for line in text.splitlines() if line.startswith("|")]

    compare()
    written = cells((ROOT / "docs/study.md").read_text(encoding="utf-8"))
    printed = cells(capsys.readouterr().out)[2:]
    assert len(printed) == rows
    assert [row for row in printed if row not in written] == []


def test_make_names_the_rules_that_need_only_records() -> None:
    makefile = subprocess.run(["make", "-n", "study-tables"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"--allowed-rules {' '.join(MADE)} " in makefile.stdout
