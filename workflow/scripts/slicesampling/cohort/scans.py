"""Reading of CT and masks as Hounsfield units on one canonical grid (method of section III of the paper).

Arrays are brought to (z, y, x) when read, only by flips and transpositions: z towards the head, y towards the back, x
towards the patient's left, as nearly as the file's axes allow. World points are millimetres in the same order (z, y, x)
of the same frame (LPS). A `Grid` holds the positions of an array's voxels.
"""

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import NOT_ANNOTATED, UserError
from ..domain.labels import Label
from . import dicom
from .dicom import LARGEST_SLICE_GAP
from .formats import TILT_TOLERANCE, check_credible, check_usable, read_file, scaled
from .grids import TIE, Grid, canonical_grid, resample, resample_image, resample_mask, upright
from .kinds import of_slices
from .masks import read_mask
from .volumes import Preprocessed

logger = logging.getLogger(__name__)

AIR = -1024
"""The smallest stored value in HU. Scanners pad the outside of their circle with lower ones, such as -2000 or -3024."""


class LabelError(UserError):
    """A fault of the mask of a volume, not of its image."""


class Scan(NamedTuple):
    """An upright CT volume on its native grid, and its liver mask.

    `image` is int16 HU and `mask` bool, None without a label, both (z, y, x) on `grid`. `remarks` list what was left
    out, resampled or decided during reading. `patient` is the identifier in the file, or an empty text. `ignored`, bool
    (z, y, x), marks voxels of the mask that are not annotated; None: all are annotated.
    """

    image: np.ndarray
    mask: np.ndarray | None
    grid: Grid
    remarks: tuple[str, ...]
    patient: str
    ignored: np.ndarray | None = None


def read_scan(image_path: str | Path, label: Label | None = None, largest_slice_gap: float = LARGEST_SLICE_GAP) -> Scan:
    """Read a CT volume, HU not below `AIR`, and its liver mask.

    `image_path` is a NIfTI, NRRD or MetaImage file (`IMAGE_SUFFIXES`), a folder with a DICOM series, or one of its
    files if the folder holds several series. A mask is a file on the grid of the image, with axes stored in any order;
    for a DICOM image also a DICOM segmentation or structure set, or a folder with one PNG per slice. The PNG files in
    natural order of their names belong to the slices in order of InstanceNumber, the layout of the CHAOS challenge, for
    either direction of the positions. If the label has no values, the mask must have a single value beside zero and the
    ignore value.

    Unevenly spaced slices are interpolated at their positions if no gap is above `largest_slice_gap` mm. Tilted slices
    (gantry tilt) are resampled to the patient's axes. So every returned grid is even, with perpendicular axes. Raise
    `LabelError` for faults of the mask, `UserError` for those of the image.
    """
    path = Path(image_path)
    read = _read_slices(path, largest_slice_gap) if of_slices(path) else _read_file(path)
    image, grid, remarks = read.image, read.grid, read.remarks
    mask = ignored = None
    if label is not None:
        try:
            mask, ignored = read_mask(label, grid, read.stack, read.on_slices, remarks)
        except UserError as error:
            raise LabelError(str(error)) from error
    if grid.tilt > TILT_TOLERANCE:
        remarks.append(f"slices tilted by {grid.tilt:.1f} degrees: resampled to the patient's axes")
        image, mask, ignored, grid = _straightened(image, mask, ignored, grid)
    for remark in remarks:
        logger.info("%s: %s", path, remark)
    return Scan(image, mask, grid, tuple(remarks), read.patient, ignored)


