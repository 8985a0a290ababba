"""What is annotated as a data set for nnU-Net (version 2), in which all other slices carry its ignore label.

    nnUNet_raw/DATASET/imagesTr, labelsTr        volumes with annotated slices, and those for validation
    nnUNet_raw/DATASET/imagesTs                  the test volumes
    nnUNet_raw/DATASET/dataset.json
    nnUNet_preprocessed/DATASET/splits_final.json, dataset_fingerprint.json

All volumes are on the preprocessed grid, and `commands` keeps nnU-Net from resampling them: between two slices that are
not annotated a single one would be thinned or lost. The fingerprint is ours because nnU-Net takes ignored voxels for
foreground in its intensity statistics (2.8.1); it keeps one that is there.
"""

import json
import os
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import NOT_ANNOTATED, STRUCTURE, UserError
from ..cohort.formats import gridded
from ..cohort.table import split_volumes
from ..cohort.volumes import all_volume_folders, load_preprocessed, sound
from ..jobs.files import replacing, require_new, write_text
from ..jobs.tsv import read_table
from .annotators import annotated_masks
from .ledger import annotated_slices

FOLDS = 5
"""Members of an ensemble. All have the same split: what is annotated to train, the validation volumes to validate."""

FIRST_DATASET = 500
"""Numbers of data sets below belong to published ones by nnU-Net's custom."""

CONFIGURATION = "3d_fullres"
"""Of nnU-Net, in the printed commands."""

LOWEST, HIGHEST = np.iinfo(np.int16).min, np.iinfo(np.int16).max
PERCENTILES = {"percentile_00_5": 0.5, "median": 50.0, "percentile_99_5": 99.5}


def export_dataset(
    folder: Path, results: Path, ledger: str, seed: int, answers: Path, number: int = FIRST_DATASET
) -> str:
    """Write the data set of a `ledger`, such as uss-5, of a run in the folder `results`; return what to type next.

    answers: the folder of people's answers, which are taken where they closed a round of this name. Raises UserError
    where `folder` holds anything, or the run has no such ledger or no validation volume.
    """
    require_new(folder)
    if not FIRST_DATASET <= number <= 999:
        raise UserError(f"--dataset {number}: accepted are {FIRST_DATASET} to 999")
    path = results / f"annotations/seed{seed}/{ledger}.tsv"
    if not path.exists():
        known = ", ".join(sorted(one.stem for one in path.parent.glob("*.tsv"))) or "none"
        raise UserError(f"{path}: there is no such ledger; seed {seed} has {known}")
    closed = answers / f"closed/{ledger}.tsv"
    mask_of = annotated_masks(answers, closed if closed.exists() else None)
    folders = all_volume_folders(results)
    cohort = pd.read_csv(results / "cohort/cohort.tsv", sep="\t", dtype=str, keep_default_na=False)
    validation = sound(split_volumes(cohort, "val"), folders)
    slices = annotated_slices(read_table(path))
    if not validation or not slices:
        raise UserError(
            f"{results}: {len(validation)} validation and {len(slices)} annotated volumes; accepted: 1 of each"
        )
    name = f"Dataset{number:03}_{STRUCTURE.capitalize()}"
    known_intensities = Fingerprint()
    with replacing(folder) as temporary:
        raw, preprocessed = (temporary / f"nnUNet_{kind}" / name for kind in ("raw", "preprocessed"))
        for kind in ("imagesTr", "labelsTr", "imagesTs"):
            (raw / kind).mkdir(parents=True)
        preprocessed.mkdir(parents=True)
        for volume in [*slices, *validation]:
            loaded = load_preprocessed(folders[volume])
            label = np.array(loaded.mask)
            if volume in slices:
                own = mask_of(volume, loaded.mask)
                label[:] = NOT_ANNOTATED
                label[slices[volume]] = own[slices[volume]]
            _link(folders[volume] / "image.nii", raw / f"imagesTr/{volume}_0000.nii")
            gridded(label, loaded.grid).to_filename(raw / f"labelsTr/{volume}.nii")
            known_intensities.add(loaded.image, label, loaded.grid.spacing)
        for volume in sound(split_volumes(cohort, "test"), folders):
            _link(folders[volume] / "image.nii", raw / f"imagesTs/{volume}_0000.nii")
        _write_json(raw / "dataset.json", description(name, ledger, seed, len(slices) + len(validation)))
        split = {"train": list(slices), "val": validation}
        _write_json(preprocessed / "splits_final.json", [split] * FOLDS)
        _write_json(preprocessed / "dataset_fingerprint.json", known_intensities.content())
        has_test = any((raw / "imagesTs").iterdir())
    count = sum(map(len, slices.values()))
    lines = [f"{folder}: {count} annotated slices of {len(slices)} volumes, {len(validation)} volumes for validation"]
    spacing = tuple(float(step) for step in load_preprocessed(folders[validation[0]]).grid.spacing)
    return "\n".join([*lines, "", *commands(folder, number, name, spacing, has_test)])


