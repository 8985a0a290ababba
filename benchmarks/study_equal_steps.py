"""Do the steps of a training explain the order of the strategies? The study's last sets, each trained for 1000 steps.

.venv/bin/python benchmarks/study.py restore ../equal                        # the sets that the study has annotated
make study-equal-steps STUDY=../equal                                        # train on them, and segment
.venv/bin/python benchmarks/study_equal_steps.py collect ../equal            # keep what was measured
.venv/bin/python benchmarks/study_equal_steps.py compare                     # print the table

The sets are those of the study, so that nothing but the number of steps changes.
"""

import argparse
from pathlib import Path

import common  # noqa: F401 - finds the library
import numpy as np
import pandas as pd
import study
from slicesampling.evaluation.statistics import METRICS, bootstrap, interval, weighted_means, weighted_quantiles
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
    for path in sorted(run.glob("results/evaluation/seed*/*-*/shard*.tsv")):
        strategy, _, iteration = path.parts[-2].rpartition("-")
        if iteration.isdigit():
            seed = path.parts[-3].removeprefix("seed")
            tables.append(study.read(path).assign(seed=seed, strategy=strategy, iteration=iteration))
    study.write(pd.concat(tables).merge(cohort, on="volume", validate="many_to_one")[COLUMNS], RECORD)


def compare() -> None:
    """Print a row for each strategy: Dice as in the study and after equal steps, and what USS is better by."""
    equal = pd.read_csv(RECORD, sep="\t")
    (iteration,) = set(equal["iteration"])
    models, trainings = (of_the_study(name, iteration) for name in ("metrics", "training"))
    steps = trainings.groupby("strategy")["steps"].mean()
    dice = [table.pivot_table(index=CASE, columns="strategy", values="dice") for table in (models, equal)]
    weights, seeds = bootstrap(equal, np.random.default_rng(0))  # of the same cases in both
    strategies = sorted(set(equal["strategy"]), key=lambda name: -dice[1][name].mean())
    own = dice[1][BEST].to_numpy()
    rows = []
    for strategy in strategies:
        row = {"": strategy.upper(), "steps": f"{steps[strategy]:.0f}"}
        for what, table in zip(("Dice (5th percentile)", "after 1000 steps"), dice, strict=True):
            row[what] = f"{table[strategy].mean():.3f} ({DICE.tail(table[strategy]):.3f})"
        values = dice[1][strategy].to_numpy()
        if strategy != BEST:
            bounds = interval(weighted_means(own - values, weights), seeds)
            row[f"{BEST.upper()} better by"] = with_interval(own.mean() - values.mean(), bounds, DICE.decimals)
            tails = [weighted_quantiles(of, weights, DICE.tail_quantile) for of in (own, values)]
            bounds = interval(tails[0] - tails[1], seeds)
            row["in the 5th percentile by"] = with_interval(DICE.tail(own) - DICE.tail(values), bounds, DICE.decimals)
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