def preprocess(
    image_path: str | Path,
    label: Label | None,
    spacing: tuple[float, float, float],
    largest_slice_gap: float = LARGEST_SLICE_GAP,
) -> Preprocessed:
    """Read a volume and its mask (see `read_scan`), and resample both to the canonical grid with `spacing` (mm).

    A slice is annotated if none of its voxels is interpolated from one that is not; without a mask no slice is.
    """
    scan = read_scan(image_path, label, largest_slice_gap)
    grid = common_grid(image_path, scan.grid, spacing)
    if scan.mask is None:
        mask = np.full(grid.shape, NOT_ANNOTATED, np.uint8)
    else:
        mask = resample_mask(scan.mask, scan.grid, grid).view(np.uint8)
    if scan.ignored is not None:
        mask[_touched(scan.ignored, scan.grid, grid).any(axis=(1, 2))] = NOT_ANNOTATED
    return Preprocessed(
        image=resample_image(scan.image, scan.grid, grid, fill=AIR),
        mask=mask,
        grid=grid,
        native_grid=scan.grid,
        native_mask=scan.mask,
    )


def common_grid(path: str | Path, native: Grid, spacing: tuple[float, float, float]) -> Grid:
    """Return the canonical grid of a volume; raise `UserError` if its field is below half a voxel of it."""
    for axis, extent, step in zip("zyx", np.array(native.shape) * native.spacing, spacing, strict=True):
        if extent < step / 2:
            raise UserError(
                f"{path}: is {extent:.3g} mm long along {axis}; accepted is half a voxel of {step:g} mm or more "
                "(preprocessing: spacing)"
            )
    return canonical_grid(native, spacing)


class _Image(NamedTuple):
    """An image without its mask.

    `image`: int16 HU (z, y, x) on `grid`, upright. `stack`: the slices of a DICOM image, None for other files;
    `on_slices`: their HU (slice, row, column), to check the order of masks. `remarks`, `patient`: see `Scan`.
    """

    image: np.ndarray
    grid: Grid
    remarks: list[str]
    patient: str
    stack: dicom.Stack | None
    on_slices: np.ndarray


def _read_slices(path: Path, largest_slice_gap: float) -> _Image:
    """Read the image of a DICOM series, with uneven slices interpolated; raise `UserError` if it cannot be used."""
    stack = dicom.read_stack(path, largest_slice_gap)
    raw_grid = stack.grid()
    check_usable(path, raw_grid)
    check_credible(path, stack.shape)
    on_slices: np.ndarray = np.empty(stack.shape, np.int16)
    for k, plane in enumerate(dicom.planes(stack)):
        on_slices[k] = _hounsfield(plane)
    turned, grid = upright(stack.evened(on_slices), raw_grid)
    return _Image(np.ascontiguousarray(turned), grid, list(stack.remarks), stack.slices[0].patient, stack, on_slices)


def _read_file(path: Path) -> _Image:
    """Read the image of a volume's file; raise `UserError` if it cannot be used."""
    stored = read_file(path)
    if min(stored.grid.shape) < 2:
        raise UserError(f"{path}: has {stored.grid.shape} voxels; a volume has two or more slices, rows and columns")
    turned, grid = upright(stored.values, stored.grid)
    image: np.ndarray = np.empty(turned.shape, np.int16)
    for k, plane in enumerate(turned):
        image[k] = _hounsfield(scaled(plane, stored))
    return _Image(image, grid, list(stored.remarks), "", None, image)


def _straightened(
    image: np.ndarray, mask: np.ndarray | None, ignored: np.ndarray | None, grid: Grid
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None, Grid]:
    """Resample a volume with tilted slices to the patient's axes, with its own spacing; outside is air."""
    straight = canonical_grid(grid, grid.spacing)
    image = resample_image(image, grid, straight, fill=AIR)
    mask = None if mask is None else resample_mask(mask, grid, straight)
    return image, mask, None if ignored is None else _touched(ignored, grid, straight), straight


def _touched(ignored: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """Return which voxels of `target` are interpolated from an `ignored` one (z, y, x) of `source`, bool (z, y, x)."""
    return resample(ignored.astype(np.uint8), source, target, fill=0) > TIE


def _hounsfield(plane: np.ndarray) -> np.ndarray:
    """Return whole HU in the range of int16; lower values and NaN become `AIR`."""
    if np.issubdtype(plane.dtype, np.floating):
        plane = np.rint(np.nan_to_num(plane, nan=AIR))
    return np.clip(plane, AIR, np.iinfo(np.int16).max)
