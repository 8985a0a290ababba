"""Laws of reading, resampling and storing volumes, on made-up files; and checks on real CT where it is at hand.

The real cases lie in the folder that the environment variable LIVER_CT_DIR names.
"""

import itertools
import os
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import apply_orientation, inv_ornt_aff
from PIL import Image
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, generate_uid
from slicesampling import UserError, volumes
from slicesampling.volumes import AIR, Grid

REAL = os.environ.get("LIVER_CT_DIR")
real_ct = pytest.mark.skipif(not REAL, reason="LIVER_CT_DIR is not set: no real CT to test on")

REVERSE = np.array([[0.0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
LPS = np.diag([-1.0, -1, 1, 1])
CANONICAL = (1.5, 1.0, 1.0)


def ras(grid: Grid) -> np.ndarray:
    """Return the NIfTI affine (x, y, z in RAS) of a grid."""
    return LPS @ REVERSE @ grid.affine @ REVERSE


def grid_of(shape, spacing, origin=(0.0, 0.0, 0.0)) -> Grid:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return Grid(shape, affine)


def rotated(grid: Grid, degrees: float, axes: tuple[int, int]) -> Grid:
    """Turn a grid about the world's origin in the plane of two world axes (of z, y, x)."""
    angle, turn = np.radians(degrees), np.eye(4)
    turn[np.ix_(axes, axes)] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return Grid(grid.shape, turn @ grid.affine)


def world(grid: Grid) -> np.ndarray:
    """Return the voxel centres (3, z, y, x) of a grid in mm."""
    indices = np.indices(grid.shape).reshape(3, -1)
    return (grid.affine[:3, :3] @ indices + grid.affine[:3, 3:]).reshape(3, *grid.shape)


def ball(grid: Grid, centre, radius: float) -> np.ndarray:
    return np.linalg.norm(world(grid) - np.reshape(centre, (3, 1, 1, 1)), axis=0) <= radius


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def write_nifti(path: Path, array: np.ndarray, grid: Grid) -> Path:
    image = nibabel.Nifti1Image(array.T, ras(grid))
    nibabel.save(image, path)
    return path


def write_dicom(path: Path, pixels: np.ndarray, position, instance: int, **changes) -> None:
    """Write one CT slice; `position` (x, y, z) in mm; `changes` replace elements, None removes them."""
    one = pydicom.Dataset()
    one.file_meta = pydicom.dataset.FileMetaDataset()
    one.file_meta.TransferSyntaxUID = changes.pop("TransferSyntaxUID", ExplicitVRLittleEndian)
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = CTImageStorage
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = generate_uid()
    one.SeriesInstanceUID = "1.2.3"
    one.Modality = "CT"
    one.InstanceNumber = instance
    one.ImagePositionPatient = [float(p) for p in position]
    one.ImageOrientationPatient = [1.0, 0, 0, 0, 1, 0]
    one.PixelSpacing = [0.8, 0.7]
    one.SliceThickness = 9.0  # wrong on purpose: the positions count
    one.Rows, one.Columns = pixels.shape
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
    one.RescaleSlope, one.RescaleIntercept = 1, -1024
    one.PixelData = pixels.astype("<i2").tobytes()
    for name, value in changes.items():
        if value is None:
            delattr(one, name)
        else:
            setattr(one, name, value)
    one.save_as(path, enforce_file_format=True)


def write_series(folder: Path, hu: np.ndarray, *, spacing: float = 2.5, downwards=False, names=None, **changes) -> Path:
    """Write HU (z, y, x) as a series from z = 10 mm; `downwards`: InstanceNumber falls while z grows."""
    folder.mkdir()
    for k, plane in enumerate(hu):
        instance = len(hu) - k if downwards else k + 1
        name = names[k] if names else f"i{instance:04d}.dcm"
        write_dicom(folder / name, plane + 1024, (-40, -60, 10 + spacing * k), instance, **changes)
    return folder


def write_pngs(folder: Path, masks: np.ndarray) -> Path:
    """Write masks in the order of the file names, which is no alphabetical one."""
    folder.mkdir()
    for k, mask in enumerate(masks):
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"liver-{k}.png")
    return folder


@pytest.fixture
def hu() -> np.ndarray:
    """A volume (12, 6, 5) in HU in which every voxel differs from every other."""
    return np.random.default_rng(0).permutation(np.arange(-180, 180)).reshape(12, 6, 5).astype(np.int16)


# Reading NRRD and MetaImage -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_nrrd_and_metaimage_are_read_like_nifti(tmp_path, hu, suffix):
    """Whatever the axes: the same volume in either format gives the same voxels in the same place."""
    for number, flip in enumerate(itertools.product((1, -1), repeat=3)):
        image = SimpleITK.GetImageFromArray(hu)
        image.SetSpacing((0.7, 0.8, 2.5))
        image.SetOrigin((-40.0, 12.5, 1000.0))
        order = ([0, 1, 2], [2, 0, 1], [1, 2, 0])[number % 3]
        image.SetDirection((np.eye(3)[order] * flip).ravel())
        paths = [str(tmp_path / f"{number}{ending}") for ending in (suffix, ".nii.gz")]
        for path in paths:
            SimpleITK.WriteImage(image, path, useCompression=True)
        (array, grid), (expected, expected_grid) = (volumes.read_image(path) for path in paths)
        np.testing.assert_array_equal(array, expected)
        np.testing.assert_allclose(grid.affine, expected_grid.affine, atol=1e-4)
        image, mask, _ = volumes.read_case(paths[0], paths[1], [150, 151])
        np.testing.assert_array_equal(mask, (image == 150) | (image == 151))


def test_nrrd_and_metaimage_that_hide_something_are_refused(tmp_path, hu):
    plain = SimpleITK.GetImageFromArray(hu)
    SimpleITK.WriteImage(plain, str(tmp_path / "whole.nrrd"))
    SimpleITK.WriteImage(plain, str(tmp_path / "whole.mha"))
    SimpleITK.WriteImage(
        SimpleITK.GetImageFromArray(np.zeros((2, 3, 4, 5), np.int16), isVector=False), str(tmp_path / "time.mha")
    )
    vectors = SimpleITK.GetImageFromArray(np.zeros((3, 4, 5, 3), np.uint8), isVector=True)
    SimpleITK.WriteImage(vectors, str(tmp_path / "colours.nrrd"))
    whole = (tmp_path / "whole.nrrd").read_bytes()
    header, voxels = whole.split(b"\n\n", 1)
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(1000))
    changed = {
        "elsewhere.nrrd": (header + b"\ndata file: secret\n\n", "voxels lie in another file"),
        "elsewhere2.nrrd": (header + b"\ndatafile: /etc/passwd\n\n", "voxels lie in another file"),
        "truncated.nrrd": (whole[:-100], "cannot be read as nrrd"),
        "large.nrrd": (header.replace(b"sizes: 5 6 12", b"sizes: 99999 99999 99999") + b"\n\n" + voxels, "announces"),
        "nowhere.nrrd": (
            b"\n".join(line for line in header.split(b"\n") if not line.startswith(b"space")) + b"\n\n" + voxels,
            "orientation is unknown",
        ),
        "elsewhere.mha": (
            (tmp_path / "whole.mha").read_bytes().replace(b"ElementDataFile = LOCAL", b"ElementDataFile = secret"),
            "voxels lie in another file",
        ),
        "truncated.mha": ((tmp_path / "whole.mha").read_bytes()[:-100], "cannot be read as mha"),
    }
    for name, (content, _) in changed.items():
        (tmp_path / name).write_bytes(content)
    messages = {name: message for name, (_, message) in changed.items()}
    for name, message in {**messages, "time.mha": "three axes", "colours.nrrd": "3 values a voxel"}.items():
        with pytest.raises(UserError, match=message) as error:
            volumes.read_image(tmp_path / name)
        assert name in str(error.value)
        assert "\n" not in str(error.value)


# Reading NIfTI --------------------------------------------------------------------------------------------------------


def test_slope_and_intercept_give_hounsfield_units(tmp_path, hu):
    image = nibabel.Nifti1Image(((hu + 1024) // 2).astype(np.int16).T, np.eye(4))
    image.header.set_slope_inter(2, -1024)
    nibabel.save(image, tmp_path / "scaled.nii.gz")
    array, _ = volumes.read_image(tmp_path / "scaled.nii.gz")
    stored = ((hu + 1024) // 2) * 2 - 1024
    # The identity affine is RAS: the library's x and y run the other way.
    assert np.array_equal(array, stored[:, ::-1, ::-1])
    assert array.dtype == np.int16


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<i4", ">f4", "<f8"])
def test_every_stored_type_reads_the_same(tmp_path, hu, dtype):
    header = nibabel.Nifti1Header(endianness=dtype[0])
    header.set_data_dtype(dtype)
    image = nibabel.Nifti1Image(hu.astype(dtype).T, ras(grid_of(hu.shape, (2, 1, 1))), header)
    nibabel.save(image, tmp_path / "image.nii")
    array, _ = volumes.read_image(tmp_path / "image.nii")
    assert np.array_equal(array, hu)
    assert array.dtype.isnative


def test_what_lies_outside_of_the_scanner_is_air(tmp_path):
    values = np.array([-3024, -2000, -1025, -1024, -1023.4, np.nan, 40.6, 1e9], np.float32).reshape(2, 2, 2)
    array, _ = volumes.read_image(write_nifti(tmp_path / "image.nii", values, grid_of((2, 2, 2), (1, 1, 1))))
    assert array.ravel().tolist() == [AIR, AIR, AIR, AIR, -1023, AIR, 41, 32767]


def test_qform_alone_tells_the_grid(tmp_path, hu):
    grid = grid_of(hu.shape, (2.5, 0.8, 0.7), (5, 6, 7))
    image = nibabel.Nifti1Image(hu.T, None)
    image.set_qform(ras(grid), code=1)
    nibabel.save(image, tmp_path / "q.nii")
    assert int(nibabel.load(tmp_path / "q.nii").header["sform_code"]) == 0
    array, read = volumes.read_image(tmp_path / "q.nii")
    assert read.matches(grid)
    assert np.array_equal(array, hu)


def test_sform_comes_before_qform(tmp_path, hu):
    grid = grid_of(hu.shape, (2.5, 0.8, 0.7), (5, 6, 7))
    image = nibabel.Nifti1Image(hu.T, None)
    image.set_sform(ras(grid), code=1)
    image.set_qform(np.diag([3.0, 3, 3, 1]), code=1)
    nibabel.save(image, tmp_path / "both.nii")
    assert volumes.read_image(tmp_path / "both.nii")[1].matches(grid)


def orientations() -> list[np.ndarray]:
    """Return the 48 ways to store three axes, as nibabel's (axis, flip) rows."""
    return [
        np.column_stack([axes, flips])
        for axes in itertools.permutations(range(3))
        for flips in itertools.product((1, -1), repeat=3)
    ]


def test_the_storage_order_never_shows(tmp_path, hu):
    """All 48 flips and transpositions of image and mask, each its own, give the same canonical volume."""
    grid = grid_of(hu.shape, (2.7, 0.83, 0.71), (-31, 12, 7))
    mask = hu > 30
    ways = orientations()
    expected = None
    for k, way in enumerate(ways):
        paths = []
        for name, array, stored_as in (("image", hu, way), ("mask", mask.astype(np.uint8), ways[(7 * k) % len(ways)])):
            turned = apply_orientation(array.T, stored_as)
            affine = ras(grid) @ inv_ornt_aff(stored_as, array.T.shape)
            paths.append(tmp_path / f"{name}.nii")
            nibabel.save(nibabel.Nifti1Image(turned, affine), paths[-1])
        read_hu, read_mask, read_grid = volumes.read_case(*paths)
        assert np.array_equal(read_hu, hu)
        assert read_mask is not None
        assert np.array_equal(read_mask, mask)
        assert read_grid.matches(grid)
        found = volumes.preprocess(*paths, CANONICAL)
        expected = expected or found
        assert np.array_equal(found.image, expected.image)
        assert np.array_equal(found.mask, expected.mask)
        assert found.grid.matches(expected.grid)
    assert len(ways) == 48


def test_any_label_is_liver(tmp_path, hu):
    grid = grid_of(hu.shape, (2, 1, 1))
    labels = (np.arange(hu.size).reshape(hu.shape) % 3).astype(np.uint8)
    image, label = write_nifti(tmp_path / "i.nii", hu, grid), write_nifti(tmp_path / "l.nii", labels, grid)
    _, mask, _ = volumes.read_case(image, label)
    assert mask is not None
    assert np.array_equal(mask, labels > 0)
    assert volumes.read_case(image, None)[1] is None


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
    with pytest.raises(volumes.LabelError, match=r"not on the grid.*12x6x.*12x6x5 voxels of 2x1x1 mm"):
        volumes.read_case(image, label)


def test_what_is_no_volume_is_refused(tmp_path, hu):
    grid = grid_of(hu.shape, (2, 1, 1))
    sheared = Grid(grid.shape, grid.affine.copy())
    sheared.affine[1, 0] = 2 * np.tan(np.radians(60))
    truncated = write_nifti(tmp_path / "truncated.nii.gz", hu, grid)
    truncated.write_bytes(truncated.read_bytes()[:300])
    cut = write_nifti(tmp_path / "cut.nii", hu, grid)
    cut.write_bytes(cut.read_bytes()[:-10])
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4, 2), np.int16), np.eye(4)), tmp_path / "time.nii")
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), None), tmp_path / "nowhere.nii")
    colours = np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colours, np.eye(4)), tmp_path / "colours.nii")
    (tmp_path / "text.nii").write_text("no NIfTI")
    (tmp_path / "empty.mha").write_text("")
    (tmp_path / "image.jpg").write_text("")
    large = nibabel.Nifti1Header()
    large.set_data_shape((30000, 30000, 30000))
    large.set_data_dtype(np.int16)
    large.set_sform(np.eye(4), 1)
    (tmp_path / "large.nii").write_bytes(large.binaryblock + bytes(8))
    for name, message in {
        "truncated.nii.gz": "complete",
        "cut.nii": "complete",
        "time.nii": "three axes",
        "nowhere.nii": "neither sform nor qform",
        "colours.nii": "integers",
        "text.nii": "cannot be read as NIfTI",
        "empty.mha": "cannot be read as mha",
        "image.jpg": "unknown format",
        "large.nii": "announces 30000x30000x30000 voxels",
        "missing.nii": "no such file",
        write_nifti(tmp_path / "sheared.nii", hu, sheared).name: r"tilted by 60\.0 degrees",
        write_nifti(tmp_path / "flat.nii", hu[:1], grid).name: "two or more",
    }.items():
        with pytest.raises(UserError, match=message) as error:
            volumes.read_image(tmp_path / name)
        assert name in str(error.value)
        assert "\n" not in str(error.value)


