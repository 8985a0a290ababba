"""Error detection: correlation of a slice's uncertainty with its errors, and the share of errors in a selection.

All functions use the slices of the data pool that are not annotated before a query, with the scores and the
segmentation of the model before the query. Slices without a reference have no count of wrong voxels, and are left out.
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
"""The scores of a slice in the tables of the uncertainty stage, and their descriptions."""

SCOPES = {"pool": "over the pool", "volumes": "within volumes"}
"""The scope of a rank correlation: all slices at once, or the mean over volumes of that within each volume."""


def rank_correlations(slices: pd.DataFrame, scores: Sequence[str] = tuple(SCORES)) -> dict[str, float]:
    """Return Spearman's rank correlation of each score with the wrong voxels: `SCORE_pool` and `SCORE_volumes`.

    slices: `volume wrong_voxels` and the scores, one row per slice. The correlation within volumes is the mean over
    volumes in which neither scores nor errors are constant; NaN if there are none.
    """
    names = slices["volume"]
    over_pool, within = (_correlations(slices, scores, groups) for groups in (pd.Series(0, index=names.index), names))
    return {f"{score}_pool": float(over_pool[score].mean()) for score in scores} | {
        f"{score}_volumes": float(within[score].mean()) for score in scores
    }


def _correlations(slices: pd.DataFrame, scores: Sequence[str], groups: pd.Series) -> pd.DataFrame:
    """Return Spearman's rank correlation of the scores with the wrong voxels: groups × scores, NaN if either is
    constant."""
    ranks = slices[[WRONG, *scores]].groupby(groups).rank()
    centred = ranks - ranks.groupby(groups).transform("mean")
    products = centred[list(scores)].mul(centred[WRONG], axis=0).groupby(groups).sum()
    squares = (centred**2).groupby(groups).sum()
    sizes = np.sqrt(squares[list(scores)].mul(squares[WRONG], axis=0))
    return products / sizes.where(sizes > 0)


def error_detection(slices: pd.DataFrame, ledger: pd.DataFrame, iteration: int) -> dict[str, Any]:
    """Return the errors in the selection of `iteration`, for the model before it, and the `rank_correlations`.

    slices: `volume slice wrong_voxels` and the scores of that model; ledger: `volume slice iteration`. Returned are
    `slices`, the number of slices with a reference left to choose from; `picked`, the number of them that the iteration
    annotated; `wrong`, `wrong_picked`, their wrong voxels; `wrong_best`, the largest number of wrong voxels in
    as many slices.
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
    """Return rows of `error_detection` with the shares of wrong voxels in the actual, a random and the best selection.

    `share` is that of the actual selection; `random` the expected share of as many random slices, which is their share
    of the slices; `best` that of the slices with the most errors; `times_random` is `share` divided by `random`. Shares
    are NaN without slices, errors or a selection.
    """
    errors = found["wrong"].where(found["wrong"] > 0)
    random = found["picked"] / found["slices"].where(found["slices"] > 0)
    share = found["wrong_picked"] / errors
    return found.assign(
        share=share, random=random, best=found["wrong_best"] / errors, times_random=share / random.where(random > 0)
    )
