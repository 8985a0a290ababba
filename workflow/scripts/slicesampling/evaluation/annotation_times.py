"""The cost and benefit of annotation by people, and an estimate of the benefit of the next round.

The annotation page measures the times: seconds at work on a slice. Times are missing for slices drawn in other tools,
which are left out of the statistics of times. The paper assumes that a slice of a completely annotated volume takes a
third of the time of a single slice; these times measure that ratio.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from ..answers.store import CANNOT_TELL, Answer, Answers
from ..domain.models import Model

WHOLE, SINGLE = "whole volume", "single slice"
"""The kind of an answer: with all other slices of its volume in the same round, or not."""

DRAWS = 2000
"""Bootstrap samples."""
LEVEL = 0.95

TIMES = [
    "number", "round", "iteration", "volume", "slice", "annotator", "seconds", "start", "changed", "told", "structure",
    "first", "kind",
]  # fmt: skip
"""Columns of `annotation_times`."""


def annotation_times(answers: Answers, closed: Sequence[str], depths: Mapping[str, int]) -> pd.DataFrame:
    """Return a row for each answer in the rounds `closed`, with the columns `TIMES`.

    told: whether the answer is conclusive; structure: whether the mask holds any; first: whether it is by the annotator
    who answered the slice first, and whose answers are valid; kind: see `WHOLE`. depths: the number of slices of each
    volume of the data pool.
    """
    rows = []
    holders: dict[tuple[str, int], str] = {}
    wanted = set(closed)
    for number, answer in answers.all.items():
        if answer.round not in wanted:
            continue
        holder = holders.setdefault((answer.volume, answer.slice), answer.annotator)
        told = answer.answer != CANNOT_TELL
        row = (number, answer.round, Model.parse(answer.round).iteration, answer.volume, answer.slice, answer.annotator)
        rows.append((*row, answer.seconds, answer.start, answer.changed, told, bool(answer.mask.any()),
                     holder == answer.annotator))  # fmt: skip
    kinds = {"seconds": float, "told": bool, "structure": bool, "first": bool}
    table = pd.DataFrame(rows, columns=TIMES[:-1]).astype(kinds)
    answered = table.groupby(["round", "volume"])["slice"].transform("nunique")
    whole = answered.to_numpy() >= table["volume"].map(depths).fillna(np.inf).to_numpy()
    return table.assign(kind=np.where(whole, WHOLE, SINGLE))[TIMES]


def costs_by_round(times: pd.DataFrame, closed: Sequence[str]) -> pd.DataFrame:
    """Return the cumulative cost when each round was closed: `round iteration slices untimed minutes all_minutes`.

    slices: annotated slices; untimed: those without a known time; minutes: the known time of the annotators who
    answered first, including corrections; all_minutes: the known time of all annotators, including second opinions.
    """
    rows = []
    for place, name in enumerate(closed, start=1):
        spent = times[times["round"].isin(closed[:place])]
        first = spent[spent["first"]]
        rows.append(
            {
                "round": name,
                "iteration": Model.parse(name).iteration,
                "slices": int((~first[["volume", "slice"]].duplicated()).sum()),
                "untimed": int((first[first["told"]].groupby(["volume", "slice"])["seconds"].count() == 0).sum()),
                "minutes": first["seconds"].sum() / 60,
                "all_minutes": spent["seconds"].sum() / 60,
            }
        )
    return pd.DataFrame(rows, columns=["round", "iteration", "slices", "untimed", "minutes", "all_minutes"])


def seconds_by_kind(times: pd.DataFrame) -> pd.DataFrame:
    """Return the seconds per slice: `kind start structure slices mean lower_quartile median upper_quartile`.

    The time of a slice includes corrections by the same annotator. Inconclusive slices, and slices without a known
    time, are left out.
    """
    slices = _slices(times)
    groups = slices.groupby(["kind", "start", "structure"], sort=True)["seconds"]
    found = pd.DataFrame(
        {
            "slices": groups.size(),
            "mean": groups.mean(),
            "lower_quartile": groups.quantile(0.25),
            "median": groups.median(),
            "upper_quartile": groups.quantile(0.75),
        }
    )
    return found.reset_index()


class Ratio(NamedTuple):
    """The ratio of seconds per slice, completely annotated volumes to single slices, with its bootstrap interval."""

    ratio: float
    lower: float
    upper: float
    whole_volumes: int
    single_slices: int


def whole_to_single(times: pd.DataFrame, random: np.random.Generator) -> Ratio | None:
    """Return the ratio of mean seconds per slice with structure, whole volumes to single slices; None without both.

    The 95 % percentile interval resamples volumes, because the slices of a volume are not independent. It is NaN with
    fewer than two volumes of a kind.
    """
    slices = _slices(times)
    shown = slices[slices["structure"]]
    sums = [
        shown[shown["kind"] == kind].groupby("volume")["seconds"].agg(["sum", "size"]).to_numpy(dtype=float)
        for kind in (WHOLE, SINGLE)
    ]
    if any(len(each) == 0 or each[:, 0].sum() == 0 for each in sums):
        return None
    means = [each[:, 0].sum() / each[:, 1].sum() for each in sums]
    ends = [np.nan, np.nan]
    if min(map(len, sums)) > 1:
        drawn = []
        for each in sums:
            chosen = each[random.integers(len(each), size=(DRAWS, len(each)))].sum(axis=1)
            drawn.append(chosen[:, 0] / chosen[:, 1])
        tail = 100 * (1 - LEVEL) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = np.nanpercentile(drawn[0] / drawn[1], [tail, 100 - tail]).tolist()
    return Ratio(means[0] / means[1], ends[0], ends[1], len(sums[0]), int(sums[1][:, 1].sum()))


def _slices(times: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each slice and annotator with a known time: the seconds of all answers, and the first start."""
    rows = times.sort_values("number").groupby(["volume", "slice", "annotator"], as_index=False)
    slices = rows.agg(
        seconds=("seconds", lambda seconds: seconds.sum(skipna=False)),
        kind=("kind", "first"),
        start=("start", "first"),
        structure=("structure", "last"),
        told=("told", "last"),
    )
    return slices[slices["told"] & slices["seconds"].notna()]


