"""Predictive entropy and what is made of it: slice profiles and volume scores (section II-C)."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


def predictive_entropy(mean_probability: Tensor) -> Tensor:
    """Return the entropy (natural logarithm) of mean class probabilities, eq. 1.

    mean_probability: (class, ...), mean over the Monte Carlo samples, sums to one along the first axis. Returns (...)
    values between 0 and ln(classes), where 0·ln 0 counts as 0.
    """
    return -mean_probability.xlogy(mean_probability).sum(dim=0)


def slice_uncertainty(entropy: Tensor) -> np.ndarray:
    """Return the slice-level uncertainty (z,): the mean entropy of all voxels of each axial slice of (z, y, x)."""
    return entropy.mean(dim=(1, 2), dtype=torch.float64).cpu().numpy()


class VolumeUncertainty(NamedTuple):
    """A volume's score, and whether the model found any liver in it."""

    predictive_entropy: float
    liver_found: bool


def volume_uncertainty(entropy: Tensor, liver: Tensor, dilation: int = 11) -> VolumeUncertainty:
    """Return the volume-level uncertainty: the mean entropy over the predicted liver, dilated by a box (section II-C).

    entropy, liver: (z, y, x); `dilation`: side of the box in voxels, odd. Where no liver was predicted the mean runs
    over all voxels, and `liver_found` is false.
    """
    box = []
    for axis in range(3):
        occupied = liver.any(dim=(axis + 1) % 3, keepdim=True).any(dim=(axis + 2) % 3, keepdim=True).flatten().nonzero()
        if not len(occupied):
            return VolumeUncertainty(float(slice_uncertainty(entropy).mean()), liver_found=False)
        first, last = int(occupied[0]), int(occupied[-1])
        box.append(slice(max(first - dilation // 2, 0), last + dilation // 2 + 1))
    region = dilated(liver[tuple(box)], dilation)
    return VolumeUncertainty(float(entropy[tuple(box)][region].double().mean()), liver_found=True)


def dilated(mask: Tensor, side: int) -> Tensor:
    """Return a bool mask (z, y, x) dilated by a box of `side` voxels, odd, one axis after the other.

    Along an axis windows of 1, 2, 4, … voxels are joined, the last two overlapping: log2(side) passes instead of side.
    """
    for axis in range(3):
        length = mask.shape[axis]
        windows, width = mask.new_zeros([n + (side - 1) * (a == axis) for a, n in enumerate(mask.shape)]), 1
        windows.narrow(axis, side // 2, length).copy_(mask)
        while width < side:
            step = min(width, side - width)
            size = windows.shape[axis] - step
            windows = windows.narrow(axis, 0, size) | windows.narrow(axis, step, size)
            width += step
        mask = windows
    return mask
