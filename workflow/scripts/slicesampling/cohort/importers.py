"""The layouts in which data sets are published: the volumes in them and the mask of each (section III-A).

An importer looks for the files of its layout under a folder and opens no volume but where the layout leaves it open
whether there is a liver. What it finds and cannot use it lists with the reason.
"""

import csv
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydicom import Dataset

from .. import UserError
from .dicom_files import KIND, UNREADABLE, read_header, why_no_slice
from .kinds import IMAGE_SUFFIXES, is_dicom
from .masks import holds_labels, label_is_empty, natural

TUMOUR_NAMES = re.compile(r"tumou?r|cancer|lesion|metasta", re.IGNORECASE)
"""Labels that lie inside the organ and count as part of it, as the paper counts the tumours of LiTS as liver."""

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

MASK_WORDS = frozenset(
    ("seg", "segmentation", "mask", "masks", "label", "labels", "labelmap", "gt", "groundtruth", "ground", "truth")
)
"""Words by which the name of a file says that it holds a mask."""

PLACEHOLDERS = ("volume", "patient", "site")


class Case(NamedTuple):
    """One volume with its mask, None where people annotate it.

    liver_values: as in the cohort table; split, patient, site: empty where not given.
    """

    name: str
    image: Path
    label: Path | None
    liver_values: str = ""
    split: str = ""
    patient: str = ""
    site: str = ""


class Found(NamedTuple):
    """What an importer found: cases to use, and what it left out with the reason, a line each."""

    cases: list[Case]
    left_out: list[str]


def find_lits(root: Path) -> Found:
    """Find `volume-N.nii[.gz]` with `segmentation-N.nii[.gz]`, in one folder or several (liver 1, tumour 2)."""
    images, labels = (_numbered(root, name) for name in ("volume", "segmentation"))
    cases = [Case(f"{number:03}", path, labels[number], "1,2") for number, path in images.items() if number in labels]
    left_out = [f"{path}: no segmentation-{number}" for number, path in images.items() if number not in labels]
    left_out += [f"{path}: no volume-{number}" for number, path in labels.items() if number not in images]
    return Found(cases, left_out)


def find_chaos(root: Path) -> Found:
    """Find the CT of the CHAOS challenge: `CT/ID/DICOM_anon` with one PNG a slice in `CT/ID/Ground`."""
    cases, left_out = [], []
    for folder in sorted(root.rglob("DICOM_anon"), key=lambda path: natural(str(path))):
        patient = folder.parent
        if patient.parent.name != "CT":
            continue  # the MR of the same challenge
        if (patient / "Ground").is_dir():
            cases.append(Case(_padded(patient.name), folder, patient / "Ground"))
        else:
            left_out.append(f"{patient}: no folder Ground with masks")
    return Found(cases, left_out)


def find_decathlon(root: Path, structure: str = "liver") -> Found:
    """Find the training cases that `dataset.json` of a Medical Segmentation Decathlon task lists."""
    about = _dataset(root)
    values = _structure_values({str(name): int(value) for value, name in about["labels"].items()}, structure, root)
    cases, left_out = [], []
    for entry in about.get("training", []):
        image, label = (root / entry[kind] for kind in ("image", "label"))
        missing = [str(path) for path in (image, label) if not path.exists()]
        if missing:
            left_out.append(f"{missing[0]}: dataset.json lists it, but there is no such file")
        else:
            cases.append(Case(_padded(_stem(image).rpartition("_")[2]), image, label, values))
    left_out += [f"{path}: dataset.json gives no mask (test case)" for path in about.get("test", [])]
    return Found(cases, left_out)


def find_nnunet(root: Path, structure: str = "liver") -> Found:
    """Find the cases of an nnU-Net raw folder: `imagesTr` with `labelsTr`; `imagesTs` with `labelsTs` are for testing.

    Version 1 and 2 of `dataset.json` are read. Of several channels the one named CT counts.
    """
    about = _dataset(root)
    channels = about.get("channel_names") or about.get("modality") or {}
    ct = [number for number, name in channels.items() if str(name).upper() == "CT"]
    if len(ct) != 1:
        raise UserError(f"{root / 'dataset.json'}: channels are {channels}; accepted: exactly one that is called CT")
    labels = about["labels"]
    by_name = {str(name): value for name, value in labels.items()}
    if all(str(name).isdigit() for name in labels):  # version 1: value → name
        by_name = {str(name): int(value) for value, name in labels.items()}
    values = _structure_values(by_name, structure, root)
    ending = about.get("file_ending", ".nii.gz")
    cases, left_out = [], []
    for folder, split in (("Tr", ""), ("Ts", "test")):
        for image in sorted((root / f"images{folder}").glob(f"*_{int(ct[0]):04}{ending}")):
            name = image.name.removesuffix(f"_{int(ct[0]):04}{ending}")
            label = root / f"labels{folder}" / f"{name}{ending}"
            if label.exists():
                cases.append(Case(name, image, label, values, split))
            else:
                left_out.append(f"{image}: no mask {label.name} in labels{folder}")
    return Found(cases, left_out)