def agreement(answers: Answers, closed: Sequence[str]) -> pd.DataFrame:
    """Return the agreement of each pair of annotators: `first second slices both_empty one_empty dice`.

    It uses slices that both have answered, and of each annotator the newest answer before both had answered, because
    afterwards they see each other's. both_empty, one_empty: slices in which both, or only one, drew no structure. dice:
    the mean over slices in which either drew the structure, 0 if the other did not. Slices with an inconclusive answer
    are left out.
    """
    given: dict[tuple[str, int], dict[str, list[tuple[int, Answer]]]] = {}
    for number, answer in answers.all.items():
        if answer.round in closed:
            by = given.setdefault((answer.volume, answer.slice), {})
            by.setdefault(answer.annotator, []).append((number, answer))
    rows = []
    for by in given.values():
        for one, other in itertools.combinations(sorted(by), 2):
            both = max(by[one][0][0], by[other][0][0])
            pair = [[answer for number, answer in by[name] if number <= both][-1] for name in (one, other)]
            if any(answer.answer == CANNOT_TELL for answer in pair):
                continue
            masks = [answer.mask for answer in pair]
            sizes = [int(mask.sum()) for mask in masks]
            overlap = int((masks[0] & masks[1]).sum())
            dice = 2 * overlap / sum(sizes) if any(sizes) else np.nan
            rows.append((one, other, not any(sizes), any(sizes) and not all(sizes), dice))
    table = pd.DataFrame(rows, columns=["first", "second", "both_empty", "one_empty", "dice"])
    groups = table.groupby(["first", "second"])
    found = groups.agg(both_empty=("both_empty", "sum"), one_empty=("one_empty", "sum"), dice=("dice", "mean"))
    found.insert(0, "slices", groups.size())
    return found.reset_index()


class Estimate(NamedTuple):
    """The predicted validation after the next round, its 95 % interval, and the `exponent` of the power law."""

    value: float
    lower: float
    upper: float
    exponent: float


LEAST_MODELS = 4
"""A power law has two parameters: with three models its interval has one degree of freedom and is uninformative."""


def next_round(slices: Sequence[float], values: Sequence[float], more: float) -> Estimate | None:
    """Predict the validation with `more` slices than the last of `slices`, from the `values` so far, from 0 to 1.

    The power law 1 − value = a · slices^(−b) is fitted to the logarithms by least squares. The interval is that of one
    further observation (Student's t, two parameters fitted). Return None with fewer than `LEAST_MODELS` models of
    different numbers of slices, or with a value of 1, whose logarithm is undefined.
    """
    x, y = np.asarray(slices, dtype=float), 1 - np.asarray(values, dtype=float)
    if len(np.unique(x)) < LEAST_MODELS or (x <= 0).any() or (y <= 0).any():
        return None
    x, y = np.log(x), np.log(y)
    at, centre = float(np.log(slices[-1] + more)), float(x.mean())
    spread = float(((x - centre) ** 2).sum())
    slope = float(((x - centre) * y).sum()) / spread
    level = float(y.mean()) + slope * (at - centre)
    freedom = len(x) - 2
    residual = float(np.sqrt(((y - y.mean() - slope * (x - centre)) ** 2).sum() / freedom))
    width = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * residual
    width *= float(np.sqrt(1 + 1 / len(x) + (at - centre) ** 2 / spread))
    worst, middle, best = (float(1 - np.exp(level + side * width)) for side in (1, 0, -1))
    return Estimate(middle, max(worst, 0.0), best, -slope)
