"""Agreement of a segmentation with the reference: Dice, volume error and surface distances (section II-F)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

Mask = npt.NDArray[np.bool_]

DENSE_SURFACE = 0.05
"""Share of surface voxels in the box above which a distance transform is faster than a search tree; speed alone."""


class SegmentationMetrics(NamedTuple):
    """Dice (0 to 1), relative volume error (%), mean surface and Hausdorff distance (mm), and the degenerate flag."""

    dice: float
    rve: float
    msd: float
    hd: float
    degenerate: bool


def segmentation_metrics(
    prediction: npt.ArrayLike, reference: npt.ArrayLike, spacing: Sequence[float] | npt.NDArray[np.floating]
) -> SegmentationMetrics:
    """Compare a predicted with a reference mask (equations 3 to 6).

    prediction, reference: (z, y, x), non-zero is the object; spacing: (z, y, x) in mm. Distances are taken between the
    centres of surface voxels: voxels of the object with a face neighbour outside it, and outside the array is outside.

    An empty prediction is degenerate: Dice 0, RVE 100 %, and both distances the diagonal of the whole array (its shape
    times spacing), which no distance between two of its voxels reaches. Raises ValueError where the reference is
    empty, the shapes differ, or a spacing is not positive.
    """
    prediction, reference = np.asarray(prediction, dtype=bool), np.asarray(reference, dtype=bool)
    size = np.asarray(spacing, dtype=float)
    if prediction.ndim != 3 or prediction.shape != reference.shape:
        raise ValueError(
            f"prediction and reference must have the same shape (z, y, x), got {prediction.shape} and {reference.shape}"
        )
    if size.shape != (3,) or not np.all(np.isfinite(size) & (size > 0)):
        raise ValueError(f"spacing must be three positive numbers (z, y, x) in mm, got {spacing}")
    if not reference.any():
        raise ValueError("reference must hold at least one voxel of the object, it is empty")
    if not prediction.any():
        diagonal = float(np.linalg.norm(prediction.shape * size))
        return SegmentationMetrics(dice=0.0, rve=100.0, msd=diagonal, hd=diagonal, degenerate=True)

    box = _bounding_box(prediction | reference)
    prediction, reference = prediction[box], reference[box]
    predicted, expected = int(prediction.sum()), int(reference.sum())
    overlap = int((prediction & reference).sum())

    predicted_surface, expected_surface = _surface(prediction), _surface(reference)
    distances = np.concatenate(
        [
            _distances(predicted_surface, expected_surface, size),
            _distances(expected_surface, predicted_surface, size),
        ]
    )
    return SegmentationMetrics(
        dice=2 * overlap / (predicted + expected),
        rve=100 * abs(predicted - expected) / expected,
        msd=float(distances.mean()),
        hd=float(distances.max()),
        degenerate=False,
    )


def _bounding_box(mask: Mask) -> tuple[slice, ...]:
    """Return the smallest box that holds `mask`, which must not be empty."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        filled = np.flatnonzero(mask.any(axis=others))
        box.append(slice(int(filled[0]), int(filled[-1]) + 1))
    return tuple(box)


def _surface(mask: Mask) -> Mask:
    """Return the voxels of `mask` with a face neighbour outside it or outside the array."""
    interior = mask.copy()
    for axis in range(mask.ndim):
        along, inside = np.moveaxis(mask, axis, 0), np.moveaxis(interior, axis, 0)
        inside[1:] &= along[:-1]
        inside[:-1] &= along[1:]
        inside[[0, -1]] = False
    return mask & ~interior


def _distances(surface: Mask, target: Mask, spacing: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return for each voxel of `surface` the distance in mm to the nearest voxel of `target`."""
    points = np.nonzero(surface)
    # A search tree asks for surface voxels alone, a distance transform for the whole box; the one is faster for smooth
    # objects, the other bounds the time for predictions that are noise.
    if len(points[0]) > DENSE_SURFACE * surface.size:
        nearest = ndimage.distance_transform_edt(~target, sampling=spacing, return_distances=False, return_indices=True)
        offsets = [nearest[axis][points] - points[axis] for axis in range(surface.ndim)]
        return np.linalg.norm(np.stack(offsets, axis=-1) * spacing, axis=-1)
    tree = cKDTree(np.argwhere(target) * spacing, balanced_tree=False, compact_nodes=False)
    return tree.query(np.stack(points, axis=-1) * spacing)[0]
