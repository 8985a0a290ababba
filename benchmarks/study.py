"""Keep what the study has measured, and lay its tables and figures out again without a training.

    .venv/bin/python benchmarks/study.py collect ../study    # add what a run of `make study` has measured to docs/study
    .venv/bin/python benchmarks/study.py restore ../again    # write it where the workflow expects it, and recorded.yaml

A study takes hours, and its seeds are independent of each other. So they can be run one after the other, also on
several machines, with some strategies first and others later: what each run has measured is added to what is there.
Rows of the same seed and strategy are replaced. After `restore`, `make study-tables` makes every table and figure that
needs no image.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import common  # noqa: F401 - finds the library
import pandas as pd
import yaml
from slicesampling.domain.records import read_cells

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "docs/study"
CONFIGURATION = ROOT / "config/study.yaml"
RECORDS = ("metrics", "training", "annotations", "composition", "error_detection", "calibration")
"""Tables of results/evaluation with a row for each seed, strategy and whatever is measured."""
ONCE = {"cohort": "cohort/cohort", "volumes": "cohort/volumes", "grid_limit": "evaluation/grid_limit"}
"""Tables that are the same for all seeds."""
LEDGER = "ledgers"


def collect(results: Path, records: Path = STUDY) -> None:
    """Add what a run has measured to the folder `records`; refuse a run of other volumes."""
    for name, path in ONCE.items():
        table, kept = read(results / f"{path}.tsv"), records / f"{name}.tsv.xz"
        if kept.exists():
            known = read(kept)
            # A later version may have added columns; those that were there have to be the same.
            if not table.reindex(columns=known.columns).equals(known):
                sys.exit(f"error: {results / path}.tsv: is not what {kept} holds; accepted: a run of the same volumes")
        write(table, kept)
    for name in RECORDS:
        add(read(results / f"evaluation/{name}.tsv"), records / f"{name}.tsv.xz")
    kept = pd.concat(ledgers(results))
    ended = pd.MultiIndex.from_frame(read(results / "evaluation/metrics.tsv")[["seed", "strategy"]])
    # Not those of seeds and strategies that the run has only begun.
    add(kept[pd.MultiIndex.from_frame(kept[["seed", "strategy"]]).isin(ended)], records / f"{LEDGER}.tsv.xz")


def ledgers(results: Path) -> list[pd.DataFrame]:
    """Return the longest ledger of each seed and strategy, with both as columns."""
    found: dict[tuple[int, str], tuple[int, Path]] = {}
    for path in results.glob("annotations/seed*/*-*.tsv"):
        strategy, _, iteration = path.stem.rpartition("-")
        key = int(path.parent.name.removeprefix("seed")), strategy
        found[key] = max(found.get(key, (0, path)), (int(iteration), path))
    return [
        read(path).assign(seed=str(seed), strategy=strategy) for (seed, strategy), (_, path) in sorted(found.items())
    ]


def evaluated(run: Path) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield the metrics of each model of a run, a shard at a time: seed, model and table."""
    shards = sorted(run.glob("results/evaluation/seed*/*/shard*.tsv"))
    if not shards:
        sys.exit(f"error: {run}: holds no evaluated model; accepted: the folder of a run, in which results/ lies")
    for path in shards:
        yield path.parts[-3].removeprefix("seed"), path.parts[-2], read(path)


def add(new: pd.DataFrame, path: Path, keys: Sequence[str] = ("seed", "strategy")) -> None:
    """Put the rows of `new` in the place of those with the same `keys`."""
    keys = list(keys)
    if path.exists():
        old = read(path)
        replaced = pd.MultiIndex.from_frame(old[keys]).isin(pd.MultiIndex.from_frame(new[keys]))
        new = pd.concat([old[~replaced], new])
    write(new.iloc[pd.to_numeric(new["seed"]).argsort(kind="stable")], path)


def restore(results: Path, records: Path = STUDY) -> None:
    """Write the records where the workflow expects them, under `results`, which must not hold any yet.

    A strategy is left out unless every seed has it. What is there stands in recorded.yaml beside `results`: a part of
    the configuration.
    """
    if (results / "evaluation").exists():
        sys.exit(f"error: {results / 'evaluation'}: is there already; accepted: a new folder")
    kept = read(records / f"{LEDGER}.tsv.xz")
    seeds, strategies = complete(kept)
    for name, path in (ONCE | {name: f"evaluation/{name}" for name in RECORDS}).items():
        table = read(records / f"{name}.tsv.xz")
        if name in RECORDS:
            table = table[~table["strategy"].isin(set(kept["strategy"]) - set(strategies))]
        write(table, results / f"{path}.tsv")
    for (seed, strategy), rows in kept[kept["strategy"].isin(strategies)].groupby(["seed", "strategy"]):
        write(
            rows.drop(columns=["seed", "strategy"]),
            results / f"annotations/seed{seed}/{strategy}-{rows['iteration'].max()}.tsv",
        )
    recorded = yaml.safe_dump({"seeds": seeds, "strategies": strategies}, sort_keys=False)
    (results.parent / "recorded.yaml").write_text(recorded, encoding="utf-8")


def complete(kept: pd.DataFrame) -> tuple[list[int], list[str]]:
    """Return the seeds that have ledgers, and the strategies that all of them have, in the order of the study."""
    of_seed = kept.groupby("seed")["strategy"].agg(set)
    shared = set.intersection(*of_seed)
    order: list[str] = yaml.safe_load(CONFIGURATION.read_text(encoding="utf-8"))["strategies"]
    return sorted(map(int, of_seed.index)), sorted(shared, key=lambda name: [*order, name].index(name))


def read(path: Path) -> pd.DataFrame:
    """Read a table as text, so that nothing of it changes; end with one line where it is missing."""
    if not path.exists():
        sys.exit(f"error: {path}: is missing; accepted: the folder of a run that has made its tables, or of records")
    return read_cells(path)


def write(table: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, sep="\t", index=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["collect", "restore"])
    parser.add_argument("--records", type=Path, default=STUDY, help="default: docs/study")
    parser.add_argument("folder", type=Path, help="where the study was run, or is to be restored; it holds results/")
    arguments = parser.parse_args()
    {"collect": collect, "restore": restore}[arguments.what](arguments.folder / "results", arguments.records)


if __name__ == "__main__":
    main()
