"""Do the steps of a training explain the order of the strategies?

The study's last sets, each trained for 1000 steps, so that nothing but the number of steps changes:

.venv/bin/python benchmarks/study.py restore ../equal                        # the sets that the study has annotated
make study-equal-steps STUDY=../equal                                        # train on them, and segment
.venv/bin/python benchmarks/study_equal_steps.py collect ../equal            # keep what was measured
.venv/bin/python benchmarks/study_equal_steps.py compare                     # print the table

And all iterations with 1000 steps each, so that the strategies also pick by such models:

make study-equal-iterations STUDY=../iterations
.venv/bin/python benchmarks/study_equal_steps.py collect-iterations ../iterations
.venv/bin/python benchmarks/study_equal_steps.py compare-iterations          # print the table
.venv/bin/python benchmarks/study_equal_steps.py draw-iterations             # draw the figure
"""

import argparse
import sys
from pathlib import Path

import common  # noqa: F401 - finds the library
import numpy as np
import numpy.typing as npt
import pandas as pd
import study
from matplotlib.figure import Figure
from slicesampling.domain.metrics import METRICS
from slicesampling.domain.records import read_table
from slicesampling.evaluation.efficiency import Curve, area_under, learning_curves
from slicesampling.evaluation.statistics import Samples, bootstrap, difference, interval
from slicesampling.publication.layout import with_interval
from slicesampling.publication.style import PAGE, looks, save_figure, styled
from slicesampling.publication.supplement import run_samples

RECORD = study.STUDY / "equal_steps.tsv.xz"
ITERATIONS = study.STUDY / "equal_iterations.tsv.xz"
ANNOTATED = study.STUDY / "equal_iterations_annotations.tsv.xz"
FIGURE = study.STUDY / "equal_iterations"
COLUMNS = ["seed", "strategy", "iteration", "volume", "patient", "hard_case", "dice", "rve", "msd", "hd"]
CASE = ["seed", "volume", "patient"]
DICE = METRICS["dice"]
BEST = "uss"
OTHER = "rss"
INITIAL = "initial"
EPOCHS, STEPS = "12 epochs", "1000 steps"


def collect(run: Path, record: Path = RECORD) -> None:
    """Keep the metrics of a run's models with limited training, in the place of what was there."""
    cohort = study.read(run / "results/cohort/cohort.tsv")[["volume", "patient", "hard_case"]]
    tables = []
    for seed, model, table in study.evaluated(run):
        strategy, _, iteration = model.rpartition("-")
        if model == INITIAL:
            tables.append(table.assign(seed=seed, strategy=INITIAL, iteration="0"))
        elif iteration.isdigit():
            tables.append(table.assign(seed=seed, strategy=strategy, iteration=iteration))
    study.write(pd.concat(tables).merge(cohort, on="volume", validate="many_to_one")[COLUMNS], record)


def compare() -> None:
    """Print a row for each strategy: Dice as in the study and after equal steps, and what USS is better by."""
    equal = read_table(RECORD)
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


def collect_iterations(run: Path) -> None:
    """Keep the metrics of the models of all iterations, and what was annotated for them."""
    annotated = study.read(run / "results/evaluation/annotations.tsv")
    collect(run, ITERATIONS)
    study.write(annotated, ANNOTATED)


def compare_iterations() -> None:
    """Print a row for each strategy: the area under its learning curve in the study and with equal steps."""
    annotated = read_table(ANNOTATED).groupby(["strategy", "iteration"]).mean(numeric_only=True)
    runs, samples = curves_of_both()
    areas = {name: {strategy: area(curve) for strategy, curve in curves.items()} for name, curves in runs.items()}
    rows = []
    for strategy, curve in runs[STEPS].items():
        last = int(curve.costs[-1])
        counts = annotated.loc[(strategy, last)]
        row = {
            "": strategy.upper(),
            "slices": f"{counts['slices']:.0f}",
            "with liver": f"{counts['structure_slices']:.0f}",
        }
        for name, of in areas.items():
            mean, means = of[strategy]
            row[f"area, {name}"] = with_interval(mean, interval(means, samples.seeds), DICE.decimals)
        for name, curves in runs.items():
            cases = curves[strategy].cases[-1]
            row[f"iteration {last}, {name}"] = f"{cases.mean():.3f} ({DICE.tail(cases):.3f})"
        rows.append(row)
    print(pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True))
    for name, of in areas.items():
        (best, bests), (other, others) = of[BEST], of[OTHER]
        by = with_interval(best - other, interval(bests - others, samples.seeds), DICE.decimals)
        print(f"{name}: the area of {BEST.upper()} is larger than that of {OTHER.upper()} by {by}")


