"""Published data sets: each layout is found, with what is liver and whom to cite, and no scan is in two splits."""

import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from commands import COMMAND
from scans import grid_of, write_nifti
from slicesampling.cohort.contents import check_contents
from slicesampling.cohort.datasets import PUBLISHED
from slicesampling.cohort.importers import LAYOUTS
from slicesampling.cohort.table import read_cohort
from slicesampling.domain.labels import Label

SHAPE = (6, 12, 14)
GRID = grid_of(SHAPE, (2.5, 1, 1))
# name: files as the data set has them (image, mask), those that are not used, and the splits of the used ones
FILES = {
    "amos": (
        [("amos22/imagesTr/amos_0001", "amos22/labelsTr/amos_0001"),
         ("amos22/imagesVa/amos_0008", "amos22/labelsVa/amos_0008")],
        ["amos22/imagesTr/amos_0507", "amos22/imagesTs/amos_0009"],
        ["", "test"],
    ),
    "flare22": ([("images/FLARE22_Tr_0001_0000", "labels/FLARE22_Tr_0001")], ["images/FLARE22_Tr_0002_0000"], [""]),
    "flare23": (
        [("imagesTr2200/FLARE23_0001_0000", "labelsTr2200/FLARE23_0001")], ["imagesTr2200/FLARE23_0002_0000"], [""],
    ),
    "abdomenct1k": (
        [("AbdomenCT-1K-ImagePart1/Case_00001_0000", "Mask/Case_00001"),
         ("AbdomenCT-1K-ImagePart2/Case_00360_0000", "Mask/Case_00360")], [], ["", ""],
    ),
    "ctorg": ([("OrganSegmentations/volume-0", "OrganSegmentations/labels-0")], ["OrganSegmentations/volume-7"], [""]),
    "word": (
        [(f"WORD-V0.1.0/images{k}/word_{n}", f"WORD-V0.1.0/labels{k}/word_{n}")
         for k, n in (("Tr", "0002"), ("Val", "0001"), ("Ts", "0007"))], [], ["", "val", "test"],
    ),
    "btcv": ([("img/img0001", "label/label0001")], ["img/img0061"], [""]),
}  # fmt: skip


def write(root: Path, name: str) -> None:
    """Write the files of a data set: liver where its value says, beside another organ."""
    used, others, _ = FILES[name]
    random = np.random.default_rng(0)
    for image, label in [*used, *((image, "") for image in others)]:
        for file in filter(None, (image, label)):
            (root / file).parent.mkdir(parents=True, exist_ok=True)
        hu = random.integers(-1000, 300, SHAPE).astype(np.int16)
        write_nifti(root / f"{image}.nii.gz", hu, GRID)
        mask = np.zeros(SHAPE, np.uint8)
        mask[0:2], mask[3:5] = 3, PUBLISHED[name].liver
        if label:
            write_nifti(root / f"{label}.nii.gz", mask, GRID)


def command(*arguments: object, code: int = 0) -> str:
    line = [sys.executable, "-m", COMMAND, "import", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_all_are_here() -> None:
    assert FILES.keys() == PUBLISHED.keys()


@pytest.mark.parametrize("name", FILES)
def test_each_is_found_with_its_livers(tmp_path: Path, name: str) -> None:
    write(tmp_path / "data", name)
    used, _, splits = FILES[name]
    found = LAYOUTS[name](tmp_path / "data")
    files = [[tmp_path / f"data/{file}.nii.gz" for file in pair] for pair in used]
    labels = [(image, Label.single(mask, [PUBLISHED[name].liver])) for image, mask in files]
    assert len(found.cases) == len(labels)
    assert {(case.image, case.label) for case in found.cases} == set(labels)
    assert sorted(case.split for case in found.cases) == sorted(splits)
    output = command("auto", tmp_path / "data", "--to", tmp_path / "cohort.tsv")
    assert f"layout: {name}\n" in output
    assert f"please cite {PUBLISHED[name].cite}" in output
    faults, measured = check_contents(read_cohort(tmp_path / "cohort.tsv"), 1, spacing=(2.5, 1, 1))
    assert faults == []
    assert measured["structure_slices"].tolist() == [2] * len(used)


@pytest.mark.parametrize("name", [name for name, data_set in PUBLISHED.items() if data_set.partly])
def test_cases_without_liver_are_left_out(tmp_path: Path, name: str) -> None:
    write(tmp_path, name)
    label = tmp_path / f"{FILES[name][0][0][1]}.nii.gz"
    write_nifti(label, np.full(SHAPE, 3, np.uint8), GRID)
    found = LAYOUTS[name](tmp_path)
    assert found.cases == []
    assert any("its mask holds no liver" in line for line in found.left_out)


def test_magnetic_resonance_of_amos_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, "amos")
    write_nifti(tmp_path / "amos22/labelsTr/amos_0507.nii.gz", np.full(SHAPE, 6, np.uint8), GRID)
    found = LAYOUTS["amos"](tmp_path)
    assert [case.name for case in found.cases] == ["0001", "0008"]
    assert any("amos_0507.nii.gz: AMOS numbers from 500 on are MR" in line for line in found.left_out)


@pytest.mark.parametrize("flips", [(), (0,), (1, 2), (0, 1, 2)])
def test_a_scan_in_two_splits_is_a_fault_however_it_is_stored(tmp_path: Path, flips: tuple[int, ...]) -> None:
    """Other orientation, type and compression: the same voxels. Within a split it is a warning."""
    hu = np.random.default_rng(0).integers(-1000, 300, SHAPE).astype(np.int16)
    mask = np.zeros(SHAPE, np.uint8)
    mask[3:5] = 1
    files = [write_nifti(tmp_path / "a.nii", hu, GRID), write_nifti(tmp_path / "a-liver.nii", mask, GRID)]
    for array, file in ((hu.astype(np.float32), "b.nii.gz"), (mask, "b-liver.nii.gz")):
        image = nibabel.load(write_nifti(tmp_path / "scratch.nii", array, GRID))
        change = np.array([[axis, -1 if axis in flips else 1] for axis in range(3)])
        nibabel.save(image.as_reoriented(change), tmp_path / file)
        files.append(tmp_path / file)
    rows = [
        {"volume": name, "patient": name, "site": name, "split": split, "image": image, "label": label}
        for name, split, image, label in (("a", "pool", *files[:2]), ("b", "test", *files[2:]))
    ]
    for splits, count in ((("pool", "test"), 1), (("test", "val"), 1), (("pool", "pool"), 0)):
        table = pd.DataFrame(rows).assign(split=splits)
        table.to_csv(tmp_path / "cohort.tsv", sep="\t", index=False)
        faults, measured = check_contents(read_cohort(tmp_path / "cohort.tsv"), 2, spacing=(2.5, 1, 1))
        assert len(faults) == count
        assert len(measured) == 2 - count
        assert all("is, voxel by voxel, the image of a (row 2)" in fault.advice for fault in faults)
