"""Tables that need several seeds: one strategy twice, areas under learning curves, and spreads.

Each takes the table of metrics: one row a model and case, `seed model strategy iteration converged volume patient` and
the metrics. With one seed a table is made all the same, and says what it needs.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..domain.metrics import METRICS, Metric
from ..evaluation.efficiency import Curve, annotation_costs, area_under, common_range, learning_curves
from ..evaluation.seeds import (
    SPREADS,
    TRAININGS,
    factors_of_a_spread,
    same_strategy_twice,
    spreads,
)
from ..evaluation.statistics import SIGNIFICANCE, Samples, interval
from ..query.strategies import SLICED, is_upper_bound, strategies_in
from .layout import MISSING, Table, lay_out, number, printed, printed_iteration, with_interval
from .notes import about_bootstrap, about_cases, about_time
from .supplement import run_samples
from .wording import join

ONE_SEED = "One seed: this table needs several (the key seeds of the configuration)."
IN_ALL = "in all"
ALL_SEEDS = "all"
"""What stands in the column of the seeds in rows that are of all seeds."""

AREA_OVER = "area over "
AREA_COLUMNS = {"iteration": "Area over iterations", "minutes": "Area over time"}
RANGE, WON = "of single seeds", "Largest in"
AREAS = ["metric", "strategy", "quantity", "iteration", "seed", "value", "lower", "upper"]


def areas_table(
    metrics: pd.DataFrame,
    annotations: pd.DataFrame,
    minutes_per_slice: float,
    ratio: float,
    sliced: Collection[str] = SLICED,
) -> Table:
    """Supplement 8: learning curves and the area under them, over iterations and over annotation time, by seed.

    annotations: `seed strategy iteration structure_slices`; minutes_per_slice, ratio and sliced: of the time model, see
    `efficiency.annotation_costs`.
    """
    costs = annotation_costs(annotations, minutes_per_slice, ratio, sliced)
    frame = _areas(metrics, costs)
    return Table(
        frame,
        lay_out(_area_cells(frame, METRICS["dice"], strategies_in(metrics))),
        note=join(
            ONE_SEED if metrics["seed"].nunique() < 2 else "",
            "Area: under the curve of the mean Dice, linear between iterations, divided by its range: the mean height "
            "over the iterations, or over the annotation time that all strategies share. Of single seeds: smallest and "
            "largest area over iterations. Largest in: in how many seeds the strategy's area over iterations is "
            "the largest, upper bounds left out. Costs are means over the seeds. The CSV file has all four metrics by "
            "seed.",
            about_time(minutes_per_slice, ratio),
            about_bootstrap(metrics),
            about_cases(metrics),
        ),
    )


def _areas(metrics: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """Return the points of all learning curves and the areas under them, over all seeds and by seed.

    costs: see `efficiency.annotation_costs`. Its other index is a cost as well: the iteration.
    """
    costs = costs.assign(iteration=costs.index.get_level_values("iteration"))
    seeds = metrics[["seed", "volume"]].drop_duplicates().sort_values(["seed", "volume"])["seed"].to_numpy()
    samples = run_samples(metrics)
    records: list[list[object]] = []
    for about in METRICS.values():
        for cost in AREA_COLUMNS:
            curves = learning_curves(metrics, costs, about.column, cost, samples.weights)
            limits = common_range(curves)
            for strategy, curve in curves.items():
                rows = _points(curve, seeds, samples) if cost == "iteration" else []
                rows += _area(curve, cost, limits, seeds, samples)
                records += [[about.column, strategy, *row] for row in rows]
    return pd.DataFrame(records, columns=AREAS)


def _points(curve: Curve, seeds: npt.NDArray[np.int64], samples: Samples) -> list[list[object]]:
    """Return the mean at each iteration of a curve over the iterations; seeds: of its cases, (case,)."""
    by_seed = _by_seed(curve, seeds)
    rows: list[list[object]] = []
    for point, iteration in enumerate(curve.costs.astype(int)):
        bounds = interval(curve.means[point], samples.seeds)
        each = {seed: means[point] for seed, means in by_seed.items()}
        rows += _over_all_and_by_seed("mean", iteration, curve.cases[point].mean(), bounds, each)
    return rows


def _area(
    curve: Curve, cost: str, limits: tuple[float, float], seeds: npt.NDArray[np.int64], samples: Samples
) -> list[list[object]]:
    """Return the area under a curve between two costs; seeds: of its cases, (case,)."""
    area = float(area_under(curve.costs, curve.cases.mean(axis=1), limits))
    bounds = interval(area_under(curve.costs, curve.means, limits), samples.seeds)
    by_seed = _by_seed(curve, seeds)
    each = {seed: float(area_under(curve.costs, means, limits)) for seed, means in by_seed.items()}
    return _over_all_and_by_seed(AREA_OVER + cost, pd.NA, area, bounds, each)


def _by_seed(curve: Curve, seeds: npt.NDArray[np.int64]) -> dict[int, npt.NDArray[np.float64]]:
    """Return each seed's curve, (iteration,); seeds: of the cases, (case,)."""
    return {seed: curve.cases[:, seeds == seed].mean(axis=1) for seed in np.unique(seeds)}


def _over_all_and_by_seed(
    quantity: str, iteration: object, value: float, bounds: tuple[float, float], by_seed: Mapping[int, float]
) -> list[list[object]]:
    """Return the rows of one quantity: over all seeds with its interval, and of each seed without."""
    whole = [quantity, iteration, ALL_SEEDS, value, *bounds]
    return [whole, *([quantity, iteration, seed, own, np.nan, np.nan] for seed, own in by_seed.items())]


