"""Measures of uncertainty of Monte Carlo samples, slice profiles and volume scores (section II-C).

A measure is a function of `Moments`, which are means over the samples, so that samples need not be stored. `MEASURES`
lists all measures; each has its columns in the uncertainty tables.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import MAXIMUM, NOT_ANNOTATED, SELECTIVE

SLICES_AT_ONCE = 2
"""Slices per step: the intermediate results of two slices of 380 x 380 voxels stay in the cache of a core."""


@dataclass(frozen=True)
class Moments:
    """Means over the Monte Carlo samples of each voxel.

    probability: of the class probabilities (class, ...), which sum to one; entropy: of each sample's entropy (...);
    doubt: of each sample's p·(1 - p), where p is its probability of liver (...). The latter two are empty if only
    measures of the mean are computed.
    """

    probability: Tensor
    entropy: Tensor
    doubt: Tensor

    @cached_property
    def entropy_of_mean(self) -> Tensor:
        """The predictive entropy (...), which several measures use."""
        return predictive_entropy(self.probability)


class RunningMoments:
    """Running moments of samples in float32, so that memory does not grow with the number of samples.

    More than half of the work is due to the moments of single samples, which measures of the mean do not need.
    """

    def __init__(self, of_single_samples: bool = True) -> None:
        self._of_single_samples = of_single_samples
        self._total, self._count = torch.empty(0), 0

    def add(self, probability: Tensor) -> None:
        """Add a sample: probabilities (class, ...) of background and liver, float32."""
        classes = len(probability)
        if not self._count:
            sums = classes + 2 * self._of_single_samples
            self._total = probability.new_zeros((sums, *probability.shape[1:]))
        self._count += 1
        self._total[:classes] += probability
        if self._of_single_samples:
            self._total[classes] += predictive_entropy(probability)
            self._total[classes + 1] += probability[0] * probability[1]

    def result(self) -> Moments:
        """Return the moments of at least one sample; no sample may be added afterwards."""
        total = self._total.div_(self._count)
        if not self._of_single_samples:
            return Moments(total, total.new_empty(0), total.new_empty(0))
        return Moments(total[:-2], total[-2], total[-1])


def moments(samples: Iterable[Tensor]) -> Moments:
    """Return the moments of samples, given as scores (class, ...) of background and liver."""
    running = RunningMoments()
    for scores in samples:
        running.add(scores.float().softmax(dim=0))
    return running.result()


def predictive_entropy(mean_probability: Tensor) -> Tensor:
    """Return the entropy (natural logarithm) of mean class probabilities, eq. 1.

    mean_probability: (class, ...), the mean over the Monte Carlo samples, which sums to one along the first axis. The
    result (...) is between 0 and ln(classes); 0·ln 0 counts as 0.
    """
    # xlogy is not vectorised on a CPU: it took twice as long.
    logarithm = mean_probability.clamp_min(torch.finfo(mean_probability.dtype).tiny).log_()
    return logarithm.mul_(mean_probability).sum(dim=0).neg_()


def mutual_information(known: Moments) -> Tensor:
    """Return the mutual information of class and weights (...), or BALD (Houlsby et al. 2011, arXiv:1112.5745, eq. 2).

    It is the entropy of the mean less the mean of the entropies: the disagreement of the samples without the
    uncertainty of each sample. Values below zero, due to rounding, are set to 0.
    """
    return (known.entropy_of_mean - known.entropy).clamp_min_(0)


def variance(known: Moments) -> Tensor:
    """Return the variance (...) over the samples of the probability of liver, between 0 and 1/4.

    It is computed as m·(1 - m) less the mean of p·(1 - p), where m is the mean of p. Unlike the mean of p² less m²,
    this loses no digits for p close to one. Values below zero, due to rounding, are set to 0.
    """
    return (known.probability[0] * known.probability[1] - known.doubt).clamp_min_(0)


MEASURES: dict[str, Callable[[Moments], Tensor]] = {
    "predictive_entropy": lambda known: known.entropy_of_mean,
    "mutual_information": mutual_information,
    "variance": variance,
}
OF_THE_MEAN = frozenset({"predictive_entropy"})
"""Measures that need no moments of single samples."""


def slice_uncertainty(values: Tensor) -> np.ndarray:
    """Return the slice-level uncertainty (z,): the mean over all voxels of each axial slice of (z, y, x)."""
    return (_sums(values) / values[0].numel()).cpu().numpy()


def _sums(values: Tensor) -> Tensor:
    """Return the sum of each axial slice (z,) of (z, y, x). Sums in float64 throughout take thirteen times as long."""
    return values.sum(dim=2).sum(dim=1, dtype=torch.float64)


def _counts(mask: Tensor) -> Tensor:
    """Return the number of voxels that are not zero in each axial slice (z,) of (z, y, x).

    It counts slice by slice, because the sum of a whole mask takes fifteen times as long on a CPU.
    """
    return torch.stack([plane.count_nonzero() for plane in mask])


class Region(NamedTuple):
    """The dilated predicted structure: its bounding box, the mask within the box, bool (z, y, x), and the number of its
    voxels in each slice of the box, (z,)."""

    box: tuple[slice, slice, slice]
    mask: Tensor
    counts: Tensor


def structure_region(liver: Tensor, dilation: int = 11) -> Region | None:
    """Return the predicted liver (z, y, x), dilated by a box (section II-C); None if it is empty.

    dilation: side of the box in voxels, odd.
    """
    box = []
    for axis in range(3):
        occupied = liver.any(dim=(axis + 1) % 3, keepdim=True).any(dim=(axis + 2) % 3, keepdim=True).flatten().nonzero()
        if not len(occupied):
            return None
        first, last = int(occupied[0]), int(occupied[-1])
        box.append(slice(max(first - dilation // 2, 0), last + dilation // 2 + 1))
    place = (box[0], box[1], box[2])
    mask = dilated(liver[place], dilation)
    return Region(place, mask, _counts(mask))


def selective_slice_uncertainty(values: Tensor, region: Region | None) -> np.ndarray:
    """Return the mean over the region's voxels in each axial slice (z,) of (z, y, x); 0 for a slice without any."""
    profile = np.zeros(len(values))
    if region is not None:
        parts = zip(values[region.box].split(SLICES_AT_ONCE), region.mask.split(SLICES_AT_ONCE), strict=True)
        inside = torch.cat([_sums(torch.where(mask, part, 0)) for part, mask in parts])
        profile[region.box[0]] = (inside / region.counts.clamp_min(1)).cpu().numpy()
    return profile


