"""Selection rules: which slices or volumes are asked for, and in which order.

A rule is a pure function of a table, a random generator and `Settings`. The table has a row for each slice or volume of
the data pool: `volume`, for slices `slice`, whether it is `annotated`, and its `score`, NaN if the rule reads none.
Some rules read further columns, see `Rule`. Rows are sorted by (volume, slice). A rule returns rows that are not
annotated, in the order of the query; the query takes as many of them as the budget allows.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .candidates import mark_candidates


class Settings(NamedTuple):
    """Settings that rules may read.

    From the run: `distance`, the least distance in slices between two candidates of `peaks`; `budget`, the number of
    slices or volumes wanted; `progress`, from 0 in the first iteration to 1 in the last; `features`, (row, channel),
    one row for each row of the table. From the strategy, see `PARAMETERS`: `foreground`, `beta`, `beta_last`, and
    `stride`, where None stands for `distance`.
    """

    distance: int = 5
    budget: int = 1
    progress: float = 0.0
    features: np.ndarray | None = None
    foreground: float = 0.0
    beta: float = 1.0
    beta_last: float = 1.0
    stride: int | None = None


def peaks(table: pd.DataFrame, generator: np.random.Generator, settings: Settings) -> pd.DataFrame:
    """Choose the largest local maxima of all volumes, which are at least `distance` slices apart (section II-D)."""
    return best_first(_candidates(table, settings))


def top(table: pd.DataFrame, generator: np.random.Generator, settings: Settings) -> pd.DataFrame:
    """Choose the largest scores."""
    return best_first(table[~table["annotated"]])


def one_per_volume(table: pd.DataFrame, generator: np.random.Generator, settings: Settings) -> pd.DataFrame:
    """Choose the largest scores, at most one slice of each volume in an iteration."""
    return top(table, generator, settings).drop_duplicates("volume")


def power(table: pd.DataFrame, generator: np.random.Generator, settings: Settings) -> pd.DataFrame:
    """Choose at random with probability proportional to score^β (Kirsch et al. 2021, arXiv:2106.12059, PowerBALD).

    Sorting log score plus Gumbel noise of scale 1/β gives such a draw without replacement. Scores of 0 come last.
    """
    left = table[~table["annotated"]]
    return noisy(left, _logarithm(left["score"]), generator, settings.beta)


def softrank(table: pd.DataFrame, generator: np.random.Generator, settings: Settings) -> pd.DataFrame:
    """Choose at random with probability proportional to rank^(−β) (Kirsch et al. 2021, arXiv:2106.12059, softrank)."""
    left = best_first(table[~table["annotated"]])
    return noisy(left, -np.log(np.arange(1, len(left) + 1)), generator, settings.beta)


def stratified(table: pd.DataFrame, generator: np.random.Generator, settings: Settings) -> pd.DataFrame:
    """Choose a share by the score over the structure and the rest by the score over the slice, with decaying noise.

    This follows ClaSP PE (Lüth et al. 2026, arXiv:2601.13677): queries stratified by the predicted class, here a single
    one, and power noise that decays over the iterations, here with β growing geometrically from `beta` in the first to
    `beta_last` in the last iteration.
    """
    left = table[~table["annotated"]]
    beta = settings.beta * (settings.beta_last / settings.beta) ** settings.progress
    whole = noisy(left, _logarithm(left["score"]), generator, beta)
    within = left[_sees(left)]
    if len(within):
        within = noisy(within, _logarithm(within["structure_score"]), generator, beta)
    return mixed(within, whole, settings.foreground)


def stochastic_batches(table: pd.DataFrame, generator: np.random.Generator, settings: Settings) -> pd.DataFrame:
    """Divide the pool into random batches of the size of the budget, and choose the batch with the largest mean score.

    See Gaillochet et al. 2023 (arXiv:2301.07670). An incomplete batch comes last.
    """
    left = table[~table["annotated"]]
    drawn = left.iloc[generator.permutation(len(left))]
    batch = np.arange(len(drawn)) // max(settings.budget, 1)
    whole = batch < len(drawn) // max(settings.budget, 1)
    mean = drawn["score"].groupby(batch).transform("mean").where(whole, -np.inf)
    return drawn.assign(batch=batch, mean=mean).sort_values(["mean", "batch"], ascending=[False, True], kind="stable")


def at_random(table: pd.DataFrame, generator: np.random.Generator, settings: Settings) -> pd.DataFrame:
    """Choose uniformly at random; take a share from the slices in which the model predicts the structure.

    With a share above 0 this is foreground-aware random sampling (Lüth et al. 2025, arXiv:2511.19183), here of slices.
    """
    left = table[~table["annotated"]]
    drawn = left.iloc[generator.permutation(len(left))]
    return mixed(drawn[_sees(drawn)], drawn, settings.foreground)


def shuffled(table: pd.DataFrame, generator: np.random.Generator, settings: Settings) -> pd.DataFrame:
    """Choose from the candidates of `peaks` at random: the effect of local maxima without the ranking."""
    left = _candidates(table, settings)
    return left.iloc[generator.permutation(len(left))]


def strided(table: pd.DataFrame, generator: np.random.Generator, settings: Settings) -> pd.DataFrame:
    """Choose every `stride`-th slice of volumes in random order, starting at a random one of the first `stride` slices.

    Volumes without annotated slices come first. After all volumes, the slices next to the chosen ones follow.
    """
    stride = settings.stride or settings.distance
    volumes = table.groupby("volume")["annotated"].any().rename("touched").to_frame()
    volumes["turn"] = generator.permutation(len(volumes))
    volumes["first"] = generator.integers(stride, size=len(volumes))
    left = table[~table["annotated"]].join(volumes, on="volume")
    later = (left["slice"] - left["first"]) % stride
    return left.assign(later=later).sort_values(["later", "touched", "turn", "slice"])


def k_centre(table: pd.DataFrame, generator: np.random.Generator, settings: Settings) -> pd.DataFrame:
    """Choose one by one what is farthest in feature space from everything annotated or chosen so far.

    The greedy core-set of Sener and Savarese 2018 (arXiv:1708.00489). A tie goes to the smaller (volume, slice).
    """
    return _spread(table, settings, lambda squared: int(np.argmax(squared)))


def k_means_pp(table: pd.DataFrame, generator: np.random.Generator, settings: Settings) -> pd.DataFrame:
    """Choose one by one at random, with probability proportional to the squared feature distance to the nearest choice.

    This is the seeding of k-means++ (Arthur and Vassilvitskii 2007), with the annotated rows as the first centres.
    """

    def pick(squared: np.ndarray) -> int:
        total = squared.sum()
        chances = squared / total if np.isfinite(total) and total > 0 else None  # None: uniform
        return int(generator.choice(len(squared), p=chances))

    return _spread(table, settings, pick)


# --- helpers -----------------------------------------------------------------------------------------------------


def best_first(table: pd.DataFrame, *keys: str) -> pd.DataFrame:
    """Return rows sorted by `keys`, then score, in descending order; a tie goes to the smaller (volume, slice)."""
    down, up = [*keys, "score"], [name for name in ("volume", "slice") if name in table]
    return table.sort_values(down + up, ascending=[False] * len(down) + [True] * len(up))


def noisy(table: pd.DataFrame, height: np.ndarray, generator: np.random.Generator, beta: float) -> pd.DataFrame:
    """Return rows sorted by the sum of `height` and Gumbel noise of scale 1/`beta`, in descending order."""
    return best_first(table.assign(noisy=height + generator.gumbel(size=len(table)) / beta), "noisy")


def mixed(part: pd.DataFrame, whole: pd.DataFrame, share: float) -> pd.DataFrame:
    """Return the rows of `whole` such that a `share` of any number of first rows is taken from `part`.

    part: some of the rows of `whole`, in their own order. When they are used up, the rest follows in its order.
    """
    queues = {True: iter(part.index), False: iter(whole.index)}
    order: dict[Any, None] = {}
    for place in range(len(whole)):
        for of_part in (True, False) if _falls_to_part(place, share) else (False,):
            row = next((row for row in queues[of_part] if row not in order), None)
            if row is not None:
                order[row] = None
                break
    return whole.loc[list(order)]


def _falls_to_part(place: int, share: float) -> bool:
    """Return whether the row at `place` is taken from the part with this `share`; such places are evenly spaced."""
    return int((place + 1) * share) > int(place * share)


def _sees(table: pd.DataFrame) -> pd.Series:
    """Return for each row whether the previous model predicts the structure there; False without that column."""
    if "structure_voxels" not in table:
        return pd.Series(False, index=table.index)
    return table["structure_voxels"] > 0


def _candidates(table: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    return table[mark_candidates(table, "score", settings.distance) & ~table["annotated"]]


def _logarithm(scores: pd.Series) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(scores.to_numpy())


def _spread(table: pd.DataFrame, settings: Settings, pick: Callable[[np.ndarray], int]) -> pd.DataFrame:
    """Return `budget` rows, chosen by `pick` from the squared distances to the nearest annotated or chosen row."""
    from scipy.spatial.distance import cdist  # takes a second, and few queries need it

    assert settings.features is not None
    features = np.asarray(settings.features, dtype=np.float64)
    left, seen = ~table["annotated"].to_numpy(), _sees(table).to_numpy()
    nearest = np.full(len(table), np.inf)

    def add(rows: np.ndarray) -> None:
        np.minimum(nearest, cdist(features, features[rows], "sqeuclidean").min(axis=1), out=nearest)

    known = np.flatnonzero(~left)
    for first in range(0, len(known), CENTRES_AT_ONCE):
        add(known[first : first + CENTRES_AT_ONCE])
    order: list[int] = []
    for place in range(min(settings.budget, int(left.sum()))):
        among = np.flatnonzero(left & seen) if _falls_to_part(place, settings.foreground) else np.array([], dtype=int)
        among = among if len(among) else np.flatnonzero(left)
        chosen = among[pick(nearest[among])]
        left[chosen] = False
        add(np.array([chosen]))
        order.append(int(chosen))
    return table.iloc[order]


CENTRES_AT_ONCE = 256
"""Annotated rows whose distances are in memory at once: 150 MB for the 72 000 slices of the paper's data pool."""