def test_a_trailing_axis_of_length_one_is_no_axis(tmp_path, hu):
    grid = grid_of(hu.shape, (2, 1, 1))
    nibabel.save(nibabel.Nifti1Image(hu.T[..., None], ras(grid)), tmp_path / "i.nii")
    assert np.array_equal(volumes.read_image(tmp_path / "i.nii")[0], hu)


# Reading DICOM --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("downwards", [False, True])
def test_dicom_positions_alone_order_the_slices(tmp_path, hu, downwards):
    names = [f"{n}" for n in np.random.default_rng(1).permutation(len(hu))]
    folder = write_series(tmp_path / "series", hu, downwards=downwards, names=names)
    array, grid = volumes.read_image(folder)
    assert np.array_equal(array, hu)
    assert grid.matches(grid_of(hu.shape, (2.5, 0.8, 0.7), (10, -60, -40)))


def test_dicom_rescale_holds_for_each_slice(tmp_path, hu):
    folder = write_series(tmp_path / "series", hu)
    write_dicom(folder / "i0003.dcm", (hu[2] + 1000) * 2, (-40, -60, 15), 3, RescaleSlope=0.5, RescaleIntercept=-1000)
    assert np.array_equal(volumes.read_image(folder)[0], hu)


def test_dicom_in_another_plane_ends_up_axial(tmp_path, hu):
    """Coronal slices stacked from back to front: rows run downwards, columns to the left."""
    folder = tmp_path / "coronal"
    folder.mkdir()
    for y in range(hu.shape[1]):
        write_dicom(
            folder / f"{y}.dcm",
            hu[::-1, y, :] + 1024,
            (-40, -60 + 0.9 * y, 10 + 0.8 * 11),
            hu.shape[1] - y,
            ImageOrientationPatient=[1.0, 0, 0, 0, 0, -1],
        )
    array, grid = volumes.read_image(folder)
    assert np.array_equal(array, hu)
    assert grid.matches(grid_of(hu.shape, (0.8, 0.9, 0.7), (10, -60, -40)))


