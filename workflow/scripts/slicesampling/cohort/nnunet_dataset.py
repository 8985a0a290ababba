"""A data set for nnU-Net (version 2) from labelled volumes. Slices that are not annotated carry its ignore label.

    nnUNet_raw/DATASET/imagesTr, labelsTr        volumes with annotated slices, and those for validation
    nnUNet_raw/DATASET/imagesTs                  the test volumes
    nnUNet_raw/DATASET/dataset.json
    nnUNet_preprocessed/DATASET/splits_final.json, dataset_fingerprint.json

All volumes are on the preprocessed grid, which nnU-Net has to keep: resampling would thin or lose a single annotated
slice between slices that are not annotated. We write the fingerprint, because nnU-Net (2.8.1) counts ignored voxels as
foreground in its intensity statistics; it keeps an existing fingerprint.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import NOT_ANNOTATED, STRUCTURE, UserError
from ..jobs.files import link_or_copy, write_text
from .formats import gridded
from .volumes import load_preprocessed

NUMBER = 500
"""The default number of a data set; by convention, nnU-Net reserves smaller numbers for published data sets."""

CONFIGURATION = "3d_fullres"
"""The default configuration of nnU-Net."""

LOWEST, HIGHEST = np.iinfo(np.int16).min, np.iinfo(np.int16).max
PERCENTILES = {"percentile_00_5": 0.5, "median": 50.0, "percentile_99_5": 99.5}


class Labelled(NamedTuple):
    """A volume's name, its preprocessed folder, and its mask, uint8 (z, y, x), `NOT_ANNOTATED` where not annotated."""

    name: str
    folder: Path
    label: np.ndarray


def dataset_name(number: int) -> str:
    """Return the name of a data set in nnU-Net's format."""
    return f"Dataset{number:03}_{STRUCTURE.capitalize()}"


def partial_label(mask: np.ndarray, slices: np.ndarray) -> np.ndarray:
    """Return a mask (z, y, x) with only `slices` annotated."""
    label = np.full(mask.shape, NOT_ANNOTATED, np.uint8)
    label[slices] = mask[slices]
    return label


def write_dataset(
    folder: Path,
    name: str,
    about: str,
    training: Iterable[Labelled],
    validation: Iterable[Labelled],
    test: Mapping[str, Path],
    folds: int,
) -> tuple[float, ...]:
    """Write a data set into a folder, and return the spacing (z, y, x) in mm of its volumes.

    about: a sentence for dataset.json; test: volume → its preprocessed folder. All `folds` have the same split, so that
    their models form an ensemble. Images are hard links to those of the run if the file system allows it. Raise
    UserError if no annotated slice holds the structure.
    """
    raw, preprocessed = (folder / f"nnUNet_{kind}" / name for kind in ("raw", "preprocessed"))
    for kind in ("imagesTr", "labelsTr", "imagesTs"):
        (raw / kind).mkdir(parents=True)
    preprocessed.mkdir(parents=True)
    known_intensities = Fingerprint()
    split: dict[str, list[str]] = {}
    spacing: tuple[float, ...] = ()
    for part, volumes in (("train", training), ("val", validation)):
        split[part] = []
        for volume in volumes:
            split[part].append(volume.name)
            loaded = load_preprocessed(volume.folder)
            spacing = tuple(float(step) for step in loaded.grid.spacing)
            link_or_copy(volume.folder / "image.nii", raw / f"imagesTr/{volume.name}_0000.nii")
            gridded(volume.label, loaded.grid).to_filename(raw / f"labelsTr/{volume.name}.nii")
            known_intensities.add(loaded.image, volume.label, spacing)
    for volume_name, where in test.items():
        link_or_copy(where / "image.nii", raw / f"imagesTs/{volume_name}_0000.nii")
    _write_json(raw / "dataset.json", description(name, about, len(split["train"]) + len(split["val"])))
    _write_json(preprocessed / "splits_final.json", [split] * folds)
    _write_json(preprocessed / "dataset_fingerprint.json", known_intensities.content())
    return spacing


def description(name: str, about: str, count: int) -> dict[str, Any]:
    """Return dataset.json, with the highest label as nnU-Net's ignore label."""
    return {
        "name": name,
        "description": about,
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, STRUCTURE: 1, "ignore": NOT_ANNOTATED},
        "numTraining": count,
        "file_ending": ".nii",
        "overwrite_image_reader_writer": "SimpleITKIO",
    }


class Fingerprint:
    """nnU-Net's fingerprint of a data set, with intensities of annotated foreground only.

    nnU-Net draws the same number of voxels from each case; here all voxels count, with the same weight for each case.
    """

    def __init__(self) -> None:
        self._shapes: list[list[int]] = []
        self._spacings: list[list[float]] = []
        self._shares = np.zeros(HIGHEST - LOWEST + 1)

    def add(self, image: np.ndarray, label: np.ndarray, spacing: Any) -> None:
        """Add a case: int16 HU and its label, (z, y, x), and the spacing (z, y, x) in mm."""
        self._shapes.append([int(n) for n in image.shape])
        self._spacings.append([float(step) for step in spacing])
        found = image[label == 1].astype(np.int64)
        if len(found):
            self._shares += np.bincount(found - LOWEST, minlength=len(self._shares)) / len(found)

    def content(self) -> dict[str, Any]:
        """Return dataset_fingerprint.json. Raise UserError if no annotated slice holds the structure."""
        total = self._shares.sum()
        if not total:
            raise UserError(f"no annotated slice holds {STRUCTURE}; nnU-Net needs some to scale intensities")
        shares, values = self._shares / total, np.arange(LOWEST, HIGHEST + 1)
        present = values[shares > 0]
        mean = float(shares @ values)
        found = {"mean": mean, "std": float(np.sqrt(shares @ (values - mean) ** 2))}
        found |= {"min": float(present[0]), "max": float(present[-1])}
        below = np.cumsum(shares)
        for name, percent in PERCENTILES.items():
            found[name] = float(values[np.searchsorted(below, percent / 100 * (1 - 1e-12))])
        return {
            "spacings": self._spacings,
            "shapes_after_crop": self._shapes,
            "foreground_intensity_properties_per_channel": {"0": found},
            "median_relative_size_after_cropping": 1.0,
        }


def _write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=1) + "\n")
