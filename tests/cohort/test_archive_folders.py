"""A series is one series, in whichever folders of an archive its slices lie, and has the mask that lies on its grid."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from scans import write_dicom, write_nifti, write_series
from slicesampling import UserError
from slicesampling.cohort.archive import find_dicom
from slicesampling.cohort.scans import read_scan
from slicesampling.domain.labels import Label

HU = np.random.default_rng(0).integers(-1000, 400, (12, 16, 18)).astype(np.int16)
MASK = np.zeros(HU.shape, np.uint8)
MASK[3:9, 4:12, 5:14] = 1


def one_case(root: Path) -> tuple[Path, Label]:
    found = find_dicom(root)
    assert len(found.cases) == 1, found.left_out
    assert found.cases[0].label is not None
    return found.cases[0].image, found.cases[0].label


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """A series with a mask, in a folder of its own."""
    root = tmp_path / "archive"
    (root / "p/st").mkdir(parents=True)
    folder = write_series(root / "p/st/ct", HU)
    write_nifti(root / "p/st/ct_liver.nii.gz", MASK, read_scan(folder).grid)
    return folder


def test_spread_over_folders_it_is_read_as_a_whole(series: Path) -> None:
    expected = read_scan(series)
    for number, path in enumerate(sorted(series.iterdir())):
        (series / f"part{number % 2}").mkdir(exist_ok=True)
        path.rename(series / f"part{number % 2}" / path.name)
    image, label = one_case(series.parents[2])
    assert image == series
    scan = read_scan(image, label)
    np.testing.assert_array_equal(scan.image, expected.image)
    np.testing.assert_array_equal(scan.mask, MASK == 1)


def test_spread_beside_others_it_is_left_out_with_the_reason(series: Path) -> None:
    (series / "part").mkdir()
    for path in sorted(series.iterdir())[:3]:
        path.rename(series / "part" / path.name)
    found = find_dicom(series.parents[2])
    assert found.cases == []
    assert any("lie in 2 folders beside those of others" in line for line in found.left_out)


@pytest.mark.parametrize("partly", [False, True])
def test_twice_in_the_archive_it_is_one(series: Path, partly: bool) -> None:
    copy = shutil.copytree(series, series.parents[2] / "p/backup")
    if partly:
        for path in sorted(copy.iterdir())[:4]:
            path.unlink()
    found = find_dicom(series.parents[2])
    assert [case.image for case in found.cases] == [series]
    assert any(f"{8 if partly else 12} duplicate slices of its series" in line for line in found.decided)


def test_the_index_of_a_medium_hides_nothing(series: Path) -> None:
    """Beside folders of slices it is passed over; beside what is no CT, that is the reason."""
    expected = read_scan(series).image
    (series / "IMAGES").mkdir()
    for path in series.glob("*.dcm"):
        path.rename(series / "IMAGES" / path.name)
    for name in ("DICOMDIR", "dicomdir"):
        write_dicom(series / name, np.zeros((2, 2)), (0, 0, 0), 1, Modality=None, SOPClassUID="1.2.840.10008.1.3.10")
    np.testing.assert_array_equal(read_scan(series).image, expected)
    for k in range(3):
        write_dicom(series / f"m{k}", np.zeros((2, 2)), (0, 0, k), k, Modality="MR")
    write_dicom(series / "index", np.zeros((2, 2)), (0, 0, 0), 1, Modality=None, SOPClassUID="1.2.840.10008.1.3.10")
    with pytest.raises(UserError, match="has 0 CT slices; Modality is MR"):
        read_scan(series)


def test_in_a_flat_folder_the_mask_goes_to_the_series_on_whose_grid_it_lies(tmp_path: Path) -> None:
    """Two CT series, an MR and one mask: what was decided is said."""
    root = tmp_path / "flat"
    root.mkdir()
    for k, plane in enumerate(HU):
        write_dicom(root / f"a{k:02}", plane + 1024, (-40, -60, 10 + 2.5 * k), k, SeriesInstanceUID="1.1")
        write_dicom(root / f"b{k:02}", plane + 1024, (-40, -60, 12 + 1.5 * k), k, SeriesInstanceUID="1.2")
        write_dicom(root / f"m{k:02}", plane + 1024, (0, 0, k), k, SeriesInstanceUID="1.3", Modality="MR")
    write_nifti(root / "liver.nii.gz", MASK, read_scan(root / "b00").grid)
    image, label = one_case(root)
    assert image.name == "b00"
    np.testing.assert_array_equal(read_scan(image, label).mask, MASK == 1)
    assert any("liver.nii.gz: fits the series of b00 alone" in line for line in find_dicom(root).decided)
    # A third series on the same grid: nobody can tell.
    for k, plane in enumerate(HU):
        write_dicom(root / f"c{k:02}", plane + 1024, (-40, -60, 12 + 1.5 * k), k, SeriesInstanceUID="1.4")
    found = find_dicom(root)
    assert found.cases == []
    assert any("b00: liver.nii.gz fits its series and that of c00" in line for line in found.left_out)
