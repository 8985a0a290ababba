"""Volumes and masks as one PNG per slice, whose geometry and Hounsfield units the user has to give."""

import itertools
import re
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
from PIL import Image, UnidentifiedImageError

from .. import UserError, one_line
from ..jobs.files import replacing
from .folders import natural
from .formats import check_credible, gridded
from .grids import Grid

HEAD, FEET = "head", "feet"


class Stacking(NamedTuple):
    """Properties of a volume that PNG files do not hold.

    spacing: (z, y, x) in mm; window: the HU of black and of white; first: the end of the patient at the first slice,
    `HEAD` or `FEET`; white: the value of white, None for that of 8 bits. Rows run to the patient's back and columns to
    the left, the radiological view.
    """

    spacing: tuple[float, float, float]
    window: tuple[float, float]
    first: str
    white: int | None = None


def read_png(path: Path) -> np.ndarray:
    """Read a PNG with one channel, or three equal ones, as (row, column) integers; raise UserError if invalid."""
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            picture.verify()  # checks the checksums, which reading the pixels does not
        with Image.open(path, formats=["PNG"]) as picture:
            mode, values = picture.mode, np.asarray(picture)
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: cannot be read as PNG ({one_line(error)}); is it complete?") from error
    if mode == "RGB" and (values == values[..., :1]).all():
        return values[..., 0]
    if values.ndim != 2:
        raise UserError(f"{path}: is a picture of mode {mode}; accepted is one grey channel")
    return values


def png_files(folder: Path) -> list[Path]:
    """Return the PNG files of a folder in natural order of their names."""
    return sorted((p for p in folder.iterdir() if p.suffix.lower() == ".png"), key=lambda p: natural(p.name))


def write_volume(folder: Path, images: Path, masks: Path | None, stacking: Stacking) -> tuple[Path, Path | None]:
    """Write the slices of a folder, and their masks, as image.nii.gz in HU and mask.nii.gz; return their paths.

    The last number in a file's name is that of its slice. Numbers must be consecutive, and equal for images and masks.
    If they are not, or a file is invalid, raise UserError and write nothing.
    """
    if folder.exists():
        raise UserError(f"{folder}: exists already; remove it, or name another folder by --volumes")
    slices = _by_number(images)
    values = _stacked(slices.values())
    white = stacking.white
    if white is None:
        if values.dtype != np.uint8:
            raise UserError(f"{images}: PNG of 16 bits, values up to {values.max()}; --white says which is white")
        white = np.iinfo(np.uint8).max
    if values.max() > white:
        raise UserError(f"{images}: holds {values.max()}, above --white {white}")
    low, high = stacking.window
    hu = np.rint(low + values.astype(np.float32) * ((high - low) / white)).astype(np.int16)
    labels = None
    if masks is not None:
        drawn = _by_number(masks)
        if list(drawn) != list(slices):
            raise UserError(
                f"{masks}: masks {min(drawn)} to {max(drawn)} for slices {min(slices)} to {max(slices)}; there must be "
                "one per slice"
            )
        labels = _stacked(drawn.values())
        if labels.shape != values.shape:
            raise UserError(f"{masks}: has {labels.shape[1:]} rows and columns, but its images have {values.shape[1:]}")
    grid = Grid(values.shape, np.diag([*stacking.spacing, 1.0]))
    upwards = slice(None, None, -1 if stacking.first == HEAD else 1)
    with replacing(folder) as temporary:
        temporary.mkdir(parents=True)
        nibabel.save(gridded(hu[upwards], grid), temporary / "image.nii.gz")
        if labels is not None:
            nibabel.save(gridded(labels[upwards], grid), temporary / "mask.nii.gz")
    return folder / "image.nii.gz", None if labels is None else folder / "mask.nii.gz"


def _by_number(folder: Path) -> dict[int, Path]:
    """Return the PNG files of a folder by the last number in their names, ascending; raise UserError for a gap."""
    found: dict[int, Path] = {}
    for path in png_files(folder):
        numbers = re.findall(r"\d+", path.stem)
        if not numbers:
            raise UserError(f"{path}: its name has no number, so its place is unknown")
        other = found.setdefault(int(numbers[-1]), path)
        if other != path:
            raise UserError(f"{path}: has the number of {other.name}; each slice needs its own")
    if len(found) < 2:
        raise UserError(f"{folder}: {len(found)} PNG files; a volume has two slices or more")
    missing = max(found) - min(found) + 1 - len(found)
    if missing:
        first = next(number for number in itertools.count(min(found)) if number not in found)
        raise UserError(f"{folder}: no slice {first} between {min(found)} and {max(found)} ({missing} missing)")
    return {number: found[number] for number in sorted(found)}


def _stacked(files: Collection[Path]) -> np.ndarray:
    """Return the images of slices in order: (slice, row, column)."""
    planes: list[np.ndarray] = []
    for path in files:
        plane = read_png(path)
        kind = np.uint8 if plane.dtype in (bool, np.uint8) else np.uint16
        if planes and (plane.shape, kind) != (planes[0].shape, planes[0].dtype):
            raise UserError(
                f"{path}: has {plane.shape} pixels of {np.dtype(kind)}, others {planes[0].shape} of {planes[0].dtype}"
            )
        if not planes:
            check_credible(path, (len(files), *plane.shape))
        planes.append(plane.astype(kind))
    return np.stack(planes)
