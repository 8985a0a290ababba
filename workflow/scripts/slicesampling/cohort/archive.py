"""DICOM archives: CT series and their masks in folders of any names."""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydicom import Dataset

from .. import UserError
from ..domain.labels import Label
from .cases import Case, Found, chosen_parts, numbered, structure_names
from .dicom import read_stack
from .dicom_files import KIND, UNREADABLE, frames_in, read_header, why_no_slice
from .folders import files_under, natural
from .formats import read_file
from .grids import upright
from .kinds import image_name, is_dicom
from .masks import holds_labels

FEWEST_SLICES = 10
"""The fewest slices of a series; shorter ones are test scans and single planes without a whole liver."""

MASK_ELEMENTS = (
    "NumberOfFrames",
    "SegmentSequence",
    "StructureSetROISequence",
    "ReferencedSeriesSequence",
    "ReferencedFrameOfReferenceSequence",
)
"""The elements of a DICOM object that describe its masks and the series that they are drawn on."""

WORD = r"[a-z]+|[0-9]+"
"""A word of a file's name in lower case."""

MASK_WORDS = frozenset(
    ("seg", "segmentation", "mask", "masks", "label", "labels", "labelmap", "gt", "groundtruth", "ground", "truth")
)
"""Words in the names of mask files."""


def find_dicom(root: Path, structure: str = "liver") -> Found:
    """Find the CT series with a mask in a DICOM archive, in folders of any names.

    A series is used if a DICOM segmentation or structure set refers to it and has a segment or region named
    `structure`, or if there is one NIfTI, NRRD or MetaImage mask file in its folder or, with the folder's name, beside
    it (`_beside`). Of several series in a folder, such a mask belongs to the one with the same grid. A series needs
    `FEWEST_SLICES` slices in a folder (`_homes`); localizers and other objects are left out. Volumes and patients are
    numbered in order of the paths; no name or number of a patient is kept.
    """
    found = _sorted_files(root, structure)
    left_out = list(found.left_out)
    left_out += [f"{folder}: {count} DICOM file(s): {reason}" for (folder, reason), count in found.odd.items()]
    decided = [f"taken as {structure}: {parts} ({count} masks)" for parts, count in found.taken.items()]
    cases = []
    for uid in found.series:
        try:
            cases.append(_with_mask(uid, found.series, found.drawn.get(uid, []), structure, decided))
        except UserError as error:
            left_out.append(str(error))
    cases.sort(key=lambda case: natural(str(case.image)))
    return Found(numbered(cases), left_out, tuple(decided))


class _Object(NamedTuple):
    """A file of a CT series. instance: its identifier, or its path; frames: its number of slices."""

    path: Path
    patient: str
    instance: str
    frames: int


Series = Mapping[str, Sequence[_Object]]
"""The files of each CT series of an archive, by its identifier."""


@dataclass
class _Files:
    """The DICOM files of an archive, by kind.

    series: the files of each CT series, by its identifier. drawn: the labels of masks that refer to a series, by its
    identifier. taken: the number of masks by the names of their parts that are the structure. odd: the number of files
    that are not slices, by folder and reason. left_out: unreadable files and masks without the structure, a line each.
    """

    series: dict[str, list[_Object]] = field(default_factory=dict)
    drawn: dict[str, list[Label]] = field(default_factory=dict)
    taken: Counter[str] = field(default_factory=Counter)
    odd: Counter[tuple[str, str]] = field(default_factory=Counter)
    left_out: list[str] = field(default_factory=list)


def _sorted_files(root: Path, structure: str) -> _Files:
    """Read the header of each DICOM file under a folder."""
    found = _Files()
    for path in filter(is_dicom, files_under(root)):
        try:
            header = read_header(path, (*KIND, *MASK_ELEMENTS))
            if header.get("Modality") in ("SEG", "RTSTRUCT"):
                _add_mask(found, path, header, structure)
            else:
                _add_object(found, path, header)
        except UserError as error:
            found.left_out.append(str(error))
        except UNREADABLE as error:
            found.left_out.append(f"{path}: cannot be read as DICOM ({type(error).__name__})")
    return found


def _add_mask(found: _Files, path: Path, header: Dataset, structure: str) -> None:
    """Add a DICOM mask to the series that it refers to, if it has a part that is `structure`."""
    names = _names(header)
    parts = chosen_parts(names, structure)
    if not parts.structure:
        there = ", ".join(names.values()) or "none"
        found.left_out.append(f"{path}: no segment or region is named {structure}; there are: {there}")
        return
    line = ", ".join(names[number] for number in parts.structure)
    if parts.tumours:
        line += f"; where it touches: {', '.join(names[number] for number in parts.tumours)}"
    found.taken[line] += 1
    for uid in _referenced_series(header):
        found.drawn.setdefault(uid, []).append(Label.single(path, parts.structure, parts.tumours))


def _add_object(found: _Files, path: Path, header: Dataset) -> None:
    """Add a DICOM file that is not a mask to its series, or to `odd`."""
    reason = why_no_slice(header)
    uid, patient = str(header.get("SeriesInstanceUID", "")), str(header.get("PatientID") or "")
    if reason:
        found.odd[str(path.parent), reason] += 1
    else:
        instance = str(header.get("SOPInstanceUID") or path)
        found.series.setdefault(uid, []).append(_Object(path, patient, instance, frames_in(header)))


