"""DICOM files: the elements that are read, and the slices of one CT series in a folder."""

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

for _name in ("pydicom", "highdicom"):  # their log messages may quote the file
    logging.getLogger(_name).setLevel(logging.CRITICAL)

GEOMETRY = ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient")
NO_KIND = "Modality is missing; accepted is CT"
DAMAGED = "damaged: its kind cannot be read"
LOCALIZER = "a localizer"
"""The reason for which a slice may be left out although it belongs to the CT series."""

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
"""The sequences of an enhanced CT, a file of many slices, with the geometry and rescale parameters of each."""
ENHANCED = (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
KIND = ("SOPClassUID", "SOPInstanceUID", "Modality", "ImageType", "SeriesInstanceUID", "InstanceNumber", "PatientID")
"""The only elements that are read of a CT slice, so that no others can get into a log."""

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
"""The errors that pydicom, its decoders and highdicom raise for invalid bytes."""


def read_dataset(path: Path, **options: Any) -> pydicom.Dataset:
    """Read a DICOM file, or a bare data set, from memory; raise the errors of pydicom.

    From a file, pydicom would allocate gigabytes for a damaged length.
    """
    content = path.read_bytes()
    dataset = pydicom.dcmread(io.BytesIO(content), force=begins_data_set(content[:512]), **options)
    if "TransferSyntaxUID" not in dataset.file_meta and dataset.original_encoding[1]:
        implicit = dataset.original_encoding[0]
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    return dataset


def read_header(path: Path, elements: Sequence[str]) -> pydicom.Dataset:
    """Read some elements of a DICOM file; raise `UserError` if it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings quote the file
            dataset = read_dataset(path, specific_tags=list(elements))
            for name in elements:
                dataset.get(name)  # values are decoded on access
            return dataset
    except InvalidDicomError as error:
        raise UserError(f"{path}: is not a DICOM file") from error
    except UNREADABLE as error:
        raise UserError(f"{path}: cannot be read as DICOM ({type(error).__name__}); is it complete?") from error


def read_folder(folder: Path, wanted: Path | None, remarks: list[str]) -> dict[Path, pydicom.Dataset]:
    """Read the DICOM files of a folder, or of its subfolders if it holds only folders.

    Files of another kind are left out unless they have the suffix of the slices.
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
                raise UserError(f"{error}; all slices of a folder must be readable") from error
    others = len(paths) - len(datasets)
    if others:
        remarks.append(f"{others} of {len(paths)} files in the folder are not DICOM files: left out")
    return datasets


def _may_be_slice(path: Path) -> bool:
    """Return whether a file is neither hidden nor the index of a medium."""
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
    # Anonymisation may give each slice its own series identifier: only identifiers that group slices indicate series.
    if len(sizes) == len(slices) == sizes.total() > 2:
        return slices
    ranking = sizes.most_common()
    chosen = ranking[0][0] if wanted is None else series[wanted]
    if len(sizes) > 1 and wanted is None and ranking[0][1] == ranking[1][1]:
        raise UserError(
            f"{path}: holds {len(sizes)} CT series, and none has most slices; name a file of the series to use"
        )
    if len(sizes) > 1:
        others = sizes.total() - sizes[chosen]
        remarks.append(f"{others} slices of {len(sizes) - 1} other CT series in the folder left out")
    for one, reason in reasons.items():
        if reason and reason != LOCALIZER and str(datasets[one].get("SeriesInstanceUID", "")) == chosen:
            raise UserError(f"{one}: {reason}; it belongs to the series of the slices")
    return {one: dataset for one, dataset in slices.items() if series[one] == chosen}


def _refuse_cut_files(datasets: dict[Path, pydicom.Dataset], reasons: dict[Path, str]) -> None:
    """Reject truncated files by name: files without a readable kind, and CT slices without pixels.

    If they were left out, their slices would be interpolated, or be missing at an end.
    """
    for one, reason in reasons.items():
        if reason in (NO_KIND, DAMAGED) or (not reason and "PixelData" not in datasets[one]):
            raise UserError(
                f"{one}: {reason or 'has no pixels'}; is the file complete? All slices of a folder must be readable"
            )


def why_no_slice(dataset: pydicom.Dataset) -> str:
    """Return the reason why a DICOM object is not a slice of a CT volume, or an empty text."""
    try:
        modality = dataset.get("Modality")
        # Anonymised files may have no class. A warning about an invalid one would quote the file.
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
        return DAMAGED  # truncated within the element
    if modality != "CT":
        return f"Modality is {code(modality)}; accepted is CT"
    if localizer:
        return LOCALIZER
    if kind in ENHANCED:
        return ""
    if frames != 1:
        return "several frames in a file that is not an enhanced CT; accepted is one slice per file"
    if kind != CTImageStorage:
        known = kind.name if kind in pydicom.uid.UID_dictionary else "an object of an unknown kind"
        return f"{known}; accepted is {CTImageStorage.name}"
    return ""


def frames_in(dataset: pydicom.Dataset) -> int:
    """Return the number of slices in a file."""
    return int(dataset.get("NumberOfFrames") or 1)


def known_numbers(path: Path, kind: str, known: Collection[int], wanted: Collection[int]) -> None:
    """Raise `UserError` if a mask does not declare all `wanted` numbers of segments or regions."""
    missing = sorted(set(wanted) - set(known))
    if missing:
        raise UserError(
            f"{path}: has no {kind} {missing[0]}; it has {', '.join(map(str, sorted(known)))}, see liver_values"
        )


def code(value: Any) -> str:
    """Return a code such as CT, or a placeholder: in a damaged file, its value may be any text, even a name."""
    return str(value) if re.fullmatch(r"[A-Z]{2,16}", str(value or "")) else "unreadable" if value else "missing"
