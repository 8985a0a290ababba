"""Evaluation of predicted masks, of this or any other model, against the references of a run."""

from pathlib import Path

import numpy as np

from .. import UserError
from ..cohort.formats import read_file, scaled
from ..cohort.grids import resample_mask, upright
from ..cohort.volumes import load_native_mask, load_preprocessed
from .metrics import SegmentationMetrics, segmentation_metrics

NATIVE, PREPROCESSED = GRIDS = ("native", "preprocessed")
"""The grid of the metrics: that of the reference's file, or the common one (evaluation.grid)."""


def evaluated(folder: Path, prediction: np.ndarray | None, grid: str) -> SegmentationMetrics:
    """Return the metrics of a prediction, bool (z, y, x) on the common grid, for the preprocessed volume in `folder`.

    Without a prediction, return the limit of the grid: the metrics of the reference on the common grid. grid: one of
    `GRIDS`.
    """
    volume = load_preprocessed(folder)
    if prediction is None:
        prediction = volume.mask
    if grid == NATIVE:
        prediction = resample_mask(prediction, volume.grid, volume.native_grid)
        return segmentation_metrics(prediction, load_native_mask(folder), volume.native_grid.spacing)
    return segmentation_metrics(prediction, volume.mask, volume.grid.spacing)


def evaluated_file(path: Path, folder: Path, grid: str) -> SegmentationMetrics:
    """Return the metrics of the mask in a file (1 is the structure), on the common grid or that of the reference.

    folder: the preprocessed volume. A mask on the reference's own grid is compared there. Raise UserError if the mask
    has other values or another grid.
    """
    stored = read_file(path)
    turned, own = upright(stored.values, stored.grid)
    values = scaled(turned, stored)
    odd = np.setdiff1d(np.unique(values), (0, 1))
    if len(odd):
        raise UserError(f"{path}: holds {', '.join(f'{value:g}' for value in odd[:5])}; accepted are 0 and 1")
    mask = np.ascontiguousarray(values == 1)
    volume = load_preprocessed(folder)
    if own.matches(volume.grid):
        return evaluated(folder, mask, grid)
    if own.matches(volume.native_grid):
        if grid != NATIVE:
            raise UserError(f"{path}: is on the grid of the original file; accepted with --grid {grid}: {volume.grid}")
        return segmentation_metrics(mask, load_native_mask(folder), volume.native_grid.spacing)
    raise UserError(f"{path}: is on neither grid of its volume; it has {own}; accepted: {volume.grid}")
