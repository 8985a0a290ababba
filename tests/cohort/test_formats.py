"""Laws of files of a volume: what is stored is read, whatever format, type and order; the rest is refused."""

import gzip
import itertools
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from nibabel.orientations import apply_orientation, inv_ornt_aff
from scans import CANONICAL, grid_of, ras, read_case, read_image, write_nifti, write_series
from slicesampling import UserError
from slicesampling.cohort import scans
from slicesampling.cohort.grids import Grid
from slicesampling.domain.labels import Label


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
        label = tmp_path / f"label{suffix}"
        SimpleITK.WriteImage(image + 200, str(label), useCompression=True)
        (array, grid), (expected, expected_grid) = (read_image(path) for path in paths)
        np.testing.assert_array_equal(array, expected)
        np.testing.assert_allclose(grid.affine, expected_grid.affine, atol=1e-4)
        image, mask, _ = read_case(paths[0], label, [350, 351])
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
        "elsewhere.nrrd": (header + b"\ndata file: secret\n\n", "voxels are in another file"),
        "elsewhere2.nrrd": (header + b"\ndatafile: /etc/passwd\n\n", "voxels are in another file"),
        "truncated.nrrd": (whole[:-100], "cannot be read as nrrd"),
        "large.nrrd": (header.replace(b"sizes: 5 6 12", b"sizes: 99999 99999 99999") + b"\n\n" + voxels, "announces"),
        "nowhere.nrrd": (
            b"\n".join(line for line in header.split(b"\n") if not line.startswith(b"space")) + b"\n\n" + voxels,
            "orientation is unknown",
        ),
        "elsewhere.mha": (
            (tmp_path / "whole.mha").read_bytes().replace(b"ElementDataFile = LOCAL", b"ElementDataFile = secret"),
            "voxels are in another file",
        ),
        "truncated.mha": ((tmp_path / "whole.mha").read_bytes()[:-100], "cannot be read as mha"),
    }
    for name, (content, _) in changed.items():
        (tmp_path / name).write_bytes(content)
    messages = {name: message for name, (_, message) in changed.items()}
    for name, message in {**messages, "time.mha": "three axes", "colours.nrrd": "3 values per voxel"}.items():
        with pytest.raises(UserError, match=message) as error:
            read_image(tmp_path / name)
        assert name in str(error.value)
        assert "\n" not in str(error.value)