def description(name: str, ledger: str, seed: int, count: int) -> dict[str, Any]:
    """Return dataset.json, with the highest label as nnU-Net's ignore label."""
    return {
        "name": name,
        "description": f"{STRUCTURE}, slices annotated in {ledger} of seed {seed}; all others carry the ignore label",
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, STRUCTURE: 1, "ignore": NOT_ANNOTATED},
        "numTraining": count,
        "file_ending": ".nii",
        "overwrite_image_reader_writer": "SimpleITKIO",
    }


def commands(folder: Path, number: int, name: str, spacing: tuple[float, ...], has_test: bool) -> list[str]:
    """Return the lines to type to prepare the data set, train on it and predict; `spacing` (z, y, x) is kept."""
    where = folder.resolve()
    exports = [
        f"export nnUNet_{kind}={shlex.quote(str(where / f'nnUNet_{kind}'))}"
        for kind in ("raw", "preprocessed", "results")
    ]
    kept = " ".join(f"{step:g}" for step in spacing)
    images = shlex.quote(str(where / f"nnUNet_raw/{name}/imagesTs")) if has_test else "IMAGES"
    predicted = shlex.quote(str(where / "predicted"))
    members = " ".join(map(str, range(FOLDS)))
    return [
        *exports,
        f"nnUNetv2_plan_and_preprocess -d {number} -c {CONFIGURATION} -overwrite_target_spacing {kept}",
        f"for member in {members}; do nnUNetv2_train {number} {CONFIGURATION} $member; done",
        f"nnUNetv2_predict -d {number} -c {CONFIGURATION} -f {members} -i {images} -o {predicted}",
    ]


class Fingerprint:
    """What nnU-Net wants to know of its training volumes, with the intensities of annotated foreground alone.

    nnU-Net draws as many voxels of each case; here each case has the same weight, and nothing is drawn.
    """

    def __init__(self) -> None:
        self._shapes: list[list[int]] = []
        self._spacings: list[list[float]] = []
        self._shares = np.zeros(HIGHEST - LOWEST + 1)

    def add(self, image: np.ndarray, label: np.ndarray, spacing: Any) -> None:
        """Take a case into account: HU int16 and its label, (z, y, x), and the spacing (z, y, x) in mm."""
        self._shapes.append([int(n) for n in image.shape])
        self._spacings.append([float(step) for step in spacing])
        found = image[label == 1].astype(np.int64)
        if len(found):
            self._shares += np.bincount(found - LOWEST, minlength=len(self._shares)) / len(found)

    def content(self) -> dict[str, Any]:
        """Return dataset_fingerprint.json. Raises UserError where no annotated slice holds the structure."""
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


def _link(source: Path, target: Path) -> None:
    """Let `target` be the file `source`, which is only ever replaced as a whole; a copy on another disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=1) + "\n")