def test_dicom_and_nifti_of_one_volume_agree_where_it_is_oblique(tmp_path, hu):
    grid = rotated(grid_of(hu.shape, (2.5, 0.8, 0.7), (10, -60, -40)), 20, (0, 1))
    folder = tmp_path / "oblique"
    folder.mkdir()
    stack, down, right = (grid.affine[:3, k][::-1] for k in range(3))
    cosines = [*(right / 0.7), *(down / 0.8)]
    for k, plane in enumerate(hu):
        position = grid.affine[:3, 3][::-1] + k * stack
        write_dicom(
            folder / f"{k}",
            plane + 1024,
            np.round(position, 6),
            k,
            ImageOrientationPatient=[round(float(c), 8) for c in cosines],
        )
    array, read = volumes.read_image(folder)
    assert np.array_equal(array, hu)
    assert read.matches(grid)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Modality": "MR"}, "Modality is MR"),
        ({"SamplesPerPixel": 3}, "colours"),
        ({"NumberOfFrames": 2}, "several frames"),
        ({"RescaleIntercept": None}, "no RescaleIntercept"),
        ({"ImagePositionPatient": None}, "no ImagePositionPatient"),
        ({"SeriesInstanceUID": "1.2.4"}, "2 DICOM series"),
        ({"ImageOrientationPatient": [0.0, 1, 0, 1, 0, 0]}, "ImageOrientationPatient is"),
        ({"PixelSpacing": [0.8, 0.71]}, "PixelSpacing is"),
        ({"Rows": 3, "Columns": 10}, "Rows, Columns is"),
        ({"ImagePositionPatient": [-40.0, -60, 12.5]}, r"several slices at 12\.500 mm"),
        ({"ImagePositionPatient": [-40.0, -60, 16.2]}, r"missing"),
        ({"ImagePositionPatient": [-38.0, -60, 15]}, r"off an even stack"),
        ({"PixelData": b"\0" * 20}, "pixels cannot be read"),
    ],
)
def test_one_wrong_slice_is_named(tmp_path, hu, changes, message):
    folder = write_series(tmp_path / "series", hu)
    write_dicom(folder / "i0003.dcm", hu[2] + 1024, (-40, -60, 15), 3)
    assert np.array_equal(volumes.read_image(folder)[0], hu)
    write_dicom(folder / "i0003.dcm", hu[2] + 1024, (-40, -60, 15), 3, **changes)
    with pytest.raises(UserError, match=message) as error:
        volumes.read_image(folder)
    assert "series" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("gone", range(2, 12))
