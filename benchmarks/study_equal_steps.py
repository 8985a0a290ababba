"""Do the steps of a training explain the order of the strategies? The study's last sets, each trained for 1000 steps.

.venv/bin/python benchmarks/study.py restore ../equal                        # the sets that the study has annotated
make study-equal-steps STUDY=../equal                                        # train on them, and segment
.venv/bin/python benchmarks/study_equal_steps.py collect ../equal            # keep what was measured
.venv/bin/python benchmarks/study_equal_steps.py compare                     # print the table

The sets are those of the study, so that nothing but the number of steps changes.
"""

import argparse
import sys
from pathlib import Path

import common  # noqa: F401 - finds the library
import numpy as np
import pandas as pd
import study
from slicesampling.evaluation.statistics import METRICS, bootstrap, difference
from slicesampling.publication.supplement import with_interval

RECORD = study.STUDY / "equal_steps.tsv.xz"
COLUMNS = ["seed", "strategy", "iteration", "volume", "patient", "hard_case", "dice", "rve", "msd", "hd"]
CASE = ["seed", "volume", "patient"]
DICE = METRICS["dice"]
BEST = "uss"


def collect(run: Path) -> None:
    """Keep the metrics of a run's models, in the place of what was there."""
    cohort = study.read(run / "results/cohort/cohort.tsv")[["volume", "patient", "hard_case"]]
    tables = []
    for seed, model, table in study.evaluated(run):
        strategy, _, iteration = model.rpartition("-")
        if iteration.isdigit():
            tables.append(table.assign(seed=seed, strategy=strategy, iteration=iteration))
    study.write(pd.concat(tables).merge(cohort, on="volume", validate="many_to_one")[COLUMNS], RECORD)


def compare() -> None:
    """Print a row for each strategy: Dice as in the study and after equal steps, and what USS is better by."""
    equal = pd.read_csv(RECORD, sep="\t")
    iterations = set(equal["iteration"])
    if len(iterations) > 1:
        sys.exit(f"error: {RECORD}: is about iterations {', '.join(map(str, sorted(iterations)))}; accepted is one")
    models, trainings = (of_the_study(name, *iterations) for name in ("metrics", "training"))
    steps = trainings.groupby("strategy")["steps"].mean()
    dice = [table.pivot_table(index=CASE, columns="strategy", values="dice") for table in (models, equal)]
    samples = bootstrap(equal, np.random.default_rng(0))  # of the same cases in both
    strategies = sorted(set(equal["strategy"]), key=lambda name: -dice[1][name].mean())
    rows = []
    for strategy in strategies:
        row = {"": strategy.upper(), "steps": f"{steps[strategy]:.0f}"}
        for what, table in zip(("Dice (5th percentile)", "after 1000 steps"), dice, strict=True):
            row[what] = f"{table[strategy].mean():.3f} ({DICE.tail(table[strategy]):.3f})"
        if strategy != BEST:
            by = difference(DICE, dice[1][BEST], dice[1][strategy], samples)
            row[f"{BEST.upper()} better by"] = with_interval(by.mean, by.mean_bounds, DICE.decimals)
            row["in the 5th percentile by"] = with_interval(by.tail, by.tail_bounds, DICE.decimals)
        rows.append(row)
    print(pd.DataFrame(rows).fillna("").to_markdown(index=False, disable_numparse=True))


def of_the_study(name: str, iteration: int) -> pd.DataFrame:
    """Return the rows of a record of the study that are about models of an iteration, with limited epochs."""
    table = pd.read_csv(study.STUDY / f"{name}.tsv.xz", sep="\t")
    return table[(table["iteration"] == iteration) & ~table["converged"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    commands.add_parser("collect").add_argument("run", type=Path, help="the folder of the run")
    commands.add_parser("compare")
    given = parser.parse_args()
    collect(given.run) if given.command == "collect" else compare()


if __name__ == "__main__":
    main()
