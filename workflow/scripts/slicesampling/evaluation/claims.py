"""The paper's claims (abstract and section VI), tested on the metrics and annotated sets of a run.

A claim is judged by the 95 % interval of a difference over seeds and patients. With too few seeds no claim is judged:
the interval of one seed covers one training of each strategy, and does not generalise to the strategy.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from ..domain.metrics import METRICS, Metric
from ..query.strategies import STRATEGIES, by_strategies
from .composition import ALL_HARD
from .statistics import CONFIDENCE, bootstrap, interval, weighted_means, weighted_quantiles

HOLDS, FAILS, OPEN, ABSENT = "holds", "does not hold", "inconclusive", "not in this run"

SEEDS_FOR_VERDICT = 5
"""The fewest seeds for a verdict. All bootstrap samples lie between the smallest and the largest training. With
n seeds, a difference that is zero on average has the same sign in all of them in 2 of 2**n runs: 12.5 % with four."""

MARGINS = {"dice": 0.005, "rve": 0.21, "msd": 0.09, "hd": 3.0}
"""Equivalence margins of the mean: the differences between USS and the next best strategy in the paper's table 8, the
smallest that the paper calls an improvement."""

POOL_SHARE = 0.99
"""The share of the data pool model's Dice that USS reached (.964 of .967, table 8), as a whole per cent."""

SLICES_SHARE = 0.04
"""The share of the pool's slices that USS used for it (2410 of 60 513, abstract), rounded to a whole per cent."""

FRAME = ["claim", "metric", "rival", "estimate", "lower", "upper", "verdict", "remark"]


class Claim(NamedTuple):
    """One claim.

    kind: `rank`, `equal`, `composition`, `fewest` or `share`, each a function below. subject: the strategy of the
    claim. rivals: those that it is compared with. best: whether the subject is claimed to be better, or worse, than
    each rival. models: `converged`, or those of limited epochs in the `first`, the `last`, or all iterations but the
    first (`later`). tail: whether the claim is about the percentile at the bad end instead of the mean.
    """

    name: str
    statement: str
    kind: str
    subject: str
    rivals: tuple[str, ...]
    best: bool = True
    models: str = "converged"
    tail: bool = False


def _others(subject: str) -> tuple[str, ...]:
    return tuple(name for name in STRATEGIES if name != subject)


CLAIMS = (
    Claim(
        "fewest", "After the last iteration USS has the fewest annotated slices", "fewest", "uss", _others("uss"),
        models="last",
    ),
    Claim(
        "best_last", "USS is the best strategy after the last iteration", "rank", "uss", _others("uss"), models="last"
    ),
    Claim("best_converged", "USS is the best strategy, trained until convergence", "rank", "uss", _others("uss")),
    Claim(
        "pool_better", "The data pool model has a better mean than USS (converged)", "rank", "uss", ("pool",),
        best=False,
    ),
    Claim(
        "robust", "USS is the most robust strategy by the percentile at the bad end (converged)", "rank", "uss",
        _others("uss"), tail=True,
    ),
    Claim(
        "robust_pool", "USS is more robust than the data pool model by the percentile at the bad end (converged)",
        "rank", "uss", ("pool",), tail=True,
    ),
    Claim(
        "worst_first", "USS is the worst strategy after the first iteration", "rank", "uss", _others("uss"),
        best=False, models="first",
    ),
    Claim(
        "rss_later", "USS is better than RSS in all iterations but the first", "rank", "uss", ("rss",), models="later"
    ),
    Claim(
        "hard_cases", "The training set of USS holds a larger share of hard cases than the data pool", "composition",
        "uss", ("pool",),
    ),
    Claim("volumes_equal", "UVS and RVS do not differ (converged)", "equal", "uvs", ("rvs",)),
    Claim(
        "rss_worst", "RSS is the worst strategy, trained until convergence", "rank", "rss", _others("rss"),
        best=False,
    ),
    Claim(
        "share", "USS reaches 99 % of the data pool model's Dice with 4 % of its slices (converged)", "share", "uss",
        ("pool",),
    ),
)  # fmt: skip
"""The claims in the order of the abstract and section VI."""


class Estimate(NamedTuple):
    """A difference or a share with its interval, see `FRAME`."""

    rival: str
    estimate: float
    lower: float
    upper: float


Statistic = tuple[float, npt.NDArray[np.float64]]
"""The value for all cases, and for each bootstrap sample (replicates,)."""


