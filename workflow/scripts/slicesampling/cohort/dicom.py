"""DICOM: a CT series as a stack of slices, masks drawn on it, and masks written for it.

A `Stack` has its slices sorted along the normal of their plane; arrays on it are (slice, row, column). A patient's name
or any other text of a file stays in it: what leaves this module is voxels, geometry and the patient's identifier, which
`cohort.check_contents` compares and forgets.
"""

import io
import logging
import re
import struct
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
from matplotlib.path import Path as Polygon
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels import get_decoder
from pydicom.uid import CTImageStorage

from .. import UserError, one_line
from ..jobs import files
from .grids import GRID_TOLERANCE, REVERSE, TIE, Grid

for _name in ("pydicom", "highdicom"):  # what they log may quote the file
    logging.getLogger(_name).setLevel(logging.CRITICAL)

LARGEST_SLICE_GAP = 5.0
"""mm. A wider gap in an uneven stack is not bridged: no liver is scanned with thicker slices, so some are missing."""

SPACING_TOLERANCE = 0.25
"""How far a slice may lie from its place in an even stack, as a share of the slice spacing. Positions are rounded; one
missing slice moves some slice by half the spacing or more."""

HEADER_TOLERANCE = 1e-3
"""How far the slices of one series may differ in pixel spacing (mm) and direction cosines."""

SOFTWARE, VERSION = "slicesampling", "0.1.0"
"""Who made a segmentation."""

SERIES_NUMBER = 9001
"""Of a written segmentation, above those of a scanner."""

SAME_POSITION = 1e-3
"""mm: the finest that scanners write."""

SLICE_FIELDS = {"size": "Rows, Columns", "spacing": "PixelSpacing", "orientation": "ImageOrientationPatient"}
"""What must be the same in all slices of a series, and what DICOM calls it."""

GEOMETRY = ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient")
LOCALIZER = "a localizer"
"""Why a slice of a CT series may be left out though it belongs to the series."""

RESCALE = ("RescaleSlope", "RescaleIntercept")
PIXELS = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "PixelData",
)
KIND = ("SOPClassUID", "SOPInstanceUID", "Modality", "ImageType", "SeriesInstanceUID", "InstanceNumber", "PatientID")
"""All elements that are read of a CT slice, and no other: what is not read cannot get into a log."""

UNREADABLE = (
    BytesLengthException,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    OverflowError,
    MemoryError,
    AssertionError,
    struct.error,
)
"""What pydicom, its decoders and highdicom raise for bytes that make no sense."""