def _with_mask(uid: str, series: Series, drawn: Sequence[Label], structure: str, decided: list[str]) -> Case:
    """Return a series with its one mask, `drawn` on it or beside it.

    Decisions are appended to `decided`. Raise `UserError` if there is no mask, or more than one.
    """
    objects = series[uid]
    slices = len({one.instance for one in objects})
    if max(slices, *(one.frames for one in objects)) < FEWEST_SLICES:
        raise UserError(f"{objects[0].path}: its series has {slices} slices; accepted are {FEWEST_SLICES} or more")
    homes = _homes(uid, series)
    if not homes:
        raise UserError(
            f"{objects[0].path}: the slices of its series lie in {len({one.path.parent for one in objects})} folders "
            "beside those of others; accepted is one folder, or folders in one that holds nothing else"
        )
    folder = next((home for home in homes if _beside(home, structure)), homes[0])
    first = next(one.path for one in objects if folder in one.path.parents)
    if len(objects) > slices:
        decided.append(f"{folder}: {len(objects) - slices} duplicate slices of its series count once")
    shared = any(one.path.parent == folder for key in series if key != uid for one in series[key])
    labels = list(drawn)
    if not labels:
        paths = _beside(folder, structure)
        if shared and paths:
            paths = _fitting(paths, uid, series, folder, first, decided)
        labels = [Label.single(path) for path in paths]
    if len(labels) != 1:
        names = ", ".join(one.path.name for label in labels for one in label.structures)
        named = f": {names}" if names else ""
        raise UserError(f"{first}: its series has {len(labels) or 'no'} masks of the {structure}{named}; accepted: one")
    return Case("", first if shared else folder, labels[0], patient=objects[0].patient)


def _fitting(
    paths: Sequence[Path], uid: str, series: Series, folder: Path, first: Path, decided: list[str]
) -> list[Path]:
    """Return the mask files of a folder with several series that are on the grid of this series and of no other.

    first: a file of the series. A line on the mask is appended to `decided`. Raise `UserError` if a mask is also on the
    grid of another series.
    """
    masks = [path for path in paths if _lies_on(path, first)]
    firsts = [objects[0].path for key, objects in series.items() if key != uid and folder in _homes(key, series)]
    rivals = [other.name for other in firsts for path in masks if _lies_on(path, other)]
    if rivals:
        raise UserError(f"{first}: {masks[0].name} fits its series and that of {rivals[0]}; accepted: one")
    decided += [f"{path}: fits the series of {first.name} alone of those in the folder" for path in masks[:1]]
    return masks


def _homes(uid: str, series: Series) -> list[Path]:
    """Return the folders from which a series can be read, because they hold all its slices; several if it exists twice.

    For a series spread over several folders, this is their common parent folder, if it holds no file and no other
    series has as many slices in it.
    """
    slices = {one.instance for one in series[uid]}
    folders = dict.fromkeys(one.path.parent for one in series[uid])
    whole = [folder for folder in folders
             if {one.instance for one in series[uid] if one.path.parent == folder} == slices]  # fmt: skip
    if whole:
        return whole
    above = Path(os.path.commonpath(list(folders)))
    if any(path.is_file() for path in above.iterdir()):
        return []
    within = {
        key: len({one.instance for one in objects if above in one.path.parents}) for key, objects in series.items()
    }
    return [above] if all(count < len(slices) for key, count in within.items() if key != uid) else []


def _lies_on(mask: Path, image: Path) -> bool:
    """Return whether a mask file is on the grid of the series of a DICOM file."""
    try:
        series, stored = read_stack(image).grid(), read_file(mask)
    except UserError:
        return False
    return upright(stored.values, stored.grid)[1].matches(upright(np.empty(series.shape, bool), series)[1])


def _names(header: Dataset) -> dict[int, str]:
    """Return the names of the segments or regions of a DICOM mask by their numbers."""
    names = {int(item.SegmentNumber): str(item.SegmentLabel) for item in header.get("SegmentSequence") or []}
    return names | {int(item.ROINumber): str(item.ROIName) for item in header.get("StructureSetROISequence") or []}


def _referenced_series(header: Dataset) -> set[str]:
    """Return the CT series that a segmentation or structure set is drawn on."""
    items = list(header.get("ReferencedSeriesSequence") or [])
    for frame in header.get("ReferencedFrameOfReferenceSequence") or []:
        for study in frame.get("RTReferencedStudySequence") or []:
            items += study.get("RTReferencedSeriesSequence") or []
    return {str(item.SeriesInstanceUID) for item in items}


def _beside(folder: Path, structure: str) -> list[Path]:
    """Return the mask files in a series' folder, or beside it with its name; prefer those named after the structure.

    Mask files have words like seg in their names; a file without further words beside the folder's name is a mask if it
    holds labels. Files with other words belong to other series, or are images.
    """
    found: dict[int, list[Path]] = {}
    wanted = {word for name in structure_names(structure) for word in re.findall(WORD, name)}
    for path in sorted([*folder.iterdir(), *folder.parent.iterdir()]):
        stem = image_name(path)
        if not stem or not path.is_file():
            continue
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