def test_a_missing_slice_is_found_wherever_it_was(tmp_path, hu, gone):
    folder = write_series(tmp_path / "series", hu)
    (folder / f"i{gone:04d}.dcm").unlink()
    where = f"{10 + 2.5 * (gone - 2):.3f} and {10 + 2.5 * gone:.3f}"
    with pytest.raises(UserError, match=rf"5\.000 mm between {where} mm .*is a slice missing"):
        volumes.read_image(folder)


def test_a_folder_that_is_no_series_is_refused(tmp_path, hu):
    folder = write_series(tmp_path / "series", hu[:1])
    with pytest.raises(UserError, match="two or more"):
        volumes.read_image(folder)
    (folder / "notes.txt").write_text("no slice")
    with pytest.raises(UserError, match="not a DICOM file"):
        volumes.read_image(folder)


def test_a_compressed_series_without_decoder_says_what_to_install(tmp_path, hu, monkeypatch):
    class Missing:
        is_available = False

    folder = write_series(tmp_path / "series", hu)
    for path in folder.iterdir():
        one = pydicom.dcmread(path)
        one.file_meta.TransferSyntaxUID = JPEG2000Lossless
        one.PixelData = pydicom.encaps.encapsulate([bytes(one.PixelData)])
        one["PixelData"].is_undefined_length = True
        one.save_as(path)
    monkeypatch.setattr(volumes, "get_decoder", lambda syntax: Missing)
    with pytest.raises(UserError, match=r"JPEG 2000.*pip install pylibjpeg"):
        volumes.read_image(folder)


