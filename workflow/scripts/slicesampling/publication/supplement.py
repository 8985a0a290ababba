"""Tables beyond the paper: intervals, pairwise comparisons, learning curves, annotation efficiency, groups of cases."""

import itertools
from collections.abc import Collection, Hashable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .. import STRUCTURE
from ..domain.metrics import FURTHER_METRICS, LOWER_PERCENTILE, METRICS, UPPER_PERCENTILE, Metric
from ..evaluation.calibration import calibration_errors
from ..evaluation.efficiency import (
    COSTS,
    SHARES,
    Curve,
    annotation_costs,
    area_under,
    common_range,
    cost_to_reach,
    learning_curves,
    share_of_pool,
)
from ..evaluation.statistics import (
    EXACT,
    SIGNIFICANCE,
    Samples,
    bootstrap,
    compare,
    difference,
    holm,
    interval,
    summarise,
    weighted_means,
    weighted_quantiles,
)
from ..jobs import randomness
from ..query.strategies import SLICED, strategies_in
from .layout import (
    MISSING,
    NO_BREAK_SPACE,
    Table,
    lay_out,
    number,
    p_value_text,
    printed,
    printed_iteration,
    thousands,
    with_interval,
)
from .notes import about_bootstrap, about_cases, about_time
from .tables import described, summary_cell
from .wording import join

COST_NAMES = {"structure_slices": "Slices", "minutes": "Minutes"}


def intervals_table(metrics: pd.DataFrame) -> Table:
    """Supplement 1: 95 % bootstrap intervals of mean and percentiles of every model; only converged ones are printed.

    metrics: one row per model and case, `seed model strategy iteration converged volume patient` and all metrics.
    """
    records: list[dict[str, object]] = []
    cells: dict[str, dict[str, str]] = {}
    weights, seeds = run_samples(metrics)
    for model, rows in _models(metrics):
        first = rows.iloc[0]
        for about in (METRICS | FURTHER_METRICS).values():
            values = rows[about.column].to_numpy(dtype=float)
            summary = summarise(values)
            bounds = {
                "mean": interval(weighted_means(values, weights), seeds),
                "p5": interval(weighted_quantiles(values, weights, LOWER_PERCENTILE / 100), seeds),
                "p95": interval(weighted_quantiles(values, weights, UPPER_PERCENTILE / 100), seeds),
            }
            for name, (lower, upper) in bounds.items():
                value = getattr(summary, name)
                records.append(
                    {"model": model, "metric": about.column, "statistic": name, "value": value}
                    | {"lower": lower, "upper": upper, "cases": len(values)}
                )
            if first["converged"] and about.column in METRICS:
                tail = "p5" if about.larger_is_better else "p95"
                row = cells.setdefault(printed(first["strategy"]), {})
                row[f"{about.label} mean"] = with_interval(summary.mean, bounds["mean"], about.decimals)
                row[f"{about.label} {about.tail_label}"] = with_interval(
                    getattr(summary, tail), bounds[tail], about.decimals
                )
    return Table(
        pd.DataFrame(records),
        lay_out(cells),
        note=join(about_bootstrap(metrics), about_cases(metrics[metrics["converged"]])),
    )


def comparisons_table(metrics: pd.DataFrame) -> Table:
    """Supplement 2: intervals of differences, effect sizes and corrected p-values of all pairs of converged models.

    metrics: see `intervals_table`. A p-value is that of the two-sided Wilcoxon signed-rank test of the patients'
    mean differences, corrected for all pairs and metrics of the table (Holm).
    """
    shown = metrics[metrics["converged"]].sort_values(["seed", "volume"])
    frame = _comparisons(shown)
    return Table(
        frame,
        lay_out({_pair(record): _comparison_cells(record) for record in frame.to_dict("records")}),
        note=join(
            "First minus second. Tail: the 5th percentile of the Dice, the 95th of the errors. Effect: matched-pairs "
            "rank-biserial correlation, from −1 to 1. p: two-sided Wilcoxon signed-rank test of patients' mean "
            "differences; p (Holm): corrected for all tests of this table. The pairs are fixed beforehand, unlike "
            "those of tables 4 to 8, whose reference, the best of the row, is selected by the data.",
            *(_about_comparisons(frame) if len(frame) else []),
            about_bootstrap(shown),
            about_cases(shown),
        ),
    )


