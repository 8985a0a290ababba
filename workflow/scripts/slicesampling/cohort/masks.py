"""Liver masks on the grid of their image: files of a volume, DICOM objects, or one PNG per slice."""

from collections.abc import Collection
from functools import partial
from pathlib import Path

import numpy as np
from scipy import ndimage

from .. import UserError
from ..domain.labels import Label
from . import dicom, dicom_masks
from .formats import read_file, scaled
from .grids import Grid, upright
from .kinds import of_slices
from .plausibility import SOFT_TISSUE_SHARE, soft_tissue_share
from .png import png_files, read_png

MOST_LABELS = 256
"""The most different values of a mask; an image has more."""


def label_is_empty(path: str | Path) -> bool:
    """Return whether a mask file holds only zeros."""
    return not read_file(Path(path)).values.any()


def label_holds(path: Path, value: int) -> bool:
    """Return whether a mask file holds a value."""
    return bool((read_file(path).values == value).any())


def holds_labels(path: Path) -> bool:
    """Return whether a file holds labels rather than an image: at most `MOST_LABELS` values, whole numbers from 0."""
    values = np.unique(read_file(path).values)
    return len(values) <= MOST_LABELS and bool((values >= 0).all() and (values == np.rint(values)).all())


def read_mask(
    label: Label, grid: Grid, stack: dicom.Stack | None, on_slices: np.ndarray, remarks: list[str]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the mask of a label and its voxels that are not annotated, both bool (z, y, x) on `grid`, the image's.

    The second is None if the label has no ignore value. stack, on_slices: the slices of a DICOM image, and their HU
    (slice, row, column). remarks: a list to which decisions are appended. Raise `UserError` if the mask cannot be used.
    """
    (only,) = label.structures
    read = partial(_read, only.path, grid, stack, on_slices, label.ignore, remarks)
    mask, ignored = read(only.values)
    if only.touching:
        mask = with_tumours(mask, read(only.touching, may_lack=True)[0], remarks)
    return mask, ignored


def with_tumours(liver: np.ndarray, tumours: np.ndarray, remarks: list[str]) -> np.ndarray:
    """Return a liver mask with the connected parts of `tumours` that lie in it or touch it; both bool (z, y, x).

    The names of labels do not tell the organ of a tumour. The number of parts elsewhere is appended to `remarks`.
    """
    parts, count = ndimage.label(tumours)
    touching = np.unique(parts[ndimage.binary_dilation(liver)])
    touching = touching[touching > 0]
    if len(touching) < count:
        remarks.append(f"{count - len(touching)} of {count} tumours do not touch the liver: left out")
    return np.asarray(liver | np.isin(parts, touching))


def _read(
    path: Path,
    grid: Grid,
    stack: dicom.Stack | None,
    on_slices: np.ndarray,
    ignore: int | None,
    remarks: list[str],
    wanted: Collection[int],
    may_lack: bool = False,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Read the `wanted` values of a mask, see `read_mask`; with `may_lack` they may be absent."""
    if not of_slices(path):
        return _read_file(path, grid, ignore, wanted, may_lack)
    if stack is None:
        raise UserError(f"{path}: masks drawn on DICOM slices need an image in DICOM slices")
    if ignore is not None:
        raise UserError(f"{path}: ignore_value is for a mask file of a volume, such as NIfTI; leave the cell empty")
    if not path.is_dir():
        mask = dicom_masks.read_drawn_mask(path, stack, wanted, remarks)
    elif png_files(path):
        mask = stack.evened(_read_png_masks(path, stack, on_slices, wanted, may_lack))
    else:
        mask = stack.evened(_chosen(path, dicom_masks.read_mask_slices(path, stack), wanted, may_lack))
    return np.ascontiguousarray(upright(mask, stack.grid())[0]), None


def _read_file(
    path: Path, grid: Grid, ignore: int | None, wanted: Collection[int], may_lack: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the voxels of a mask file with `wanted` values, and those with the value `ignore`; both bool (z, y, x)."""
    stored = read_file(path)
    turned, mask_grid = upright(stored.values, stored.grid)
    if not mask_grid.matches(grid):
        raise UserError(f"{path}: the mask is not on the grid of its image; mask: {mask_grid}; image: {grid}")
    values = scaled(turned, stored)
    ignored = None
    if ignore is not None:
        ignored = np.ascontiguousarray(values == ignore)
        values = np.where(ignored, 0, values)
    return np.ascontiguousarray(_chosen(path, values, wanted, may_lack)), ignored


def _chosen(path: Path, values: np.ndarray, wanted: Collection[int], may_lack: bool) -> np.ndarray:
    """Return the voxels with `wanted` values, or without any wanted, those of the only value beside zero."""
    labelled = values != 0
    found = np.unique(values[labelled])
    odd = found[~(np.isfinite(found) & (found > 0) & (found == np.rint(found)))]
    if len(odd):
        raise UserError(f"{path}: the mask holds {_listed(odd)}; accepted are 0 and positive whole numbers")
    if not wanted:
        if len(found) > 1:
            raise UserError(f"{path}: the mask holds {_listed(found)}; liver_values must say which of them are liver")
        return np.asarray(labelled)
    if len(found) and not may_lack and not np.isin(found, sorted(wanted)).any():
        raise UserError(f"{path}: the mask holds {_listed(found)}; accepted as liver: {_listed(wanted)}")
    return np.isin(values, sorted(wanted))


def _listed(values: Collection[float]) -> str:
    shown = sorted(float(value) for value in values)
    return ", ".join(f"{value:g}" for value in shown[:5]) + ", …" * (len(shown) > 5)


def _read_png_masks(
    folder: Path, stack: dicom.Stack, image: np.ndarray, wanted: Collection[int], may_lack: bool
) -> np.ndarray:
    """Read one PNG per slice into a bool array (slice, row, column) on `stack`, and check their order by the HU.

    The k-th file in natural order of the names belongs to the k-th slice in order of InstanceNumber. In the CHAOS
    challenge this is also the order of the DICOM file names, from the head to the feet, opposite to the positions.
    """
    paths = png_files(folder)
    instances = stack.instances
    if instances is None or len(set(instances)) != len(instances):
        raise UserError(f"{folder}: PNG masks need an image in DICOM slices with an InstanceNumber each, all different")
    if len(paths) != len(instances):
        raise UserError(f"{folder}: {len(paths)} PNG masks for {len(instances)} slices; there must be one per slice")
    values = np.empty(stack.shape, np.uint16)
    order = np.argsort(instances)
    for path, k in zip(paths, order, strict=True):
        plane = read_png(path)
        if plane.shape != stack.shape[1:]:
            raise UserError(f"{path}: has {plane.shape} rows and columns, but its image has {stack.shape[1:]}")
        values[k] = plane
    mask = _chosen(folder, values, wanted, may_lack)
    turned = np.empty_like(mask)
    turned[order] = mask[order[::-1]]
    if soft_tissue_share(image, mask) < SOFT_TISSUE_SHARE <= soft_tissue_share(image, turned):
        raise UserError(
            f"{folder}: the masks lie on soft tissue only when the last one belongs to the first slice; accepted are "
            "names in the order of InstanceNumber"
        )
    return mask
