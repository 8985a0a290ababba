"""Calibration of a model's probability of liver: reliability and expected calibration error."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:  # tables and figures need only the summaries; importing torch takes seconds
    from torch import Tensor

BINS = 15
"""The number of bins of equal width from 0 to 1, as in Guo et al. 2017 (arXiv:1706.04599)."""


COUNTS = ("voxels", "probability", "structure")
"""Columns of a bin: its voxels, the sum of their probabilities, and the voxels that are liver."""


def reliability(probability: "Tensor", reference: "Tensor", dilation: int) -> pd.DataFrame:
    """Return the counts for a reliability diagram: one row per bin, `bin voxels probability structure`.

    probability: of liver, float (z, y, x); reference: bool (z, y, x). The column `probability` is the sum over the
    voxels of a bin, `structure` the number of them that are liver. Only voxels near the predicted or the reference
    liver are counted, within a box of side `dilation` (odd, in voxels): most of a volume is air, which is easily
    predicted.
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
    """Return the reliability of each model over all its volumes and seeds: `model bin voxels probability structure`.

    counts: rows of `reliability` with a column `model`. `probability` is the mean over the voxels of the bin,
    `structure` the share of them that is liver. Empty bins are left out.
    """
    sums = counts.groupby(["model", "bin"], as_index=False)[["voxels", "probability", "structure"]].sum()
    sums = sums[sums["voxels"] > 0].reset_index(drop=True)
    return sums.assign(probability=sums["probability"] / sums["voxels"], structure=sums["structure"] / sums["voxels"])


def calibration_errors(counts: pd.DataFrame) -> pd.DataFrame:
    """Return the expected calibration error of each model: `model ece`.

    It is the mean over the voxels of the absolute difference between the mean probability and the share of liver of
    their bin. counts: see `pooled`.
    """
    bins = pooled(counts)
    gaps = bins["voxels"] * np.abs(bins["probability"] - bins["structure"])
    sums = pd.DataFrame({"model": bins["model"], "gap": gaps, "voxels": bins["voxels"]}).groupby("model").sum()
    return (sums["gap"] / sums["voxels"]).rename("ece").reset_index()
