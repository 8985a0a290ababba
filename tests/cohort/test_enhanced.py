"""Law of enhanced CT: a file of many frames is read and written on as the same slices in a file each."""

from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import RLELossless
from scans import IDENTITY, write_dicom, write_enhanced, write_nifti, write_pngs, write_series
from slicesampling import UserError
from slicesampling.cohort.archive import find_dicom
from slicesampling.cohort.export import export_mask
from slicesampling.cohort.scans import read_scan
from slicesampling.domain.labels import Label

HU = np.random.default_rng(0).integers(-1000, 400, (12, 16, 18)).astype(np.int16)
MASK = np.zeros(HU.shape, bool)
MASK[3:9, 4:12, 5:14] = True


@given(order=st.permutations(range(len(HU))))
def test_frames_in_any_order_are_the_slices(tmp_path_factory: pytest.TempPathFactory, order: list[int]) -> None:
    folder = tmp_path_factory.mktemp("enhanced")
    series, enhanced = write_series(folder / "series", HU), write_enhanced(folder / "one.dcm", HU, order=order)
    expected, found = read_scan(series), read_scan(enhanced)
    np.testing.assert_array_equal(found.image, expected.image)
    assert found.grid.matches(expected.grid)
    assert found.remarks == expected.remarks


def test_highdicom_reads_the_same_volumes(tmp_path: Path) -> None:
    """An independent implementation: of the series and of the enhanced CT the same voxels at the same places."""
    series = write_series(tmp_path / "series", HU, **IDENTITY)
    enhanced = write_enhanced(tmp_path / "one.dcm", HU, **IDENTITY)
    slices = [pydicom.dcmread(path) for path in series.iterdir()]
    volumes = highdicom.get_volume_from_series(slices), highdicom.imread(enhanced).get_volume()
    for path, volume in zip((series, enhanced), volumes, strict=True):
        scan = read_scan(path)
        order = np.argsort(volume.map_indices_to_reference(np.array([[k, 0, 0] for k in range(len(HU))]))[:, 2])
        np.testing.assert_array_equal(scan.image, volume.array[order])
        first = volume.map_indices_to_reference(np.array([[order[0], 0, 0]]))[0]
        np.testing.assert_allclose(scan.grid.affine[:3, 3], first[::-1])


def test_parameters_of_single_frames_count(tmp_path: Path) -> None:
    """Slope and intercept of each frame, as of each slice."""
    path = write_enhanced(tmp_path / "one.dcm", HU)
    dataset = pydicom.dcmread(path)
    (shared,) = dataset.SharedFunctionalGroupsSequence
    transformation = shared.PixelValueTransformationSequence
    del shared.PixelValueTransformationSequence
    for k, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        groups.PixelValueTransformationSequence = [pydicom.Dataset()]
        groups.PixelValueTransformationSequence[0].update(transformation[0])
        groups.PixelValueTransformationSequence[0].RescaleIntercept = -1024 + k
    dataset.save_as(path)
    np.testing.assert_array_equal(read_scan(path).image, HU + np.arange(len(HU))[:, None, None])


def test_missing_frames_are_missing_slices(tmp_path: Path) -> None:
    """Uneven ones are interpolated, and PNG masks follow the order of the frames."""
    few = [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]
    path = write_enhanced(tmp_path / "one.dcm", HU[few])
    dataset = pydicom.dcmread(path)
    for k, groups in zip(few, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        groups.PlanePositionSequence[0].ImagePositionPatient = [-40, -60, 10 + 2.5 * k]
    dataset.save_as(path)
    scan = read_scan(path, Label.single(write_pngs(tmp_path / "masks", MASK[few])))
    assert "interpolated at their positions" in scan.remarks[0]
    np.testing.assert_array_equal(scan.image[few], HU[few])
    np.testing.assert_array_equal(scan.mask, MASK)


def test_a_prediction_lies_on_the_frames(tmp_path: Path) -> None:
    order = [3, 0, 1, 2, *range(11, 3, -1)]
    path = write_enhanced(tmp_path / "one.dcm", HU, order=order, **IDENTITY)
    scan = read_scan(path)
    (_, segmentation), remarks = export_mask(path, MASK, scan.grid, tmp_path / "case")
    assert remarks == []
    assert highdicom.seg.segread(segmentation).PatientName == "Nobody^Real"
    np.testing.assert_array_equal(read_scan(path, Label.single(segmentation)).mask, MASK)


@pytest.mark.parametrize(("change", "message"), [
    (lambda one: delattr(one, "PerFrameFunctionalGroupsSequence"), "describes 0 frames, but has 12"),
    (lambda one: one.PerFrameFunctionalGroupsSequence.pop(), "describes 11 frames, but has 12"),
    (lambda one: delattr(one.PerFrameFunctionalGroupsSequence[2], "PlanePositionSequence"),
     "has no ImagePositionPatient"),
    (lambda one: delattr(one.SharedFunctionalGroupsSequence[0], "PixelValueTransformationSequence"),
     "has no RescaleSlope"),
    (lambda one: setattr(one, "PixelData", one.PixelData[:-5000]), "its pixels cannot be read"),
    (lambda one: setattr(one, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.2"), "not an enhanced CT"),
    (lambda one: setattr(one, "Modality", "MR"), "Modality is MR"),
])  # fmt: skip
def test_what_a_frame_lacks_is_one_line(tmp_path: Path, change, message: str) -> None:
    path = write_enhanced(tmp_path / "one.dcm", HU)
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path)
    with pytest.raises(UserError, match=message) as error:
        read_scan(path)
    assert "\n" not in str(error.value)


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "one.dcm", HU)
    content = path.read_bytes()
    for size in range(0, len(content), 97):
        path.write_bytes(content[:size])
        with pytest.raises(UserError):
            read_scan(tmp_path)


def test_compressed_frames_are_decoded_one_by_one(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "one.dcm", HU)
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless)
    dataset.save_as(path)
    np.testing.assert_array_equal(read_scan(path).image, HU)


def test_the_larger_series_of_a_folder_counts_by_its_slices(tmp_path: Path) -> None:
    """Not by its files: one file of twelve frames is more than three files of a slice."""
    write_enhanced(tmp_path / "one.dcm", HU)
    for k in range(3):
        write_dicom(tmp_path / f"{k}.dcm", HU[k] + 1024, (0, 0, k), k, SeriesInstanceUID="9.9")
    scan = read_scan(tmp_path)
    np.testing.assert_array_equal(scan.image, HU)
    assert "3 slices of 1 other CT series in the folder left out" in scan.remarks


def test_the_importer_finds_it(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    write_enhanced(tmp_path / "a/one.dcm", HU)
    write_nifti(tmp_path / "a/liver.nii.gz", MASK.astype(np.uint8), read_scan(tmp_path / "a/one.dcm").grid)
    found = find_dicom(tmp_path)
    assert [(case.image, case.label) for case in found.cases] == [
        (tmp_path / "a", Label.single(tmp_path / "a/liver.nii.gz"))
    ]
    assert found.left_out == []