@pytest.mark.parametrize("degrees", [-20, 5, 12])
def test_a_tilted_gantry_is_resampled_to_the_patients_axes(tmp_path, degrees):
    """HU that are linear in the patient's millimetres, and the half of them above a plane, stay in place."""
    tilt = np.radians(degrees)
    z, y, x = np.meshgrid(2.5 * np.arange(30), 0.8 * np.arange(60), 0.7 * np.arange(40), indexing="ij")
    places = np.stack([10 + z + np.sin(tilt) * y, -60 + np.cos(tilt) * y, -40 + x])  # of the voxels, (z, y, x) in mm
    field = 2.0 * places[0] - 1.5 * places[1] + places[2]
    cosines = [1.0, 0, 0, 0, float(np.cos(tilt)), float(np.sin(tilt))]
    folder = write_series(tmp_path / "series", np.rint(field).astype(np.int16), ImageOrientationPatient=cosines)
    label = write_pngs(tmp_path / "Ground", field > 100)
    array, mask, grid = volumes.read_case(folder, label)
    assert grid.tilt < 1e-6
    np.testing.assert_allclose(np.diag(grid.affine)[:3], grid.spacing)
    np.testing.assert_allclose(grid.spacing, (2.5, 0.8, 0.7))
    voxels = np.indices(array.shape).reshape(3, -1)
    world = (grid.affine @ np.vstack([voxels, np.ones(voxels.shape[1])]))[:3].reshape(3, *array.shape)
    expected = 2.0 * world[0] - 1.5 * world[1] + world[2]
    inside = array > AIR
    assert inside.mean() > 0.6
    # Within half a voxel of the edge the border value holds.
    assert np.percentile(np.abs(array - expected)[inside], 90) < 1.1
    clear = inside & (np.abs(expected - 100) > 6)
    assert (mask == (expected > 100))[clear].mean() > 0.999
    assert not mask[~inside].any()
    assert np.array_equal(volumes.read_image(folder)[0], array)


