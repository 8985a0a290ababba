"""Predictive entropy and what is made of it: slice profiles, volume scores, candidates (section II-C and II-D)."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple, overload

import numpy as np
import pandas as pd
import scipy.ndimage
import scipy.special

if TYPE_CHECKING:  # the strategies need the candidates, not seconds of importing torch
    import torch


@overload
def predictive_entropy(mean_probability: np.ndarray) -> np.ndarray: ...
@overload
def predictive_entropy(mean_probability: "torch.Tensor") -> "torch.Tensor": ...
def predictive_entropy(mean_probability: "np.ndarray | torch.Tensor") -> "np.ndarray | torch.Tensor":
    """Return the entropy (natural logarithm) of mean class probabilities, eq. 1.

    mean_probability: (class, ...), mean over the Monte Carlo samples, sums to one along the first axis. Returns (...)
    values between 0 and ln(classes), where 0·ln 0 counts as 0.
    """
    if isinstance(mean_probability, np.ndarray):
        return scipy.special.entr(mean_probability).sum(axis=0)
    return -mean_probability.xlogy(mean_probability).sum(dim=0)


def slice_uncertainty(entropy: np.ndarray) -> np.ndarray:
    """Return the slice-level uncertainty (z,): the mean entropy of all voxels of each axial slice of (z, y, x)."""
    return entropy.mean(axis=(1, 2), dtype=np.float64)


class VolumeUncertainty(NamedTuple):
    """A volume's score, and whether the model found any liver in it."""

    predictive_entropy: float
    liver_found: bool


def volume_uncertainty(entropy: np.ndarray, liver: np.ndarray, dilation: int = 11) -> VolumeUncertainty:
    """Return the volume-level uncertainty: the mean entropy over the predicted liver, dilated by a box (section II-C).

    entropy, liver: (z, y, x); `dilation`: side of the box in voxels, odd. Where no liver was predicted the mean runs
    over all voxels, and `liver_found` is false.
    """
    if not liver.any():
        return VolumeUncertainty(float(entropy.mean(dtype=np.float64)), liver_found=False)
    region = scipy.ndimage.maximum_filter(liver.astype(np.uint8), dilation, mode="constant").astype(bool)
    return VolumeUncertainty(float(entropy[region].mean(dtype=np.float64)), liver_found=True)


def slice_candidates(profile: np.ndarray, distance: int = 5, annotated: Iterable[int] = ()) -> np.ndarray:
    """Return the slices that uncertainty slice sampling may choose from, in ascending order (Fig. 2).

    They are the local maxima of the slice-level uncertainty profile (z,) that stand at least `distance` slices apart,
    a larger one displacing a smaller; less those already `annotated`. The end slices are no maxima.
    """
    import scipy.signal  # takes a second, and only a query needs it

    peaks, _ = scipy.signal.find_peaks(np.asarray(profile, dtype=np.float64), distance=distance)
    return np.setdiff1d(peaks, np.fromiter(annotated, dtype=np.intp))


def mark_candidates(slices: pd.DataFrame, score: str, distance: int = 5) -> pd.Series:
    """Return for each row of (volume, slice, `score`) whether it is a candidate (see `slice_candidates`)."""
    candidate = pd.Series(False, index=slices.index)
    for _, rows in slices.sort_values("slice").groupby("volume"):
        candidate[rows.index[slice_candidates(rows[score].to_numpy(), distance)]] = True
    return candidate
