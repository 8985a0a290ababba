"""What is annotated as a data set for nnU-Net, and nnU-Net's own word on it where it is installed."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from commands import typed
from conftest import ROOT
from rounds import ellipsoid, scan
from slicesampling import NOT_ANNOTATED, UserError
from slicesampling.answers.nnunet_export import FOLDS, export_dataset
from slicesampling.cohort.grids import Grid
from slicesampling.cohort.nnunet_dataset import Fingerprint
from slicesampling.cohort.volumes import Preprocessed, save_preprocessed
from slicesampling.domain.records import write_table
from slicesampling.evaluation.metrics import segmentation_metrics

SHAPE, SPACING = (14, 32, 36), (3.0, 1.5, 1.5)
SPLITS = {"a.1": "pool", "b": "pool", "c": "pool", "v": "val", "t": "test"}
SLICES = {"a.1": [0, 5, 6, 13], "b": [7]}
"""Annotated: also ends of a stack without structure, and one slice alone."""
PLANNER = shutil.which("nnUNetv2_plan_and_preprocess")


def structure(volume: str) -> np.ndarray:
    return ellipsoid(SHAPE, 0.02 * list(SPLITS).index(volume))


def make_run(folder: Path) -> Path:
    """Write the results of a run, as far as the export reads them."""
    grid = Grid(SHAPE, np.diag([*SPACING, 1]))
    for volume in SPLITS:
        mask = structure(volume)
        preprocessed = Preprocessed(scan(SHAPE), mask.astype(np.uint8), grid, grid, mask)
        save_preprocessed(folder / "results/preprocessed/shard0" / volume, preprocessed)
    cohort = pd.DataFrame({"volume": list(SPLITS), "split": list(SPLITS.values()), "exclude": ""})
    write_table(folder / "results/cohort/cohort.tsv", cohort)
    rows = [(volume, index, 0, 1) for volume, indices in SLICES.items() for index in indices]
    ledger = pd.DataFrame(rows, columns=["volume", "slice", "iteration", "structure"])
    write_table(folder / "results/annotations/seed1/uss-1.tsv", ledger)
    return folder / "results"


def exported(folder: Path, **options: object) -> tuple[Path, str]:
    results = make_run(folder)
    said = export_dataset(folder / "nn", results, "uss-1", 1, folder / "annotations", **options)
    return folder / "nn/nnUNet_raw/Dataset500_Liver", said


def read(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj).T


def expected_label(volume: str) -> np.ndarray:
    label = np.full(SHAPE, NOT_ANNOTATED, np.uint8)
    for index in SLICES[volume]:
        label[index] = structure(volume)[index]
    return label


def test_annotated_slices_are_known_and_nothing_else(tmp_path: Path) -> None:
    data_set, said = exported(tmp_path)
    assert sorted(path.name for path in (data_set / "labelsTr").iterdir()) == ["a.1.nii", "b.nii", "v.nii"]
    for volume in SLICES:
        np.testing.assert_array_equal(read(data_set / f"labelsTr/{volume}.nii"), expected_label(volume))
    np.testing.assert_array_equal(read(data_set / "labelsTr/v.nii"), structure("v"))
    for folder, volumes in (("imagesTr", ["a.1", "b", "v"]), ("imagesTs", ["t"])):
        assert sorted(path.name for path in (data_set / folder).iterdir()) == [f"{v}_0000.nii" for v in volumes]
    np.testing.assert_array_equal(read(data_set / "imagesTr/b_0000.nii"), scan(SHAPE))
    about = json.loads((data_set / "dataset.json").read_text())
    assert about["labels"]["ignore"] == max(about["labels"].values()) == NOT_ANNOTATED
    assert about["numTraining"] == 3
    prepared = tmp_path / "nn/nnUNet_preprocessed/Dataset500_Liver"
    assert json.loads((prepared / "splits_final.json").read_text()) == [{"train": ["a.1", "b"], "val": ["v"]}] * FOLDS
    assert "5 annotated slices of 2 volumes, 1 volumes for validation" in said
    assert "-overwrite_target_spacing 3 1.5 1.5" in said


def test_answers_of_people_take_the_place_of_masks(tmp_path: Path) -> None:
    from slicesampling.answers.store import MASK, Answer, Answers, to_runs

    results, answers = make_run(tmp_path), Answers(tmp_path / "annotations")
    drawn = np.zeros(SHAPE[1:], bool)
    drawn[3:9, 4:8] = True
    answers.add(Answer("uss-1", "b", 7, "Anna", MASK, drawn.shape, to_runs(drawn), 9, "", "", "empty", 24, ""))
    answers.close("uss-1")
    export_dataset(tmp_path / "nn", results, "uss-1", 1, tmp_path / "annotations")
    label = read(tmp_path / "nn/nnUNet_raw/Dataset500_Liver/labelsTr/b.nii")
    np.testing.assert_array_equal(label[7], drawn)
    assert (np.delete(label, 7, 0) == NOT_ANNOTATED).all()


def test_intensities_are_those_of_annotated_foreground(tmp_path: Path) -> None:
    """With one case it is numpy's word on its voxels; of two cases each has the same weight."""
    random = np.random.default_rng(0)
    image = random.integers(-1024, 3000, SHAPE).astype(np.int16)
    label = np.where(random.random(SHAPE) < 0.1, 1, NOT_ANNOTATED).astype(np.uint8)
    one = Fingerprint()
    one.add(image, label, SPACING)
    found, values = one.content()["foreground_intensity_properties_per_channel"]["0"], image[label == 1]
    assert found["mean"] == pytest.approx(values.mean())
    assert found["std"] == pytest.approx(values.std())
    assert (found["min"], found["max"]) == (values.min(), values.max())
    for name, percent in (("median", 50), ("percentile_00_5", 0.5), ("percentile_99_5", 99.5)):
        assert found[name] == np.percentile(values, percent, method="inverted_cdf")
    larger = np.concatenate([image + 7, image + 7])
    one.add(larger, np.concatenate([label, label]), SPACING)
    both = one.content()
    assert both["foreground_intensity_properties_per_channel"]["0"]["mean"] == pytest.approx(values.mean() + 3.5)
    assert both["shapes_after_crop"] == [[14, 32, 36], [28, 32, 36]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ledger": "uss-9"}, "there is no such ledger; seed 1 has uss-1"),
        ({"seed": 4}, "seed 4 has none"),
        ({"number": 7}, "--dataset 7: accepted are 500 to 999"),
    ],
)
def test_what_is_not_there_is_one_line(tmp_path: Path, change: dict[str, object], message: str) -> None:
    results = make_run(tmp_path)
    arguments = {"folder": tmp_path / "nn", "results": results, "ledger": "uss-1", "seed": 1, "answers": tmp_path / "x"}
    with pytest.raises(UserError, match=message):
        export_dataset(**arguments | change)
    assert not (tmp_path / "nn").exists()
    (tmp_path / "nn").mkdir()
    (tmp_path / "nn/drawing").touch()
    with pytest.raises(UserError, match="exists already"):
        export_dataset(**arguments)