def test_slope_and_intercept_give_hounsfield_units(tmp_path, hu):
    image = nibabel.Nifti1Image(((hu + 1024) // 2).astype(np.int16).T, np.eye(4))
    image.header.set_slope_inter(2, -1024)
    nibabel.save(image, tmp_path / "scaled.nii.gz")
    array, _ = read_image(tmp_path / "scaled.nii.gz")
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
    array, _ = read_image(tmp_path / "image.nii")
    assert np.array_equal(array, hu)
    assert array.dtype.isnative


def test_qform_alone_tells_the_grid(tmp_path, hu):
    grid = grid_of(hu.shape, (2.5, 0.8, 0.7), (5, 6, 7))
    image = nibabel.Nifti1Image(hu.T, None)
    image.set_qform(ras(grid), code=1)
    nibabel.save(image, tmp_path / "q.nii")
    assert int(nibabel.load(tmp_path / "q.nii").header["sform_code"]) == 0
    array, read = read_image(tmp_path / "q.nii")
    assert read.matches(grid)
    assert np.array_equal(array, hu)


def test_sform_comes_before_qform(tmp_path, hu):
    grid = grid_of(hu.shape, (2.5, 0.8, 0.7), (5, 6, 7))
    image = nibabel.Nifti1Image(hu.T, None)
    image.set_sform(ras(grid), code=1)
    image.set_qform(np.diag([3.0, 3, 3, 1]), code=1)
    nibabel.save(image, tmp_path / "both.nii")
    assert read_image(tmp_path / "both.nii")[1].matches(grid)


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
        read_hu, read_mask, read_grid = read_case(*paths)
        assert np.array_equal(read_hu, hu)
        assert read_mask is not None
        assert np.array_equal(read_mask, mask)
        assert read_grid.matches(grid)
        found = scans.preprocess(paths[0], Label.single(paths[1]), CANONICAL)
        expected = expected or found
        assert np.array_equal(found.image, expected.image)
        assert np.array_equal(found.mask, expected.mask)
        assert found.grid.matches(expected.grid)
    assert len(ways) == 48


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
            read_image(tmp_path / name)
        assert name in str(error.value)
        assert "\n" not in str(error.value)


def test_a_trailing_axis_of_length_one_is_no_axis(tmp_path, hu):
    grid = grid_of(hu.shape, (2, 1, 1))
    nibabel.save(nibabel.Nifti1Image(hu.T[..., None], ras(grid)), tmp_path / "i.nii")
    assert np.array_equal(read_image(tmp_path / "i.nii")[0], hu)


def nifti_file(path: Path, array: np.ndarray, kind=nibabel.Nifti1Image, **fields) -> Path:
    """Write a NIfTI file whose header has these fields."""
    image = kind(array.T, np.eye(4))
    image.set_qform(image.affine, 1)
    for name, value in fields.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("endian", ["<", ">"])
def test_nifti_2_and_either_byte_order_read_the_same(tmp_path, hu, suffix, endian):
    grid = grid_of(hu.shape, (2, 1, 1))
    for kind in (nibabel.Nifti1Image, nibabel.Nifti2Image):
        header = kind.header_class(endianness=endian)
        header.set_data_dtype(f"{endian}i2")
        image = kind(hu.T.astype(f"{endian}i2"), ras(grid), header)
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"x" * 1000))
        nibabel.save(image, tmp_path / f"image{suffix}")
        assert nibabel.load(tmp_path / f"image{suffix}").header.endianness == endian
        array, read = read_image(tmp_path / f"image{suffix}")
        assert np.array_equal(array, hu)
        assert read.matches(grid)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
def test_packed_files_read_as_nibabel_reads_them(tmp_path, hu, dtype):
    """Whatever slope and intercept, to half a unit."""
    for slope, intercept in ((1, 0), (2, -1000), (0.5, 3), (0, 0), (np.nan, 1)):
        image = nibabel.Nifti1Image((hu - hu.min()).astype(dtype).T, np.diag([-1, -1, 2, 1]))
        image.header["scl_slope"], image.header["scl_inter"] = slope, intercept
        for suffix in (".nii", ".nii.gz"):
            nibabel.save(image, tmp_path / f"image{suffix}")
            with (tmp_path / f"image{suffix}").open("rb") as file:
                assert file.read(2) == (b"\x1f\x8b" if suffix == ".nii.gz" else b"\x5c\x01")
        expected = nibabel.load(tmp_path / "image.nii").get_fdata().T
        for suffix in (".nii", ".nii.gz"):
            array, _ = read_image(tmp_path / f"image{suffix}")
            assert np.abs(array - expected).max() <= 0.5


def test_forms_that_disagree_are_told_and_the_sform_counts(tmp_path, hu):
    grid = grid_of(hu.shape, (2.5, 0.8, 0.7), (5, 6, 7))
    image = nibabel.Nifti1Image(hu.T, None)
    image.set_sform(ras(grid), code=1)
    image.set_qform(ras(grid_of(hu.shape, (2.5, 0.8, 0.7), (5, 6, 10))), code=1)
    nibabel.save(image, tmp_path / "both.nii")
    scan = scans.read_scan(tmp_path / "both.nii")
    assert scan.grid.matches(grid)
    assert scan.remarks == ("sform and qform of the header differ by up to 3 mm: the sform is used",)
    image.set_qform(ras(grid_of(hu.shape, (2.5, 0.8, 0.7), (5, 6, 7.01))), code=1)
    nibabel.save(image, tmp_path / "both.nii.gz")
    assert scans.read_scan(tmp_path / "both.nii.gz").remarks == ()
    image.header["quatern_b"] = 9
    nibabel.save(image, tmp_path / "both.nii")
    assert scans.read_scan(tmp_path / "both.nii").remarks == ("the qform of the header is invalid: the sform is used",)