class Cases:
    """The metrics of a run with bootstrap weights that all its models share, so that differences are paired.

    metrics: one row per model and case, `seed strategy iteration converged volume patient` and the four metrics.
    """

    def __init__(self, metrics: pd.DataFrame, random: np.random.Generator) -> None:
        self.metrics = metrics.sort_values(["seed", "volume"])
        self.weights, self.shares = bootstrap(metrics, random)
        self._rows = dict(list(self.metrics.groupby(["strategy", "converged", "iteration"])))
        self._known: dict[tuple, Statistic] = {}

    @property
    def seeds(self) -> int:
        return int(self.metrics["seed"].nunique())

    def iterations(self, claim: Claim) -> list[int]:
        """Return the iterations that a claim is about."""
        numbers = sorted(self.metrics.loc[by_strategies(self.metrics), "iteration"].unique())
        return {"first": numbers[:1], "later": numbers[1:]}.get(claim.models, numbers[-1:])

    def statistic(self, strategy: str, claim: Claim, about: Metric, iteration: int | None = None) -> Statistic:
        """Return the mean, or for a claim about the tail the percentile, over the cases of the model of a claim.

        The model is that of `iteration`, by default of the strategy's last iteration.
        """
        converged = claim.models == "converged" or strategy == "pool"
        last = max(number for name, ended, number in self._rows if (name, ended) == (strategy, converged))
        model = strategy, converged, iteration or last
        key = *model, about.column, claim.tail
        if key not in self._known:
            values = self._rows[model][about.column].to_numpy(dtype=float)
            if claim.tail:
                found = about.tail(values), weighted_quantiles(values, self.weights, about.tail_quantile)
            else:
                found = float(values.mean()), weighted_means(values, self.weights)
            self._known[key] = found
        return self._known[key]


def judge(metrics: pd.DataFrame, annotations: pd.DataFrame, composition: pd.DataFrame, random: np.random.Generator
) -> pd.DataFrame:  # fmt: skip
    """Return the columns `FRAME`, a row for each claim and metric; claims without a metric have one row, metric "".

    metrics: see `Cases`; annotations: `seed strategy iteration slices`, including the data pool; composition: from
    `composition.composition`. `estimate` is subject minus rival, in units of the metric, or for the share subject
    divided by rival. With several rivals it is that of the decisive one, whose interval reaches furthest to the other
    side.
    """
    cases, rows = Cases(metrics, random), []
    present = set(metrics["strategy"])
    for claim in CLAIMS:
        rivals = [name for name in claim.rivals if name in present]
        names: list[str] = {"rank": [*METRICS], "equal": [*METRICS], "share": ["dice"]}.get(claim.kind, [""])
        for metric in names:
            if claim.subject not in present or not rivals:
                lacking = [name.upper() for name in (claim.subject, *claim.rivals) if name not in present]
                found: dict[str, Any] = {"verdict": ABSENT, "remark": f"no {' and no '.join(lacking)}"}
            elif claim.kind == "composition":
                found = _composition(claim, composition)
            elif claim.kind == "share":
                found = _share(claim, cases, annotations)
            else:
                if claim.kind == "fewest":
                    found = _fewest(claim, annotations, rivals)
                else:
                    found = (_rank if claim.kind == "rank" else _equal)(claim, cases, METRICS[metric], rivals)
                missing = [name.upper() for name in claim.rivals if name not in present]
                found["remark"] = "; ".join(
                    part for part in (found["remark"], f"without {', '.join(missing)}" if missing else "") if part
                )
            rows.append({"claim": claim.name, "metric": metric, **found})
    return pd.DataFrame(rows).reindex(columns=FRAME)


def _few(seeds: int) -> str:
    """Return the reason for no verdict if there are too few seeds, otherwise an empty text."""
    if seeds == 1:
        return "one seed: the interval covers patients, not trainings"
    return f"{seeds} seeds: too few for a verdict" if seeds < SEEDS_FOR_VERDICT else ""


def _record(found: Estimate, verdict: str, seeds: int, remark: str = "") -> dict[str, Any]:
    few = _few(seeds)
    return {**found._asdict(), "verdict": OPEN if few else verdict, "remark": few or remark}


def _rank(claim: Claim, cases: Cases, about: Metric, rivals: Sequence[str]) -> dict[str, Any]:
    """Judge whether the subject is better (or worse) than each rival, in each iteration that the claim is about.

    The claim holds if all intervals lie on that side. It does not hold if one of them, corrected for their number, lies
    on the other side. The first case needs no correction, because all intervals have to agree.
    """
    side = 1 if about.larger_is_better == claim.best else -1
    compared = list(itertools.product(rivals, cases.iterations(claim)))
    if not compared:
        return {"verdict": OPEN, "remark": "one iteration"}
    found, wide = [], []
    for rival, iteration in compared:
        (own, own_samples), (other, samples) = (
            cases.statistic(name, claim, about, iteration) for name in (claim.subject, rival)
        )
        found.append(Estimate(rival, own - other, *interval(own_samples - samples, cases.shares)))
        wide.append(interval(own_samples - samples, cases.shares, len(compared)))
    least = [min(side * each.lower, side * each.upper) for each in found]
    most = [max(side * lower, side * upper) for lower, upper in wide]
    verdict = HOLDS if min(least) > 0 else FAILS if min(most) < 0 else OPEN
    # The decisive rival: its interval reaches furthest to the other side, or lies there.
    decisive = most.index(min(most)) if verdict == FAILS else least.index(min(least))
    remark = f"decided in iteration {compared[decisive][1]}" if claim.models == "later" else ""
    return _record(found[decisive], verdict, cases.seeds, remark)


