"""Statistics of the evaluation: percentiles, signed-rank tests against the best, quantile regression (section V).

All functions read the table of metrics: one row a model and test volume, with the columns `seed`, `strategy`,
`iteration`, `converged`, `volume`, and one a metric. A case is one test volume of one seed.
"""

import warnings
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from .strategies import STRATEGIES

LOWER_PERCENTILE, UPPER_PERCENTILE = 5, 95
CONFIDENCE = 0.95
SIGNIFICANCE = ((0.001, "***"), (0.01, "**"), (0.05, "*"))
"""A p-value below the level earns the mark; the first that fits counts (footnote of tables 4 to 8)."""

COVARIATES = ("intercept", "uncertainty_sampling", "slice_sampling")


class Metric(NamedTuple):
    """One metric: its column, its name and unit in print, which end is good, and how many decimals the paper prints."""

    column: str
    name: str
    unit: str
    larger_is_better: bool
    decimals: int

    @property
    def tail_quantile(self) -> float:
        """The quantile at the bad end, by which robustness is judged."""
        return (LOWER_PERCENTILE if self.larger_is_better else UPPER_PERCENTILE) / 100

    @property
    def label(self) -> str:
        """The name with its unit, such as "MSD [mm]"."""
        return f"{self.name} [{self.unit}]" if self.unit else self.name


METRICS = {
    metric.column: metric
    for metric in (
        Metric("dice", "Dice", "", larger_is_better=True, decimals=3),
        Metric("rve", "RVE", "%", larger_is_better=False, decimals=2),
        Metric("msd", "MSD", "mm", larger_is_better=False, decimals=2),
        Metric("hd", "HD", "mm", larger_is_better=False, decimals=1),
    )
}
"""The four metrics by their column, in the order of the paper."""


class Summary(NamedTuple):
    """Mean, 5th and 95th percentile of one metric over the cases."""

    mean: float
    p5: float
    p95: float


class Regression(NamedTuple):
    """Coefficients of a quantile regression, and what to know about them.

    coefficients: one row each of `COVARIATES`, columns `coefficient`, `lower`, `upper` (95 % interval), `p_value`; NaN
    what could not be estimated. cases: how many rows of the table went in. note: empty, or why an estimate is missing
    or weak.
    """

    coefficients: pd.DataFrame
    cases: int
    note: str


def summarise(values: npt.ArrayLike) -> Summary:
    """Return mean, 5th and 95th percentile (linear between cases); raises ValueError without cases or with a NaN."""
    cases = np.asarray(values, dtype=float)
    if cases.size == 0 or np.isnan(cases).any():
        raise ValueError(f"values must hold at least one number and no NaN, got {cases.tolist()}")
    lower, upper = np.percentile(cases, [LOWER_PERCENTILE, UPPER_PERCENTILE])
    return Summary(float(cases.mean()), float(lower), float(upper))


