"""What annotation by people took, what it brought, and what more of it would bring.

The times are those that the page of annotation has measured: seconds at work on a slice. Where other tools were used,
they are missing, and such slices do not count in what is said of times. The paper assumes that a slice
of a volume that is annotated as a whole takes a third of one that is annotated alone; with these times it is measured.
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
"""How the slice of an answer was asked for: with all others of its volume in that round, or not."""

DRAWS = 2000
"""Bootstrap samples."""
LEVEL = 0.95

TIMES = [
    "number", "round", "iteration", "volume", "slice", "annotator", "seconds", "start", "changed", "told", "structure",
    "first", "kind",
]  # fmt: skip
"""Columns of `annotation_times`."""


def annotation_times(answers: Answers, closed: Sequence[str], depths: Mapping[str, int]) -> pd.DataFrame:
    """Return a row for each answer until the last of the rounds `closed` was, see `TIMES`.

    told: whether the annotator could tell; structure: whether there is any; first: whether of whoever answered the
    slice first, whose answers hold; kind: see `WHOLE`. depths: slices of each volume of the data pool.
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
    """Return what had been spent when each of the rounds was closed.

    Rows of `round iteration slices untimed minutes all_minutes`. slices: that people had annotated; untimed: those of
    them of which no time is known; minutes: at work, as far as known, of whoever answered first, corrections included;
    all_minutes: of everybody, second opinions on a slice included.
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
    """Return seconds a slice by kind, start and structure: rows of these, and `slices mean lower_quartile median
    upper_quartile`. A slice's corrections by one annotator count to its first answer; those nobody could tell, or
    whose time is not known, do not.
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
    """Seconds a slice in volumes annotated as a whole over those of single slices, and its bootstrap interval."""

    ratio: float
    lower: float
    upper: float
    whole_volumes: int
    single_slices: int


def whole_to_single(times: pd.DataFrame, random: np.random.Generator) -> Ratio | None:
    """Return the ratio of the mean seconds a slice with structure, whole volumes over single slices; None without both.

    The interval (95 %, percentiles) is from samples of volumes, because the slices of one are not independent. From
    fewer than two volumes of a kind it cannot be told, and is NaN.
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
    """Return a row for each slice and annotator whose time is known: the seconds of all answers, the first start."""
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
    """Return how far each two annotators agree on slices that both have answered: rows of
    `first second slices both_empty one_empty dice`.

    Of each, the newest answer counts that was given before both had answered: afterwards they see each other's.
    both_empty, one_empty: slices in which both, or only one, see no structure. dice: mean over slices in which either
    sees some, 0 where the other sees none. Slices that one of them could not tell do not count.
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
    """What a validation would be after the next round, and a 95 % interval; `exponent` of the power law."""

    value: float
    lower: float
    upper: float
    exponent: float


LEAST_MODELS = 4
"""A power law has two parameters: from three models its interval has one degree of freedom, and says nothing."""


def next_round(slices: Sequence[float], values: Sequence[float], more: float) -> Estimate | None:
    """Estimate the validation after `more` slices than the last of `slices`, from the `values` so far, between 0 and 1.

    By the power law 1 − value = a · slices^(−b), fitted by least squares to the logarithms; the interval is that of one
    further observation (Student's t, two parameters fitted). None where it cannot be told: fewer than `LEAST_MODELS`
    models with different numbers of slices, or a value of 1, which has no logarithm.
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
