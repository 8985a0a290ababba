"""Laws of a folder of DICOM files: one CT series counts, and what is left out is told."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from conftest import at_most
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import SecondaryCaptureImageStorage
from scans import read_image, write_dicom, write_series
from slicesampling import UserError
from slicesampling.cohort import scans


def test_a_folder_that_is_no_series_is_refused(tmp_path, hu):
    folder = write_series(tmp_path / "series", hu[:1])
    with pytest.raises(UserError, match="two or more"):
        read_image(folder)
    (folder / "i0002.dcm").write_text("no slice")
    with pytest.raises(UserError, match="not a DICOM file"):
        read_image(folder)
    (folder / "i0001.dcm").rename(folder / "i0001")
    with pytest.raises(UserError, match="1 CT slice;"):
        read_image(folder)
    (folder / "i0001").unlink()
    with pytest.raises(UserError, match="not a DICOM file"):
        read_image(folder)
    (folder / "i0002.dcm").unlink()
    with pytest.raises(UserError, match="holds no DICOM file"):
        read_image(folder)


def test_what_is_no_slice_of_the_series_is_left_out_and_told(tmp_path, hu):
    folder = write_series(tmp_path / "series", hu)
    zeros = np.zeros((6, 5))
    for name, changes in {
        "scout.dcm": {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "SeriesInstanceUID": "1.2.9"},
        "dose.dcm": {"Modality": "SR", "SeriesInstanceUID": "1.2.10"},
        "screen.dcm": {"SOPClassUID": SecondaryCaptureImageStorage, "SeriesInstanceUID": "1.2.11"},
        "later1.dcm": {"SeriesInstanceUID": "1.2.12"},
        "later2.dcm": {"SeriesInstanceUID": "1.2.12"},
    }.items():
        write_dicom(folder / name, zeros, (0, 0, 0), 1, **changes)
    (folder / "README.txt").write_text("of the archive")
    (folder / "DICOMDIR").write_bytes(b"x")
    scan = scans.read_scan(folder)
    assert np.array_equal(scan.image, hu)
    assert scan.remarks == (
        "1 of 18 files in the folder are not DICOM files: left out",
        "1 DICOM file(s) left out: Modality is SR; accepted is CT",
        "1 DICOM file(s) left out: Secondary Capture Image Storage; accepted is CT Image Storage",
        "1 DICOM file(s) left out: a localizer",
        "2 slices of 1 other CT series in the folder left out",
    )
    other = write_series(tmp_path / "other", hu[:3] + 7, SeriesInstanceUID="1.2.13")
    for path in other.iterdir():
        path.rename(folder / f"other-{path.name}")
    assert np.array_equal(scans.read_scan(folder / "other-i0002.dcm").image, hu[:3] + 7)
    with pytest.raises(UserError, match=r"dose\.dcm: Modality is SR.*accepted is a slice of a CT series"):
        scans.read_scan(folder / "dose.dcm")


def test_series_of_one_size_are_not_chosen_between(tmp_path, hu):
    folder = write_series(tmp_path / "series", hu)
    for path in write_series(tmp_path / "other", hu, SeriesInstanceUID="1.2.13").iterdir():
        path.rename(folder / f"other-{path.name}")
    with pytest.raises(UserError, match="holds 2 CT series, and none has most slices; name a file"):
        read_image(folder)


@given(st.integers(0, 3), st.floats(0, 1, exclude_max=True))
@at_most(100)
def test_a_slice_that_is_cut_short_is_named_wherever_it_ends(which, share):
    """Nothing of it is interpolated, and the stack does not end before it."""
    with tempfile.TemporaryDirectory() as name:
        folder = write_series(Path(name) / "series", np.zeros((4, 6, 5), np.int16))
        path = folder / f"i{which + 1:04d}.dcm"
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(UserError, match=f"{path.name}: "):
            read_image(folder)
