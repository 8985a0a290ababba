"""Laws of storing volumes, on made-up files."""

import itertools
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
from conftest import ROOT
from scans import CANONICAL, grid_of, read_case, write_nifti
from slicesampling.cohort import grids, volumes
from slicesampling.cohort.scans import preprocess
from slicesampling.domain.labels import Label


@pytest.fixture
def stored(tmp_path, hu) -> tuple[Path, volumes.Preprocessed]:
    grid = grid_of(hu.shape, (2.7, 0.83, 0.71), (-31, 12, 7))
    image = write_nifti(tmp_path / "image.nii.gz", hu, grid)
    label = write_nifti(tmp_path / "label.nii.gz", (hu > 30).astype(np.uint8), grid)
    return tmp_path, preprocess(image, Label.single(label), CANONICAL)


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
