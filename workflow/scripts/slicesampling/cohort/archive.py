"""DICOM archives: CT series and their masks, whatever the folders are called."""

import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from pydicom import Dataset

from .. import UserError
from .cases import Case, Found, chosen_parts, numbered, structure_names
from .dicom_files import KIND, UNREADABLE, read_header, why_no_slice
from .folders import files_under
from .kinds import IMAGE_SUFFIXES, is_dicom
from .masks import holds_labels, natural

FEWEST_SLICES = 10
"""Of a series of a DICOM archive: shorter ones are test scans and single planes, and hold no liver."""

MASK_ELEMENTS = (
    "NumberOfFrames",
    "SegmentSequence",
    "StructureSetROISequence",
    "ReferencedSeriesSequence",
    "ReferencedFrameOfReferenceSequence",
)
"""What a DICOM object says of the masks in it, and of the series that they are drawn on."""

WORD = r"[a-z]+|[0-9]+"
"""A word of a file's name in lower case."""

MASK_WORDS = frozenset(
    ("seg", "segmentation", "mask", "masks", "label", "labels", "labelmap", "gt", "groundtruth", "ground", "truth")
)
"""Words by which the name of a file says that it holds a mask."""


def find_dicom(root: Path, structure: str = "liver") -> Found:
    """Find the CT series of a DICOM archive, whatever its folders are called, that have a mask.

    A series is used where a DICOM segmentation or structure set names it and has a segment or region called
    `structure`, or where one NIfTI, NRRD or MetaImage file of a mask lies in its folder or, called like it, beside that
    (`_beside`). It needs `FEWEST_SLICES` slices in one folder; localizers and other objects are left out. Volumes and
    patients are numbered in order of the paths: no name or number of a patient is taken over.
    """
    series: dict[str, list[_Object]] = {}
    masks: dict[str, list[tuple[Path, str]]] = {}
    left_out: list[str] = []
    odd: Counter[tuple[str, str]] = Counter()
    taken: Counter[str] = Counter()
    for path in files_under(root):
        if not is_dicom(path):
            continue
        try:
            header = read_header(path, (*KIND, *MASK_ELEMENTS))
            modality = header.get("Modality")
            if modality in ("SEG", "RTSTRUCT"):
                parts = _parts(header)
                chosen = chosen_parts(parts, structure)
                values = ",".join(map(str, chosen))
                if values:
                    taken[", ".join(parts[number] for number in chosen)] += 1
                else:
                    there = ", ".join(parts.values()) or "none"
                    left_out.append(f"{path}: no segment or region is called {structure}; there are: {there}")
                for uid in _referenced_series(header) if values else ():
                    masks.setdefault(uid, []).append((path, values))
                continue
            reason = why_no_slice(header)
            uid, patient = str(header.get("SeriesInstanceUID", "")), str(header.get("PatientID") or "")
        except UserError as error:
            left_out.append(str(error))
            continue
        except UNREADABLE as error:
            left_out.append(f"{path}: cannot be read as DICOM ({type(error).__name__})")
            continue
        if reason:
            odd[str(path.parent), reason] += 1
        else:
            series.setdefault(uid, []).append(_Object(path, patient))
    left_out += [f"{folder}: {count} DICOM file(s): {reason}" for (folder, reason), count in odd.items()]

    in_folder = Counter(folder for objects in series.values() for folder in {one.path.parent for one in objects})
    found: list[tuple[Path, Path, str, str]] = []
    for uid, objects in series.items():
        folders = {one.path.parent for one in objects}
        first = objects[0].path
        if len(folders) > 1:
            left_out.append(f"{first}: the slices of its series lie in {len(folders)} folders; accepted is one")
        elif len(objects) < FEWEST_SLICES:
            left_out.append(f"{first}: its series has {len(objects)} slices; accepted are {FEWEST_SLICES} or more")
        else:
            alone = in_folder[first.parent] == 1
            drawn = masks.get(uid) or ([(path, "") for path in _beside(first.parent, structure)] if alone else [])
            if len(drawn) == 1:
                found.append((first.parent if alone else first, *drawn[0], objects[0].patient))
            else:
                names = f": {', '.join(path.name for path, _ in drawn)}" if drawn else ""
                left_out.append(
                    f"{first}: its series has {len(drawn) or 'no'} masks of the {structure}{names}; accepted: one"
                )
    found.sort(key=lambda case: natural(str(case[0])))
    cases = numbered([Case("", image, label, values, patient=patient) for image, label, values, patient in found])
    decided = tuple(f"taken as {structure}: {parts} ({count} masks)" for parts, count in taken.items())
    return Found(cases, left_out, decided)


class _Object(NamedTuple):
    path: Path
    patient: str


def _parts(header: Dataset) -> dict[int, str]:
    """Return the names of the segments or regions of a DICOM mask by their numbers."""
    parts = {int(item.SegmentNumber): str(item.SegmentLabel) for item in header.get("SegmentSequence") or []}
    return parts | {int(item.ROINumber): str(item.ROIName) for item in header.get("StructureSetROISequence") or []}


def _referenced_series(header: Dataset) -> set[str]:
    """Return the CT series that a segmentation or structure set is drawn on."""
    items = list(header.get("ReferencedSeriesSequence") or [])
    for frame in header.get("ReferencedFrameOfReferenceSequence") or []:
        for study in frame.get("RTReferencedStudySequence") or []:
            items += study.get("RTReferencedSeriesSequence") or []
    return {str(item.SeriesInstanceUID) for item in items}


def _beside(folder: Path, structure: str) -> list[Path]:
    """Return the mask files in a series' folder, or beside it under its name; of these those called like the structure.

    A name says that it is a mask's by words like seg; a file with no word beside the folder's name counts if it holds
    labels. Names that go on otherwise belong to other series, or are images.
    """
    found: dict[int, list[Path]] = {}
    wanted = {word for name in structure_names(structure) for word in re.findall(WORD, name)}
    for path in sorted([*folder.iterdir(), *folder.parent.iterdir()]):
        if not path.is_file() or not path.name.endswith(IMAGE_SUFFIXES):
            continue
        stem = path.name.removesuffix(".gz").rpartition(".")[0]
        rest = stem.removeprefix(folder.name)
        if path.parent != folder and (not stem.startswith(folder.name) or rest[:1].isalnum()):
            continue
        words = set(re.findall(WORD, rest.lower()))
        known = words & (MASK_WORDS | wanted)
        if words and (not known or (path.parent != folder and words != known)):
            continue
        if known or holds_labels(path):
            found.setdefault(0 if words & wanted else 1 if known else 2, []).append(path)
    return found[min(found)] if found else []