# --- registry ----------------------------------------------------------------------------------------------------


class Parameter(NamedTuple):
    """A numerical parameter of a rule: the accepted values, in words and as a test."""

    accepted: str
    accepts: Callable[[float], bool]


PARAMETERS = {
    "beta": Parameter("a number above 0", lambda value: value > 0),
    "beta_last": Parameter("a number above 0", lambda value: value > 0),
    "foreground": Parameter("a number from 0 to 1", lambda value: 0 <= value <= 1),
    "stride": Parameter("a whole number from 1", lambda value: isinstance(value, int) and value >= 1),
}
"""`beta`: the inverse scale of the noise; the choice is more random for smaller values, and that of `top` for infinity.
`beta_last`: the same in the last iteration. `foreground`: the share of the choices from slices in which the previous
model predicts the structure, see the column `structure_voxels`. `stride`: one of how many slices is chosen."""


class Rule(NamedTuple):
    """A selection rule and its requirements.

    `parameters`: the `PARAMETERS` that it reads, with their defaults. `measures`: whether it reads a measure, which
    must be computed first. `regions`: the regions over which the measure may be averaged; empty for a rule that reads
    both, over the slice as `score` and over the structure as `structure_score`. `features`: whether it reads
    `features`. `until_liver`: whether the query holds all returned rows, and the annotator stops when the budget of
    slices with liver is reached.
    """

    order: Callable[[pd.DataFrame, np.random.Generator, Settings], pd.DataFrame]
    parameters: Mapping[str, float | None] = {}
    measures: bool = True
    regions: tuple[str, ...] = ("slice", "structure")
    features: bool = False
    until_liver: bool = False


RULES: dict[str, dict[str, Rule]] = {
    "slice": {
        "peaks": Rule(peaks),
        "top": Rule(top),
        "one_per_volume": Rule(one_per_volume),
        "power": Rule(power, {"beta": 1.0}),
        "softrank": Rule(softrank, {"beta": 1.0}),
        "stratified": Rule(stratified, {"foreground": 0.66, "beta": 1.0, "beta_last": 100.0}, regions=()),
        "stochastic_batches": Rule(stochastic_batches),
        "k_centre": Rule(k_centre, {"foreground": 0.0}, measures=False, features=True),
        "k_means_pp": Rule(k_means_pp, {"foreground": 0.0}, measures=False, features=True),
        "random": Rule(at_random, {"foreground": 0.0}, measures=False, until_liver=True),
        "shuffled": Rule(shuffled, until_liver=True),
        "strided": Rule(strided, {"stride": None}, measures=False, until_liver=True),
    },
    "volume": {
        "mean": Rule(top, regions=("structure",)),  # of the mean over the structure
        "maximum": Rule(top),  # of the largest slice
        "k_centre": Rule(k_centre, measures=False, features=True),  # of the mean of the slices' features
        "random": Rule(at_random, measures=False),
    },
}
"""The rules for each unit."""
