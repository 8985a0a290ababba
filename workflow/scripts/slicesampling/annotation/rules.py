"""Rules of choice: which slices, or volumes, are asked for, and in which order.

A rule is a pure function of a table, a random generator and `Settings`. The table has a row for each slice or volume of
the data pool: `volume`, for slices `slice`, whether it is `annotated`, and its `score`, NaN where the rule does not
rank. Rows are in the order of (volume, slice). A rule returns the rows to ask for, the first one first, none of them
annotated; the query is as many of them as the budget allows.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from .candidates import mark_candidates


class Settings(NamedTuple):
    """What some rules read. `distance`: slices between two candidates of `peaks`, at least. `beta`: the smaller it is,
    the more random are `power` and `softrank`; they are `top` where it is infinite."""

    distance: int = 5
    beta: float = 1.0


def peaks(table: pd.DataFrame, generator: np.random.Generator, settings: Settings) -> pd.DataFrame:
    """Choose the largest of all volumes' local maxima, which stand `distance` slices apart (section II-D)."""
    return best_first(table[mark_candidates(table, "score", settings.distance) & ~table["annotated"]])


def top(table: pd.DataFrame, generator: np.random.Generator, settings: Settings) -> pd.DataFrame:
    """Choose the largest scores."""
    return best_first(table[~table["annotated"]])


def one_per_volume(table: pd.DataFrame, generator: np.random.Generator, settings: Settings) -> pd.DataFrame:
    """Choose the largest scores, and of each volume no more than one slice in an iteration."""
    return top(table, generator, settings).drop_duplicates("volume")


def power(table: pd.DataFrame, generator: np.random.Generator, settings: Settings) -> pd.DataFrame:
    """Choose at random, with chances as score to the power of β (Kirsch et al. 2021, arXiv:2106.12059, PowerBALD).

    The largest of log score plus Gumbel noise of scale 1/β are such a draw without replacement. Scores of 0 come last.
    """
    left = table[~table["annotated"]]
    with np.errstate(divide="ignore"):
        return noisy(left, np.log(left["score"].to_numpy()), generator, settings.beta)


def softrank(table: pd.DataFrame, generator: np.random.Generator, settings: Settings) -> pd.DataFrame:
    """Choose at random, with chances as 1/rank to the power of β (Kirsch et al. 2021, arXiv:2106.12059, softrank)."""
    left = best_first(table[~table["annotated"]])
    return noisy(left, -np.log(np.arange(1, len(left) + 1)), generator, settings.beta)


def at_random(table: pd.DataFrame, generator: np.random.Generator, settings: Settings) -> pd.DataFrame:
    """Choose at random, each with the same chance."""
    left = table[~table["annotated"]]
    return left.iloc[generator.permutation(len(left))]


def best_first(table: pd.DataFrame, *keys: str) -> pd.DataFrame:
    """Return rows from the largest `keys`, then scores, to the smallest; a tie goes to the smaller (volume, slice)."""
    down, up = [*keys, "score"], [name for name in ("volume", "slice") if name in table]
    return table.sort_values(down + up, ascending=[False] * len(down) + [True] * len(up))


def noisy(table: pd.DataFrame, height: np.ndarray, generator: np.random.Generator, beta: float) -> pd.DataFrame:
    """Return rows from the largest to the smallest sum of `height` and Gumbel noise of scale 1/`beta`."""
    return best_first(table.assign(noisy=height + generator.gumbel(size=len(table)) / beta), "noisy")


class Rule(NamedTuple):
    """A rule of choice, and what it needs.

    `ranks`: by a measure of uncertainty, which must be computed first. `beta`: it reads this setting. `until_liver`:
    all that it returns is asked for, and the annotator stops when the budget of slices with liver is reached.
    """

    order: Callable[[pd.DataFrame, np.random.Generator, Settings], pd.DataFrame]
    ranks: bool = True
    beta: bool = False
    until_liver: bool = False


RULES: dict[str, dict[str, Rule]] = {
    "slice": {
        "peaks": Rule(peaks),
        "top": Rule(top),
        "one_per_volume": Rule(one_per_volume),
        "power": Rule(power, beta=True),
        "softrank": Rule(softrank, beta=True),
        "random": Rule(at_random, ranks=False, until_liver=True),
    },
    "volume": {
        "mean": Rule(top),  # of the mean over the structure
        "maximum": Rule(top),  # of the largest slice
        "random": Rule(at_random, ranks=False),
    },
}
"""The rules for each unit."""
