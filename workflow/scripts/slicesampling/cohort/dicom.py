"""DICOM: a CT series as a stack of slices.

The slices of a `Stack` are sorted along their normal; arrays on it are (slice, row, column). No name or other text of a
file leaves this module, only voxels, geometry and the patient's identifier, which `contents.check_contents` compares
and discards.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
from pydicom.pixels import get_decoder, pixel_array

from .. import UserError, one_line
from .dicom_files import (
    ENHANCED,
    FRAMES,
    GEOMETRY,
    KIND,
    RESCALE,
    UNREADABLE,
    choose_series,
    frames_in,
    read_folder,
)
from .grids import TIE, Grid, checkerboard

LARGEST_SLICE_GAP = 5.0
"""mm. A wider gap in an uneven stack is not interpolated: livers are not scanned with thicker slices, so some are
missing."""

SPACING_TOLERANCE = 0.25
"""Tolerance for the position of a slice in an even stack, as a share of the slice spacing. Positions are rounded; one
missing slice moves some slice by half the spacing or more."""

HEADER_TOLERANCE = 1e-3
"""Tolerance for differences of pixel spacing (mm) and direction cosines within a series."""

SAME_POSITION = 1e-3
"""mm; slices that are closer have the same position: scanners write no finer ones."""

FUNCTIONAL_GROUPS = {
    "PixelMeasuresSequence": ("PixelSpacing",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PixelValueTransformationSequence": RESCALE,
}
"""The functional groups of an enhanced CT, per frame or shared, with the elements of a slice."""

SLICE_FIELDS = {"size": "Rows, Columns", "spacing": "PixelSpacing", "orientation": "ImageOrientationPatient"}
"""The fields that must be equal in all slices of a series, and their DICOM names."""


class Slice(NamedTuple):
    """The geometry and data of one slice.

    orientation: direction cosines along a row and along a column, (x, y, z) each; position: (x, y, z) in mm; rescale:
    (slope, intercept); patient: the PatientID, or an empty text; frame: the index of the frame of an enhanced CT, None
    for a file of one slice.
    """

    path: Path
    size: tuple[int, int]
    spacing: np.ndarray
    orientation: np.ndarray
    position: np.ndarray
    rescale: np.ndarray
    instance: int | None
    patient: str
    dataset: pydicom.Dataset
    frame: int | None = None


@dataclass(frozen=True, eq=False)
class Stack:
    """The slices of a CT series in order of position, with remarks on what was left out.

    `normal` is their unit normal (x, y, z); `even` is whether the slices are evenly spaced.
    """

    path: Path
    slices: list[Slice]
    even: bool
    remarks: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """The numbers of slices, rows and columns."""
        return (len(self.slices), *self.slices[0].size)

    @cached_property
    def positions(self) -> np.ndarray:
        """The position of the first pixel of each slice (slice, 3): x, y, z in mm."""
        return np.array([one.position for one in self.slices])

    @cached_property
    def normal(self) -> np.ndarray:
        """The unit normal of the slices (x, y, z)."""
        return _normal(self.slices[0])

    @cached_property
    def heights(self) -> np.ndarray:
        """The position of each slice along the normal in mm, ascending."""
        return self.positions @ self.normal

    @cached_property
    def usual(self) -> float:
        """The median distance of neighbouring slices in mm."""
        return float(np.median(np.diff(self.heights)))

    @property
    def instances(self) -> list[int] | None:
        """The InstanceNumber of each slice; None unless all have one."""
        numbers = [one.instance for one in self.slices if one.instance is not None]
        return numbers if len(numbers) == len(self.slices) else None

    def grid(self) -> Grid:
        """Return the even grid of the stack with the stored axes (slice, row, column).

        For unevenly spaced slices, the step is the median distance from the first to the last slice.
        """
        first, last = self.positions[0], self.positions[-1]
        steps = len(self.slices) - 1 if self.even else max(1, round(float(np.ptp(self.heights) / self.usual)))
        return self._grid(first, (last - first) / steps, steps + 1)

    def slice_grid(self, k: int) -> Grid:
        """Return the grid of slice `k` alone; its thickness is the distance to a neighbour."""
        other = k + 1 if k + 1 < len(self.slices) else k - 1
        return self._grid(self.positions[k], self.normal * abs(self.heights[other] - self.heights[k]), 1)

    def evened(self, array: np.ndarray, heights: np.ndarray | None = None) -> np.ndarray:
        """Interpolate an array linearly at the slices of `grid`: HU to int16, a bool mask with a threshold of one half.

        heights: positions of the array's planes along the normal in mm, ascending; None: those of the slices. Ties of a
        mask are resolved as in `grids.resample_mask`. The array of an even stack is returned unchanged.
        """
        if self.even:
            return array
        heights = self.heights if heights is None else heights
        wanted = np.linspace(self.heights[0], self.heights[-1], self.grid().shape[0])
        upper = np.clip(np.searchsorted(heights, wanted), 1, len(heights) - 1)
        part = ((wanted - heights[upper - 1]) / (heights[upper] - heights[upper - 1])).astype(np.float32)
        result = np.empty((len(wanted), *array.shape[1:]), array.dtype)
        for k, (high, share) in enumerate(zip(upper, part, strict=True)):
            low, up = array[high - 1], array[high]
            if array.dtype != bool:
                result[k] = np.rint((1 - share) * low.astype(np.float32) + share * up.astype(np.float32))
            elif abs(share - 0.5) > TIE:
                result[k] = up if share > 0.5 else low
            else:
                result[k] = np.where(checkerboard(k, *np.ogrid[: up.shape[0], : up.shape[1]]), up, low)
        return result

    def nearest(self, height: float) -> int:
        """Return the index of the slice nearest to a height along the normal."""
        return int(np.abs(self.heights - height).argmin())

    def _grid(self, origin: np.ndarray, step: np.ndarray, slices: int) -> Grid:
        one = self.slices[0]
        along_row, along_column = np.split(one.orientation, 2)
        between_rows, between_columns = one.spacing
        affine = np.eye(4)
        affine[:3] = np.column_stack([step, along_column * between_rows, along_row * between_columns, origin])[::-1]
        return Grid((slices, *one.size), affine)


def read_stack(path: Path, largest_gap: float = LARGEST_SLICE_GAP) -> Stack:
    """Read the headers of the CT series in a folder, or of the series of a file.

    Of several series in a folder, the one with most slices is used. Other series, localizers, objects that are not CT
    images, and duplicate slices are left out, which the stack's remarks mention. Raise `UserError` if no series has
    most slices, if slices are inconsistent, or if a gap in an uneven stack is above `largest_gap` mm.
    """
    folder = path if path.is_dir() else path.parent
    wanted = None if path.is_dir() else path
    remarks: list[str] = []
    datasets = choose_series(path, read_folder(folder, wanted, remarks), wanted, remarks)
    slices = [one for file, dataset in datasets.items() for one in _slices(file, dataset)]
    if len(slices) < 2:
        raise UserError(f"{path}: has {len(slices)} CT slice; a volume has two or more")
    first = slices[0]
    for one in slices:
        for name in ("size", "spacing", "orientation"):
            here, there = getattr(one, name), getattr(first, name)
            if not np.allclose(here, there, rtol=0, atol=HEADER_TOLERANCE):
                raise UserError(
                    f"{one.path}: {SLICE_FIELDS[name]} is {plain(here)}, but {plain(there)} in {first.path.name}"
                )
        if one.patient != first.patient:
            raise UserError(f"{one.path}: PatientID differs from that in {first.path.name}")
    normal = _normal(first)
    slices.sort(key=lambda one: float(one.position @ normal))
    slices = _without_twins(path, slices, normal, remarks)
    even = _check_spacing(path, slices, normal, largest_gap, remarks)
    return Stack(path, slices, even, tuple(remarks))


def planes(stack: Stack) -> Iterator[np.ndarray]:
    """Yield the slices of a stack as float32 HU, each with its own slope and intercept."""
    return (_pixels(one) for one in stack.slices)


def _slices(path: Path, dataset: pydicom.Dataset) -> Iterator[Slice]:
    """Yield the slices of a DICOM file: one, or the frames of an enhanced CT in order."""
    if dataset.get("SOPClassUID") not in ENHANCED:
        yield _slice(path, dataset)
        return
    try:
        shared = (dataset.get(FRAMES[0]) or [pydicom.Dataset()])[0]
        own = dataset.get(FRAMES[1]) or []
        if len(own) != frames_in(dataset):
            raise UserError(f"{path}: describes {len(own)} frames, but has {frames_in(dataset)}; is the file complete?")
        for number, groups in enumerate(own):
            plain = pydicom.Dataset()
            for name in (*KIND, "Rows", "Columns", "SamplesPerPixel"):
                if name in dataset:
                    plain[name] = dataset[name]
            for group, names in FUNCTIONAL_GROUPS.items():
                sequence = groups.get(group) or shared.get(group) or []
                for name in names:
                    if len(sequence) and name in sequence[0]:
                        plain[name] = sequence[0][name]
            plain.InstanceNumber = number + 1
            yield _slice(path, plain)._replace(dataset=dataset, frame=number)
    except UNREADABLE as error:
        raise UserError(f"{path}: cannot be read as DICOM ({type(error).__name__}); is it complete?") from error


def _slice(path: Path, dataset: pydicom.Dataset) -> Slice:
    """Return one DICOM file as a slice; raise `UserError` if it is not a valid one."""
    try:
        for name in (*GEOMETRY, *RESCALE):
            if dataset.get(name) in (None, ""):
                raise UserError(f"{path}: has no {name}; a CT slice needs it")
        if dataset.get("SamplesPerPixel", 1) != 1:
            raise UserError(f"{path}: holds colours; accepted is one grey value per pixel")
        instance = dataset.get("InstanceNumber")
        one = Slice(
            path,
            (int(dataset.Rows), int(dataset.Columns)),
            _numbers(path, dataset, "PixelSpacing", 2),
            _numbers(path, dataset, "ImageOrientationPatient", 6),
            _numbers(path, dataset, "ImagePositionPatient", 3),
            np.concatenate([_numbers(path, dataset, name, 1) for name in RESCALE]),
            None if instance is None else int(instance),
            str(dataset.get("PatientID") or ""),
            dataset,
        )
    except UNREADABLE as error:
        raise UserError(f"{path}: cannot be read as DICOM ({type(error).__name__}); is it complete?") from error
    if one.spacing.min() <= 0:
        raise UserError(f"{path}: PixelSpacing is {plain(one.spacing)}; accepted are positive numbers of mm")
    along_row, along_column = np.split(one.orientation, 2)
    lengths = np.array([np.linalg.norm(along_row), np.linalg.norm(along_column), 1 + along_row @ along_column])
    if np.abs(lengths - 1).max() > HEADER_TOLERANCE:
        raise UserError(
            f"{path}: ImageOrientationPatient is {plain(one.orientation)}; accepted are two perpendicular unit vectors"
        )
    return one


def _without_twins(path: Path, slices: list[Slice], normal: np.ndarray, remarks: list[str]) -> list[Slice]:
    """Return the slices without exact duplicates; raise `UserError` for different slices at the same position."""
    kept = slices[:1]
    for one in slices[1:]:
        height = float(one.position @ normal)
        if height - float(kept[-1].position @ normal) >= SAME_POSITION:
            kept.append(one)
        elif not np.array_equal(_pixels(one), _pixels(kept[-1])):
            raise UserError(
                f"{path}: several slices at {height:.3f} mm along the normal, and they differ; accepted is one"
            )
    if len(kept) < 2:
        raise UserError(f"{path}: has slices at one position only; a volume has two or more")
    if len(kept) < len(slices):
        remarks.append(f"{len(slices) - len(kept)} slices are there twice: the second ones left out")
    return kept


def _check_spacing(path: Path, slices: list[Slice], normal: np.ndarray, largest_gap: float, remarks: list[str]) -> bool:
    """Return whether the stack is even; raise `UserError` for slices off the line of the others, or a wide gap."""
    positions = np.array([one.position for one in slices])
    heights = positions @ normal
    steps = np.diff(heights)
    usual = float(np.median(steps))
    if np.linalg.norm(positions - np.linspace(positions[0], positions[-1], len(slices)), axis=1).max() <= (
        SPACING_TOLERANCE * usual
    ):
        return True
    # The point at each slice's height on the line from the first slice to the last.
    line = positions[0] + np.outer((heights - heights[0]) / (heights[-1] - heights[0]), positions[-1] - positions[0])
    aside = np.linalg.norm(positions - line, axis=1)
    if aside.max() > SPACING_TOLERANCE * usual:
        k = int(aside.argmax())
        raise UserError(
            f"{path}: the slice at {heights[k]:.3f} mm along the normal is {aside[k]:.3f} mm off the line of the others"
        )
    wide = np.flatnonzero(steps > largest_gap + SAME_POSITION)
    if len(wide):
        gaps = ", ".join(_gap(slices, heights, int(k), usual) for k in wide[:5]) + ", …" * (len(wide) > 5)
        raise UserError(
            f"{path}: {gaps}; gaps between uneven slices are interpolated up to {largest_gap:g} mm "
            "(preprocessing: largest_slice_gap)"
        )
    remarks.append(
        f"slices {steps.min():.3g} to {steps.max():.3g} mm apart: interpolated at their positions every {usual:.3g} mm"
    )
    return False


def _gap(slices: list[Slice], heights: np.ndarray, k: int, usual: float) -> str:
    """Return a description of the slices missing between slices `k` and `k` + 1."""
    step = heights[k + 1] - heights[k]
    below, above = slices[k].instance, slices[k + 1].instance
    numbers = ""
    if below is not None and above is not None and abs(above - below) > 1:
        low, high = sorted((below, above))
        missing = f"{low + 1}" if high - low == 2 else f"{low + 1} to {high - 1}"
        numbers = f", InstanceNumber {missing}"
    count = max(1, round(step / usual) - 1)
    return (
        f"{step:.3f} mm between {heights[k]:.3f} and {heights[k + 1]:.3f} mm along the normal where {usual:.3f} mm is "
        f"usual: {count} slice(s) missing{numbers}"
    )


def _pixels(one: Slice) -> np.ndarray:
    """Return slope times stored values plus intercept, float32 (row, column)."""
    try:
        syntax = one.dataset.file_meta.TransferSyntaxUID
        if syntax.is_compressed and not get_decoder(syntax).is_available:
            raise UserError(
                f"{one.path}: is compressed as {syntax.name}, for which no decoder is installed; store the series "
                "uncompressed, or as JPEG 2000"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stored = one.dataset.pixel_array if one.frame is None else pixel_array(one.dataset, index=one.frame)
    except UNREADABLE as error:
        raise UserError(f"{one.path}: its pixels cannot be read ({one_line(error)}); is the file complete?") from error
    if stored.shape != one.size:
        raise UserError(f"{one.path}: has {stored.shape} pixels, but its header says {one.size}")
    slope, intercept = one.rescale.astype(np.float32)
    return stored.astype(np.float32) * slope + intercept


def _normal(one: Slice) -> np.ndarray:
    along_row, along_column = np.split(one.orientation, 2)
    return np.cross(along_row, along_column)


def _numbers(path: Path, dataset: pydicom.Dataset, name: str, count: int) -> np.ndarray:
    """Return the numbers of an element; raise `UserError` unless there are `count` finite ones."""
    numbers = np.atleast_1d(np.asarray(dataset[name].value, dtype=float))
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise UserError(f"{path}: {name} is {numbers.tolist()}; accepted: finite numbers, {count} of them")
    return numbers


def plain(numbers: Any) -> list[float]:
    return [float(number) for number in numbers]
