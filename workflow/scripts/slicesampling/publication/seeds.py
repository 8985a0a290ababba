"""Tables that need several seeds: one strategy twice, areas under learning curves, and spreads.

Each takes the table of metrics: one row a model and case, `seed model strategy iteration converged volume patient` and
the metrics. With one seed a table is made all the same, and says what it needs.
"""

from collections.abc import Collection

import numpy as np
import pandas as pd

from ..domain.metrics import METRICS
from ..evaluation.efficiency import annotation_costs, area_under, common_range, learning_curves
from ..evaluation.seeds import (
    SPREADS,
    TRAININGS,
    factors_of_a_spread,
    same_strategy_twice,
    spreads,
)
from ..evaluation.statistics import SIGNIFICANCE, interval
from ..query.strategies import SLICED, is_upper_bound, strategies_in
from .layout import INITIAL, MISSING, Table, join, lay_out, number, printed
from .notes import about_bootstrap, about_cases, about_time
from .supplement import run_samples, with_interval

ONE_SEED = "One seed: this table needs several (the key seeds of the configuration)."
IN_ALL = "in all"
AREA_COLUMNS = ("Area over iterations", "of single seeds", "Largest in", "Area over time")
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
    costs = costs.assign(iteration=costs.index.get_level_values("iteration"))
    seeds = metrics[["seed", "volume"]].drop_duplicates().sort_values(["seed", "volume"])["seed"].to_numpy()
    weights, shares = run_samples(metrics)
    records: list[list[object]] = []
    cells: dict[str, dict[str, str]] = {
        printed(name): dict.fromkeys(AREA_COLUMNS, "") for name in strategies_in(metrics)
    }
    for about in METRICS.values():
        areas: dict[str, pd.Series] = {}  # over the iterations, one a seed
        for cost, label in (("iteration", AREA_COLUMNS[0]), ("minutes", AREA_COLUMNS[-1])):
            curves = learning_curves(metrics, costs, about.column, cost, weights)
            limits = common_range(curves) if curves else (0.0, 0.0)
            for strategy, curve in curves.items():
                row = cells[printed(strategy)]
                by_seed = {seed: curve.cases[:, seeds == seed].mean(axis=1) for seed in np.unique(seeds)}
                if cost == "iteration":
                    for point, iteration in enumerate(curve.costs.astype(int)):
                        value, bounds = curve.cases[point].mean(), interval(curve.means[point], shares)
                        records.append([about.column, strategy, "mean", iteration, "all", value, *bounds])
                        records += [
                            [about.column, strategy, "mean", iteration, seed, means[point], np.nan, np.nan]
                            for seed, means in by_seed.items()
                        ]
                        if about.column == "dice":
                            name = f"iter. {iteration}" if iteration else INITIAL
                            row[name] = with_interval(value, bounds, about.decimals)
                area = float(area_under(curve.costs, curve.cases.mean(axis=1), limits))
                bounds = interval(area_under(curve.costs, curve.means, limits), shares)
                quantity = f"area over {cost}"
                records.append([about.column, strategy, quantity, pd.NA, "all", area, *bounds])
                each = {seed: float(area_under(curve.costs, means, limits)) for seed, means in by_seed.items()}
                records += [
                    [about.column, strategy, quantity, pd.NA, seed, value, np.nan, np.nan]
                    for seed, value in each.items()
                ]
                if cost == "iteration":
                    areas[strategy] = pd.Series(each)
                if about.column == "dice":
                    row[label] = with_interval(area, bounds, about.decimals)
        if about.column == "dice" and areas:
            table = pd.DataFrame(areas)
            usable = table.loc[:, [not is_upper_bound(name) for name in table]]
            first = usable.eq(usable.max(axis=1), axis=0).sum()
            for strategy in areas:
                ends = (table[strategy].min(), table[strategy].max())
                row = cells[printed(strategy)]
                row["of single seeds"] = "–".join(number(end, about.decimals) for end in ends)
                row["Largest in"] = MISSING if is_upper_bound(strategy) else f"{first[strategy]} of {len(table)}"
    return Table(
        pd.DataFrame(records, columns=AREAS),
        lay_out(cells),
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
