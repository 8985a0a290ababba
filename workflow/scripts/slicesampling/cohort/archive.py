"""DICOM archives: CT series and their masks, whatever the folders are called."""

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
    (`_beside`); of several series in a folder it belongs to the one on whose grid it lies. A series needs
    `FEWEST_SLICES` slices in a folder (`_homes`); localizers and other objects are left out. Volumes and patients are
    numbered in order of the paths: no name or number of a patient is taken over.
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
    """A file of a CT series. instance: its own identifier, or its path; frames: how many slices it holds."""

    path: Path
    patient: str
    instance: str
    frames: int


Series = Mapping[str, Sequence[_Object]]
"""The files of each CT series of an archive, by its identifier."""


@dataclass
class _Files:
    """The DICOM files of an archive, each where it belongs.

    drawn: the labels of the masks that name a series, by its identifier. taken: how many masks have parts of these
    names that are the structure. odd: how many files of a folder are no slices, by folder and reason. left_out: files
    that cannot be read and masks without the structure, a line each.
    """

    series: dict[str, list[_Object]] = field(default_factory=dict)
    drawn: dict[str, list[Label]] = field(default_factory=dict)
    taken: Counter[str] = field(default_factory=Counter)
    odd: Counter[tuple[str, str]] = field(default_factory=Counter)
    left_out: list[str] = field(default_factory=list)


def _sorted_files(root: Path, structure: str) -> _Files:
    """Look at the header of each DICOM file under a folder."""
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
    """Add a DICOM mask to the series that it names, if it has a part that is `structure`."""
    names = _names(header)
    parts = chosen_parts(names, structure)
    if not parts.structure:
        there = ", ".join(names.values()) or "none"
        found.left_out.append(f"{path}: no segment or region is called {structure}; there are: {there}")
        return
    line = ", ".join(names[number] for number in parts.structure)
    if parts.tumours:
        line += f"; where it touches: {', '.join(names[number] for number in parts.tumours)}"
    found.taken[line] += 1
    for uid in _referenced_series(header):
        found.drawn.setdefault(uid, []).append(Label.single(path, parts.structure, parts.tumours))


def _add_object(found: _Files, path: Path, header: Dataset) -> None:
    """Add a DICOM file that is no mask to its series, or to what is odd."""
    reason = why_no_slice(header)
    uid, patient = str(header.get("SeriesInstanceUID", "")), str(header.get("PatientID") or "")
    if reason:
        found.odd[str(path.parent), reason] += 1
    else:
        instance = str(header.get("SOPInstanceUID") or path)
        found.series.setdefault(uid, []).append(_Object(path, patient, instance, frames_in(header)))


def _with_mask(uid: str, series: Series, drawn: Sequence[Label], structure: str, decided: list[str]) -> Case:
    """Return a series with the one mask that belongs to it: `drawn` on it, or beside it.

    `decided` gets what has to be told. Raises `UserError` where there is no such mask, or more than one.
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
        decided.append(f"{folder}: {len(objects) - slices} slices of its series are there twice, and count once")
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
    """Return those mask files of a folder with several series that lie on the grid of one of these, and of no other.

    first: a file of the series. `decided` gets a line on the mask. Raises `UserError` where one lies on others as well.
    """
    masks = [path for path in paths if _lies_on(path, first)]
    firsts = [objects[0].path for key, objects in series.items() if key != uid and folder in _homes(key, series)]
    rivals = [other.name for other in firsts for path in masks if _lies_on(path, other)]
    if rivals:
        raise UserError(f"{first}: {masks[0].name} fits its series and that of {rivals[0]}; accepted: one")
    decided += [f"{path}: fits the series of {first.name} alone of those in the folder" for path in masks[:1]]
    return masks


def _homes(uid: str, series: Series) -> list[Path]:
    """Return the folders that hold all slices of a series, and can be read as such: several, if it is there twice.

    One that is spread over folders lies in the folder of these, if that holds no file and no other series has as many
    slices there.
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
    """Say whether a mask file lies on the grid of the series that a DICOM file belongs to."""
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
    """Return the mask files in a series' folder, or beside it under its name; of these those called like the structure.

    A name says that it is a mask's by words like seg; a file with no word beside the folder's name counts if it holds
    labels. Names that go on otherwise belong to other series, or are images.
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
