"""Laws of the way back: a prediction lies on the voxels of the file that it was made from, in whatever direction."""

from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from nibabel.orientations import apply_orientation, inv_ornt_aff
from scans import CANONICAL, IDENTITY, ball, dice, grid_of, ras, read_case, rotated, write_dicom
from slicesampling.cohort import scans
from slicesampling.cohort.dicom import read_stack
from slicesampling.cohort.export import export_mask
from slicesampling.cohort.grids import Grid
from slicesampling.domain.labels import Label
from test_formats import orientations


def scene(grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a ball in HU, its mask, and its centre (z, y, x) in mm, on a grid."""
    centre = grid.affine[:3, :3] @ (np.array(grid.shape) * (0.45, 0.55, 0.4)) + grid.affine[:3, 3]
    mask = ball(grid, centre, 9)
    return np.where(mask, 100, -1000).astype(np.int16), mask, centre


def centroid(path: Path) -> np.ndarray:
    """Return the centre of a mask file (x, y, z) in mm of NIfTI, as nibabel sees it."""
    image = nibabel.load(path)
    assert image.get_data_dtype() == np.uint8
    return image.affine[:3, :3] @ np.argwhere(np.asarray(image.dataobj) > 0).mean(axis=0) + image.affine[:3, 3]


def test_a_prediction_lies_on_its_nifti_file_in_every_orientation(tmp_path):
    """The exported file has the voxels of the original; the mask on them is within half a voxel of the reference."""
    grid = grid_of((12, 28, 30), (2.7, 0.83, 0.91), (-31, 12, 7))
    ways = orientations()
    for number, way in enumerate(ways):
        turned = rotated(grid, 25, (1, 2)) if number % 4 == 0 else grid
        hu, mask, _ = scene(turned)
        affine = ras(turned) @ inv_ornt_aff(way, hu.T.shape)
        for name, array in (("image", hu), ("label", mask.astype(np.uint8))):
            nibabel.save(nibabel.Nifti1Image(apply_orientation(array.T, way), affine), tmp_path / f"{name}.nii")
        found = scans.preprocess(tmp_path / "image.nii", Label.single(tmp_path / "label.nii"), CANONICAL)
        (file,), remarks = export_mask(tmp_path / "image.nii", found.mask, found.grid, tmp_path / "out" / "case")
        assert remarks == []
        original, exported = nibabel.load(tmp_path / "label.nii"), nibabel.load(file)
        assert exported.shape == original.shape
        np.testing.assert_allclose(exported.affine, original.affine, atol=1e-5)
        apart = np.linalg.inv(original.affine)[:3, :3] @ (centroid(file) - centroid(tmp_path / "label.nii"))
        assert np.abs(apart).max() < 0.5
        assert dice(np.asarray(exported.dataobj) > 0, np.asarray(original.dataobj) > 0) > 0.93
    assert len(ways) == 48


def series(folder: Path, heights: list[float], cosines: list[float], downwards: bool) -> list[np.ndarray]:
    """Write a ball as slices at `heights` along z; return the centres (x, y, z) of the pixels of each."""
    folder.mkdir()
    along_row, along_column = np.split(np.array(cosines), 2)
    places = []
    for k, height in enumerate(heights):
        start = np.array([-15.0, -14.0, height])
        row, column = np.indices((36, 40))
        place = start + row[..., None] * 0.8 * along_column + column[..., None] * 0.7 * along_row
        plane = np.linalg.norm(place - [-1, 0, 12], axis=-1) <= 9
        write_dicom(
            folder / f"{k}.dcm",
            np.where(plane, 100, -1000) + 1024,
            start,
            len(heights) - k if downwards else k + 1,
            ImageOrientationPatient=cosines,
            **IDENTITY,
        )
        places.append(plane)
    return places


@pytest.mark.parametrize("downwards", [False, True])
@pytest.mark.parametrize("kind", ["even", "uneven", "tilted", "sagittal"])
def test_a_prediction_lies_on_its_dicom_slices(tmp_path, kind, downwards):
    """As a DICOM segmentation on the slices themselves, read by highdicom; and as NIfTI on the stack."""
    heights = [2.0 * k for k in range(13)]
    cosines = [1.0, 0, 0, 0, 1, 0]
    if kind == "uneven":
        heights = [0, 2, 4, 5.5, 8, 10, 14, 16, 18, 20, 22, 24]
    if kind == "tilted":
        cosines = [1.0, 0, 0, 0, float(np.cos(0.2)), float(np.sin(0.2))]
    if kind == "sagittal":
        cosines = [0.0, 1, 0, 0, 0, -1]
    folder = tmp_path / "series"
    if kind == "sagittal":
        folder.mkdir()
        planes = []
        for k in range(14):
            start = np.array([-14 + 2.0 * k, -15, 26])
            row, column = np.indices((36, 40))
            place = start + row[..., None] * 0.8 * np.array([0, 0, -1]) + column[..., None] * 0.7 * np.array([0, 1, 0])
            planes.append(np.linalg.norm(place - [-1, 0, 12], axis=-1) <= 9)
            pixels = np.where(planes[-1], 100, -1000) + 1024
            write_dicom(folder / f"{k}.dcm", pixels, start, k + 1, ImageOrientationPatient=cosines, **IDENTITY)
    else:
        planes = series(folder, heights, cosines, downwards)
    scan = scans.read_scan(folder)
    (volume, segmentation), remarks = export_mask(folder, scan.image > -450, scan.grid, tmp_path / "case")
    assert [("tilted by 11.5 degrees" in remark) for remark in remarks] == [True] * (kind == "tilted")
    assert SimpleITK.GetArrayFromImage(
        SimpleITK.ReadImage(volume)
    ).any()  # which refuses axes that are not perpendicular

    read = highdicom.seg.segread(segmentation)
    assert (read.PatientName, read.StudyInstanceUID) == ("Nobody^Real", "1.2.30")
    sources = [pydicom.dcmread(folder / f"{k}.dcm").SOPInstanceUID for k in range(len(planes))]
    frames = read.get_pixels_by_source_instance(sources, segment_numbers=[1], assert_missing_frames_are_empty=True)
    assert dice(frames[..., 0] > 0, np.stack(planes)) > 0.93
    np.testing.assert_allclose(centroid(volume) * [-1, -1, 1], [-1, 0, 12], atol=0.4)  # RAS; half a pixel

    _, again, grid = read_case(folder, segmentation)
    assert again is not None
    assert dice(again, scan.image > -450) > 0.9
    index = np.argwhere(again).mean(axis=0)
    np.testing.assert_allclose(grid.affine[:3, :3] @ index + grid.affine[:3, 3], [12, 0, -1], atol=0.4)


def test_a_segmentation_on_other_slices_is_refused(tmp_path):
    series(tmp_path / "one", [2.0 * k for k in range(13)], [1.0, 0, 0, 0, 1, 0], False)
    series(tmp_path / "other", [1 + 2.0 * k for k in range(13)], [1.0, 0, 0, 0, 1, 0], False)
    stack = read_stack(tmp_path / "one")
    scan = scans.read_scan(tmp_path / "one")
    (_, segmentation), _ = export_mask(tmp_path / "one", scan.image > 0, scan.grid, tmp_path / "case")
    assert read_case(tmp_path / "one", segmentation, [1])[1].sum() == sum((plane > 0).sum() for plane in scan.image), (
        stack.shape
    )
    with pytest.raises(scans.LabelError, match="not on the grid of its image"):
        scans.read_scan(tmp_path / "other", Label.single(segmentation))
    with pytest.raises(scans.LabelError, match="has no segment 2; it has 1"):
        scans.read_scan(tmp_path / "one", Label.single(segmentation, [2]))


def test_an_empty_prediction_is_written_as_well(tmp_path):
    series(tmp_path / "one", [2.0 * k for k in range(13)], [1.0, 0, 0, 0, 1, 0], False)
    scan = scans.read_scan(tmp_path / "one")
    (_, segmentation), _ = export_mask(tmp_path / "one", np.zeros(scan.grid.shape, bool), scan.grid, tmp_path / "case")
    assert not scans.read_scan(tmp_path / "one", Label.single(segmentation)).mask.any()


def test_what_may_be_empty_is_empty_and_a_frame_of_reference_is_made(tmp_path):
    """As anonymised slices are: each element that may be missing or empty is, and the segmentation is written."""
    folder = tmp_path / "series"
    folder.mkdir()
    for k in range(4):
        place = (0, 0, 2 * k)
        write_dicom(folder / f"{k}", np.zeros((5, 5)), place, k, StudyInstanceUID="1.2.30")
    scan = scans.read_scan(folder)
    references = set()
    for target in ("first", "second"):
        (_, segmentation), remarks = export_mask(folder, scan.image < 0, scan.grid, tmp_path / target)
        assert remarks == []
        read = highdicom.seg.segread(segmentation)
        assert (read.StudyInstanceUID, read.PatientID, read.PatientBirthDate, read.StudyID) == ("1.2.30", "", "", "")
        references.add(read.FrameOfReferenceUID)
    assert len(references) == 1
    assert scans.read_scan(folder, Label.single(segmentation)).mask.all()


def test_what_the_standard_does_not_allow_is_one_line_beside_the_file_that_was_written(tmp_path):
    folder = tmp_path / "series"
    folder.mkdir()
    for k in range(3):
        write_dicom(folder / f"{k}", np.zeros((5, 5)), (0, 0, k), k)
    scan = scans.read_scan(folder)
    (volume,), (remark,) = export_mask(folder, scan.image > 0, scan.grid, tmp_path / "case")
    assert volume.exists()
    assert "case.dcm: not written; " in remark
    assert "no DICOM segmentation can be written" in remark
    assert "\n" not in remark
    assert not (tmp_path / "case.dcm").exists()
