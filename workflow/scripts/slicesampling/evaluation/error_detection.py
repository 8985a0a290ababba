"""Whether uncertainty points at errors: a slice's score against its wrong voxels, and the errors that a choice holds.

All of it looks at the slices of the data pool that are not annotated when a query is made, as the model before the
query scores and segments them. A slice whose volume has no reference has no count of wrong voxels, and is left out.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from .. import SELECTIVE
from ..query.strategies import MEASURES, REGIONS, WRONG

SCORES = {
    f"{measure}{suffix}": f"{measure.replace('_', ' ')}, {region}"
    for measure in MEASURES
    for suffix, region in zip(("", SELECTIVE), REGIONS, strict=True)
}
"""The scores of a slice in the tables of the uncertainty stage, and what they are in words."""

SCOPES = {"pool": "over the pool", "volumes": "within volumes"}
"""What a rank correlation is taken over: all slices at once, or those of each volume, and then their mean."""


def rank_correlations(slices: pd.DataFrame, scores: Sequence[str] = tuple(SCORES)) -> dict[str, float]:
    """Return Spearman's rank correlation of each score with the wrong voxels: `SCORE_pool` and `SCORE_volumes`.

    slices: `volume wrong_voxels` and the scores, one row a slice. Within volumes it is the mean over those in which
    neither score nor errors are all alike; NaN where there is none.
    """
    names = slices["volume"]
    over_pool, within = (_correlations(slices, scores, groups) for groups in (pd.Series(0, index=names.index), names))
    return {f"{score}_pool": float(over_pool[score].mean()) for score in scores} | {
        f"{score}_volumes": float(within[score].mean()) for score in scores
    }


def _correlations(slices: pd.DataFrame, scores: Sequence[str], groups: pd.Series) -> pd.DataFrame:
    """Return Spearman's rank correlation of the scores with the wrong voxels: groups × scores, NaN where one of both is
    constant."""
    ranks = slices[[WRONG, *scores]].groupby(groups).rank()
    centred = ranks - ranks.groupby(groups).transform("mean")
    products = centred[list(scores)].mul(centred[WRONG], axis=0).groupby(groups).sum()
    squares = (centred**2).groupby(groups).sum()
    sizes = np.sqrt(squares[list(scores)].mul(squares[WRONG], axis=0))
    return products / sizes.where(sizes > 0)


def error_detection(slices: pd.DataFrame, ledger: pd.DataFrame, iteration: int) -> dict[str, Any]:
    """Return what the choice of `iteration` found of the errors of the model before it, and `rank_correlations`.

    slices: `volume slice wrong_voxels` and the scores, of that model; ledger: `volume slice iteration`. `slices`: how
    many are left to choose from, and have a reference; `picked`: how many of them the iteration annotated; `wrong`,
    `wrong_picked`: the wrong voxels that they hold; `wrong_best`: those of the `picked` slices with the most.
    """
    keys = ["volume", "slice"]
    known = slices[slices[WRONG].notna()].merge(ledger[[*keys, "iteration"]], on=keys, how="left", validate="1:1")
    left = known[known["iteration"].isna() | (known["iteration"] >= iteration)]
    picked = left["iteration"] == iteration
    wrong = left[WRONG].astype(int)
    return {
        "slices": len(left),
        "picked": int(picked.sum()),
        "wrong": int(wrong.sum()),
        "wrong_picked": int(wrong[picked].sum()),
        "wrong_best": int(wrong.nlargest(int(picked.sum())).sum()),
        **rank_correlations(left),
    }


def shares(found: pd.DataFrame) -> pd.DataFrame:
    """Return rows of `error_detection` with the shares of the wrong voxels: of the choice, a random and the best one.

    `share` is that of the choice; `random` that of as many slices picked at random, on average, which is their share of
    the slices; `best` that of the slices with the most errors; `times_random` is `share` divided by `random`. NaN
    without any slice, error or choice.
    """
    errors = found["wrong"].where(found["wrong"] > 0)
    random = found["picked"] / found["slices"].where(found["slices"] > 0)
    share = found["wrong_picked"] / errors
    return found.assign(
        share=share, random=random, best=found["wrong_best"] / errors, times_random=share / random.where(random > 0)
    )