def _comparisons(shown: pd.DataFrame) -> pd.DataFrame:
    """Compare each pair of models by each metric; shown: the cases of one model a strategy, by seed and volume."""
    samples = run_samples(shown)
    rows = {name: shown[shown["strategy"] == name] for name in [*strategies_in(shown), "pool"]}
    rows = {name: cases for name, cases in rows.items() if len(cases)}
    records = []
    for about in METRICS.values():
        for first, second in itertools.combinations(rows, 2):
            one, two = (rows[name][about.column].to_numpy(dtype=float) for name in (first, second))
            by = difference(about, one, two, samples)
            test = compare(one - two, rows[first]["patient"])
            records.append(
                {"metric": about.column, "first": first, "second": second}
                | {"mean_difference": by.mean, "mean_lower": by.mean_bounds[0], "mean_upper": by.mean_bounds[1]}
                | {"tail_difference": by.tail, "tail_lower": by.tail_bounds[0], "tail_upper": by.tail_bounds[1]}
                | test._asdict()
            )
    frame = pd.DataFrame(records)
    return frame.assign(p_holm=holm(frame["p_value"])) if len(frame) else frame


def _pair(record: Mapping[Hashable, Any]) -> str:
    label = METRICS[record["metric"]].label
    return f"{label}: {printed(record['first'])} − {printed(record['second'])}"


def _comparison_cells(record: Mapping[Hashable, Any]) -> dict[str, str]:
    """Return the cells of one comparison by their columns."""
    digits = METRICS[record["metric"]].decimals
    return {
        "Mean": with_interval(record["mean_difference"], (record["mean_lower"], record["mean_upper"]), digits),
        "Tail": with_interval(record["tail_difference"], (record["tail_lower"], record["tail_upper"]), digits),
        "Effect": number(record["rank_biserial"], 2),
        "p": p_value_text(record["p_value"]),
        "p (Holm)": p_value_text(record["p_holm"]),
    }


def _about_comparisons(frame: pd.DataFrame) -> Iterator[str]:
    """Say where patients do not differ or are tied, and where they are too few for any test."""
    same = frame[frame["equal"] == frame["patients"]]
    if len(same):
        pairs = ", ".join(
            f"{METRICS[row.metric].name} of {printed(row.first)} and {printed(row.second)}" for row in same.itertuples()
        )
        yield f"Identical in all patients, so p = 1 and no effect size: {pairs}."
    some = frame[(frame["equal"] > 0) & (frame["equal"] < frame["patients"])]
    if len(some):
        yield (
            f"In {len(some)} comparisons some patients have no difference (at most {some['equal'].max()}); the "
            "test leaves them out."
        )
    differ = frame["patients"] - frame["equal"]
    if (frame["tied"] > 0).any() and differ.max() > EXACT:
        yield f"With ties (at most {frame['tied'].max()} patients) p is that of the normal approximation."
    fewest = int(differ.min())
    least = 2 ** (1 - fewest)  # the p-value where all patients differ to one side
    if least > SIGNIFICANCE[-1][0]:
        yield (
            f"With {fewest} patients that differ, no p-value can be below {least:.3g}: no difference can be "
            "significant."
        )


def learning_curves_table(
    metrics: pd.DataFrame,
    annotations: pd.DataFrame,
    minutes_per_slice: float,
    ratio: float,
    sliced: Collection[str] = SLICED,
) -> Table:
    """Supplement 3: each metric against annotated liver slices and annotation minutes, with 95 % bootstrap intervals.

    metrics: see `intervals_table`; annotations: `seed strategy iteration structure_slices`; minutes_per_slice, ratio,
    sliced: the time model, see `efficiency.annotation_costs`.
    """
    costs = annotation_costs(annotations, minutes_per_slice, ratio, sliced)
    weights, seeds = run_samples(metrics)
    records: list[dict[str, object]] = []
    cells: dict[str, dict[str, str]] = {}
    for about in METRICS.values():
        for strategy, curve in learning_curves(metrics, costs, about.column, "minutes", weights).items():
            first = len(metrics[(metrics["strategy"] == "initial")]) == 0
            for iteration, (cases, means) in enumerate(zip(curve.cases, curve.means, strict=True), start=int(first)):
                cost = {name: float(costs.loc[(strategy, iteration), name]) for name in COSTS}
                tails = weighted_quantiles(cases, weights, about.tail_quantile)
                mean_bounds, tail_bounds = interval(means, seeds), interval(tails, seeds)
                records.append(
                    {"strategy": strategy, "iteration": iteration, **cost, "metric": about.column}
                    | {"mean": cases.mean(), "mean_lower": mean_bounds[0], "mean_upper": mean_bounds[1]}
                    | {"tail": about.tail(cases), "tail_lower": tail_bounds[0], "tail_upper": tail_bounds[1]}
                )
                row = cells.setdefault(f"{printed(strategy)}, {printed_iteration(iteration)}", {})
                row[f"{STRUCTURE.capitalize()} slices"] = thousands(cost["structure_slices"])
                row["Time [min]"] = thousands(cost["minutes"])
                row[about.label] = with_interval(float(cases.mean()), mean_bounds, about.decimals)
    return Table(
        pd.DataFrame(records),
        lay_out(cells),
        note=join(about_time(minutes_per_slice, ratio), about_bootstrap(metrics), about_cases(metrics)),
    )


