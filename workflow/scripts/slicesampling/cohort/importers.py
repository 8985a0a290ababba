"""Importers for the layouts of published data sets: they find volumes and their masks (section III-A).

An importer finds the files of its layout under a folder. It opens volumes only if the layout does not show whether they
hold a liver. Files that it cannot use are listed with the reason.
"""

import csv
import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import UserError
from ..domain.labels import Label
from .archive import find_dicom
from .cases import Case, Found, Parts, chosen_parts
from .datasets import PUBLISHED, find_published
from .folders import files_under, natural
from .kinds import IMAGE_SUFFIXES, image_name
from .masks import label_is_empty
from .png import Stacking, write_volume

PLACEHOLDERS = ("volume", "patient", "site")

LITS_LIVER = (1, 2)
"""The values of liver in the masks of LiTS: the liver and its tumours."""


def find_lits(root: Path) -> Found:
    """Find `volume-N.nii[.gz]` with `segmentation-N.nii[.gz]`, in one folder or several."""
    images, labels = (_numbered(root, name) for name in ("volume", "segmentation"))
    cases = [
        Case(f"{number:03}", path, Label.single(labels[number], LITS_LIVER))
        for number, path in images.items()
        if number in labels
    ]
    left_out = [f"{path}: no segmentation-{number}" for number, path in images.items() if number not in labels]
    left_out += [f"{path}: no volume-{number}" for number, path in labels.items() if number not in images]
    return Found(cases, left_out)


def find_chaos(root: Path) -> Found:
    """Find the CT of the CHAOS challenge: `CT/ID/DICOM_anon` with one PNG per slice in `CT/ID/Ground`."""
    cases, left_out = [], []
    for folder in dict.fromkeys(path.parent for path in files_under(root) if path.parent.name == "DICOM_anon"):
        patient = folder.parent
        if patient.parent.name != "CT":
            continue  # the MR of the same challenge
        if (patient / "Ground").is_dir():
            cases.append(Case(_padded(patient.name), folder, Label.single(patient / "Ground")))
        else:
            left_out.append(f"{patient}: no folder Ground with masks")
    return Found(cases, left_out)


def find_ircadb(root: Path) -> Found:
    """Find the patients of 3D-IRCADb: `3Dircadb1.N` with `PATIENT_DICOM` and `MASKS_DICOM/liver`, unpacked."""
    cases, left_out = [], []
    for folder in dict.fromkeys(path.parent for path in files_under(root) if path.parent.name == "PATIENT_DICOM"):
        patient = next((one for one in folder.parents if re.fullmatch(r"3Dircadb\d\.\d+", one.name)), None)
        masks = [path.parent for path in files_under(patient) if path.parent.parts[-2:] == ("MASKS_DICOM", "liver")
                 ] if patient else []  # fmt: skip
        if patient is None:
            left_out.append(f"{folder}: is not in a folder such as 3Dircadb1.7")
        elif not masks:
            left_out.append(f"{patient}: no folder MASKS_DICOM/liver")
        else:
            cases.append(Case(_padded(patient.name.rpartition(".")[2]), folder, Label.single(masks[0])))
    cite = "please cite Soler et al. 2010, 3D-IRCADb, https://www.ircad.fr/research/data-sets/"
    return Found(cases, left_out, (cite, "LiTS holds these scans, as its numbers 28 to 47") if cases else ())


def find_decathlon(root: Path, structure: str = "liver") -> Found:
    """Find the training cases that `dataset.json` of a Medical Segmentation Decathlon task lists."""
    about = _dataset(root)
    modality = about.get("modality") or {}
    if set(map(str.upper, map(str, modality.values()))) - {"CT"}:
        raise UserError(f"{root / 'dataset.json'}: modality is {modality}; accepted: CT, or none")
    parts, decided = _structure_values(
        {str(name): int(value) for value, name in about["labels"].items()}, structure, root
    )
    cases, left_out = [], []
    for entry in about.get("training", []):
        image, label = (root / entry[kind] for kind in ("image", "label"))
        missing = [str(path) for path in (image, label) if not path.exists()]
        if missing:
            left_out.append(f"{missing[0]}: dataset.json lists it, but there is no such file")
        else:
            name = _padded(image_name(image).rpartition("_")[2])
            cases.append(Case(name, image, Label.single(label, parts.structure, parts.tumours)))
    left_out += [f"{path}: dataset.json gives no mask (test case)" for path in about.get("test", [])]
    return Found(cases, left_out, decided)


def find_nnunet(root: Path, structure: str = "liver") -> Found:
    """Find the cases of an nnU-Net raw folder: `imagesTr` with `labelsTr`; `imagesTs` with `labelsTs` are for testing.

    Versions 1 and 2 of `dataset.json` are read. Of several channels the one named CT is used.
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
    parts, decided = _structure_values(by_name, structure, root)
    ending = about.get("file_ending", ".nii.gz")
    cases, left_out = [], []
    for folder, split in (("Tr", ""), ("Ts", "test")):
        for image in sorted((root / f"images{folder}").glob(f"*_{int(ct[0]):04}{ending}")):
            name = image.name.removesuffix(f"_{int(ct[0]):04}{ending}")
            label = root / f"labels{folder}" / f"{name}{ending}"
            if label.exists():
                cases.append(Case(name, image, Label.single(label, parts.structure, parts.tumours), split))
            else:
                left_out.append(f"{image}: no mask {label.name} in labels{folder}")
    return Found(cases, left_out, decided)


def find_totalsegmentator(root: Path, structure: str = "liver") -> Found:
    """Find one folder per case with `ct.nii.gz` and `segmentations/liver.nii.gz`; splits are those of `meta.csv`.

    Cases with an empty mask are left out; many show another part of the body.
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
            cases.append(Case(name, image, Label.single(label), splits.get(name, "")))
    return Found(cases, left_out)