def test_slices_that_are_tilted_more_than_any_gantry_are_refused(tmp_path, hu):
    tilt = np.radians(60)
    cosines = [1.0, 0, 0, 0, float(np.cos(tilt)), float(np.sin(tilt))]
    folder = write_series(tmp_path / "series", hu, ImageOrientationPatient=cosines)
    with pytest.raises(UserError, match=r"60\.0 degrees"):
        volumes.read_image(folder)


# PNG masks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("downwards", [False, True])
@pytest.mark.parametrize("shuffled", [False, True])
def test_png_masks_follow_the_instance_numbers_to_the_positions(tmp_path, hu, downwards, shuffled):
    """The mask marks, in each slice, the voxels that its own HU name: another slice's mask cannot pass for it."""
    names = [f"x{n}" for n in np.random.default_rng(2).permutation(len(hu))] if shuffled else None
    folder = write_series(tmp_path / "series", hu, downwards=downwards, names=names)
    by_position = hu > np.median(hu)
    label = write_pngs(tmp_path / "Ground", by_position[::-1] if downwards else by_position)
    array, mask, grid = volumes.read_case(folder, label)
    assert mask is not None
    assert np.array_equal(mask, array > np.median(hu))
    assert grid.affine[0, 0] > 0


def test_png_masks_that_do_not_fit_are_refused(tmp_path, hu):
    folder = write_series(tmp_path / "series", hu)
    label = write_pngs(tmp_path / "Ground", hu > 0)
    assert volumes.read_case(folder, label)[1] is not None
    nifti = write_nifti(tmp_path / "i.nii", hu, grid_of(hu.shape, (2, 1, 1)))
    with pytest.raises(volumes.LabelError, match="DICOM slices with an InstanceNumber"):
        volumes.read_case(nifti, label)
    Image.new("RGB", (5, 6)).save(label / "liver-3.png")
    with pytest.raises(volumes.LabelError, match="mode RGB"):
        volumes.read_case(folder, label)
    Image.new("L", (6, 5)).save(label / "liver-3.png")
    with pytest.raises(volumes.LabelError, match="rows and columns"):
        volumes.read_case(folder, label)
    (label / "liver-3.png").write_bytes(b"no picture")
    with pytest.raises(volumes.LabelError, match="cannot be read as PNG"):
        volumes.read_case(folder, label)
    (label / "liver-3.png").unlink()
    with pytest.raises(volumes.LabelError, match="11 PNG masks for 12 slices"):
        volumes.read_case(folder, label)
    write_dicom(folder / "i0003.dcm", hu[2] + 1024, (-40, -60, 15), 4)
    with pytest.raises(volumes.LabelError, match="all different"):
        volumes.read_case(folder, label)


# Grids and resampling -------------------------------------------------------------------------------------------------

lengths = st.tuples(st.integers(2, 12), st.integers(2, 12), st.integers(2, 12))
spacings = st.tuples(*[st.floats(0.4, 5.0) for _ in range(3)])
origins = st.tuples(*[st.floats(-300, 300) for _ in range(3)])
angles = st.floats(-40, 40)
planes = st.sampled_from([(0, 1), (0, 2), (1, 2)])


@given(lengths, spacings, origins, angles, planes)
@settings(max_examples=50, deadline=None)
def test_a_grid_survives_json(shape, spacing, origin, angle, axes):
    grid = rotated(grid_of(shape, spacing, origin), angle, axes)
    again = Grid.from_json(grid.to_json())
    assert again.shape == grid.shape
    assert np.array_equal(again.affine, grid.affine)
    assert again.spacing == pytest.approx(spacing)


@given(lengths, spacings, origins)
@settings(max_examples=50, deadline=None)
def test_the_canonical_grid_covers_the_extent(shape, spacing, origin):
    grid = grid_of(shape, spacing, origin)
    canonical = volumes.canonical_grid(grid, CANONICAL)
    assert canonical.spacing == pytest.approx(CANONICAL)
    # Lower edges coincide; the upper ones are half a voxel apart at most, unless the volume is thinner than a voxel.
    low = canonical.affine[:3, 3] - np.array(CANONICAL) / 2
    assert low == pytest.approx(np.array(origin) - np.array(spacing) / 2)
    extent, covered = np.array(shape) * spacing, np.array(canonical.shape) * CANONICAL
    assert (np.abs(extent - covered) <= np.array(CANONICAL) / 2 + 1e-5).all()