class Slice(NamedTuple):
    """What counts of one DICOM file: its geometry and its stored values, for (slope, intercept) see `rescale`.

    orientation: direction cosines along a row and along a column, (x, y, z) each; position: (x, y, z) in mm; patient:
    the PatientID, empty where there is none.
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


@dataclass(frozen=True, eq=False)
class Stack:
    """The slices of a CT series in order of their position, and whatever has to be told about them.

    `normal` is their unit normal (x, y, z); `even` says whether the slices are evenly spaced.
    """

    path: Path
    slices: list[Slice]
    even: bool
    remarks: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        return (len(self.slices), *self.slices[0].size)

    @cached_property
    def positions(self) -> np.ndarray:
        """First pixel of each slice (slice, 3): x, y, z in mm."""
        return np.array([one.position for one in self.slices])

    @cached_property
    def normal(self) -> np.ndarray:
        """Unit normal of the slices (x, y, z)."""
        return _normal(self.slices[0])

    @cached_property
    def heights(self) -> np.ndarray:
        """Position of each slice along the normal, mm, rising."""
        return self.positions @ self.normal

    @property
    def instances(self) -> list[int] | None:
        """The InstanceNumber of each slice, where all have one."""
        numbers = [one.instance for one in self.slices if one.instance is not None]
        return numbers if len(numbers) == len(self.slices) else None

    def grid(self) -> Grid:
        """Return the even grid of the stack, as stored: axes are (slice, row, column).

        Where slices are unevenly spaced, the grid has the usual step between them from the first to the last.
        """
        first, last = self.positions[0], self.positions[-1]
        steps = len(self.slices) - 1 if self.even else max(1, round(float(np.ptp(self.heights) / self._usual())))
        return self._grid(first, (last - first) / steps, steps + 1)

    def slice_grid(self, k: int) -> Grid:
        """Return the grid of slice `k` alone; its thickness is the distance to a neighbour."""
        other = k + 1 if k + 1 < len(self.slices) else k - 1
        return self._grid(self.positions[k], self.normal * abs(self.heights[other] - self.heights[k]), 1)

    def evened(self, array: np.ndarray) -> np.ndarray:
        """Interpolate an array on the slices linearly at the slices of `grid`: HU to int16, a bool mask above one half.

        The array of an even stack is returned as it is.
        """
        if self.even:
            return array
        heights = self.heights
        wanted = np.linspace(heights[0], heights[-1], self.grid().shape[0])
        upper = np.clip(np.searchsorted(heights, wanted), 1, len(heights) - 1)
        part = ((wanted - heights[upper - 1]) / (heights[upper] - heights[upper - 1])).astype(np.float32)
        result = np.empty((len(wanted), *array.shape[1:]), array.dtype)
        for k, (high, share) in enumerate(zip(upper, part, strict=True)):
            plane = (1 - share) * array[high - 1].astype(np.float32) + share * array[high].astype(np.float32)
            result[k] = plane > 0.5 + TIE if array.dtype == bool else np.rint(plane)
        return result

    def nearest(self, height: float) -> int:
        """Return the slice nearest to a height along the normal."""
        return int(np.abs(self.heights - height).argmin())

    def _usual(self) -> float:
        return float(np.median(np.diff(self.heights)))

    def _grid(self, origin: np.ndarray, step: np.ndarray, slices: int) -> Grid:
        one = self.slices[0]
        along_row, along_column = np.split(one.orientation, 2)
        between_rows, between_columns = one.spacing
        affine = np.eye(4)
        affine[:3] = np.column_stack([step, along_column * between_rows, along_row * between_columns, origin])[::-1]
        return Grid((slices, *one.size), affine)


# Series ---------------------------------------------------------------------------------------------------------------


def read_stack(path: Path, largest_gap: float = LARGEST_SLICE_GAP) -> Stack:
    """Read the headers of the CT series in a folder, or of the series in its folder that a file belongs to.

    Of several series in a folder the one with most slices counts. Other series, localizers, whatever is no CT image and
    slices that are there twice are left out, and the stack tells so. Raises `UserError` for a folder without one
    series that stands out, slices that do not fit each other, and gaps above `largest_gap` mm in an uneven stack.
    """
    folder = path if path.is_dir() else path.parent
    wanted = None if path.is_dir() else path
    remarks: list[str] = []
    datasets = _choose(path, _read_folder(folder, wanted, remarks), wanted, remarks)
    slices = [_slice(one, dataset) for one, dataset in datasets.items()]
    if len(slices) < 2:
        raise UserError(f"{path}: has {len(slices)} CT slice; a volume has two or more")
    first = slices[0]
    for one in slices:
        for name in ("size", "spacing", "orientation"):
            here, there = getattr(one, name), getattr(first, name)
            if not np.allclose(here, there, rtol=0, atol=HEADER_TOLERANCE):
                raise UserError(
                    f"{one.path}: {SLICE_FIELDS[name]} is {_plain(here)}, but {_plain(there)} in {first.path.name}"
                )
        if one.patient != first.patient:
            raise UserError(f"{one.path}: PatientID is another one than in {first.path.name}")
    normal = _normal(first)
    slices.sort(key=lambda one: float(one.position @ normal))
    slices = _without_twins(path, slices, normal, remarks)
    even = _check_spacing(path, slices, normal, largest_gap, remarks)
    return Stack(path, slices, even, tuple(remarks))


def planes(stack: Stack) -> Iterator[np.ndarray]:
    """Decode the slices of a stack one by one: slope times value plus intercept, each slice's own; float32."""
    return (_pixels(one) for one in stack.slices)