def find_pairs(root: Path, image: str, label: str = "") -> Found:
    """Find pairs of files under `root` by their patterns, such as "{patient}/{volume}_ct.nrrd".

    Placeholders are {volume}, {patient} and {site}; both patterns need {volume}. A `*` matches any text within one
    name. Without `label`, all images are pool volumes for people to annotate.
    """
    if not label:
        return Found([_named(names, path, None, "pool") for path, names in _by_pattern(root, image).values()], [])
    images, labels = (_by_pattern(root, pattern) for pattern in (image, label))
    cases = [_named(names, path, labels[key][0]) for key, (path, names) in images.items() if key in labels]
    left_out = [f"{path}: no file for {label}" for key, (path, _) in images.items() if key not in labels]
    left_out += [f"{path}: no file for {image}" for key, (path, _) in labels.items() if key not in images]
    return Found(cases, left_out)


def find_png(root: Path, image: str, label: str, volumes: Path, stacking: Stacking) -> Found:
    """Write the stacks of PNG slices under `root` as NIfTI files in the folder `volumes`, and return these.

    `image` and `label` are patterns of folders, such as "{volume}/ct", see `find_pairs`. PNG files have no geometry,
    which `stacking` provides. Faulty stacks are left out.
    """
    images = _by_pattern(root, image, folders=True)
    labels = _by_pattern(root, label, folders=True) if label else {}
    cases, left_out = [], []
    for key, (path, names) in images.items():
        if label and key not in labels:
            left_out.append(f"{path}: no folder for {label}")
            continue
        try:
            mask = labels[key][0] if label else None
            written = write_volume(volumes / path.relative_to(root).as_posix().replace("/", "_"), path, mask, stacking)
        except UserError as error:
            left_out.append(str(error))
            continue
        cases.append(_named(names, *written, split="" if label else "pool"))
    left_out += [f"{path}: no folder for {image}" for key, (path, _) in labels.items() if key not in images]
    low, high = stacking.window
    steps = (high - low) / (stacking.white or np.iinfo(np.uint8).max)
    decided = (
        f"{len(cases)} volumes are written in {volumes}, in steps of {steps:.2g} HU from {low:g} to {high:g} HU",
    )
    return Found(cases, left_out, decided if cases else ())


LAYOUTS: dict[str, Callable[..., Found]] = {
    "lits": find_lits,
    "chaos": find_chaos,
    "ircadb": find_ircadb,
    "decathlon": find_decathlon,
    "nnunet": find_nnunet,
    "totalsegmentator": find_totalsegmentator,
    "dicom": find_dicom,
    "pairs": find_pairs,
    "png": find_png,
}
LAYOUTS |= {name: partial(find_published, name, pairs=find_pairs) for name in PUBLISHED}


def _numbered(root: Path, name: str) -> dict[int, Path]:
    """Return the NIfTI files named `name`-N under `root` by N."""
    found: dict[int, Path] = {}
    for path in sorted(files_under(root), key=lambda path: natural(path.name)):
        match = re.fullmatch(rf"{name}-(\d+)\.nii(\.gz)?", path.name)
        if match:
            number = int(match[1])
            if number in found:
                raise UserError(f"{path}: exists twice, also as {found[number]}; keep one")
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


def _structure_values(labels: Mapping[str, Any], structure: str, root: Path) -> tuple[Parts, tuple[str, ...]]:
    """Return the values of `structure` and of tumours that belong to it if they touch it, and a line on both.

    labels: name → value or list of values.
    """
    names = list(labels)
    parts = chosen_parts(dict(enumerate(names)), structure)
    if not parts.structure:
        raise UserError(f"{root / 'dataset.json'}: labels are {', '.join(labels)}; none is called {structure}")
    values, tumours = (
        {int(value) for k in chosen for value in np.atleast_1d(labels[names[k]]).tolist()} for chosen in parts
    )
    line = f"taken as {structure}: {', '.join(names[k] for k in parts.structure)}"
    if tumours - values:
        line += f"; where it touches: {', '.join(names[k] for k in parts.tumours)}"
    return Parts(sorted(values), sorted(tumours - values)), (line,)


def _by_pattern(root: Path, pattern: str, folders: bool = False) -> dict[tuple[str, ...], tuple[Path, dict[str, str]]]:
    """Return the files, or the folders, under `root` that match `pattern`, by the values of its placeholders."""
    names = re.findall(r"\{(\w*)\}", pattern)
    unknown = [name for name in names if name not in PLACEHOLDERS]
    if unknown or names.count("volume") != 1 or len(names) != len(set(names)):
        raise UserError(
            f"pattern {pattern}: accepted are {{volume}}, once, and {{patient}}, {{site}}, at most once each"
        )
    if not folders and not pattern.endswith(IMAGE_SUFFIXES):
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
        if match and (path.is_dir() if folders else path.is_file()):
            values = match.groupdict()
            key = tuple(values.get(name, "") for name in PLACEHOLDERS)
            if key in found:
                raise UserError(f"{path}: matches {pattern} with the same names as {found[key][0]}")
            found[key] = (path, values)
    return found


def _named(names: Mapping[str, str], image: Path, mask: Path | None, split: str = "") -> Case:
    """Return the case of an image and its mask, with the values of a pattern's placeholders."""
    label = None if mask is None else Label.single(mask)
    return Case(names["volume"], image, label, split, names.get("patient", ""), names.get("site", ""))


def _padded(name: str) -> str:
    """Return a number with three digits, so that names sort like numbers; return other names unchanged."""
    return f"{int(name):03}" if name.isdigit() else name