def volume_uncertainty(whole: np.ndarray, selective: np.ndarray, region: Region | None) -> float:
    """Return the volume-level uncertainty: the mean over the region (section II-C), without one over all voxels.

    whole, selective: the means over whole slices and over the region's voxels of each slice, (z,).
    """
    if region is None:
        return float(whole.mean())
    return float(np.average(selective[region.box[0]], weights=region.counts.cpu().numpy()))


COUNTS = ("structure_voxels", "wrong_voxels")
"""Columns of the table of slices beside the measures, see `slice_counts`."""


def slice_counts(liver: Tensor, reference: Tensor | None) -> dict[str, list[int | None]]:
    """Return the numbers of predicted liver voxels and of wrong voxels in each axial slice.

    liver, reference: (z, y, x), not zero in the liver. The number of wrong voxels is None for slices that are not
    annotated (`NOT_ANNOTATED`), and for all slices without a reference.
    """
    predicted = liver != 0
    wrong: list[int | None] = [None] * len(liver)
    if reference is not None:
        known = (reference[:, 0, 0] != NOT_ANNOTATED).tolist()
        differing = _counts(predicted != (reference != 0)).tolist()
        wrong = [count if given else None for count, given in zip(differing, known, strict=True)]
    return dict(zip(COUNTS, (_counts(predicted).tolist(), wrong), strict=True))


def slice_columns() -> list[str]:
    """Return the names of the columns of `slice_profiles`."""
    return [f"{name}{suffix}" for name in MEASURES for suffix in ("", SELECTIVE)]


def volume_columns() -> list[str]:
    """Return the names of the columns of `volume_scores`."""
    return [*MEASURES, *(name + MAXIMUM for name in slice_columns())]


def slice_profiles(measures: dict[str, Tensor], region: Region | None) -> dict[str, np.ndarray]:
    """Return the slice profiles (z,) of each measure (z, y, x), over the whole slice and over the region."""
    columns = {}
    for name, values in measures.items():
        columns[name] = slice_uncertainty(values)
        columns[name + SELECTIVE] = selective_slice_uncertainty(values, region)
    return columns


def volume_scores(profiles: dict[str, np.ndarray], region: Region | None) -> dict[str, float]:
    """Return each measure's volume-level uncertainty, and the maximum of each of the volume's `profiles`."""
    measures = [name for name in MEASURES if name in profiles]
    means = {name: volume_uncertainty(profiles[name], profiles[name + SELECTIVE], region) for name in measures}
    return means | {name + MAXIMUM: float(profile.max()) for name, profile in profiles.items()}


def dilated(mask: Tensor, side: int) -> Tensor:
    """Return a bool mask (z, y, x), dilated by a box of `side` voxels, odd, one axis after the other.

    Along an axis, windows of 1, 2, 4, … voxels are joined, of which the last two may overlap: log2(side) passes instead
    of side.
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
