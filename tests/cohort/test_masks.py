"""Laws of masks: what is liver is said, the grid is the image's, and PNG files are in the order of the slices."""

import numpy as np
import pytest
from PIL import Image
from scans import grid_of, read_case, rotated, write_dicom, write_nifti, write_pngs, write_series
from slicesampling.cohort import scans


def test_labels_that_are_liver_are_said(tmp_path, hu):
    grid = grid_of(hu.shape, (2, 1, 1))
    labels = (np.arange(hu.size).reshape(hu.shape) % 3).astype(np.uint8)
    image, label = write_nifti(tmp_path / "i.nii", hu, grid), write_nifti(tmp_path / "l.nii", labels, grid)
    for values in ([1], [2], [1, 2], [2, 7]):
        assert np.array_equal(read_case(image, label, values)[1], np.isin(labels, values))
    with pytest.raises(scans.LabelError, match=r"holds 1, 2; liver_values must say"):
        read_case(image, label)
    with pytest.raises(scans.LabelError, match=r"holds 1, 2; accepted as liver: 3"):
        read_case(image, label, [3])
    for odd in (0.5, -1, np.nan, np.inf):
        write_nifti(tmp_path / "odd.nii", np.where(labels, labels.astype(np.float32), odd), grid)
        with pytest.raises(scans.LabelError, match=f"the mask holds {odd:g}"):
            read_case(image, tmp_path / "odd.nii", [1, 2])
    write_nifti(tmp_path / "one.nii", (7 * (labels == 2)).astype(np.uint8), grid)
    assert np.array_equal(read_case(image, tmp_path / "one.nii")[1], labels == 2)
    assert read_case(image, None)[1] is None


@pytest.mark.parametrize(
    "other",
    [
        grid_of((12, 6, 4), (2, 1, 1)),
        grid_of((12, 6, 5), (2, 1.1, 1)),
        grid_of((12, 6, 5), (2, 1, 1), (0, 0, 0.5)),
        rotated(grid_of((12, 6, 5), (2, 1, 1)), 5, (1, 2)),
    ],
)
def test_a_mask_on_another_grid_is_refused_with_both_grids(tmp_path, hu, other):
    image = write_nifti(tmp_path / "i.nii", hu, grid_of(hu.shape, (2, 1, 1)))
    label = write_nifti(tmp_path / "l.nii", np.ones(other.shape, np.uint8), other)
    with pytest.raises(scans.LabelError, match=r"not on the grid.*12x6x.*12x6x5 voxels of 2x1x1 mm"):
        read_case(image, label)


@pytest.mark.parametrize("downwards", [False, True])
@pytest.mark.parametrize("shuffled", [False, True])
def test_png_masks_follow_the_instance_numbers_to_the_positions(tmp_path, hu, downwards, shuffled):
    """The mask marks, in each slice, the voxels that its own HU name: another slice's mask cannot pass for it."""
    names = [f"x{n}" for n in np.random.default_rng(2).permutation(len(hu))] if shuffled else None
    folder = write_series(tmp_path / "series", hu, downwards=downwards, names=names)
    by_position = hu > np.median(hu)
    label = write_pngs(tmp_path / "Ground", by_position[::-1] if downwards else by_position)
    array, mask, grid = read_case(folder, label)
    assert mask is not None
    assert np.array_equal(mask, array > np.median(hu))
    assert grid.affine[0, 0] > 0


def test_png_masks_that_do_not_fit_are_refused(tmp_path, hu):
    folder = write_series(tmp_path / "series", hu)
    label = write_pngs(tmp_path / "Ground", hu > 0)
    assert read_case(folder, label)[1] is not None
    nifti = write_nifti(tmp_path / "i.nii", hu, grid_of(hu.shape, (2, 1, 1)))
    with pytest.raises(scans.LabelError, match="need an image in DICOM slices"):
        read_case(nifti, label)
    Image.new("RGB", (5, 6), (1, 2, 3)).save(label / "liver-3.png")
    with pytest.raises(scans.LabelError, match="mode RGB"):
        read_case(folder, label)
    Image.new("L", (6, 5)).save(label / "liver-3.png")
    with pytest.raises(scans.LabelError, match="rows and columns"):
        read_case(folder, label)
    (label / "liver-3.png").write_bytes(b"no picture")
    with pytest.raises(scans.LabelError, match="cannot be read as PNG"):
        read_case(folder, label)
    (label / "liver-3.png").unlink()
    with pytest.raises(scans.LabelError, match="11 PNG masks for 12 slices"):
        read_case(folder, label)
    write_dicom(folder / "i0003.dcm", hu[2] + 1024, (-40, -60, 15), 4)
    with pytest.raises(scans.LabelError, match="all different"):
        read_case(folder, label)


def test_png_masks_in_the_wrong_order_are_refused(tmp_path):
    """The masks lie on the liver in one order of the slices alone: the reader says so where it is the other."""
    hu = np.full((12, 6, 5), -1000, np.int16)
    hu[7:10] = 60
    folder = write_series(tmp_path / "series", hu)
    assert read_case(folder, write_pngs(tmp_path / "Ground", hu > 0))[1].sum() == 90
    with pytest.raises(scans.LabelError, match="only when the last one belongs to the first slice"):
        read_case(folder, write_pngs(tmp_path / "reversed", hu[::-1] > 0))
