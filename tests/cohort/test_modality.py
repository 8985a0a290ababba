"""Law: what may be MR is not taken for CT unless the file, the data set or the user says that it is CT."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import COMMAND
from scans import grid_of, write_nifti, write_pngs, write_series
from slicesampling.cohort.contents import check_contents
from slicesampling.cohort.table import MODALITY, REQUIRED_COLUMNS, read_cohort, table_faults

SHAPE = (8, 16, 18)
MASK = np.zeros(SHAPE, np.uint8)
MASK[2:6, 4:10, 5:12] = 1


def volume(lowest: int) -> np.ndarray:
    """Something with a liver, whose lowest value is `lowest`."""
    values = np.random.default_rng(0).integers(0, 120, SHAPE).astype(np.int16)
    values[:, :2] = lowest
    return values


def checked(folder: Path, image: Path, label: Path, **cells: str) -> list[str]:
    """The faults of a table of this volume alone."""
    row = dict.fromkeys(REQUIRED_COLUMNS, "a") | {"split": "pool", "image": str(image), "label": str(label)} | cells
    pd.DataFrame([row]).to_csv(folder / "cohort.tsv", sep="\t", index=False)
    faults, measured = check_contents(read_cohort(folder / "cohort.tsv"), 1, spacing=(2.5, 1, 1))
    assert len(faults) + len(measured) == 1
    return [f"{fault.column}: {fault.advice}" for fault in faults]


@pytest.mark.parametrize(("lowest", "cells", "taken"), [
    (0, {}, False),
    (-499, {}, False),
    (-500, {}, False),
    (-501, {}, True),
    (-1024, {}, True),
    (0, {MODALITY: "CT"}, True),
    (0, {MODALITY: ""}, False),
])  # fmt: skip
def test_a_file_that_says_nothing_needs_air_or_a_word(
    tmp_path: Path, lowest: int, cells: dict[str, str], taken: bool
) -> None:
    grid = grid_of(SHAPE, (2.5, 1, 1))
    files = write_nifti(tmp_path / "ct.nii", volume(lowest), grid), write_nifti(tmp_path / "liver.nii", MASK, grid)
    faults = checked(tmp_path, *files, **cells)
    assert taken == (faults == [])
    if not taken:
        assert faults[0].startswith("image: no voxel is below -500 HU")
        assert "--force-ct" in faults[0]


def test_another_word_is_refused(tmp_path: Path) -> None:
    row = dict.fromkeys((*REQUIRED_COLUMNS, MODALITY), "a") | {"split": "pool", MODALITY: "MR"}
    pd.DataFrame([row, row | {MODALITY: ""}]).to_csv(tmp_path / "cohort.tsv", sep="\t", index=False)
    faults = table_faults(read_cohort(tmp_path / "cohort.tsv"), files=False)
    assert [(fault.row, fault.advice) for fault in faults if fault.column == MODALITY] == [
        (2, "accepted is CT, or nothing")
    ]


def test_dicom_says_itself_that_it_is_ct(tmp_path: Path) -> None:
    image = write_series(tmp_path / "ct", volume(0))
    assert checked(tmp_path, image, write_pngs(tmp_path / "masks", MASK)) == []


def test_the_importer_writes_the_word_beside_rows_that_lack_it(tmp_path: Path) -> None:
    grid = grid_of(SHAPE, (2.5, 1, 1))
    for site in "ab":
        (tmp_path / site).mkdir()
        for number in range(3):
            write_nifti(tmp_path / f"{site}/{number}_ct.nii", volume("ab".index(site) + 2 * number), grid)
            write_nifti(tmp_path / f"{site}/{number}_liver.nii", MASK, grid)
    command = [sys.executable, "-m", COMMAND, "import", "pairs"]
    patterns = ["--image", "{volume}_ct.nii", "--label", "{volume}_liver.nii", "--to", str(tmp_path / "cohort.tsv")]
    for site, more in (("a", []), ("b", ["--force-ct"])):
        subprocess.run([*command, str(tmp_path / site), "--site", site, *patterns, *more], check=True)
    table = read_cohort(tmp_path / "cohort.tsv")
    assert table[MODALITY].tolist() == [""] * 3 + ["CT"] * 3
    faults, measured = check_contents(table, 1, spacing=(2.5, 1, 1))
    assert [fault.row for fault in faults] == [2, 3, 4]
    assert measured["volume"].str[0].tolist() == ["b"] * 3
