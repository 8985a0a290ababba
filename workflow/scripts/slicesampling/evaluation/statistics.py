"""Statistics of the evaluation (section V): percentiles, signed-rank tests, quantile regression, and the bootstrap.

All functions read the table of metrics: one row per model and test volume, with the columns `seed`, `strategy`,
`iteration`, `converged`, `volume`, `patient`, and one per metric. A case is one test volume of one seed.
"""

import warnings
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from ..domain.metrics import LOWER_PERCENTILE, UPPER_PERCENTILE, Metric
from ..query.strategies import SLICED, STRATEGIES, UNCERTAIN
from .regression import weighted_regressions

CONFIDENCE = 0.95
REPLICATES = 2000
"""The number of bootstrap samples; the ends of a 95 % interval are then 50 samples from the extreme ones."""

CASES_FOR_PERCENTILE = 100 // LOWER_PERCENTILE
"""With fewer cases, the 5th and 95th percentiles lie between the extreme case and its neighbour."""

SIGNIFICANCE = ((0.001, "***"), (0.01, "**"), (0.05, "*"))
"""The mark of p-values below each level; the first match counts (footnote of tables 4 to 8)."""

EXACT = 50
"""The largest number of differences for which the distribution of the signed ranks is computed exactly."""

COVARIATES = ("intercept", "uncertainty_sampling", "slice_sampling")


class Summary(NamedTuple):
    """Mean, 5th and 95th percentile of one metric over the cases."""

    mean: float
    p5: float
    p95: float


class Regression(NamedTuple):
    """The coefficients of a quantile regression.

    coefficients: a row for each of `COVARIATES`, columns `coefficient`, `lower`, `upper` (95 % interval), `p_value`;
    NaN if not estimable. cases: the number of rows used. note: the reason for a missing or weak estimate, or empty.
    """

    coefficients: pd.DataFrame
    cases: int
    note: str


def summarise(values: npt.ArrayLike) -> Summary:
    """Return mean, 5th and 95th percentile (linear interpolation). Raise ValueError without cases or with a NaN."""
    cases = np.asarray(values, dtype=float)
    if cases.size == 0 or np.isnan(cases).any():
        raise ValueError(f"values must hold at least one number and no NaN, got {cases.tolist()}")
    lower, upper = np.percentile(cases, [LOWER_PERCENTILE, UPPER_PERCENTILE])
    return Summary(float(cases.mean()), float(lower), float(upper))