def test_bombs_are_refused_in_little_memory(tmp_path, hu):
    """Files of kilobytes that announce, or unpack to, gigabytes."""
    grid = grid_of(hu.shape, (2, 1, 1))
    sound = gzip.decompress(write_nifti(tmp_path / "sound.nii.gz", hu, grid).read_bytes())
    header = nibabel.Nifti1Header(sound[:348], check=False)
    cases = {}
    wide = header.copy()
    wide.set_data_shape((1000, 1000, 2000))
    cases["announced.nii.gz"] = (wide.binaryblock + sound[348:], "more than it can hold")
    far = header.copy()
    far["vox_offset"] = 2**31
    cases["offset.nii.gz"] = (far.binaryblock + sound[348:], "vox_offset is 2147483648; accepted are 348 to 16777216")
    cases["surplus.nii.gz"] = (sound + bytes(2**28), None)
    cases["short.nii.gz"] = (sound[:-10], "ends before its last voxel")
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(gzip.compress(content, 1))
        tracemalloc.start()
        if message:
            with pytest.raises(UserError, match=message):
                read_image(tmp_path / name)
        else:
            assert np.array_equal(read_image(tmp_path / name)[0], hu)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**24, name


def test_a_damaged_body_is_found_by_its_checksum(tmp_path, hu):
    path = write_nifti(
        tmp_path / "image.nii.gz",
        np.random.default_rng(0).integers(0, 9, (60, 90, 90)).astype(np.int16),
        grid_of((60, 90, 90), (1, 1, 1)),
    )
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # of the checksum
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as NIfTI"):
        read_image(path)


@pytest.mark.parametrize("value", [0, np.nan, np.inf])
def test_impossible_affines_are_refused(tmp_path, hu, value):
    affine = np.diag([1.0, 1, 2, 1])
    affine[:3, 2] = (0, 0, value)
    for suffix in (".nii", ".nii.gz"):
        image = nibabel.Nifti1Image(hu.T, np.eye(4))
        image.header["sform_code"] = 1
        for k, name in enumerate(("srow_x", "srow_y", "srow_z")):
            image.header[name] = affine[k]
        image.header["qform_code"] = 0
        path = tmp_path / f"image{suffix}"
        opener = gzip.open if suffix == ".nii.gz" else open
        with opener(path, "wb") as file:
            file.write(image.header.binaryblock + bytes(4) + hu.tobytes())
        with pytest.raises(UserError, match="finite") as error:
            read_image(path)
        assert "\n" not in str(error.value)


def test_names_may_hold_blanks_and_any_letters(tmp_path, hu):
    folder = tmp_path / "Größe — 肝 (1)"
    folder.mkdir()
    grid = grid_of(hu.shape, (2, 1, 1))
    for name in ("ct.nii", "ct.nii.gz", "ct.nrrd", "ct.mha"):
        path = folder / f"Łiver {name}"
        if name.startswith("ct.nii"):
            write_nifti(path, hu, grid)
        else:
            SimpleITK.WriteImage(SimpleITK.ReadImage(str(folder / "Łiver ct.nii")), str(path))
        assert np.array_equal(read_image(path)[0], hu)
    assert np.array_equal(read_image(write_series(folder / "Schädel, Bauch", hu))[0], hu)


def test_a_loop_of_links_is_no_file(tmp_path):
    (tmp_path / "a.nii").symlink_to(tmp_path / "b.nii")
    (tmp_path / "b.nii").symlink_to(tmp_path / "a.nii")
    with pytest.raises(UserError, match="no such file"):
        read_image(tmp_path / "a.nii")
