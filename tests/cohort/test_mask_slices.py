"""Masks stored as DICOM images lie on the slices at their positions, whatever the files are called."""

from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import SecondaryCaptureImageStorage
from scans import write_dicom, write_series
from slicesampling.cohort.importers import find_ircadb
from slicesampling.cohort.scans import LabelError, read_scan
from slicesampling.domain.labels import Label

HU = np.random.default_rng(0).integers(-1000, 400, (12, 16, 18)).astype(np.int16)
MASK = np.zeros(HU.shape, bool)
MASK[3:9, 4:12, 5:14] = True


def write(folder: Path, mask: np.ndarray, **changes: object) -> Path:
    """Write a mask as images in no order of the slices, as objects of another kind than CT."""
    folder.mkdir(parents=True)
    for k in np.random.default_rng(1).permutation(len(mask)):
        place = (-40, -60, 10 + 2.5 * k)
        kind = {"Modality": "OT", "SOPClassUID": SecondaryCaptureImageStorage, "PixelRepresentation": 0}
        write_dicom(folder / f"image_{(7 * k) % 12}", 255 * mask[k], place, 1, **kind | changes)
    return folder


@pytest.mark.parametrize("gap", [False, True])
def test_they_are_read_by_position(tmp_path: Path, gap: bool) -> None:
    series, masks = write_series(tmp_path / "ct", HU), write(tmp_path / "liver", MASK)
    if gap:
        (series / "i0006.dcm").unlink()
        with pytest.raises(LabelError, match="the nearest slice at"):
            read_scan(series, Label.single(masks))
        (masks / f"image_{(7 * 5) % 12}").unlink()
        found = read_scan(series, Label.single(masks)).mask
        np.testing.assert_array_equal(np.delete(found, 5, 0), np.delete(MASK, 5, 0))
    else:
        np.testing.assert_array_equal(read_scan(series, Label.single(masks)).mask, MASK)


@pytest.mark.parametrize(("change", "message"), [
    (lambda folder: (folder / "image_3").unlink(), "11 DICOM masks for 12 slices"),
    (lambda folder: (folder / "image_3").write_bytes((folder / "image_4").read_bytes()), "lies on the slice of"),
    (lambda folder: (folder / "image_3").write_bytes((folder / "image_3").read_bytes()[:900]), "is it complete"),
    (lambda folder: [path.unlink() for path in folder.iterdir()], "0 DICOM masks"),
])  # fmt: skip
def test_what_does_not_fit_is_one_line(tmp_path: Path, change, message: str) -> None:
    series, masks = write_series(tmp_path / "ct", HU), write(tmp_path / "liver", MASK)
    change(masks)
    with pytest.raises(LabelError, match=message) as error:
        read_scan(series, Label.single(masks))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("nested", [False, True])
def test_ircadb_is_found(tmp_path: Path, nested: bool) -> None:
    """With its inner archives unpacked beside their names, or into folders of their names."""
    for number in (1, 17):
        patient = tmp_path / f"3Dircadb1/3Dircadb1.{number}"
        inner = [patient / name / name if nested else patient / name for name in ("PATIENT_DICOM", "MASKS_DICOM")]
        inner[0].parent.mkdir(parents=True)
        write_series(inner[0], HU - number, names=[f"image_{k}" for k in range(len(HU))])
        write(inner[1] / "liver", MASK)
        write(inner[1] / "livertumor", ~MASK)
    (tmp_path / "3Dircadb1/3Dircadb1.5").mkdir()
    write_series(tmp_path / "3Dircadb1/3Dircadb1.5/PATIENT_DICOM", HU)
    found = find_ircadb(tmp_path)
    assert [case.name for case in found.cases] == ["001", "017"]
    assert len(found.left_out) == 1
    for case in found.cases:
        np.testing.assert_array_equal(read_scan(case.image, case.label).mask, MASK)
    assert "28 to 47" in found.decided[1]