def paired(metrics: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return one metric as cases × strategies, from rows with at most one model per strategy and seed.

    The index is (seed, volume); missing cases are NaN. Raise ValueError if a strategy has a case twice.
    """
    twice = metrics.duplicated(["seed", "volume", "strategy"])
    if twice.any():
        seed, volume, strategy = metrics.loc[twice, ["seed", "volume", "strategy"]].iloc[0]
        raise ValueError(f"{metric}: {strategy} has volume {volume} of seed {seed} twice; give one model per strategy")
    return metrics.pivot(index=["seed", "volume"], columns="strategy", values=metric).astype(float)  # noqa: PD010


def wilcoxon_against_best(
    values: pd.DataFrame, larger_is_better: bool, patients: npt.ArrayLike | None = None
) -> pd.DataFrame:
    """Test whether each strategy is worse than the one with the best mean (one-sided Wilcoxon signed-rank test).

    values: cases × strategies, paired by row. Return one row per strategy with `mean`, `best`, `p_value` (NaN for the
    strategy that the others are tested against, the first of the best), `stars`, and `equal`, the number of cases
    without a difference, which the test leaves out. Without any difference p is 1. With `patients`, one per case, the
    mean of each patient's cases, over volumes and seeds, counts as one case. Raise ValueError if a value is missing.
    """
    if values.empty or values.isna().any(axis=None):
        missing = [f"{case} of {name}" for name in values for case in values.index[values[name].isna()]]
        raise ValueError(f"every case needs a value of every strategy, missing: {', '.join(missing) or 'all'}")
    means = values.mean()
    best = means.max() if larger_is_better else means.min()
    reference = str(means.index[means == best][0])
    tested = values if patients is None else values.groupby(np.asarray(patients)).mean()
    p_values = {
        name: np.nan if name == reference else signed_rank_p(tested[name] - tested[reference], larger_is_better)
        for name in values
    }
    table = pd.DataFrame({"mean": means, "best": means == best, "p_value": pd.Series(p_values, dtype=float)})
    table["stars"] = [stars(p_value) for p_value in table["p_value"]]
    table["equal"] = [0 if name == reference else int((tested[name] == tested[reference]).sum()) for name in values]
    return table


class Comparison(NamedTuple):
    """A two-sided Wilcoxon signed-rank test of paired differences, one per patient.

    rank_biserial: the matched-pairs effect size, from -1 (all differences negative) to 1; NaN without any difference.
    equal: the number of patients without a difference; tied: the number of others with a tied absolute difference.
    """

    p_value: float
    rank_biserial: float
    patients: int
    equal: int
    tied: int


def compare(differences: npt.ArrayLike, patients: npt.ArrayLike) -> Comparison:
    """Test whether paired differences (cases,) are centred at zero; the data do not select the comparison.

    Cases of one patient (several volumes or seeds) are not independent: their mean counts once. Without any difference
    p is 1.
    """
    each = pd.Series(np.asarray(differences, dtype=float)).groupby(np.asarray(patients)).mean().to_numpy()
    sizes = np.abs(each[each != 0])
    if not len(sizes):
        return Comparison(1.0, np.nan, len(each), len(each), 0)
    ranks = pd.Series(sizes).rank().to_numpy()
    signed = float((ranks * np.sign(each[each != 0])).sum() / ranks.sum())
    tied = len(sizes) - int((np.unique(sizes, return_counts=True)[1] == 1).sum())
    p_value = _signed_ranks(each)[1]
    return Comparison(p_value, signed, len(each), len(each) - len(sizes), tied)


def holm(p_values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the p-values of a family of tests after Holm's step-down correction."""
    from statsmodels.stats.multitest import multipletests

    values = np.asarray(p_values, dtype=float)
    return multipletests(values, method="holm")[1] if len(values) else values


def bootstrap_weights(
    seeds: npt.ArrayLike, patients: npt.ArrayLike, random: np.random.Generator, replicates: int = REPLICATES
) -> npt.NDArray[np.int64]:
    """Return the weight of each case in each bootstrap sample: (replicates, cases).

    Patients, with all their volumes, are drawn with replacement; several seeds are too, independently. The weight of a
    case is the count of its patient times that of its seed (the pigeonhole bootstrap, Owen 2007,
    doi:10.1214/07-AOAS122). All models share one set of weights, so that differences are paired.
    """
    weights = np.ones((replicates, np.size(patients)), dtype=np.int64)
    for names in (patients, seeds):
        clusters, cluster = np.unique(np.asarray(names), return_inverse=True)
        if names is patients or len(clusters) > 1:
            drawn = random.multinomial(len(clusters), np.full(len(clusters), 1 / len(clusters)), size=replicates)
            weights *= drawn[:, cluster]
    return weights


class Samples(NamedTuple):
    """Bootstrap samples of a run's cases, sorted by seed and volume, which all its models share.

    weights: (replicates, cases), the weight of each case; seeds: (replicates, seeds), the share of each seed.
    """

    weights: npt.NDArray[np.int64]
    seeds: npt.NDArray[np.float64]


def bootstrap(metrics: pd.DataFrame, random: np.random.Generator) -> Samples:
    """Return bootstrap samples of a run's cases, see `bootstrap_weights`.

    metrics: `seed volume patient`, any number of rows per case.
    """
    cases = metrics[["seed", "volume", "patient"]].drop_duplicates().sort_values(["seed", "volume"])
    weights = bootstrap_weights(cases["seed"], cases["patient"], random)
    _, first = np.unique(cases["seed"], return_index=True)
    counted = np.add.reduceat(weights, first, axis=1)
    return Samples(weights, counted / counted.sum(axis=1, keepdims=True))


def weighted_means(values: npt.ArrayLike, weights: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the mean of values (cases,) for each row of weights (replicates, cases)."""
    return weights @ np.asarray(values, dtype=float) / weights.sum(axis=1)


def weighted_quantiles(
    values: npt.ArrayLike, weights: npt.NDArray[np.int64], quantile: float
) -> npt.NDArray[np.float64]:
    """Return the quantile (linear interpolation) of values (cases,), weighted by each row of weights."""
    order = np.argsort(np.asarray(values, dtype=float))
    ordered, counted = np.asarray(values, dtype=float)[order], weights[:, order].cumsum(axis=1)
    place = quantile * (counted[:, -1] - 1)
    below = np.floor(place)
    lower, upper = (ordered[(counted > rank[:, None]).argmax(axis=1)] for rank in (below, np.ceil(place)))
    return lower + (upper - lower) * (place - below)


def interval(
    estimates: npt.ArrayLike, seeds: npt.NDArray[np.float64] | None = None, comparisons: int = 1
) -> tuple[float, float]:
    """Return the ends of the 95 % bootstrap interval (percentile method) of estimates (replicates,), which may be inf.

    seeds: see `Samples`; they widen the interval, see `_widening`. comparisons: the number of simultaneous intervals
    (Bonferroni). Each end is one of the estimates.
    """
    values = np.asarray(estimates, dtype=float)
    factor, freedom = _widening(values, seeds)
    tail = special.ndtr(factor * special.stdtrit(freedom, (1 - CONFIDENCE) / comparisons / 2))
    lower, upper = np.quantile(values, [tail, 1 - tail], method="inverted_cdf")
    return float(lower), float(upper)


class Difference(NamedTuple):
    """The difference between two models' values: of the mean and of the percentile at the bad end, with intervals."""

    mean: float
    mean_bounds: tuple[float, float]
    tail: float
    tail_bounds: tuple[float, float]


def difference(metric: Metric, first: npt.ArrayLike, second: npt.ArrayLike, samples: Samples) -> Difference:
    """Return the difference `first` minus `second` of values (cases,) of a metric, for the cases of `samples`."""
    one, two = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    tails = [weighted_quantiles(values, samples.weights, metric.tail_quantile) for values in (one, two)]
    return Difference(
        (one - two).mean(),
        interval(weighted_means(one - two, samples.weights), samples.seeds),
        metric.tail(one) - metric.tail(two),
        interval(tails[0] - tails[1], samples.seeds),
    )


def bootstrap_p(estimates: npt.ArrayLike, seeds: npt.NDArray[np.float64] | None = None) -> float:
    """Return the two-sided p-value of zero from bootstrap estimates (replicates,): below 0.05 outside `interval`.

    It is twice the smaller share of samples on one side of zero, with the data counted as one more sample, and widened
    by `seeds` as in `interval`.
    """
    values = np.asarray(estimates, dtype=float)
    factor, freedom = _widening(values, seeds)
    side = min(1.0, 2 * (min((values <= 0).sum(), (values >= 0).sum()) + 1) / (len(values) + 1))
    return float(2 * special.stdtr(freedom, special.ndtri(side / 2) / factor))


def _widening(estimates: npt.NDArray[np.float64], seeds: npt.NDArray[np.float64] | None) -> tuple[float, float]:
    """Return the factor and the degrees of freedom by which an interval of few seeds is widened.

    A sample of n seeds has n - 1 degrees of freedom, and the variance of its bootstrap is too small by the factor
    (n - 1)/n. The expanded percentile interval (Hesterberg 2015, doi:10.1080/00031305.2015.1089789) corrects both. Here
    only a part of the variance is due to the seeds: the part of the estimates, as normal scores, that the shares of the
    seeds explain. The degrees of freedom are those of the sum (Satterthwaite 1946, doi:10.2307/3002019), assuming many
    patients.
    """
    if seeds is None or seeds.shape[1] < 2:
        return 1.0, np.inf
    scores = special.ndtri(pd.Series(estimates).rank().to_numpy() / (len(estimates) + 1))
    centred = seeds - seeds.mean(axis=0)
    explained = centred @ np.linalg.lstsq(centred, scores, rcond=None)[0]
    part = float(explained.var() / scores.var()) if scores.any() else 1.0
    count = seeds.shape[1]
    of_seeds = part * count / (count - 1)
    whole = of_seeds + 1 - part
    return np.sqrt(whole), (count - 1) * (whole / of_seeds) ** 2 if part else np.inf


def signed_rank_p(differences: pd.Series, larger_is_better: bool) -> float:
    """Return the one-sided signed-rank p-value that a model is not worse, from its `differences` to a better one."""
    return _signed_ranks((-1 if larger_is_better else 1) * np.asarray(differences, dtype=float))[0]


def _signed_ranks(differences: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the p-values of the one-sided (differences above zero) and the two-sided Wilcoxon signed-rank test.

    Zeros are left out; without any other difference p is 1. Up to `EXACT` differences the distribution is exact, with
    mean ranks for ties. With ties, scipy would enumerate all signs, which takes seconds, or approximate above 13.
    """
    some = differences[differences != 0]
    if not len(some):
        return 1.0, 1.0
    if len(some) > EXACT:
        from scipy.stats import wilcoxon  # the import takes a second, and most jobs need no test

        tests = (wilcoxon(differences, alternative=side) for side in ("greater", "two-sided"))
        above, both = (float(test.pvalue) for test in tests)
        return above, both
    doubled = np.rint(2 * pd.Series(np.abs(some)).rank().to_numpy()).astype(int)  # mean ranks are halves
    ways = np.ones(1)  # the number of sign patterns for each sum of positive ranks
    for rank in doubled:
        ways = np.pad(ways, (0, rank)) + np.pad(ways, (rank, 0))
    tail = [float(ways[doubled[side].sum() :].sum() / ways.sum()) for side in (some > 0, some < 0)]
    return tail[0], min(1.0, 2 * min(tail))


def stars(p_value: float) -> str:
    """Return the mark of a p-value: `***` below 0.001, `**` below 0.01, `*` below 0.05, otherwise (and for NaN) ""."""
    return next((mark for level, mark in SIGNIFICANCE if p_value < level), "")


def quantile_regression(
    metrics: pd.DataFrame,
    metric: str,
    quantile: float,
    random: np.random.Generator | None = None,
) -> Regression:
    """Regress a quantile of the converged models' cases on uncertainty vs. random and slice vs. volume sampling.

    The model is that of table 9: value = intercept + uncertainty sampling (UVS, USS) + slice sampling (USS,
    RSS). Only the paper's strategies are used. An effect that those in the run do not identify is NaN, and the note
    gives the reason. Intervals and p-values are asymptotic, as in the paper; with several seeds and `random`, they are
    those of the bootstrap over patients and seeds.
    """
    from statsmodels.regression.quantile_regression import (
        QuantReg,
    )  # the import takes seconds, and only one table needs it

    rows = metrics[metrics["converged"] & metrics["strategy"].isin(list(STRATEGIES))]
    outcome = rows[metric].to_numpy(dtype=float)
    design = pd.DataFrame(
        {
            "intercept": 1.0,
            "uncertainty_sampling": rows["strategy"].isin(UNCERTAIN).astype(float),
            "slice_sampling": rows["strategy"].isin(SLICED).astype(float),
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
        notes.append(f"fewer than {smallest} cases per strategy: the {quantile:g} quantile depends on extreme cases")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = QuantReg(outcome, design[names].to_numpy()).fit(q=quantile)
        interval = np.asarray(fit.conf_int(alpha=1 - CONFIDENCE))
        estimates = np.column_stack([fit.params, interval, fit.pvalues])
    complete = bool(np.isfinite(estimates).all())
    if random is not None and len(rows["seed"].unique()) > 1:
        estimates[:, 1:] = _bootstrapped(rows, outcome, design[names].to_numpy(), quantile, random)
        complete = True
    # The note below covers a division by zero that leads to a missing interval; all other warnings are passed on.
    told = [warning for warning in caught if complete or not issubclass(warning.category, RuntimeWarning)]
    notes += dict.fromkeys(str(warning.message).strip().rstrip(".") for warning in told)
    if not complete:
        notes.append("no interval or p-value: too few cases, or too many equal values")
    coefficients.loc[names] = np.where(np.isfinite(estimates), estimates, np.nan)
    return Regression(coefficients, len(outcome), "; ".join(notes))


def _bootstrapped(
    rows: pd.DataFrame,
    outcome: npt.NDArray[np.float64],
    design: npt.NDArray[np.float64],
    quantile: float,
    random: np.random.Generator,
) -> npt.NDArray[np.float64]:
    """Return both ends of the bootstrap interval and the p-value of each coefficient: (coefficient, 3)."""
    weights, seeds = bootstrap(rows, random)
    place = rows.groupby(["seed", "volume"]).ngroup().to_numpy()  # the column of each row's case
    drawn = weighted_regressions(outcome, design, weights[:, place], quantile)
    return np.array([[*interval(estimates, seeds), bootstrap_p(estimates, seeds)] for estimates in drawn.T])


def _estimable(design: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Return the covariates whose effect the run's strategies identify, and a note on each other one."""
    constant = [name for name in COVARIATES[1:] if design[name].nunique() < 2]
    varied = [name for name in COVARIATES[1:] if name not in constant]
    notes = [f"{name.replace('_', ' ')} is the same for all strategies of the run: no effect" for name in constant]
    if len(varied) > 1 and np.linalg.matrix_rank(design.to_numpy()) < len(COVARIATES):
        return [], [*notes, "the strategies of the run do not separate uncertainty and slice sampling"]
    return varied, notes
