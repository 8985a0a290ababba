"""Laws of resampling and storing volumes, on made-up files; and checks on real CT where it is at hand.

The real cases lie in the folder that the environment variable LIVER_CT_DIR names.
"""

import itertools
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
from conftest import REAL, ROOT, real_ct
from scans import CANONICAL, dice, grid_of, read_case, read_image, write_nifti
from slicesampling import UserError
from slicesampling.cohort import grids, volumes
from slicesampling.cohort.grids import Grid
from slicesampling.cohort.volumes import AIR


def test_what_lies_outside_of_the_scanner_is_air(tmp_path):
    values = np.array([-3024, -2000, -1025, -1024, -1023.4, np.nan, 40.6, 1e9], np.float32).reshape(2, 2, 2)
    array, _ = read_image(write_nifti(tmp_path / "image.nii", values, grid_of((2, 2, 2), (1, 1, 1))))
    assert array.ravel().tolist() == [AIR, AIR, AIR, AIR, -1023, AIR, 41, 32767]


@pytest.fixture
def stored(tmp_path, hu) -> tuple[Path, volumes.Preprocessed]:
    grid = grid_of(hu.shape, (2.7, 0.83, 0.71), (-31, 12, 7))
    image = write_nifti(tmp_path / "image.nii.gz", hu, grid)
    label = write_nifti(tmp_path / "label.nii.gz", (hu > 30).astype(np.uint8), grid)
    return tmp_path, volumes.preprocess(image, label, CANONICAL)


def test_a_preprocessed_volume_survives_its_files(stored):
    folder, preprocessed = stored[0] / "volume", stored[1]
    volumes.save_preprocessed(folder, preprocessed)
    volumes.save_preprocessed(folder, preprocessed)
    names = ["image.nii", "mask.nii", "native_grid.json", "native_mask.nii.gz"]
    assert sorted(p.name for p in folder.iterdir()) == names
    assert np.array_equal(volumes.load_native_mask(folder), preprocessed.native_mask)
    loaded = volumes.load_preprocessed(folder)
    assert np.array_equal(loaded.image, preprocessed.image)
    assert np.array_equal(loaded.mask, preprocessed.mask)
    assert (loaded.image.dtype, loaded.mask.dtype) == (np.int16, np.uint8)
    assert loaded.grid.matches(preprocessed.grid)
    assert np.array_equal(loaded.native_grid.affine, preprocessed.native_grid.affine)


def test_loading_maps_the_files_into_memory(stored):
    volumes.save_preprocessed(stored[0] / "volume", stored[1])
    loaded = volumes.load_preprocessed(stored[0] / "volume")
    for array in (loaded.image, loaded.mask):
        assert isinstance(array, np.memmap)
        assert array.flags.c_contiguous


def test_a_viewer_lays_the_stored_volume_over_the_original(stored):
    """One point in mm is the same anatomy in the original file and in the stored one, as nibabel sees them."""
    folder, preprocessed = stored
    volumes.save_preprocessed(folder / "volume", preprocessed)
    original, canonical = nibabel.load(folder / "image.nii.gz"), nibabel.load(folder / "volume" / "image.nii")
    header = canonical.header
    assert (int(header["sform_code"]), int(header["qform_code"]), header.get_xyzt_units()[0]) == (1, 1, "mm")
    assert np.allclose(header.get_sform(), header.get_qform(), atol=1e-4)
    values = np.asarray(canonical.dataobj)
    native = np.asarray(original.dataobj).astype(float)
    for index in [(1, 2, 10), (0, 0, 0), (2, 3, 17)]:
        point = canonical.affine @ [*index, 1]
        i, j, k = np.clip((np.linalg.inv(original.affine) @ point)[:3], 0, np.array(native.shape) - 1)
        # Interpolate by hand between the eight neighbours.
        total = 0.0
        for a, b, c in itertools.product((0, 1), repeat=3):
            weight = np.prod([f if up else 1 - f for up, f in zip((a, b, c), (i % 1, j % 1, k % 1), strict=True)])
            if weight > 0:
                total += weight * native[int(i) + a, int(j) + b, int(k) + c]
        assert values[index] == pytest.approx(total, abs=0.51)


def test_a_prediction_survives_its_file_and_lies_on_the_original(stored):
    folder, preprocessed = stored
    volumes.write_mask(folder / "prediction.nii.gz", preprocessed.mask, preprocessed.grid)
    again = volumes.read_canonical_mask(folder / "prediction.nii.gz")
    assert again.dtype == bool
    assert np.array_equal(again, preprocessed.mask > 0)
    native = grids.resample_mask(again, preprocessed.grid, preprocessed.native_grid)
    volumes.write_mask(folder / "native.nii.gz", native, preprocessed.native_grid)
    _, mask, _ = read_case(folder / "image.nii.gz", folder / "native.nii.gz")
    assert mask is not None
    assert np.array_equal(mask, native)
    assert nibabel.load(folder / "native.nii.gz").get_data_dtype() == np.uint8


def test_equal_masks_are_equal_files(stored):
    folder, preprocessed = stored
    for name in ("one", "two"):
        volumes.write_mask(folder / name / "mask.nii.gz", preprocessed.mask, preprocessed.grid)
    assert (folder / "one" / "mask.nii.gz").read_bytes() == (folder / "two" / "mask.nii.gz").read_bytes()


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
    scan = volumes.read_scan(real("odd", "sliceincrement/002"))
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


def test_the_folders_of_volumes_are_found_in_their_shards(tmp_path):
    for path in ("shard0/a", "shard1/b"):
        (tmp_path / path).mkdir(parents=True)
    found = volumes.volume_folders([tmp_path / "shard0", tmp_path / "shard1"])
    assert found == {"a": tmp_path / "shard0/a", "b": tmp_path / "shard1/b"}


def test_nothing_that_a_user_brings_is_unpickled():
    """Checkpoints are the workflow's own; nothing else is loaded in a way that runs code."""
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "workflow").rglob("*.py"))
    assert not re.findall(
        r"pickle\.load|allow_pickle(?!=False)|read_pickle|np\.load\((?![^\n]*allow_pickle=False)|yaml\.load\(|shell=True|os\.system|(?<!\.)\beval\(|\bexec\(",
        sources,
    )
    loads = re.findall(r"torch\.load\([^\n]*", sources)
    assert loads
    assert all("weights_only=True" in load for load in loads)