def _equal(claim: Claim, cases: Cases, about: Metric, rivals: Sequence[str]) -> dict[str, Any]:
    """Judge whether two means are equivalent: yes if the interval lies within the margin, no if it lies outside."""
    own, other = (cases.statistic(name, claim, about) for name in (claim.subject, rivals[0]))
    found = Estimate(rivals[0], own[0] - other[0], *interval(own[1] - other[1], cases.shares))
    margin = MARGINS[about.column]
    within = -margin < found.lower and found.upper < margin
    outside = found.lower > margin or found.upper < -margin
    return _record(found, HOLDS if within else FAILS if outside else OPEN, cases.seeds)


def _composition(claim: Claim, composition: pd.DataFrame) -> dict[str, Any]:
    """Judge whether the subject's set has the larger share of hard cases, by Student's t over the seeds.

    Only the sets vary; the pool is fixed. A bootstrap of few seeds would give too narrow an interval.
    """
    shares = composition[composition["part"] == ALL_HARD].pivot(  # noqa: PD010
        index="seed", columns="strategy", values="share"
    )
    if shares.empty:
        return {"verdict": OPEN, "remark": "the cohort table names no hard cases in the pool"}
    differences = (shares[claim.subject] - shares[claim.rivals[0]]).to_numpy(dtype=float)
    found = Estimate("pool", *_student(differences))
    verdict = HOLDS if found.lower > 0 else FAILS if found.upper < 0 else OPEN
    return _record(found, verdict, len(differences))


def _student(values: npt.NDArray[np.float64], comparisons: int = 1) -> tuple[float, float, float]:
    """Return the mean of values (seeds,) and the ends of its Student's t interval, NaN with one seed."""
    seeds, mean = len(values), float(values.mean())
    if seeds < 2:
        return mean, np.nan, np.nan
    error = float(values.std(ddof=1)) / np.sqrt(seeds)
    half = float(special.stdtrit(seeds - 1, 1 - (1 - CONFIDENCE) / comparisons / 2)) * error
    return mean, mean - half, mean + half


def _fewest(claim: Claim, annotations: pd.DataFrame, rivals: Sequence[str]) -> dict[str, Any]:
    """Judge whether the subject ends with fewer annotated slices than each rival, by Student's t over the seeds.

    The claim holds if all intervals lie below zero; it does not if one, corrected for their number, lies above.
    """
    end = annotations[annotations["iteration"] == annotations["iteration"].max()]
    slices = end.pivot(index="seed", columns="strategy", values="slices").astype(float)  # noqa: PD010
    differences = [(slices[claim.subject] - slices[rival]).to_numpy() for rival in rivals]
    found = [Estimate(rival, *_student(each)) for rival, each in zip(rivals, differences, strict=True)]
    most = max(found, key=lambda each: each.estimate if np.isnan(each.upper) else each.upper)
    wide = max(_student(each, len(rivals))[1] for each in differences)
    verdict = HOLDS if most.upper < 0 else FAILS if wide > 0 else OPEN
    return _record(most, verdict, len(slices))


def _share(claim: Claim, cases: Cases, annotations: pd.DataFrame) -> dict[str, Any]:
    """Judge whether the subject reaches `POOL_SHARE` of the pool model's Dice with `SLICES_SHARE` of the slices.

    A larger set cannot show that this share suffices, and a smaller set cannot show that it does not.
    """
    about = METRICS["dice"]
    own, pool = (cases.statistic(name, claim, about) for name in (claim.subject, "pool"))
    if not pool[1].all():
        unknown = Estimate("pool", np.nan, np.nan, np.nan)
        return _record(unknown, OPEN, cases.seeds, "the data pool model predicts no liver")
    found = Estimate("pool", own[0] / pool[0], *interval(own[1] / pool[1], cases.shares))
    spent = annotations[annotations["strategy"] == claim.subject]
    spent = spent.loc[spent["iteration"] == spent["iteration"].max(), "slices"].mean()
    share = float(spent / annotations.loc[annotations["strategy"] == "pool", "slices"].mean())
    percent, asked = round(100 * share), round(100 * SLICES_SHARE)
    verdict = OPEN
    if found.lower >= POOL_SHARE and percent <= asked:
        verdict = HOLDS
    elif found.upper < POOL_SHARE and percent >= asked:
        verdict = FAILS
    record = _record(found, verdict, cases.seeds)
    told = f"with {100 * share:.1f} % of the slices"
    return record | {"remark": f"{told}; {record['remark']}" if record["remark"] else told}
