"""Predictions on the files that they were made from, so that any viewer lays one over the other."""

from pathlib import Path

import numpy as np

from . import dicom, dicom_masks
from .dicom import LARGEST_SLICE_GAP
from .grids import Grid, resample_mask
from .kinds import of_slices
from .volumes import stored_grid, write_mask


def export_mask(
    image_path: str | Path,
    mask: np.ndarray,
    grid: Grid,
    target: str | Path,
    largest_slice_gap: float = LARGEST_SLICE_GAP,
) -> list[Path]:
    """Write a mask (z, y, x) on `grid` as `target`.nii.gz on the voxels of its image, and return the files.

    Along the axes of an image file, voxel for voxel; for a DICOM series on its stack of slices, and as `target`.dcm, a
    DICOM segmentation that belongs to the patient and study of the series. Raises `UserError`.
    """
    image_path, target = Path(image_path), Path(target)
    volume = target.with_name(target.name + ".nii.gz")
    if not of_slices(image_path):
        native = stored_grid(image_path)
        write_mask(volume, resample_mask(mask, grid, native), native)
        return [volume]
    stack = dicom.read_stack(image_path, largest_slice_gap)
    native = stack.grid()
    on_slices = on_grid = resample_mask(mask, grid, native)
    write_mask(volume, on_grid, native)
    if not stack.even:
        on_slices = np.stack([resample_mask(mask, grid, stack.slice_grid(k))[0] for k in range(len(stack.slices))])
    segmentation = target.with_name(target.name + ".dcm")
    dicom_masks.write_segmentation(segmentation, stack, on_slices)
    return [volume, segmentation]