def find_totalsegmentator(root: Path, structure: str = "liver") -> Found:
    """Find a folder a case with `ct.nii.gz` and `segmentations/liver.nii.gz`; splits as `meta.csv` has them.

    Cases whose mask is empty are left out: many show another part of the body.
    """
    meta = root / "meta.csv"
    splits = {}
    if meta.exists():
        with meta.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter=";"))
        names = {"train": "pool", "val": "val", "test": "test"}
        splits = {row.get("image_id", ""): names.get(row.get("split", ""), "") for row in rows}
    cases, left_out = [], []
    for image in sorted(root.glob("*/ct.nii.gz")):
        name, label = image.parent.name, image.parent / "segmentations" / f"{structure}.nii.gz"
        if not label.exists():
            left_out.append(f"{image.parent}: no segmentations/{structure}.nii.gz")
        elif label_is_empty(label):
            left_out.append(f"{label}: the mask is empty")
        else:
            cases.append(Case(name, image, label, "", splits.get(name, "")))
    return Found(cases, left_out)


def find_pairs(root: Path, image: str, label: str = "") -> Found:
    """Find pairs of files under `root` by a pattern each, such as "{patient}/{volume}_ct.nrrd".

    Placeholders are {volume}, {patient} and {site}; {volume} must stand in both. A `*` is anything within one name.
    Without `label`, all images are pool volumes that people annotate.
    """
    if not label:
        found = _by_pattern(root, image).values()
        cases = [
            Case(
                names["volume"], path, None, split="pool", patient=names.get("patient", ""), site=names.get("site", "")
            )
            for path, names in found
        ]
        return Found(cases, [])
    images, labels = (_by_pattern(root, pattern) for pattern in (image, label))
    cases = [
        Case(names["volume"], path, labels[key][0], patient=names.get("patient", ""), site=names.get("site", ""))
        for key, (path, names) in images.items()
        if key in labels
    ]
    left_out = [f"{path}: no file for {label}" for key, (path, _) in images.items() if key not in labels]
    left_out += [f"{path}: no file for {image}" for key, (path, _) in labels.items() if key not in images]
    return Found(cases, left_out)


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
    for path in _files(root):
        if not is_dicom(path):
            continue
        try:
            header = read_header(path, (*KIND, *MASK_ELEMENTS))
            modality = header.get("Modality")
            if modality in ("SEG", "RTSTRUCT"):
                values = ",".join(map(str, _named_parts(header, structure)))
                if not values:
                    left_out.append(f"{path}: no segment or region is called {structure}")
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
    patients = {patient: k for k, patient in enumerate(dict.fromkeys(case[3] for case in found if case[3]), start=1)}
    cases = []
    for number, (image, label, values, patient) in enumerate(found, start=1):
        person = f"patient{patients[patient]:03}" if patient else ""
        cases.append(Case(f"{number:03}", image, label, values, patient=person))
    return Found(cases, left_out)


LAYOUTS: dict[str, Callable[..., Found]] = {
    "lits": find_lits,
    "chaos": find_chaos,
    "decathlon": find_decathlon,
    "nnunet": find_nnunet,
    "totalsegmentator": find_totalsegmentator,
    "dicom": find_dicom,
    "pairs": find_pairs,
}


class _Object(NamedTuple):
    path: Path
    patient: str


def _files(root: Path) -> list[Path]:
    """Return all files under `root`, in natural order; links to folders are not followed, so that none is met twice."""
    found = [Path(folder) / name for folder, _, names in os.walk(root) for name in names]
    return sorted((path for path in found if path.is_file()), key=lambda path: natural(str(path)))


