"""Agreement of a segmentation with the reference: overlap, volume error and surface distances (section II-F)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

Mask = npt.NDArray[np.bool_]

TOLERANCES = (1.0, 2.0, 3.0)
"""Distances in mm within which the surface Dice counts a surface voxel as found."""

DENSE_SURFACE = 0.05
"""Share of surface voxels in the box above which a distance transform is faster than a search tree."""


class SegmentationMetrics(NamedTuple):
    """The agreement of a predicted mask with the reference.

    The paper's metrics: dice (0 to 1), rve (relative volume error, %), msd and hd (mean surface distance and Hausdorff
    distance, mm). Further metrics: hd95 (the larger of both surfaces' 95th percentile of the distance, mm),
    surface_dice_1mm to _3mm (the share of both surfaces within that distance of the other), jaccard, the volumes (ml),
    and the number of face-connected components of the prediction. degenerate: whether the prediction is empty.
    """

    dice: float
    rve: float
    msd: float
    hd: float
    hd95: float
    surface_dice_1mm: float
    surface_dice_2mm: float
    surface_dice_3mm: float
    jaccard: float
    volume_ml: float
    reference_ml: float
    components: int
    degenerate: bool


def segmentation_metrics(
    prediction: npt.ArrayLike, reference: npt.ArrayLike, spacing: Sequence[float] | npt.NDArray[np.floating]
) -> SegmentationMetrics:
    """Compare a predicted with a reference mask (equations 3 to 6).

    prediction, reference: (z, y, x), non-zero is the object; spacing: (z, y, x) in mm. Distances are measured
    between the centres of surface voxels: object voxels with a face neighbour outside the object or the array.

    An empty prediction is degenerate: its overlaps are 0, its RVE is 100 %, and all its distances are the diagonal of
    the whole array (shape times spacing), which exceeds any distance between two of its voxels. Raise ValueError if the
    reference is empty, the shapes differ, or a spacing is not positive.
    """
    prediction, reference = np.asarray(prediction, dtype=bool), np.asarray(reference, dtype=bool)
    size = np.asarray(spacing, dtype=float)
    if prediction.ndim != 3 or prediction.shape != reference.shape:
        raise ValueError(
            f"prediction and reference must have the same shape (z, y, x), got {prediction.shape} and {reference.shape}"
        )
    if size.shape != (3,) or not np.all(np.isfinite(size) & (size > 0)):
        raise ValueError(f"spacing must be three positive numbers (z, y, x) in mm, got {spacing}")
    diagonal = float(np.linalg.norm(prediction.shape * size))
    box = _bounding_box(prediction | reference)
    prediction, reference = prediction[box], reference[box]
    predicted, expected = int(prediction.sum()), int(reference.sum())
    if not expected:
        raise ValueError("reference must hold at least one voxel of the object, it is empty")
    overlap = int((prediction & reference).sum())

    if predicted:
        surfaces = _surface(prediction), _surface(reference)
        there, back = _distances(*surfaces, size), _distances(*surfaces[::-1], size)
    else:
        there, back = np.array([diagonal]), np.array([diagonal])
    both = np.concatenate([there, back])
    # A distance that exceeds a tolerance only by rounding is within it.
    within = [float((both <= tolerance * (1 + 1e-9)).mean()) if predicted else 0.0 for tolerance in TOLERANCES]
    millilitres = float(size.prod()) / 1000
    return SegmentationMetrics(
        dice=2 * overlap / (predicted + expected),
        rve=100 * abs(predicted - expected) / expected,
        msd=float(both.mean()),
        hd=float(both.max()),
        hd95=float(max(np.percentile(there, 95), np.percentile(back, 95))),
        surface_dice_1mm=within[0],
        surface_dice_2mm=within[1],
        surface_dice_3mm=within[2],
        jaccard=overlap / (predicted + expected - overlap),
        volume_ml=predicted * millilitres,
        reference_ml=expected * millilitres,
        components=int(ndimage.label(prediction)[1]),
        degenerate=not predicted,
    )


def _bounding_box(mask: Mask) -> tuple[slice, ...]:
    """Return the smallest box that holds `mask`; an empty box for an empty mask."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        filled = np.flatnonzero(mask.any(axis=others))
        box.append(slice(int(filled[0]), int(filled[-1]) + 1) if len(filled) else slice(0))
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
    # The distance is 0 where the surfaces coincide.
    points = np.nonzero(surface & ~target)
    distances = np.zeros(int(surface.sum()))
    # A search tree visits only surface voxels, and is faster for smooth objects. A distance transform visits the whole
    # box, and bounds the time for noisy predictions.
    if len(points[0]) > DENSE_SURFACE * surface.size:
        nearest = ndimage.distance_transform_edt(~target, sampling=spacing, return_distances=False, return_indices=True)
        offsets = [nearest[axis][points] - points[axis] for axis in range(surface.ndim)]
        distances[: len(points[0])] = np.linalg.norm(np.stack(offsets, axis=-1) * spacing, axis=-1)
    elif len(points[0]):
        tree = cKDTree(np.argwhere(target) * spacing, balanced_tree=False, compact_nodes=False)
        distances[: len(points[0])] = tree.query(np.stack(points, axis=-1) * spacing)[0]
    return distances
