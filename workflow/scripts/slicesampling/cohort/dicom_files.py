"""Files of DICOM: what is read of them, and which of a folder are the slices of one CT series."""

import io
import logging
import re
import struct
import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    LegacyConvertedEnhancedCTImageStorage,
    MediaStorageDirectoryStorage,
)

from .. import UserError
from .folders import files_under
from .kinds import begins_data_set, is_dicom

for _name in ("pydicom", "highdicom"):  # what they log may quote the file
    logging.getLogger(_name).setLevel(logging.CRITICAL)

GEOMETRY = ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient")
NO_KIND = "Modality is missing; accepted is CT"
DAMAGED = "damaged: what it is cannot be read"
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
FRAMES = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
"""Where enhanced CT, a file of many slices, has the geometry and rescale parameters of each."""
ENHANCED = (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
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


def read_dataset(path: Path, **options: Any) -> pydicom.Dataset:
    """Read a DICOM file, or a bare data set, from memory; raises what pydicom does.

    A damaged length makes pydicom ask for gigabytes, for which a file would be given room.
    """
    content = path.read_bytes()
    dataset = pydicom.dcmread(io.BytesIO(content), force=begins_data_set(content[:512]), **options)
    if "TransferSyntaxUID" not in dataset.file_meta and dataset.original_encoding[1]:
        implicit = dataset.original_encoding[0]
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    return dataset


def read_header(path: Path, elements: Sequence[str]) -> pydicom.Dataset:
    """Read some elements of a DICOM file; raises `UserError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they show what the file holds
            dataset = read_dataset(path, specific_tags=list(elements))
            for name in elements:
                dataset.get(name)  # values are decoded when they are asked for
            return dataset
    except InvalidDicomError as error:
        raise UserError(f"{path}: is not a DICOM file") from error
    except UNREADABLE as error:
        raise UserError(f"{path}: cannot be read as DICOM ({type(error).__name__}); is it complete?") from error


def read_folder(folder: Path, wanted: Path | None, remarks: list[str]) -> dict[Path, pydicom.Dataset]:
    """Read the DICOM files of a folder, or of those in it where it holds nothing but folders.

    Files of another kind are left out unless they are called like the slices.
    """
    try:
        paths = sorted(p for p in folder.iterdir() if p.is_file() and _may_be_slice(p))
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror})") from error
    if not paths and wanted is None:
        paths = list(filter(_may_be_slice, files_under(folder)))
    known = {path: is_dicom(path) for path in paths}
    endings = {path.suffix.lower() for path, dicom in known.items() if dicom}
    datasets = {}
    for path, dicom in known.items():
        if dicom or path.suffix.lower() in endings or path == wanted or not endings:
            try:
                datasets[path] = read_header(path, (*KIND, *GEOMETRY, *RESCALE, *FRAMES, *PIXELS))
            except UserError as error:
                raise UserError(f"{error}; a folder holds slices that can all be read") from error
    others = len(paths) - len(datasets)
    if others:
        remarks.append(f"{others} of {len(paths)} files in the folder are no DICOM files: left out")
    return datasets


def _may_be_slice(path: Path) -> bool:
    """Say whether a file is neither hidden nor the index of a medium."""
    return not path.name.startswith(".") and path.name.upper() != "DICOMDIR"


def choose_series(
    path: Path, datasets: dict[Path, pydicom.Dataset], wanted: Path | None, remarks: list[str]
) -> dict[Path, pydicom.Dataset]:
    """Return the slices of one CT series: that of the file `wanted`, or the one with most slices."""
    reasons = {one: why_no_slice(dataset) for one, dataset in datasets.items()}
    _refuse_cut_files(datasets, reasons)
    slices = {one: dataset for one, dataset in datasets.items() if not reasons[one]}
    if wanted is not None and reasons.get(wanted):
        raise UserError(f"{wanted}: {reasons[wanted]}; accepted is a slice of a CT series")
    if not slices:
        ranked = Counter(reasons.values()).most_common(1)
        raise UserError(f"{path}: has 0 CT slices; {ranked[0][0] if ranked else 'it holds no DICOM file'}")
    left_out = Counter(reason for reason in reasons.values() if reason)
    remarks += [f"{count} DICOM file(s) left out: {reason}" for reason, count in sorted(left_out.items())]
    series = {one: str(dataset.get("SeriesInstanceUID", "")) for one, dataset in slices.items()}
    sizes: Counter[str] = Counter()
    for one, dataset in slices.items():
        sizes[series[one]] += frames_in(dataset)
    # Anonymisation may leave one identifier to each slice: only identifiers that group slices tell of several series.
    if len(sizes) == len(slices) == sizes.total() > 2:
        return slices
    ranking = sizes.most_common()
    chosen = ranking[0][0] if wanted is None else series[wanted]
    if len(sizes) > 1 and wanted is None and ranking[0][1] == ranking[1][1]:
        raise UserError(
            f"{path}: holds {len(sizes)} CT series, and none has most slices; name a file of the series that counts"
        )
    if len(sizes) > 1:
        others = sizes.total() - sizes[chosen]
        remarks.append(f"{others} slices of {len(sizes) - 1} other CT series in the folder left out")
    for one, reason in reasons.items():
        if reason and reason != LOCALIZER and str(datasets[one].get("SeriesInstanceUID", "")) == chosen:
            raise UserError(f"{one}: {reason}; it belongs to the series of the slices")
    return {one: dataset for one, dataset in slices.items() if series[one] == chosen}


def _refuse_cut_files(datasets: dict[Path, pydicom.Dataset], reasons: dict[Path, str]) -> None:
    """Refuse files that end before they say what they are, and CT slices that end before their pixels.

    Left out, they would be bridged: the slices that they hold would be interpolated, or be missing at an end.
    """
    for one, reason in reasons.items():
        if reason in (NO_KIND, DAMAGED) or (not reason and "PixelData" not in datasets[one]):
            raise UserError(
                f"{one}: {reason or 'has no pixels'}; is the file complete? A folder holds slices that can all be read"
            )


def why_no_slice(dataset: pydicom.Dataset) -> str:
    """Return why a DICOM object is no slice of a CT volume, or nothing."""
    try:
        modality = dataset.get("Modality")
        # Anonymised ones may have none. A warning of an odd one would show what the file holds.
        kind = pydicom.uid.UID(dataset.get("SOPClassUID") or CTImageStorage, pydicom.config.IGNORE)
        localizer = "LOCALIZER" in (dataset.get("ImageType") or ())
        frames = frames_in(dataset)
    except UNREADABLE:
        return DAMAGED
    if kind == MediaStorageDirectoryStorage:
        return "the index of a medium (DICOMDIR)"
    if not modality:
        return NO_KIND
    if modality != "CT" and kind in (CTImageStorage, *ENHANCED) and "SeriesInstanceUID" not in dataset:
        return DAMAGED  # cut off in the middle of this word
    if modality != "CT":
        return f"Modality is {code(modality)}; accepted is CT"
    if localizer:
        return LOCALIZER
    if kind in ENHANCED:
        return ""
    if frames != 1:
        return "several frames in a file that is no enhanced CT; accepted is one slice a file"
    if kind != CTImageStorage:
        known = kind.name if kind in pydicom.uid.UID_dictionary else "an object of an unknown kind"
        return f"{known}; accepted is {CTImageStorage.name}"
    return ""


def frames_in(dataset: pydicom.Dataset) -> int:
    """Return how many slices a file holds."""
    return int(dataset.get("NumberOfFrames") or 1)


def known_numbers(path: Path, kind: str, known: Collection[int], wanted: Collection[int]) -> None:
    """Raise `UserError` where numbers of segments or regions are wanted that a mask does not declare."""
    missing = sorted(set(wanted) - set(known))
    if missing:
        raise UserError(
            f"{path}: has no {kind} {missing[0]}; it has {', '.join(map(str, sorted(known)))}, see liver_values"
        )


def code(value: Any) -> str:
    """Return a code such as CT as it is. In a damaged file any other element may stand in its place, even a name."""
    return str(value) if re.fullmatch(r"[A-Z]{2,16}", str(value or "")) else "unreadable" if value else "missing"