def is_dicom(path: Path) -> bool:
    """Say whether a file begins as a DICOM file does."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_header(path: Path, elements: Sequence[str]) -> pydicom.Dataset:
    """Read some elements of a DICOM file; raises `UserError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they show what the file holds
            # From memory: a damaged length makes pydicom ask for gigabytes, for which a file would be given room.
            dataset = pydicom.dcmread(io.BytesIO(path.read_bytes()), specific_tags=list(elements))
            for name in elements:
                dataset.get(name)  # values are decoded when they are asked for
            return dataset
    except InvalidDicomError as error:
        raise UserError(f"{path}: is not a DICOM file") from error
    except UNREADABLE as error:
        raise UserError(f"{path}: cannot be read as DICOM ({type(error).__name__}); is it complete?") from error


def _read_folder(folder: Path, wanted: Path | None, remarks: list[str]) -> dict[Path, pydicom.Dataset]:
    """Read the DICOM files of a folder. Files of another kind are left out unless they are called like the slices."""
    try:
        paths = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror})") from error
    paths = [path for path in paths if path.name != "DICOMDIR"]
    known = {path: is_dicom(path) for path in paths}
    endings = {path.suffix.lower() for path, dicom in known.items() if dicom}
    datasets = {}
    for path, dicom in known.items():
        if dicom or path.suffix.lower() in endings or path == wanted or not endings:
            try:
                datasets[path] = read_header(path, (*KIND, *GEOMETRY, *RESCALE, *PIXELS))
            except UserError as error:
                raise UserError(f"{error}; a folder holds slices that can all be read") from error
    others = len(paths) - len(datasets)
    if others:
        remarks.append(f"{others} of {len(paths)} files in the folder are no DICOM files: left out")
    return datasets


def _choose(
    path: Path, datasets: dict[Path, pydicom.Dataset], wanted: Path | None, remarks: list[str]
) -> dict[Path, pydicom.Dataset]:
    """Return the slices of one CT series: that of the file `wanted`, or the one with most slices."""
    reasons = {one: why_no_slice(dataset) for one, dataset in datasets.items()}
    slices = {one: dataset for one, dataset in datasets.items() if not reasons[one]}
    if wanted is not None and reasons.get(wanted):
        raise UserError(f"{wanted}: {reasons[wanted]}; accepted is a slice of a CT series")
    if not slices:
        first = next(iter(reasons.values()), "it holds no DICOM file")
        raise UserError(f"{path}: has 0 CT slices; {first}")
    left_out = Counter(reason for reason in reasons.values() if reason)
    remarks += [f"{count} DICOM file(s) left out: {reason}" for reason, count in sorted(left_out.items())]
    series = {one: str(dataset.get("SeriesInstanceUID", "")) for one, dataset in slices.items()}
    sizes = Counter(series.values())
    # Anonymisation may leave one identifier to each slice: only identifiers that group slices tell of several series.
    if len(sizes) == len(slices) > 2:
        return slices
    ranking = sizes.most_common()
    chosen = ranking[0][0] if wanted is None else series[wanted]
    if len(sizes) > 1 and wanted is None and ranking[0][1] == ranking[1][1]:
        raise UserError(
            f"{path}: holds {len(sizes)} CT series, and none has most slices; name a file of the series that counts"
        )
    if len(sizes) > 1:
        others = len(slices) - sizes[chosen]
        remarks.append(f"{others} slices of {len(sizes) - 1} other CT series in the folder left out")
    for one, reason in reasons.items():
        if reason and reason != LOCALIZER and str(datasets[one].get("SeriesInstanceUID", "")) == chosen:
            raise UserError(f"{one}: {reason}; it belongs to the series of the slices")
    return {one: dataset for one, dataset in slices.items() if series[one] == chosen}


def why_no_slice(dataset: pydicom.Dataset) -> str:
    """Return why a DICOM object is no slice of a CT volume, or nothing."""
    try:
        modality = dataset.get("Modality")
        kind = pydicom.uid.UID(dataset.get("SOPClassUID") or CTImageStorage)  # anonymised ones may have none
        localizer = "LOCALIZER" in (dataset.get("ImageType") or ())
        frames = int(dataset.get("NumberOfFrames") or 1)
    except UNREADABLE:
        return "damaged: what it is cannot be read"
    if modality != "CT":
        return f"Modality is {_code(modality)}; accepted is CT"
    if localizer:
        return LOCALIZER
    if frames != 1:
        return "several frames in a file; accepted is one slice a file"
    if kind != CTImageStorage:
        known = kind.name if kind in pydicom.uid.UID_dictionary else "an object of an unknown kind"
        return f"{known}; accepted is {CTImageStorage.name}"
    return ""


def _slice(path: Path, dataset: pydicom.Dataset) -> Slice:
    """Return one DICOM file as a slice, and refuse what is not a plain one."""
    try:
        for name in (*GEOMETRY, *RESCALE):
            if dataset.get(name) in (None, ""):
                raise UserError(f"{path}: has no {name}; a CT slice needs it")
        if dataset.get("SamplesPerPixel", 1) != 1:
            raise UserError(f"{path}: holds colours; accepted is one grey value a pixel")
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
        raise UserError(f"{path}: PixelSpacing is {_plain(one.spacing)}; accepted are positive numbers of mm")
    along_row, along_column = np.split(one.orientation, 2)
    lengths = np.array([np.linalg.norm(along_row), np.linalg.norm(along_column), 1 + along_row @ along_column])
    if np.abs(lengths - 1).max() > HEADER_TOLERANCE:
        raise UserError(
            f"{path}: ImageOrientationPatient is {_plain(one.orientation)}; accepted are two perpendicular unit vectors"
        )
    return one


def _without_twins(path: Path, slices: list[Slice], normal: np.ndarray, remarks: list[str]) -> list[Slice]:
    """Leave out slices that are there twice, pixel by pixel; refuse different ones at one position."""
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
    """Say whether the stack is even; refuse it where slices lie aside of each other or a gap is too wide to bridge."""
    positions = np.array([one.position for one in slices])
    heights = positions @ normal
    steps = np.diff(heights)
    usual = float(np.median(steps))
    if np.linalg.norm(positions - np.linspace(positions[0], positions[-1], len(slices)), axis=1).max() <= (
        SPACING_TOLERANCE * usual
    ):
        return True
    # On the line from the first slice to the last, at the height of each.
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
            f"{path}: {gaps}; gaps of uneven slices are bridged up to {largest_gap:g} mm "
            "(preprocessing: largest_slice_gap)"
        )
    remarks.append(
        f"slices {steps.min():.3g} to {steps.max():.3g} mm apart: interpolated at their positions every {usual:.3g} mm"
    )
    return False


def _gap(slices: list[Slice], heights: np.ndarray, k: int, usual: float) -> str:
    """Tell what is missing between slices `k` and `k` + 1."""
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
            stored = one.dataset.pixel_array
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
    """Return the numbers of an element; there must be `count`, finite all."""
    numbers = np.atleast_1d(np.asarray(dataset[name].value, dtype=float))
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise UserError(f"{path}: {name} is {numbers.tolist()}; accepted: finite numbers, {count} of them")
    return numbers


def _code(value: Any) -> str:
    """Return a code such as CT as it is. In a damaged file any other element may stand in its place, even a name."""
    return str(value) if re.fullmatch(r"[A-Z]{2,16}", str(value or "")) else "unreadable" if value else "missing"


def _plain(numbers: Any) -> list[float]:
    return [float(number) for number in numbers]


# Masks ----------------------------------------------------------------------------------------------------------------


def read_drawn_mask(path: Path, stack: Stack, liver_values: Collection[int]) -> np.ndarray:
    """Read a DICOM segmentation or structure set drawn on `stack`: bool (slice, row, column).

    `liver_values` are numbers of segments, or of regions of interest; without any, all of a segmentation count, and
    the one of a structure set. Raises `UserError`.
    """
    modality = read_header(path, ("Modality",)).get("Modality")
    if modality == "SEG":
        return _read_segmentation(path, stack, liver_values)
    if modality == "RTSTRUCT":
        return _read_structures(path, stack, liver_values)
    raise UserError(f"{path}: Modality is {_code(modality)}; accepted for a mask are SEG and RTSTRUCT")


def write_segmentation(path: Path, stack: Stack, mask: np.ndarray) -> None:
    """Write a mask, bool (slice, row, column) on `stack`, as DICOM segmentation with one segment, the liver.

    Patient and study are those of the slices, as viewers need it. Raises `UserError` where the slices lack what the
    standard wants of them.
    """
    import highdicom
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom.sr.codedict import codes

    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=SOFTWARE, family=codes.DCM.ArtificialIntelligence, version=VERSION
    )
    liver = SegmentDescription(
        segment_number=1,
        segment_label="Liver",
        segmented_property_category=codes.SCT.Organ,
        segmented_property_type=codes.SCT.Liver,
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            segmentation = Segmentation(
                source_images=[_whole_header(one.path) for one in stack.slices],
                pixel_array=mask.astype(np.uint8),
                segmentation_type="BINARY",
                segment_descriptions=[liver],
                series_instance_uid=highdicom.UID(),
                series_number=SERIES_NUMBER,
                sop_instance_uid=highdicom.UID(),
                instance_number=1,
                manufacturer=SOFTWARE,
                manufacturer_model_name=SOFTWARE,
                software_versions=VERSION,
                device_serial_number="1",
                omit_empty_frames=bool(mask.any()),
            )
            with files.replacing(path) as temporary:
                segmentation.save_as(temporary)
    except UNREADABLE as error:
        raise UserError(
            f"{stack.path}: no DICOM segmentation can be written for it ({type(error).__name__}: {one_line(error)}); "
            "the standard wants more elements in its slices"
        ) from error


def _whole_header(path: Path) -> pydicom.Dataset:
    """Read all of a slice but its pixels; an anonymised one that does not say so is said to be a CT image."""
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    dataset.SOPClassUID = dataset.get("SOPClassUID") or CTImageStorage
    return dataset


def _read_segmentation(path: Path, stack: Stack, liver_values: Collection[int]) -> np.ndarray:
    """Read the frames of a segmentation, each onto the slice at its position; slices without a frame are empty."""
    import highdicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            segmentation = highdicom.seg.segread(io.BytesIO(path.read_bytes()))
            known = set(segmentation.segment_numbers)
            _known(path, "segment", known, liver_values)
            frames = int(segmentation.NumberOfFrames)
            if frames > 64 * len(stack.slices):
                raise UserError(f"{path}: has {frames} frames for {len(stack.slices)} slices")
            size = (int(segmentation.Rows), int(segmentation.Columns))
            if size != stack.slices[0].size:
                raise UserError(f"{path}: has {size} pixels a frame, but its image has {stack.slices[0].size}")
            pixels = segmentation.pixel_array.reshape(frames, *size)
            kind = str(segmentation.SegmentationType)
            shared = segmentation.SharedFunctionalGroupsSequence[0]
            mask = np.zeros(stack.shape, bool)
            chosen = set(liver_values) or known
            for frame, own in zip(pixels, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
                k = _slice_of_frame(path, stack, own, shared)
                if kind == "LABELMAP":
                    mask[k] |= np.isin(frame, sorted(chosen))
                elif int(_group(own, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber) in chosen:
                    mask[k] |= frame > (int(segmentation.MaximumFractionalValue) / 2 if kind == "FRACTIONAL" else 0)
    except UNREADABLE as error:
        raise UserError(f"{path}: cannot be read as DICOM segmentation ({type(error).__name__})") from error
    return mask


def _slice_of_frame(path: Path, stack: Stack, own: pydicom.Dataset, shared: pydicom.Dataset) -> int:
    """Return the slice that a frame of a segmentation lies on, to within `GRID_TOLERANCE`."""
    position = np.array(_group(own, shared, "PlanePositionSequence").ImagePositionPatient, dtype=float)
    orientation = np.array(_group(own, shared, "PlaneOrientationSequence").ImageOrientationPatient, dtype=float)
    spacing = np.array(_group(own, shared, "PixelMeasuresSequence").PixelSpacing, dtype=float)
    one = stack.slices[0]
    k = stack.nearest(float(position @ stack.normal))
    reach = np.array(one.size) * np.abs(spacing - one.spacing)  # over the whole frame
    turned = np.abs(orientation - one.orientation).max() * max(one.size) * spacing.max()
    off = max(np.linalg.norm(position - stack.positions[k]), reach.max(), turned)
    if not off < GRID_TOLERANCE * one.spacing.min():
        raise UserError(
            f"{path}: the mask is not on the grid of its image; a frame lies at {_plain(position)} mm with pixels of "
            f"{_plain(spacing)} mm, the nearest slice at {_plain(stack.positions[k])} mm with {_plain(one.spacing)} mm"
        )
    return k


def _group(own: pydicom.Dataset, shared: pydicom.Dataset, name: str) -> pydicom.Dataset:
    """Return an item of the functional groups of a frame, its own or that of all frames."""
    return (own if name in own else shared)[name].value[0]


def _read_structures(path: Path, stack: Stack, liver_values: Collection[int]) -> np.ndarray:
    """Fill the contours of a structure set: pixels whose centre lies within; contours within others are holes."""
    mask = np.zeros(stack.shape, bool)
    elements = ("StructureSetROISequence", "ROIContourSequence")
    structures = read_header(path, elements)
    try:
        regions = {
            int(item.ReferencedROINumber): item.get("ContourSequence") or []
            for item in structures.get("ROIContourSequence") or []
        }
        _known(path, "region of interest", set(regions), liver_values)
        if not liver_values and len(regions) != 1:
            raise UserError(f"{path}: has {len(regions)} regions of interest; liver_values must say which are liver")
        to_index = np.linalg.inv(REVERSE @ stack.slice_grid(0).affine @ REVERSE)  # x, y, z in mm → column, row, any
        for number, contours in regions.items():
            for contour in contours if not liver_values or number in liver_values else []:
                if contour.ContourGeometricType not in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"):
                    raise UserError(f"{path}: a contour is {contour.ContourGeometricType}; accepted is CLOSED_PLANAR")
                points = np.asarray(contour.ContourData, dtype=float).reshape(-1, 3)
                if len(points) < 3 or not np.isfinite(points).all():
                    raise UserError(f"{path}: a contour has {len(points)} points; accepted are three or more, finite")
                heights = points @ stack.normal
                k = stack.nearest(float(heights.mean()))
                thickness = stack.slice_grid(k).spacing[0]
                off = float(np.abs(heights - stack.heights[k]).max())
                if off > thickness / 2:
                    raise UserError(
                        f"{path}: the contour at {heights.mean():.3f} mm along the normal is {off:.3f} mm off any slice"
                    )
                own = to_index[:3, :3] @ (points - stack.positions[k]).T
                mask[k] ^= _filled(own[:2].T, stack.slices[0].size)
    except UNREADABLE as error:
        raise UserError(f"{path}: cannot be read as DICOM structure set ({type(error).__name__})") from error
    return mask


def _filled(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the pixels (row, column) whose centre lies within a polygon of points (column, row) in pixels."""
    mask = np.zeros(size, bool)
    low = np.clip(np.floor(points.min(axis=0)), 0, np.array(size[::-1]) - 1).astype(int)
    high = np.clip(np.ceil(points.max(axis=0)), 0, np.array(size[::-1]) - 1).astype(int)
    columns, rows = np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1)
    centres = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
    inside = Polygon(np.vstack([points, points[:1]])).contains_points(centres)
    mask[low[1] : high[1] + 1, low[0] : high[0] + 1] = inside.reshape(len(rows), len(columns))
    return mask


def _known(path: Path, kind: str, known: Collection[int], wanted: Collection[int]) -> None:
    """Refuse numbers that nobody declared."""
    missing = sorted(set(wanted) - set(known))
    if missing:
        raise UserError(
            f"{path}: has no {kind} {missing[0]}; it has {', '.join(map(str, sorted(known)))}, see liver_values"
        )
