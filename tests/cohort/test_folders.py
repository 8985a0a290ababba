"""Folders as they come: behind links, in zip files, without preamble, and with nothing of use in them."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from commands import COMMAND
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from scans import grid_of, write_nifti, write_series
from slicesampling import UserError
from slicesampling.cohort.folders import files_under, unpack, what_is_there
from slicesampling.cohort.kinds import begins_data_set, is_dicom
from slicesampling.cohort.scans import read_scan
from slicesampling.cohort.table import label_of, read_cohort

HU = np.random.default_rng(0).integers(-1000, 400, (12, 16, 18)).astype(np.int16)
GRID = grid_of(HU.shape, (2.5, 1, 1))
MASK = np.zeros(HU.shape, np.uint8)
MASK[3:9, 4:12, 5:14] = 1


def lits(folder: Path, numbers: range = range(3)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        write_nifti(folder / f"volume-{number}.nii", HU, GRID)
        write_nifti(folder / f"segmentation-{number}.nii", MASK, GRID)


def command(*arguments: object, code: int = 0) -> str:
    line = [sys.executable, "-m", COMMAND, "import", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def without_preamble(path: Path, syntax: str, meta: bool) -> None:
    """Write a DICOM file again as a bare data set, with its group 2 or without."""
    dataset = pydicom.dcmread(path)
    dataset.PixelData = dataset.PixelData  # read before the file is written over
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True, enforce_file_format=True)
    content = path.read_bytes()[132:]
    if not meta:
        content = content[12 + int.from_bytes(content[8:12], "little") :]
    path.write_bytes(content)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize("meta", [True, False])
def test_a_series_without_preambles_is_the_same_series(tmp_path: Path, syntax: str, meta: bool) -> None:
    image = write_series(tmp_path / "ct", HU)
    whole = read_scan(image)
    for path in image.iterdir():
        without_preamble(path, syntax, meta)
        assert is_dicom(path)
    bare = read_scan(image)
    np.testing.assert_array_equal(bare.image, whole.image)
    assert bare.grid.matches(whole.grid)
    assert bare.remarks == whole.remarks


def test_a_series_without_preambles_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    image = write_series(tmp_path / "ct", HU)
    paths = sorted(image.iterdir())
    for path in paths:
        without_preamble(path, ExplicitVRLittleEndian, meta=False)
    content = paths[4].read_bytes()
    for size in range(0, len(content) - 1, 37):
        paths[4].write_bytes(content[:size])
        with pytest.raises(UserError, match=paths[4].name):
            read_scan(image)


@given(st.binary(max_size=600))
def test_what_is_no_data_set_is_not_taken_for_one(content: bytes) -> None:
    assert not begins_data_set(content)


@pytest.mark.parametrize("name", ["README.md", "pyproject.toml", "docs/annotate.png", "docs/study/metrics.tsv.xz"])
def test_other_files_are_no_dicom(name: str) -> None:
    assert not is_dicom(ROOT / name)


def test_links_are_followed_and_nothing_is_met_twice(tmp_path: Path) -> None:
    lits(tmp_path / "disk")
    root = tmp_path / "data"
    root.mkdir()
    (root / "a").symlink_to(tmp_path / "disk")
    (root / "b").symlink_to(tmp_path / "disk")
    (root / "loop").symlink_to(root)
    (root / "gone").symlink_to(tmp_path / "nowhere")
    assert len(files_under(root)) == 6
    assert what_is_there(root) == "6 .nii files, 1 links that lead nowhere"
    assert "layout: lits" in command("auto", root, "--to", tmp_path / "cohort.tsv")
    table = read_cohort(tmp_path / "cohort.tsv")
    assert [read_scan(row["image"], label_of(row)).mask.sum() for row in table.to_dict("records")] == [MASK.sum()] * 3


def test_zip_files_are_unpacked_once_where_one_says(tmp_path: Path) -> None:
    root, there = tmp_path / "data", tmp_path / "unpacked"
    lits(tmp_path / "one")
    lits(tmp_path / "two", range(3, 5))
    (root / "part").mkdir(parents=True)
    shutil.make_archive(str(root / "first"), "zip", tmp_path / "one")
    shutil.make_archive(str(root / "part/second"), "zip", tmp_path / "two")
    said = command("lits", root, "--to", tmp_path / "cohort.tsv", code=1)
    assert said.endswith("it holds 2 zip files; --unpack FOLDER unpacks the zip files\n")
    for table in ("first.tsv", "second.tsv"):
        said = command("auto", root, "--unpack", there, "--to", tmp_path / table)
        assert f"2 zip files of {root} are unpacked in {there}" in said
        assert "layout: lits" in said
        assert len(read_cohort(tmp_path / table)) == 5
    changed = {path: path.stat().st_mtime_ns for path in there.rglob("*")}
    unpack(root, there)
    assert changed == {path: path.stat().st_mtime_ns for path in there.rglob("*")}
    assert sorted(path.name for path in there.iterdir()) == ["first", "part"]


@pytest.mark.parametrize(("kind", "message"), [
    ("cut", "cannot be unpacked"), ("damaged", "cannot be unpacked"), ("outside", "leads out of the folder"),
    ("absolute", "leads out of the folder"), ("bomb", "is it intact"),
])  # fmt: skip
def test_zip_files_that_mean_no_good_leave_nothing(tmp_path: Path, kind: str, message: str) -> None:
    path, there = tmp_path / "data/a.zip", tmp_path / "unpacked"
    path.parent.mkdir()
    name = {"outside": "x/../../evil", "absolute": "/tmp/evil"}.get(kind, "x/volume-1.nii")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, bytes(3_000_000) if kind == "bomb" else np.random.default_rng(0).bytes(5000))
    content = bytearray(path.read_bytes())
    if kind == "cut":
        path.write_bytes(content[:3000])
    elif kind == "damaged":
        content[1000:1100] = bytes(100)
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        unpack(path.parent, there)
    assert not there.exists() or not list(there.rglob("*"))
    assert not (tmp_path / "evil").exists()


def test_what_is_there_is_said_where_nothing_is_found(tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "CT/3/Ground").mkdir(parents=True)
    write_series(root / "CT/3/DICOM_anon", HU)
    (root / "CT/3/notes.txt").touch()
    said = command("lits", root, "--to", tmp_path / "cohort.tsv", code=1)
    assert said.endswith("it holds 12 DICOM files, 1 .txt files; looks like chaos: try that\n")
    lits(root / "more")
    said = command("auto", root, "--to", tmp_path / "cohort.tsv", code=1)
    assert said.endswith("fits lits (3 volumes) and chaos (1 volumes); name one of them\n")
    (tmp_path / "empty").mkdir()
    said = command("auto", tmp_path / "empty", "--to", tmp_path / "cohort.tsv", code=1)
    assert "no layout fits; it holds no file" in said
    assert not (tmp_path / "cohort.tsv").exists()