def test_masks_of_others_are_evaluated_as_ours(tmp_path: Path) -> None:
    results, shifted = make_run(tmp_path), ellipsoid(SHAPE, 0.1)
    affine = nibabel.load(results / "preprocessed/shard0/t/image.nii").affine
    (tmp_path / "theirs").mkdir()
    nibabel.save(nibabel.Nifti1Image(shifted.T.astype(np.uint8), affine), tmp_path / "theirs/t.nii.gz")
    (tmp_path / "theirs/plans.json").touch()
    command: list[object] = [
        "evaluate",
        tmp_path / "theirs",
        "--results",
        results,
        "--to",
        tmp_path / "m.tsv",
    ]
    assert "1 volumes, mean dice 0." in typed(*command)
    table = pd.read_csv(tmp_path / "m.tsv", sep="\t").iloc[0]
    expected = segmentation_metrics(shifted, structure("t"), SPACING)._asdict()
    assert {name: table[name] for name in expected} == pytest.approx(expected)
    for content, message in ((3 * shifted, "holds 3; accepted are 0 and 1"), (shifted[:5], "is on neither grid")):
        nibabel.save(nibabel.Nifti1Image(content.T.astype(np.uint8), affine), tmp_path / "theirs/t.nii.gz")
        assert message in typed(*command, code=1)
    (tmp_path / "theirs/t.nii.gz").rename(tmp_path / "theirs/unknown.nii.gz")
    assert "has no volume unknown; it has a.1, b, c" in typed(*command, code=1)


READ = """
import sys, blosc2, numpy
print(sys.argv[1])
numpy.save(sys.argv[2], blosc2.open(sys.argv[1], mode="r")[:])
"""


@pytest.mark.slow
@pytest.mark.skipif(PLANNER is None, reason="nnU-Net is not installed: pip install '.[nnunet]'")
def test_nnunet_takes_the_slices_as_they_are_trains_and_is_evaluated(tmp_path: Path) -> None:
    """By the printed commands: after its own preprocessing, labels and their slices are those that were written."""
    assert PLANNER
    _, said = exported(tmp_path)
    commands = said[said.index("export") :].replace(" 0 1 2 3 4", " 0")
    for command in ("nnUNetv2_train", "nnUNetv2_predict"):
        end = ";" if command == "nnUNetv2_train" else "\n"
        at = (commands + "\n").index(end, commands.index(command))
        commands = f"{commands[:at]} -tr FewSteps -device cpu{commands[at:]}"
    commands = commands.replace("nnUNetv2_plan_and_preprocess", "nnUNetv2_plan_and_preprocess -npfp 1 -np 1")
    (tmp_path / "trainers").mkdir()  # nnU-Net imports all that lies there
    shutil.copy(ROOT / "tests/few_steps.py", tmp_path / "trainers")
    few = {
        "nnUNet_extTrainer": str(tmp_path / "trainers"),
        "nnUNet_compile": "F",
        "nnUNet_n_proc_DA": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        ["bash", "-e", "-c", commands], env=os.environ | few, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    prepared = tmp_path / "nn/nnUNet_preprocessed/Dataset500_Liver"
    for volume in ("a.1", "b", "v"):
        (path,) = prepared.glob(f"nnUNetPlans_3d_fullres/{volume}_seg.b2nd")
        there = Path(PLANNER).with_name("python")
        subprocess.run([there, "-c", READ, path, tmp_path / "seg.npy"], check=True, capture_output=True)
        expected = structure(volume) if volume == "v" else expected_label(volume)
        np.testing.assert_array_equal(np.load(tmp_path / "seg.npy")[0], expected)
    plans = json.loads((prepared / "nnUNetPlans.json").read_text())
    ours = json.loads((prepared / "dataset_fingerprint.json").read_text())[
        "foreground_intensity_properties_per_channel"
    ]
    assert plans["foreground_intensity_properties_per_channel"] == ours
    assert plans["configurations"]["3d_fullres"]["spacing"] == list(SPACING)

    command = ["evaluate", tmp_path / "nn/predicted", "--results", tmp_path / "results"]
    assert "1 volumes, mean dice" in typed(*command, "--to", tmp_path / "metrics.tsv")
