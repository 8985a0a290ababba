"""Export of predictions on the grid of their original images, so that any viewer can overlay them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import UserError
from . import dicom, dicom_masks
from .dicom import LARGEST_SLICE_GAP
from .formats import TILT_TOLERANCE
from .grids import Grid, canonical_grid, resample_mask, upright
from .kinds import of_slices
from .volumes import stored_grid, write_mask


class Exported(NamedTuple):
    """The written files, and a line for each file that was not written or is on another grid than the image."""

    files: list[Path]
    remarks: list[str]


def export_mask(
    image_path: str | Path,
    mask: np.ndarray,
    grid: Grid,
    target: str | Path,
    largest_slice_gap: float = LARGEST_SLICE_GAP,
) -> Exported:
    """Write a mask (z, y, x) on `grid` as `target`.nii.gz on the voxels of its image.

    For an image file, the mask has its stored axes, voxel for voxel. For a DICOM series, it is on the stack of slices,
    and is also written as `target`.dcm, a DICOM segmentation of the series' patient and study. If the slices are
    tilted, the NIfTI file is on the patient's axes, because tools based on ITK refuse axes that are not perpendicular.
    Raise `UserError` if not even the NIfTI file can be written.
    """
    image_path, target = Path(image_path), Path(target)
    volume = target.with_name(target.name + ".nii.gz")
    if not of_slices(image_path):
        native = stored_grid(image_path)
        write_mask(volume, resample_mask(mask, grid, native), native)
        return Exported([volume], [])
    remarks = []
    stack = dicom.read_stack(image_path, largest_slice_gap)
    native = stack.grid()
    on_slices = resample_mask(mask, grid, native)
    if native.tilt > TILT_TOLERANCE:
        remarks.append(
            f"{volume}: the slices are tilted by {native.tilt:.1f} degrees; the file lies on the patient's axes"
        )
        turned = upright(np.empty(native.shape, bool), native)[1]
        straight = canonical_grid(turned, turned.spacing)
        write_mask(volume, resample_mask(mask, grid, straight), straight)
    else:
        write_mask(volume, on_slices, native)
    if not stack.even:
        on_slices = np.stack([resample_mask(mask, grid, stack.slice_grid(k))[0] for k in range(len(stack.slices))])
    segmentation = target.with_name(target.name + ".dcm")
    try:
        dicom_masks.write_segmentation(segmentation, stack, on_slices)
    except UserError as error:
        return Exported([volume], [*remarks, f"{segmentation}: not written; {error}"])
    return Exported([volume, segmentation], remarks)
