"""Analyses of several seeds: one strategy trained twice, the spread between trainings, and pairwise penalties.

All functions read the table of metrics (see `statistics`).
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from ..domain.metrics import METRICS
from ..query.strategies import by_strategies, is_upper_bound, strategies_in
from .statistics import SIGNIFICANCE, holm, signed_rank_p

LEVEL = SIGNIFICANCE[-1][0]
"""The significance level of the pairwise penalties."""

TRAININGS = ["metric", "strategy", "iteration", "converged", "first_seed", "second_seed", "p_value"]
SPREADS = ["metric", "strategy", "iteration", "converged", "seeds", "cases", "rest"]
PENALTIES = ["metric", "iteration", "first", "second", "difference", "t", "p_value", "p_holm"]


class Spread(NamedTuple):
    """Standard deviations of a model's values: between seeds, between cases, and the residual."""

    seeds: float
    cases: float
    rest: float


def same_strategy_twice(metrics: pd.DataFrame) -> pd.DataFrame:
    """Test each pair of trainings of a model that differ only in the seed, as the paper tests two strategies.

    The worse of the two is tested against the one with the better mean over the test volumes (section V-C). Return a
    table with the columns `TRAININGS`.
    """
    records = []
    for (strategy, iteration, converged), rows in metrics.groupby(["strategy", "iteration", "converged"]):
        for about in METRICS.values():
            values = rows.pivot(index="volume", columns="seed", values=about.column)  # noqa: PD010
            for first, second in itertools.combinations(values, 2):
                pair = values[[first, second]].dropna()
                difference = pair[first] - pair[second]
                worse = difference if (difference.mean() < 0) == about.larger_is_better else -difference
                p_value = signed_rank_p(worse, about.larger_is_better)
                records.append([about.column, strategy, iteration, converged, first, second, p_value])
    return pd.DataFrame(records, columns=TRAININGS)


def spread(values: npt.ArrayLike) -> Spread:
    """Return the variance components of values (seeds, cases) as standard deviations; NaN with one seed or case.

    Each value is the sum of a mean and of independent random effects of its seed, its case, and a residual. With the
    mean squares M of the two-way analysis of variance, rest² = M_rest, seeds² = (M_seeds - M_rest) / cases and
    cases² = (M_cases - M_rest) / seeds; negative values are set to 0 (Searle, Casella and McCulloch, Variance
    components, 1992).
    """
    table = np.asarray(values, dtype=float)
    seeds, cases = table.shape
    if min(seeds, cases) < 2:
        return Spread(np.nan, np.nan, np.nan)
    by_seed, by_case = table.mean(axis=1, keepdims=True), table.mean(axis=0, keepdims=True)
    rest = ((table - by_seed - by_case + table.mean()) ** 2).sum() / ((seeds - 1) * (cases - 1))
    squares = (by_seed.var(ddof=1) - rest / cases, by_case.var(ddof=1) - rest / seeds, rest)
    return Spread(*(float(np.sqrt(max(0.0, square))) for square in squares))


def spreads(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the spread of each model and metric; columns `SPREADS`."""
    records = []
    for (strategy, iteration, converged), rows in metrics.groupby(["strategy", "iteration", "converged"]):
        for about in METRICS.values():
            table = rows.pivot(index="seed", columns="volume", values=about.column)  # noqa: PD010
            records.append([about.column, strategy, iteration, converged, *spread(table.dropna(axis=1))])
    return pd.DataFrame(records, columns=SPREADS)


def factors_of_a_spread(seeds: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the confidence factors of a standard deviation that is estimated from `seeds` normal values."""
    tail = (1 - confidence) / 2
    lower, upper = np.sqrt((seeds - 1) / special.chdtri(seeds - 1, [tail, 1 - tail]))
    return float(lower), float(upper)


def penalties(metrics: pd.DataFrame) -> pd.DataFrame:
    """Compare each pair of strategies in each iteration over the seeds; columns `PENALTIES`, p two-sided.

    The test is a paired t-test of the models' means over the test volumes, one per seed, as in Ash et al. 2020
    (arXiv:1906.03671, section 5) and nnActive (arXiv:2511.19183). `p_holm` is corrected for all pairs and iterations of
    a metric. The difference is positive if the first strategy has the larger mean.
    """
    limited = metrics[~metrics["converged"] & by_strategies(metrics)]
    tables = []
    for about in METRICS.values():
        records = []
        for iteration, rows in limited.groupby("iteration"):
            means = rows.pivot_table(index="seed", columns="strategy", values=about.column)
            for first, second in itertools.combinations(strategies_in(rows), 2):
                differences = (means[first] - means[second]).dropna().to_numpy()
                if len(differences) > 1:
                    result = _paired_t(differences)
                    records.append([about.column, iteration, first, second, differences.mean(), *result])
        table = pd.DataFrame(records, columns=PENALTIES[:-1])
        tables.append(table.assign(p_holm=holm(table["p_value"])))
    return pd.concat(tables, ignore_index=True)[PENALTIES]


def _paired_t(differences: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return t and its two-sided p-value; for equal differences p is 1 if they are zero, otherwise 0."""
    mean, error = differences.mean(), differences.std(ddof=1) / np.sqrt(len(differences))
    if not error:
        return (0.0, 1.0) if not mean else (float(np.sign(mean) * np.inf), 0.0)
    t = mean / error
    return float(t), float(2 * special.stdtr(len(differences) - 1, -abs(t)))


def penalty_matrix(tests: pd.DataFrame, metric: str, strategies: Sequence[str], p_column: str) -> pd.DataFrame:
    """Return the share of iterations in which the row's strategy beats the column's; NaN on the diagonal.

    tests: from `penalties`; p_column: `p_value` or `p_holm`.
    """
    rows = tests[tests["metric"] == metric]
    matrix = pd.DataFrame(0.0, index=list(strategies), columns=list(strategies))
    for test in rows[rows[p_column] < LEVEL].itertuples():
        first_wins = (test.difference > 0) == METRICS[metric].larger_is_better
        winner, loser = (test.first, test.second) if first_wins else (test.second, test.first)
        matrix.loc[winner, loser] += 1
    return (matrix / max(1, rows["iteration"].nunique())).mask(np.eye(len(matrix), dtype=bool))


def beaten(matrix: pd.DataFrame) -> pd.Series:
    """Return the mean of each column of a `penalty_matrix`, over rows that are not upper bounds."""
    return matrix.loc[[not is_upper_bound(name) for name in matrix.index]].mean()
