"""Masks on the slices of a CT series: reading of DICOM segmentations and structure sets, writing of segmentations."""

import warnings
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import CTImageStorage, generate_uid

from .. import VERSION, UserError, one_line
from ..jobs import files
from .dicom import Stack, plain
from .dicom_files import GEOMETRY, PIXELS, UNREADABLE, code, frames_in, known_numbers, read_dataset, read_header
from .dicom_structures import read_structures
from .folders import files_under
from .grids import GRID_TOLERANCE
from .kinds import is_dicom

SOFTWARE = "slicesampling"
"""The manufacturer of written segmentations."""

SERIES_NUMBER = 9001
"""The series number of written segmentations, above those of scanners."""

MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"),
)
"""Elements that a slice must have but that may be empty (type 2 of the standard)."""


def read_drawn_mask(path: Path, stack: Stack, wanted: Collection[int], remarks: list[str]) -> np.ndarray:
    """Read a DICOM segmentation or structure set drawn on `stack`, onto its grid: bool (slice, row, column).

    wanted: numbers of segments or regions of interest; empty: all segments of a segmentation, or the only region of a
    structure set. remarks: a list to which omissions are appended. Raise `UserError` if the mask cannot be used.
    """
    modality = read_header(path, ("Modality",)).get("Modality")
    if modality == "SEG":
        return stack.evened(_read_segmentation(path, stack, wanted))
    if modality == "RTSTRUCT":
        return read_structures(path, stack, wanted, remarks)
    raise UserError(f"{path}: Modality is {code(modality)}; accepted for a mask are SEG and RTSTRUCT")


def write_segmentation(path: Path, stack: Stack, mask: np.ndarray) -> None:
    """Write a mask, bool (slice, row, column) on `stack`, as DICOM segmentation with one segment, the liver.

    Patient and study are those of the slices, as viewers require. Elements that the slices lack are empty if the
    standard allows it. Raise `UserError` if the slices lack other required elements.
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
            images, pixels = _sources(stack, mask)
            segmentation = Segmentation(
                source_images=images,
                pixel_array=pixels.astype(np.uint8),
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
            "its slices lack elements that the standard requires"
        ) from error


def read_mask_slices(folder: Path, stack: Stack) -> np.ndarray:
    """Read a mask stored as DICOM images, one per slice of `stack`, by their positions: (slice, row, column).

    3D-IRCADb stores its masks this way. The objects may be of any kind. Raise `UserError` if the images do not match
    the slices.
    """
    values = np.zeros(stack.shape, np.int32)
    filled: dict[int, Path] = {}
    for path in filter(is_dicom, files_under(folder)):
        dataset = read_header(path, (*GEOMETRY, *PIXELS))
        try:
            position = np.array(dataset.ImagePositionPatient, dtype=float)
            k = stack.nearest(float(position @ stack.normal))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                plane = dataset.pixel_array
        except UNREADABLE as error:
            raise UserError(f"{path}: cannot be read as a mask ({one_line(error)}); is it complete?") from error
        if not np.linalg.norm(position - stack.positions[k]) < GRID_TOLERANCE * stack.slices[k].spacing.min():
            raise UserError(
                f"{path}: lies at {plain(position)} mm, the nearest slice at {plain(stack.positions[k])} mm"
            )
        if plane.shape != stack.shape[1:]:
            raise UserError(f"{path}: has {plane.shape} pixels, but its image has {stack.shape[1:]}")
        if k in filled:
            raise UserError(f"{path}: lies on the slice of {filled[k].name}; there must be one per slice")
        values[k], filled[k] = plane, path
    if len(filled) < len(stack.slices):
        raise UserError(
            f"{folder}: {len(filled)} DICOM masks for {len(stack.slices)} slices; there must be one per slice, or a PNG"
        )
    return values


def _sources(stack: Stack, mask: np.ndarray) -> tuple[list[pydicom.Dataset], np.ndarray]:
    """Return the source images of a mask, and the mask in the order of their slices or frames."""
    paths = list(dict.fromkeys(one.path for one in stack.slices))
    if stack.slices[0].frame is None:
        return [_whole_header(path) for path in paths], mask
    headers = [_whole_header(path) for path in paths]
    if len(headers) > 1 or frames_in(headers[0]) != len(stack.slices):
        raise UserError(f"{stack.path}: no DICOM segmentation can be written for several enhanced CT at once")
    ordered = np.empty_like(mask)
    ordered[[one.frame or 0 for one in stack.slices]] = mask
    return headers, ordered


def _whole_header(path: Path) -> pydicom.Dataset:
    """Read a slice without its pixels, and add elements that anonymisation may have removed.

    A missing class is CT image. Elements that may be empty are added empty. A missing frame of reference is derived
    from the series, so that all its slices share the same one each time.
    """
    dataset = read_dataset(path, stop_before_pixels=True)
    dataset.SOPClassUID = dataset.get("SOPClassUID") or CTImageStorage
    for name in MAY_BE_EMPTY:
        if dataset.get(name) is None:
            setattr(dataset, name, "")
    if not dataset.get("FrameOfReferenceUID"):
        series = str(dataset.get("SeriesInstanceUID", ""))
        dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=["frame of reference", series])
    return dataset


def _read_segmentation(path: Path, stack: Stack, wanted: Collection[int]) -> np.ndarray:
    """Read the frames of a segmentation onto the slices at their positions; slices without a frame are empty."""
    import highdicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            segmentation = highdicom.seg.Segmentation.from_dataset(read_dataset(path), copy=False)
            known = set(segmentation.segment_numbers)
            known_numbers(path, "segment", known, wanted)
            frames = int(segmentation.NumberOfFrames)
            if frames > 64 * len(stack.slices):
                raise UserError(f"{path}: has {frames} frames for {len(stack.slices)} slices")
            size = (int(segmentation.Rows), int(segmentation.Columns))
            if size != stack.slices[0].size:
                raise UserError(f"{path}: has {size} pixels per frame, but its image has {stack.slices[0].size}")
            pixels = segmentation.pixel_array.reshape(frames, *size)
            kind = str(segmentation.SegmentationType)
            shared = segmentation.SharedFunctionalGroupsSequence[0]
            mask = np.zeros(stack.shape, bool)
            chosen = set(wanted) or known
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
    """Return the index of the slice of a segmentation's frame, within `GRID_TOLERANCE`."""
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
            f"{path}: the mask is not on the grid of its image; a frame lies at {plain(position)} mm with pixels of "
            f"{plain(spacing)} mm, the nearest slice at {plain(stack.positions[k])} mm with {plain(one.spacing)} mm"
        )
    return k


def _group(own: pydicom.Dataset, shared: pydicom.Dataset, name: str) -> pydicom.Dataset:
    """Return an item of a frame's functional groups, its own or the shared one."""
    return (own if name in own else shared)[name].value[0]