def efficiency_table(
    metrics: pd.DataFrame,
    annotations: pd.DataFrame,
    minutes_per_slice: float,
    ratio: float,
    sliced: Collection[str] = SLICED,
) -> Table:
    """Supplement 4: area under the learning curves, share of the data pool model, and the annotation needed for shares.

    Arguments: see `learning_curves_table`.
    """
    costs = annotation_costs(annotations, minutes_per_slice, ratio, sliced)
    samples = run_samples(metrics)
    records: list[dict[str, object]] = []
    cells: dict[str, dict[str, str]] = {}
    pool = metrics[metrics["strategy"] == "pool"].sort_values(["seed", "volume"])
    for about in METRICS.values():
        whole = pool[about.column].to_numpy(dtype=float)
        for cost in COSTS:
            curves = learning_curves(metrics, costs, about.column, cost, samples.weights)
            limits = common_range(curves)
            for strategy, curve in curves.items():
                record: dict[str, Any] = {"metric": about.column, "strategy": strategy, "cost": cost}
                record |= _area(curve, limits, samples)
                if len(whole):
                    record |= _against_pool(curve, whole, about, samples)
                cells.setdefault(f"{about.label}: {printed(strategy)}", {}).update(
                    _efficiency_cells(record, curve.costs[-1])
                )
                records.append(record)
    return Table(
        pd.DataFrame(records),
        lay_out(cells),
        note=join(
            "Mean over time: the mean of the learning curve over annotation time, in the range that all strategies "
            "cover (area under the curve, divided by the range). Share of data pool: mean of the last "
            "iteration's model (limited epochs) divided by that of the data pool model, for errors the inverse. Slices "
            f"and minutes: {STRUCTURE} slices and annotation time at which the curve, linear between iterations, first "
            "reaches that share; >: not reached.",
            about_time(minutes_per_slice, ratio),
            about_bootstrap(metrics),
            about_cases(metrics),
        ),
    )


def _area(curve: Curve, limits: tuple[float, float], samples: Samples) -> dict[str, float]:
    """Return the area under a learning curve between two costs, and its interval."""
    area = float(area_under(curve.costs, curve.cases.mean(axis=1), limits))
    lower, upper = interval(area_under(curve.costs, curve.means, limits), samples.seeds)
    return {"from": limits[0], "to": limits[1], "area": area, "area_lower": lower, "area_upper": upper}


def _against_pool(curve: Curve, whole: npt.NDArray[np.float64], about: Metric, samples: Samples) -> dict[str, float]:
    """Return what share of the data pool model's performance a curve ends at, and the cost of each of `SHARES`.

    whole: the data pool model's metric, (case,).
    """
    shares = share_of_pool(curve.cases.mean(axis=1), float(whole.mean()), about)
    means = share_of_pool(curve.means[-1], weighted_means(whole, samples.weights), about)
    lower, upper = interval(means, samples.seeds)
    return {"share_of_pool": float(shares[-1]), "share_lower": lower, "share_upper": upper} | {
        f"to_{level:g}": float(cost_to_reach(curve.costs, shares, level)) for level in SHARES
    }


def _efficiency_cells(record: Mapping[str, Any], last_cost: float) -> dict[str, str]:
    """Return the cells of one curve by their columns; last_cost: what is named where a share is not reached."""
    cells = {}
    if record["cost"] == "minutes":
        bounds = record["area_lower"], record["area_upper"]
        cells["Mean over time"] = with_interval(record["area"], bounds, METRICS[record["metric"]].decimals)
    if "share_of_pool" in record:
        share, lower, upper = (100 * record[name] for name in ("share_of_pool", "share_lower", "share_upper"))
        cells["Share of data pool [%]"] = with_interval(share, (lower, upper), 1)
        for level in SHARES:
            needed = record[f"to_{level:g}"]
            cells[f"{COST_NAMES[record['cost']]} to {100 * level:g}{NO_BREAK_SPACE}%"] = (
                f"> {last_cost:.0f}" if np.isnan(needed) else f"{needed:.0f}"
            )
    return cells