@given(lengths, spacings, origins, angles, planes)
@settings(max_examples=50, deadline=None)
def test_the_canonical_grid_of_an_oblique_volume_holds_all_its_voxels(shape, spacing, origin, angle, axes):
    grid = rotated(grid_of(shape, spacing, origin), angle, axes)
    canonical = volumes.canonical_grid(grid, CANONICAL)
    centres = world(grid).reshape(3, -1)
    index = (centres - canonical.affine[:3, 3:]) / np.reshape(CANONICAL, (3, 1))
    assert (index >= -0.5 - 1e-9).all()
    assert (index <= np.reshape(canonical.shape, (3, 1)) - 0.5 + 0.5 + 1e-4).all()


@given(lengths, spacings, origins)
@settings(max_examples=50, deadline=None)
def test_the_grid_of_a_canonical_volume_is_its_own_canonical_grid(shape, spacing, origin):
    grid = grid_of(shape, spacing, origin)
    canonical = volumes.canonical_grid(grid, spacing)
    assert canonical.matches(grid)
    array = np.random.default_rng(0).integers(-1000, 1000, shape).astype(np.int16)
    assert volumes.resample(array, grid, canonical, fill=AIR) == pytest.approx(array, abs=1e-2)


@given(lengths, spacings, st.tuples(*[st.floats(-2, 2) for _ in range(4)]), angles, planes)
@settings(max_examples=50, deadline=None)
def test_linear_interpolation_reproduces_linear_functions(shape, spacing, slopes, angle, axes):
    """A function linear in the world's mm is the same on either grid between the outermost voxel centres."""
    for grid in (grid_of(shape, spacing, (5, -8, 3)), rotated(grid_of(shape, spacing, (5, -8, 3)), angle, axes)):
        canonical = volumes.canonical_grid(grid, CANONICAL)
        on_grid, on_canonical = (slopes[3] + np.tensordot(slopes[:3], world(g), axes=1) for g in (grid, canonical))
        resampled = volumes.resample(on_grid, grid, canonical, fill=AIR)
        points = world(canonical).reshape(3, -1)
        index = np.linalg.inv(grid.affine) @ np.vstack([points, np.ones(points.shape[1])])
        inner = ((index[:3] >= 0) & (index[:3] <= np.reshape(shape, (3, 1)) - 1)).all(axis=0).reshape(canonical.shape)
        # Grids count as aligned up to a thousandth of a voxel.
        accuracy = volumes.ALIGNED * (1 + np.abs(slopes[:3]) @ np.array(spacing))
        assert resampled[inner] == pytest.approx(on_canonical[inner], abs=accuracy)
        outer = ((index[:3] < -1.02) | (index[:3] > np.reshape(shape, (3, 1)) + 0.02)).any(axis=0)
        assert (resampled[outer.reshape(canonical.shape)] == AIR).all()


@given(lengths, spacings)
@settings(max_examples=50, deadline=None)
def test_a_constant_volume_gets_no_rim(shape, spacing):
    grid = grid_of(shape, spacing)
    canonical = volumes.canonical_grid(grid, CANONICAL)
    assert (volumes.resample(np.full(shape, 100, np.int16), grid, canonical, fill=AIR) == 100).all()
    assert volumes.resample_mask(np.ones(canonical.shape, bool), canonical, grid).all()


@given(lengths, spacings, st.floats(0.5, 3))
@settings(max_examples=50, deadline=None)
def test_the_fast_path_agrees_with_the_general_one(shape, spacing, factor):
    grid = grid_of(shape, spacing, (5, -8, 3))
    target = grid_of((7, 9, 8), [s * factor for s in spacing], (-1, -9, 2))
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    matrix = np.linalg.inv(grid.affine) @ target.affine
    expected = volumes._resample_oblique(array, target.shape, matrix, -9.0)
    assert volumes.resample(array, grid, target, fill=-9.0) == pytest.approx(expected, abs=1e-4)


def test_exactly_one_half_is_not_liver():
    mask = np.zeros((1, 1, 4), bool)
    mask[..., 1:3] = True
    # Twice the spacing: each new centre lies midway between two old ones.
    found = volumes.resample_mask(mask, grid_of((1, 1, 4), (1, 1, 1)), grid_of((1, 1, 2), (1, 1, 2), (0, 0, 0.5)))
    assert not found.any()