def _named_parts(header: Dataset, structure: str) -> list[int]:
    """Return the numbers of the segments or regions of `structure`, and of the tumours in it."""
    parts = {int(item.SegmentNumber): str(item.SegmentLabel) for item in header.get("SegmentSequence") or []}
    parts |= {int(item.ROINumber): str(item.ROIName) for item in header.get("StructureSetROISequence") or []}
    organ = [number for number, name in parts.items() if name.strip().lower() == structure.lower()]
    return sorted([*organ, *(n for n, name in parts.items() if TUMOUR_NAMES.search(name))]) if organ else []


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
    for path in sorted([*folder.iterdir(), *folder.parent.iterdir()]):
        if not path.is_file() or not path.name.endswith(IMAGE_SUFFIXES):
            continue
        stem = path.name.removesuffix(".gz").rpartition(".")[0]
        rest = stem.removeprefix(folder.name)
        if path.parent != folder and (not stem.startswith(folder.name) or rest[:1].isalnum()):
            continue
        words = set(re.findall(r"[a-z]+|[0-9]+", rest.lower()))
        known = words & (MASK_WORDS | {structure.lower()})
        if words and (not known or (path.parent != folder and words != known)):
            continue
        if structure.lower() in words or known or holds_labels(path):
            found.setdefault(0 if structure.lower() in words else 1 if known else 2, []).append(path)
    return found[min(found)] if found else []


def _numbered(root: Path, name: str) -> dict[int, Path]:
    """Return the NIfTI files called `name`-N under `root` by N."""
    found: dict[int, Path] = {}
    for path in sorted(root.rglob(f"{name}-*.nii*"), key=lambda path: natural(path.name)):
        match = re.fullmatch(rf"{name}-(\d+)\.nii(\.gz)?", path.name)
        if match and path.is_file():
            number = int(match[1])
            if number in found:
                raise UserError(f"{path}: is there twice, also as {found[number]}; keep one")
            found[number] = path
    return found


def _dataset(root: Path) -> dict[str, Any]:
    """Read `dataset.json` of `root`."""
    path = root / "dataset.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; the layout needs it") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(about, dict) or not isinstance(about.get("labels"), dict):
        raise UserError(f"{path}: has no table of labels")
    return about


def _structure_values(labels: Mapping[str, Any], structure: str, root: Path) -> str:
    """Return the values, as text, of `structure` and of the tumours in it. `labels`: name → value or list of values."""
    chosen: set[int] = set()
    for name, value in labels.items():
        if name.lower() == structure.lower() or (
            TUMOUR_NAMES.search(name) and any(other.lower() == structure.lower() for other in labels)
        ):
            chosen |= set(value) if isinstance(value, list) else {int(value)}
    if not chosen:
        raise UserError(f"{root / 'dataset.json'}: labels are {', '.join(labels)}; none is called {structure}")
    return ",".join(map(str, sorted(chosen)))


def _by_pattern(root: Path, pattern: str) -> dict[tuple[str, ...], tuple[Path, dict[str, str]]]:
    """Return the files under `root` that fit `pattern`, by the values of its placeholders."""
    names = re.findall(r"\{(\w*)\}", pattern)
    unknown = [name for name in names if name not in PLACEHOLDERS]
    if unknown or names.count("volume") != 1 or len(names) != len(set(names)):
        raise UserError(
            f"pattern {pattern}: accepted are {{volume}}, once, and {{patient}}, {{site}}, at most once each"
        )
    if not pattern.endswith(IMAGE_SUFFIXES):
        raise UserError(
            f"pattern {pattern}: unknown format; accepted are names that end in {', '.join(IMAGE_SUFFIXES)}"
        )
    parts = re.split(r"(\{\w+\}|\*)", pattern)
    text = "".join(
        "[^/]*" if part == "*" else f"(?P<{part[1:-1]}>[^/]+)" if part.startswith("{") else re.escape(part)
        for part in parts
    )
    found: dict[tuple[str, ...], tuple[Path, dict[str, str]]] = {}
    for path in sorted(root.glob(re.sub(r"\{\w+\}", "*", pattern)), key=lambda path: natural(str(path))):
        match = re.fullmatch(text, path.relative_to(root).as_posix())
        if match and path.is_file():
            values = match.groupdict()
            key = tuple(values.get(name, "") for name in PLACEHOLDERS)
            if key in found:
                raise UserError(f"{path}: fits {pattern} with the same names as {found[key][0]}")
            found[key] = (path, values)
    return found


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")


def _padded(name: str) -> str:
    """Return a number with three digits, so that names sort as numbers do; other names as they are."""
    return f"{int(name):03}" if name.isdigit() else name