def draw_iterations() -> None:
    """Draw the learning curves of the study and those with equal steps."""
    save_figure(iterations_figure(*curves_of_both()), FIGURE)
    FIGURE.with_suffix(".pdf").unlink()


def curves_of_both() -> tuple[dict[str, dict[str, Curve]], Samples]:
    """Return the learning curves of the Dice over iterations, in the study and with equal steps, and their samples."""
    equal = read_table(ITERATIONS).assign(converged=False)
    models = read_table(study.STUDY / "metrics.tsv.xz")
    models = models[models["strategy"].isin(set(equal["strategy"])) & models["seed"].isin(set(equal["seed"]))]
    points = {name: equal[name].unique() for name in ("strategy", "iteration")}
    costs = pd.MultiIndex.from_product(points.values(), names=points).to_frame()
    samples = run_samples(equal)  # of the same cases in both, and as in the tables of a run
    runs = {
        name: learning_curves(table, costs, DICE.column, "iteration", samples.weights)
        for name, table in ((EPOCHS, models), (STEPS, equal))
    }
    return runs, samples


def area(curve: Curve) -> tuple[float, npt.NDArray[np.float64]]:
    """Return the mean height of a learning curve over its iterations, and that of each bootstrap sample."""
    limits = (curve.costs[0], curve.costs[-1])
    mean, means = (area_under(curve.costs, heights, limits) for heights in (curve.cases.mean(axis=1), curve.means))
    return float(mean), means


@styled
def iterations_figure(runs: dict[str, dict[str, Curve]], samples: Samples) -> Figure:
    """Draw the mean Dice over the iterations, with the intervals of `samples`, a panel for each run."""
    figure = Figure(figsize=(PAGE, 2.8), layout="constrained")
    panels = figure.subplots(1, len(runs), sharey=True)
    drawn = looks(runs[STEPS])
    for axes, (name, curves) in zip(panels, runs.items(), strict=True):
        for strategy, curve in curves.items():
            look = drawn[strategy]
            bounds = [interval(means, samples.seeds) for means in curve.means]
            axes.fill_between(curve.costs, *np.transpose(bounds), color=look.colour, alpha=0.12, lw=0)
            axes.plot(
                curve.costs,
                curve.cases.mean(axis=1),
                color=look.colour,
                marker=look.marker,
                ls=look.line,
                mec="white",
                mew=0.4,
                ms=5,
                label=look.label,
            )
        axes.set(title=f"{name} in each iteration", xlabel="iteration", xticks=curve.costs)
    panels[0].set_ylabel("mean Dice, and its 95 % interval")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(runs[STEPS]))
    return figure


def of_the_study(name: str, iteration: int) -> pd.DataFrame:
    """Return the rows of a record of the study that are about models of an iteration, with limited epochs."""
    table = read_table(study.STUDY / f"{name}.tsv.xz")
    return table[(table["iteration"] == iteration) & ~table["converged"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    collecting = {"collect": collect, "collect-iterations": collect_iterations}
    comparing = {"compare": compare, "compare-iterations": compare_iterations, "draw-iterations": draw_iterations}
    for name in collecting:
        commands.add_parser(name).add_argument("run", type=Path, help="the folder of the run")
    for name in comparing:
        commands.add_parser(name)
    given = parser.parse_args()
    collecting[given.command](given.run) if given.command in collecting else comparing[given.command]()


if __name__ == "__main__":
    main()