@given(
    st.tuples(st.floats(0.8, 2.5), st.floats(0.6, 1.2), st.floats(0.6, 1.2)), st.floats(-25, 25), planes, st.booleans()
)
@settings(max_examples=25, deadline=None)
def test_a_ball_is_a_ball_on_every_grid(spacing, angle, axes, oblique):
    """A ball goes to the canonical grid and back; there and here it agrees with the ball that geometry gives."""
    shape = tuple(round(44 / s) for s in spacing)
    grid = grid_of(shape, spacing, (-20, 30, 5))
    grid = rotated(grid, angle, axes) if oblique else grid
    centre = grid.affine[:3, :3] @ (np.array(shape) / 2) + grid.affine[:3, 3]
    native = ball(grid, centre, 17)
    canonical = volumes.canonical_grid(grid, CANONICAL)
    moved = volumes.resample_mask(native, grid, canonical)
    assert dice(moved, ball(canonical, centre, 17)) > 0.96
    assert dice(volumes.resample_mask(moved, canonical, grid), native) > 0.96
    millilitres = moved.sum() * np.prod(CANONICAL) / 1000
    assert millilitres == pytest.approx(4 / 3 * np.pi * 17**3 / 1000, rel=0.04)


# Storing --------------------------------------------------------------------------------------------------------------


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
    native = volumes.resample_mask(again, preprocessed.grid, preprocessed.native_grid)
    volumes.write_mask(folder / "native.nii.gz", native, preprocessed.native_grid)
    _, mask, _ = volumes.read_case(folder / "image.nii.gz", folder / "native.nii.gz")
    assert mask is not None
    assert np.array_equal(mask, native)
    assert nibabel.load(folder / "native.nii.gz").get_data_dtype() == np.uint8


def test_equal_masks_are_equal_files(stored):
    folder, preprocessed = stored
    for name in ("one", "two"):
        volumes.write_mask(folder / name / "mask.nii.gz", preprocessed.mask, preprocessed.grid)
    assert (folder / "one" / "mask.nii.gz").read_bytes() == (folder / "two" / "mask.nii.gz").read_bytes()


# Real CT --------------------------------------------------------------------------------------------------------------


def real(*parts: str) -> Path:
    assert REAL
    return Path(REAL).joinpath(*parts)


def millilitres(mask: np.ndarray, grid: Grid) -> float:
    return float(mask.sum() * np.prod(grid.spacing) / 1000)


@real_ct
def test_the_chaos_masks_lie_on_the_liver():
    case = real("chaos", "CT", "3")
    hu, mask, grid = volumes.read_case(case / "DICOM_anon", case / "Ground")
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
    hu, mask, grid = volumes.read_case(real(image), real(label))
    assert mask is not None
    assert hu.min() == lowest
    assert 20 < hu[mask].mean() < 160
    assert millilitres(mask, grid) == pytest.approx(expected, abs=1)
    assert np.argwhere(mask)[:, 2].mean() < grid.shape[2] / 2  # on the patient's right
    canonical = volumes.canonical_grid(grid, CANONICAL)
    moved = volumes.resample_mask(mask, grid, canonical)
    assert millilitres(moved, canonical) == pytest.approx(expected, rel=0.015)
    assert dice(volumes.resample_mask(moved, canonical, grid), mask) > 0.99


@real_ct
@pytest.mark.parametrize(
    ("series", "message"),
    [
        ("notavolume/001", r"several slices at 61\.500 mm"),
        ("slicecount/001", "Modality is MR"),
        ("sliceincrement/001", r"10\.000 mm between 28\.107 and 38\.107 mm .* is a slice missing"),
        ("sliceincrement/002", "is a slice missing"),
        ("sliceorientation/001", "Modality is MR"),
    ],
)
def test_odd_series_are_refused_in_one_line(series, message):
    with pytest.raises(UserError, match=message) as error:
        volumes.read_image(real("odd", series))
    assert "\n" not in str(error.value)
    assert series in str(error.value)


@real_ct
def test_a_real_tilted_series_is_resampled():
    """Its pixels are no CT any more; its headers are those of the scanner, 14 degrees and four slices 5 mm apart."""
    _, grid = volumes.read_image(real("odd", "gantrytilting/001"))
    assert grid.tilt < 1e-6
    np.testing.assert_allclose(grid.spacing, (5, 0.41797, 0.41797), atol=1e-4)
    height = 3 * 5 + 5 + 512 * 0.41797 * np.sin(np.radians(14))
    assert grid.shape[0] * 5 == pytest.approx(height, abs=5)


def test_the_folders_of_volumes_are_found_in_their_shards(tmp_path):
    for path in ("shard0/a", "shard1/b"):
        (tmp_path / path).mkdir(parents=True)
    found = volumes.volume_folders([tmp_path / "shard0", tmp_path / "shard1"])
    assert found == {"a": tmp_path / "shard0/a", "b": tmp_path / "shard1/b"}
