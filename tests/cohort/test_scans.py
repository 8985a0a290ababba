"""Laws of reading volumes, on made-up files; and checks on real CT where it is at hand.

The real cases lie in the folder that the environment variable LIVER_CT_DIR names.
"""

from pathlib import Path

import numpy as np
import pytest
from conftest import REAL, real_ct
from scans import CANONICAL, dice, grid_of, read_case, read_image, write_nifti
from slicesampling import UserError
from slicesampling.cohort import grids, scans
from slicesampling.cohort.grids import Grid
from slicesampling.cohort.scans import AIR


def test_what_lies_outside_of_the_scanner_is_air(tmp_path):
    values = np.array([-3024, -2000, -1025, -1024, -1023.4, np.nan, 40.6, 1e9], np.float32).reshape(2, 2, 2)
    array, _ = read_image(write_nifti(tmp_path / "image.nii", values, grid_of((2, 2, 2), (1, 1, 1))))
    assert array.ravel().tolist() == [AIR, AIR, AIR, AIR, -1023, AIR, 41, 32767]


def real(*parts: str) -> Path:
    assert REAL
    return Path(REAL).joinpath(*parts)


def millilitres(mask: np.ndarray, grid: Grid) -> float:
    return float(mask.sum() * np.prod(grid.spacing) / 1000)


@real_ct
def test_the_chaos_masks_lie_on_the_liver():
    case = real("chaos", "CT", "3")
    hu, mask, grid = read_case(case / "DICOM_anon", case / "Ground")
    assert mask is not None
    assert grid.shape == (78, 512, 512)
    # The SliceThickness tag of this series says 3.2.
    assert grid.spacing == pytest.approx((2.0, 0.727, 0.727), abs=1e-3)
    assert millilitres(mask, grid) == pytest.approx(1417, abs=1)
    # Portal venous phase; any other order of the slices takes in lung, fat and bone.
    assert 120 < hu[mask].mean() < 160
    for wrong in (mask[::-1], mask[:, ::-1], mask[::-1, ::-1]):
        assert hu[mask].std() < 40 < 100 < hu[wrong].std()
    # The lungs are above the liver: z grows towards the head.
    inside = (slice(None), slice(150, 350), slice(100, 400))
    assert (hu[inside] < -700)[-10:].mean() > 0.2 > (hu[inside] < -700)[:10].mean()
    # The liver is on the patient's right, at small x; and the table below the back, at large y.
    assert np.argwhere(mask)[:, 2].mean() < 256


@real_ct
@pytest.mark.parametrize(
    ("image", "label", "expected", "lowest"),
    [
        ("totalsegmentator/ts_example_ct.nii.gz", "totalsegmentator/ts_example_liver.nii.gz", 1126, AIR),
        ("cervical/ccth_a01_abdomen_ct.nii.gz", "cervical/ccth_a01_abdomen_liver.nii.gz", 1521, AIR),
        ("lits8bit/volume-0.nii.gz", "lits8bit/segmentation-0.nii.gz", 1364, -160),
    ],
)
def test_real_volumes_keep_their_liver(image, label, expected, lowest):
    hu, mask, grid = read_case(real(image), real(label), [1, 2])
    assert mask is not None
    assert hu.min() == lowest
    assert 20 < hu[mask].mean() < 160
    assert millilitres(mask, grid) == pytest.approx(expected, abs=1)
    assert np.argwhere(mask)[:, 2].mean() < grid.shape[2] / 2  # on the patient's right
    canonical = grids.canonical_grid(grid, CANONICAL)
    moved = grids.resample_mask(mask, grid, canonical)
    assert millilitres(moved, canonical) == pytest.approx(expected, rel=0.015)
    assert dice(grids.resample_mask(moved, canonical, grid), mask) > 0.99


@real_ct
@pytest.mark.parametrize(
    ("series", "message"),
    [
        ("notavolume/001", r"several slices at 61\.500 mm"),
        ("slicecount/001", "Modality is MR"),
        ("sliceincrement/001", r"10\.000 mm between 28\.107 and 38\.107 mm .*1 slice\(s\) missing"),
        ("sliceorientation/001", "Modality is MR"),
    ],
)
def test_odd_series_are_refused_in_one_line(series, message):
    with pytest.raises(UserError, match=message) as error:
        read_image(real("odd", series))
    assert "\n" not in str(error.value)
    assert series in str(error.value)


@real_ct
def test_a_real_series_without_a_slice_is_bridged():
    scan = scans.read_scan(real("odd", "sliceincrement/002"))
    assert scan.grid.tilt < 1e-6  # its gantry was tilted as well
    assert scan.remarks[0] == "slices 0.75 to 1.5 mm apart: interpolated at their positions every 0.75 mm"


@real_ct
def test_a_real_tilted_series_is_resampled():
    """Its pixels are no CT any more; its headers are those of the scanner, 14 degrees and four slices 5 mm apart."""
    _, grid = read_image(real("odd", "gantrytilting/001"))
    assert grid.tilt < 1e-6
    np.testing.assert_allclose(grid.spacing, (5, 0.41797, 0.41797), atol=1e-4)
    height = 3 * 5 + 5 + 512 * 0.41797 * np.sin(np.radians(14))
    assert grid.shape[0] * 5 == pytest.approx(height, abs=5)