def paired(metrics: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return one metric as cases × strategies, from rows that hold at most one model a strategy and seed.

    The index is (seed, volume); a case that a strategy lacks is NaN. Raises ValueError where one has a case twice.
    """
    twice = metrics.duplicated(["seed", "volume", "strategy"])
    if twice.any():
        seed, volume, strategy = metrics.loc[twice, ["seed", "volume", "strategy"]].iloc[0]
        raise ValueError(f"{metric}: {strategy} has volume {volume} of seed {seed} twice; give one model a strategy")
    return metrics.pivot(index=["seed", "volume"], columns="strategy", values=metric).astype(float)  # noqa: PD010


def wilcoxon_against_best(values: pd.DataFrame, larger_is_better: bool) -> pd.DataFrame:
    """Test whether each strategy is worse than the one with the best mean (one-sided Wilcoxon signed-rank test).

    values: cases × strategies, paired by row. Returns one row a strategy with `mean`, `best`, `p_value` (NaN for the
    strategy that the others are tested against: the first of the best) and `stars`. Cases without a difference are left
    out; without any difference p is 1. Raises ValueError where a value is missing.
    """
    if values.empty or values.isna().any(axis=None):
        missing = [f"{case} of {name}" for name in values for case in values.index[values[name].isna()]]
        raise ValueError(f"every case needs a value of every strategy, missing: {', '.join(missing) or 'all'}")
    means = values.mean()
    best = means.max() if larger_is_better else means.min()
    reference = str(means.index[means == best][0])
    p_values = {
        name: np.nan if name == reference else _p_value(values[name] - values[reference], larger_is_better)
        for name in values
    }
    table = pd.DataFrame({"mean": means, "best": means == best, "p_value": pd.Series(p_values, dtype=float)})
    table["stars"] = [stars(p_value) for p_value in table["p_value"]]
    return table


def _p_value(differences: pd.Series, larger_is_better: bool) -> float:
    """Return the probability of such differences, or worse ones, where neither strategy is the worse."""
    if not differences.any():
        return 1.0
    return float(stats.wilcoxon(differences, alternative="less" if larger_is_better else "greater").pvalue)


def stars(p_value: float) -> str:
    """Return the mark of a p-value: `***` below 0.001, `**` below 0.01, `*` below 0.05, else (and for NaN) nothing."""
    return next((mark for level, mark in SIGNIFICANCE if p_value < level), "")


def quantile_regression(metrics: pd.DataFrame, metric: str, quantile: float) -> Regression:
    """Regress a quantile of the converged models' cases on uncertainty vs. random and slice vs. volume sampling.

    The paper's table 9: value = intercept + uncertainty sampling (UVS, USS) + slice sampling (USS, RSS); an effect that
    the strategies of the run cannot tell is NaN, and the note says why.
    """
    from statsmodels.regression.quantile_regression import QuantReg  # seconds, for one table of nine

    rows = metrics[metrics["converged"] & metrics["strategy"].isin(list(STRATEGIES))]
    outcome = rows[metric].to_numpy(dtype=float)
    design = pd.DataFrame(
        {
            "intercept": 1.0,
            "uncertainty_sampling": [float(STRATEGIES[name].uncertain) for name in rows["strategy"]],
            "slice_sampling": [float(STRATEGIES[name].slices) for name in rows["strategy"]],
        },
        index=rows.index,
    )
    coefficients = pd.DataFrame(np.nan, index=list(COVARIATES), columns=["coefficient", "lower", "upper", "p_value"])
    effects, notes = _estimable(design)
    names = ["intercept", *effects]
    if len(outcome) <= len(names):
        return Regression(coefficients, len(outcome), f"{len(outcome)} cases are too few for a regression")
    smallest = round(1 / min(quantile, 1 - quantile))
    if rows["strategy"].value_counts().min() < smallest:
        notes.append(f"fewer than {smallest} cases a strategy: the {quantile:g} quantile rests on the extreme cases")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = QuantReg(outcome, design[names].to_numpy()).fit(q=quantile)
        interval = np.asarray(fit.conf_int(alpha=1 - CONFIDENCE))
        estimates = np.column_stack([fit.params, interval, fit.pvalues])
    complete = bool(np.isfinite(estimates).all())
    # A division by zero on the way to a missing interval is told by that; all other warnings are passed on.
    told = [warning for warning in caught if complete or not issubclass(warning.category, RuntimeWarning)]
    notes += dict.fromkeys(str(warning.message).strip().rstrip(".") for warning in told)
    if not complete:
        notes.append("no interval or p-value: too few cases, or too many alike")
    coefficients.loc[names] = np.where(np.isfinite(estimates), estimates, np.nan)
    return Regression(coefficients, len(outcome), "; ".join(notes))


def _estimable(design: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Return the covariates whose effect the strategies of the run can tell, and a note on each other one."""
    constant = [name for name in COVARIATES[1:] if design[name].nunique() < 2]
    varied = [name for name in COVARIATES[1:] if name not in constant]
    notes = [f"{name.replace('_', ' ')} is the same for all strategies of the run: no effect" for name in constant]
    if len(varied) > 1 and np.linalg.matrix_rank(design.to_numpy()) < len(COVARIATES):
        return [], [*notes, "uncertainty and slice sampling cannot be told apart by the strategies of the run"]
    return varied, notes
