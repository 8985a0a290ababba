"""Annotation efficiency: learning curves over slices and minutes, the area under them, and the share of the pool."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from .. import STRUCTURE
from ..domain.metrics import Metric
from ..query.strategies import SLICED, strategies_in
from .statistics import weighted_means

COSTS = {"structure_slices": f"annotated {STRUCTURE} slices", "minutes": "annotation time [min]"}
"""The costs of an annotated set, by their columns."""

SHARES = (0.95, 0.98, 0.99)
"""Shares of the data pool model's performance to be reached."""


class Curve(NamedTuple):
    """A strategy's learning curve: the cost of each annotated set, and the performance of its model.

    costs: (iteration,), ascending, the initial set first. cases: (iteration, case). means: (iteration, replicate), the
    mean over the cases in each bootstrap sample.
    """

    costs: npt.NDArray[np.float64]
    cases: npt.NDArray[np.float64]
    means: npt.NDArray[np.float64]


def annotation_costs(
    annotations: pd.DataFrame, minutes_per_slice: float, ratio: float, sliced: Collection[str] = SLICED
) -> pd.DataFrame:
    """Return annotated liver slices and minutes of each strategy and iteration, means over seeds (section IV).

    annotations: `seed strategy iteration structure_slices`; iteration 0: the initial set. Slices without liver take no
    time. A liver slice takes `minutes_per_slice`, divided by `ratio` if its whole volume is annotated: in the initial
    set, in the additions of volume strategies, and in the data pool. sliced: the strategies that choose slices.
    """
    rows = annotations.sort_values("iteration")
    first = rows.groupby(["seed", "strategy"])["structure_slices"].transform("first")
    added = (rows["structure_slices"] - first) / np.where(rows["strategy"].isin(list(sliced)), 1, ratio)
    costs = rows.assign(minutes=minutes_per_slice * (first / ratio + added))
    return costs.groupby(["strategy", "iteration"])[list(COSTS)].mean()


def learning_curves(
    metrics: pd.DataFrame, costs: pd.DataFrame, metric: str, cost: str, weights: npt.NDArray[np.int64]
) -> dict[str, Curve]:
    """Return the learning curve of each strategy, from the initial model over its models of limited epochs.

    metrics: one row per model and case; costs: from `annotation_costs`; weights: from `bootstrap_weights`, for cases
    sorted by seed and volume.
    """
    limited = metrics[~metrics["converged"]].sort_values(["seed", "volume"])
    initial = limited[limited["strategy"] == "initial"]
    curves = {}
    for strategy in strategies_in(limited):
        rows = limited[limited["strategy"] == strategy]
        iterations = sorted(rows["iteration"].unique())
        steps = [(0, initial)] if len(initial) else []
        steps += [(iteration, rows[rows["iteration"] == iteration]) for iteration in iterations]
        cases = np.stack([step[metric].to_numpy(dtype=float) for _, step in steps])
        curves[strategy] = Curve(
            np.array([costs.loc[(strategy, iteration), cost] for iteration, _ in steps], dtype=float),
            cases,
            np.stack([weighted_means(values, weights) for values in cases]),
        )
    return curves


def common_range(curves: Mapping[str, Curve]) -> tuple[float, float]:
    """Return the range of costs that all curves cover; without any curve both are 0."""
    if not curves:
        return 0.0, 0.0
    return max(curve.costs[0] for curve in curves.values()), min(curve.costs[-1] for curve in curves.values())


def area_under(
    costs: npt.NDArray[np.float64], means: npt.NDArray[np.float64], limits: tuple[float, float]
) -> npt.NDArray[np.float64]:
    """Return the mean height of curves (point, ...) over costs (point,) between `limits`, linear between points."""
    lower, upper = limits
    inner = costs[(costs > lower) & (costs < upper)]
    grid = np.array([lower, *inner, upper])
    right = np.clip(np.searchsorted(costs, grid), 1, len(costs) - 1)
    span = costs[right] - costs[right - 1]
    part = np.divide(grid - costs[right - 1], span, out=np.zeros(len(grid)), where=span > 0)
    part = part.reshape(-1, *[1] * (means.ndim - 1))
    heights = means[right - 1] * (1 - part) + means[right] * part
    if upper <= lower:
        return heights[0]
    return np.trapezoid(heights, grid, axis=0) / (upper - lower)


def share_of_pool(
    values: npt.NDArray[np.float64], pool: npt.NDArray[np.float64] | float, about: Metric
) -> npt.NDArray[np.float64]:
    """Return the performance as a share of the data pool model's: the ratio, or for errors the inverse ratio."""
    one, other = (values, pool) if about.larger_is_better else (pool, values)
    one, other = np.broadcast_arrays(np.asarray(one, dtype=float), np.asarray(other, dtype=float))
    return np.divide(one, other, out=np.full(one.shape, np.inf), where=other != 0)


def cost_to_reach(
    costs: npt.NDArray[np.float64], heights: npt.NDArray[np.float64], level: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """Return the cost at which curves (point, ...) first reach `level` (...), linear between points; NaN: never."""
    heights, level = np.asarray(heights, dtype=float), np.asarray(level, dtype=float)
    reached = heights >= level
    first = reached.argmax(axis=0)
    before = np.maximum(first - 1, 0)
    low, high = (np.take_along_axis(heights, point[None], axis=0)[0] for point in (before, first))
    with np.errstate(invalid="ignore"):  # a share may be infinite
        span = high - low
        part = np.divide(level - low, span, out=np.ones(span.shape), where=np.isfinite(span) & (span > 0))
    return np.where(reached.any(axis=0), costs[before] + part * (costs[first] - costs[before]), np.nan)