def groups_table(metrics: pd.DataFrame) -> Table:
    """Supplement 5: the converged models by site and by kind of hard case.

    metrics: see `intervals_table`, with `site` and `hard_case` (empty: none).
    """
    shown = metrics[metrics["converged"]]
    hard = shown["hard_case"].astype(object).fillna("")
    groups = {f"site {site}": shown[shown["site"] == site] for site in shown["site"].unique()}
    if (hard != "").any():
        groups |= {"no hard case": shown[hard == ""], "all hard cases": shown[hard != ""]}
        groups |= {f"hard case: {kind}": shown[hard == kind] for kind in sorted(hard[hard != ""].unique())}
    records: list[dict[str, object]] = []
    cells: dict[str, dict[str, str]] = {}
    for group, cases in groups.items():
        if cases.empty:
            continue
        row = cells.setdefault(group, {"Volumes": str(cases["volume"].nunique())})
        for strategy in [*strategies_in(shown), "pool"]:
            rows = cases[cases["strategy"] == strategy]
            for about in METRICS.values():
                record = described(rows, about)
                if record:
                    records.append({"group": group, "strategy": strategy, "metric": about.column, **record})
                if about.column in ("dice", "hd"):
                    row[f"{about.label} {printed(strategy)}"] = (
                        number(float(str(record["mean"])), about.decimals) if record else MISSING
                    )
    return Table(
        pd.DataFrame(records),
        lay_out(cells),
        note=join(
            "The CSV file has all four metrics with their percentiles.",
            ""
            if (hard != "").any()
            else "The cohort table names no hard cases among the test volumes (its column hard_case).",
            about_cases(shown),
        ),
    )


def further_metrics_table(metrics: pd.DataFrame, calibration: pd.DataFrame) -> Table:
    """Supplement 6: HD95, surface Dice, Jaccard index, components and calibration of the converged models.

    metrics: see `intervals_table`, with `components`; calibration: counts, see `calibration.pooled`.
    """
    errors = calibration_errors(calibration)
    shown = metrics[metrics["converged"]]
    records: list[dict[str, object]] = []
    cells: dict[str, dict[str, str]] = {}
    for strategy in [*strategies_in(shown), "pool"]:
        rows = shown[shown["strategy"] == strategy]
        row = cells.setdefault(printed(strategy), {})
        for about in FURTHER_METRICS.values():
            record = described(rows, about)
            if record:
                records.append({"strategy": strategy, "metric": about.column, **record})
            row[about.label] = summary_cell(record, about)
        if len(rows):
            parts = float(rows["components"].mean())
            error = float(errors.loc[errors["model"].isin(rows["model"].unique()), "ece"].mean())
            records += [
                {"strategy": strategy, "metric": "components", "cases": len(rows), "mean": parts},
                {"strategy": strategy, "metric": "ece", "cases": len(rows), "mean": error},
            ]
            row |= {"Components": number(parts, 1), "ECE": number(error, 4)}
    return Table(
        pd.DataFrame(records),
        lay_out(cells),
        note=join(
            "Mean (5th, 95th percentile). HD95: the larger of both surfaces' 95th percentiles of the distance. Surface "
            "Dice: share of both surfaces within that distance of the other. Components: mean number of face-connected "
            f"parts of a prediction. ECE: expected calibration error of the probability near the {STRUCTURE}.",
            about_cases(shown),
        ),
    )


# --- helpers -----------------------------------------------------------------------------------------------------


def run_samples(metrics: pd.DataFrame) -> Samples:
    """Return the bootstrap samples of the run's cases, which all its tables share."""
    return bootstrap(metrics, randomness.generator("bootstrap"))


def _models(metrics: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield each model's name and cases (all seeds, sorted by seed and volume), strategies in the paper's order."""
    order = {name: position for position, name in enumerate(["initial", *strategies_in(metrics), "pool"])}
    ranked = metrics.assign(order=metrics["strategy"].map(order)).sort_values(
        ["converged", "order", "iteration", "seed", "volume"]
    )
    for model in ranked["model"].unique():
        yield model, ranked[ranked["model"] == model]
