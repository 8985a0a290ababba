"""Whether a model's probability of liver is to be believed: reliability and expected calibration error."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:  # tables and figures need the summaries, not seconds of importing torch
    from torch import Tensor

BINS = 15
"""Of equal width from 0 to 1, as in Guo et al. 2017 (arXiv:1706.04599)."""


COUNTS = ("voxels", "probability", "structure")
"""Columns of the counts of a bin: voxels, the sum of their probabilities, and those that are liver."""


def reliability(probability: "Tensor", reference: "Tensor", dilation: int) -> pd.DataFrame:
    """Count what became of probabilities: a row a bin, with `bin voxels probability structure`.

    probability: of liver, float (z, y, x); reference: bool (z, y, x). `probability` is the sum over the voxels of a
    bin, `structure` how many of them are liver. Counted are voxels near the liver, predicted or real, within a box of
    side `dilation` (odd, in voxels), because all of a volume is mostly air that every model knows.
    """
    import torch

    from ..learning.inference import LIVER
    from ..learning.uncertainty import dilated

    near = dilated((probability > LIVER) | reference, dilation)
    sure, liver = probability[near].double(), reference[near]
    number = (sure * BINS).long().clamp_(0, BINS - 1)
    counts = {
        "voxels": torch.bincount(number, minlength=BINS),
        "probability": torch.bincount(number, weights=sure, minlength=BINS),
        "structure": torch.bincount(number[liver], minlength=BINS),
    }
    return pd.DataFrame({"bin": range(BINS)} | {name: count.cpu().numpy() for name, count in counts.items()})


def pooled(counts: pd.DataFrame) -> pd.DataFrame:
    """Return each model's reliability over all its volumes and seeds: `model bin voxels probability structure`.

    counts: rows of `reliability` with the column `model`. Empty bins are left out; `probability` is the mean over the
    voxels of the bin, `structure` the share of them that is liver.
    """
    sums = counts.groupby(["model", "bin"], as_index=False)[["voxels", "probability", "structure"]].sum()
    sums = sums[sums["voxels"] > 0].reset_index(drop=True)
    return sums.assign(probability=sums["probability"] / sums["voxels"], structure=sums["structure"] / sums["voxels"])


def calibration_errors(counts: pd.DataFrame) -> pd.DataFrame:
    """Return the expected calibration error of each model: `model ece`.

    It is the mean over the voxels of the distance between a bin's mean probability and its share of liver. counts: as
    for `pooled`.
    """
    bins = pooled(counts)
    gaps = bins["voxels"] * np.abs(bins["probability"] - bins["structure"])
    sums = pd.DataFrame({"model": bins["model"], "gap": gaps, "voxels": bins["voxels"]}).groupby("model").sum()
    return (sums["gap"] / sums["voxels"]).rename("ece").reset_index()