def _area_cells(frame: pd.DataFrame, about: Metric, strategies: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the printed rows of `_areas` for one metric, by strategy and column."""
    over_iterations, over_time = AREA_COLUMNS.values()
    cells = {printed(name): dict.fromkeys((over_iterations, RANGE, WON, over_time), "") for name in strategies}
    shown = frame[frame["metric"] == about.column]
    over_all = shown["seed"] == ALL_SEEDS
    for record in shown[over_all].to_dict("records"):
        over = str(record["quantity"]).removeprefix(AREA_OVER)
        column = AREA_COLUMNS[over] if over in AREA_COLUMNS else printed_iteration(record["iteration"])
        bounds = record["lower"], record["upper"]
        cells[printed(record["strategy"])][column] = with_interval(record["value"], bounds, about.decimals)
    areas = shown[~over_all & (shown["quantity"] == f"{AREA_OVER}iteration")]
    by_seed = areas.pivot_table(index="seed", columns="strategy", values="value")
    compared = by_seed[[name for name in by_seed if not is_upper_bound(name)]]
    won = compared.eq(compared.max(axis=1), axis=0).sum()
    for strategy, values in by_seed.items():
        row = cells[printed(str(strategy))]
        row[RANGE] = "–".join(number(end, about.decimals) for end in (values.min(), values.max()))
        row[WON] = f"{won[strategy]} of {len(values)}" if strategy in won else MISSING
    return cells


def spreads_table(metrics: pd.DataFrame) -> Table:
    """Supplement 9: the spread between seeds beside the spread between cases; the converged models are printed."""
    if metrics["seed"].nunique() < 2:
        return _without(metrics, SPREADS)
    frame = spreads(metrics)
    cells: dict[str, dict[str, str]] = {}
    for strategy in [*strategies_in(metrics), "pool", "initial"]:
        rows = frame[(frame["strategy"] == strategy) & (frame["converged"] | (strategy == "initial"))]
        for record in rows.to_dict("records"):
            about = METRICS[str(record["metric"])]
            row = cells.setdefault(printed(strategy), {})
            for source in ("seeds", "cases", "rest"):
                row[f"{about.label}: {source}"] = number(float(record[source]), about.decimals + 1)
    seeds = metrics["seed"].nunique()
    lower, upper = factors_of_a_spread(seeds)
    return Table(
        frame,
        lay_out(cells),
        note=join(
            "Standard deviations. A value is a mean, plus an effect of its seed (all test volumes shift alike), plus "
            "one of its case (a volume is hard for all seeds), plus a rest. By the mean squares M of a two-way "
            "analysis of variance: rest² = M rest; seeds² = (M seeds − M rest) / number of cases; cases² = (M cases − "
            "M rest) / number of seeds; a negative one counts as 0. A seed has its own initial set, random choices, "
            "weights and order of training; of the data pool's models only the latter two.",
            f"From {seeds} seeds the spread between seeds is known to a factor of {lower:.1f} to {upper:.1f} (95 %, "
            "for normal values).",
            "The CSV file has the models of all iterations.",
            about_cases(metrics[metrics["converged"]]),
        ),
    )


def same_strategy_table(metrics: pd.DataFrame) -> Table:
    """Supplement 10: how often the paper's own test calls two trainings of one strategy different."""
    if metrics["seed"].nunique() < 2:
        return _without(metrics, TRAININGS)
    frame = same_strategy_twice(metrics)
    strategies = strategies_in(frame)
    groups = {printed(strategy): [strategy] for strategy in strategies} | {IN_ALL: strategies}
    groups |= {printed(other): [other] for other in ("initial", "pool")}
    cells: dict[str, dict[str, str]] = {}
    for group, members in groups.items():
        tests = frame[frame["strategy"].isin(members)]
        if tests.empty:
            continue
        row = cells.setdefault(group, {"Pairs": str(len(tests) // len(METRICS))})
        for about in METRICS.values():
            p_values = tests.loc[tests["metric"] == about.column, "p_value"]
            for level, _ in reversed(SIGNIFICANCE):
                found = int((p_values < level).sum())
                row[f"{about.name} p < {level:g}"] = f"{found} ({100 * found / len(p_values):.0f} %)"
    return Table(
        frame,
        lay_out(cells),
        note=join(
            "Pairs: two trainings of one strategy, of the same iteration or both converged, with two seeds. Test: the "
            "paper's, one-sided Wilcoxon signed-rank over the test volumes, of the worse against the better mean. In "
            "brackets: the share of the pairs. If trainings did not differ, about 10, 2 and 0.2 % would be found, "
            "twice the level, because the data say which is the better. More is the spread between trainings, which a "
            "star of a single seed takes for an effect. Seeds differ in their initial set, random choices, "
            "weights and order of training, and all of these are included; two models of the data pool differ in the "
            "latter two only. The pairs are not independent: each training is in several.",
            about_cases(metrics),
        ),
    )


def _without(metrics: pd.DataFrame, columns: list[str]) -> Table:
    """Return a table of one seed, that says what it needs."""
    display = lay_out({printed(strategy): {"needs several seeds": MISSING} for strategy in strategies_in(metrics)})
    return Table(pd.DataFrame(columns=columns), display, note=ONE_SEED)
