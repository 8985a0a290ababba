"""Laws of reading a DICOM series: positions order the slices, and what does not fit is named or bridged."""

import tempfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from conftest import at_most
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from scans import grid_of, read_case, read_image, rotated, write_dicom, write_pngs, write_series
from slicesampling import UserError
from slicesampling.cohort import dicom, scans
from slicesampling.cohort.scans import AIR
from slicesampling.domain.labels import Label


@pytest.mark.parametrize("downwards", [False, True])
def test_dicom_positions_alone_order_the_slices(tmp_path, hu, downwards):
    names = [f"{n}" for n in np.random.default_rng(1).permutation(len(hu))]
    folder = write_series(tmp_path / "series", hu, downwards=downwards, names=names)
    array, grid = read_image(folder)
    assert np.array_equal(array, hu)
    assert grid.matches(grid_of(hu.shape, (2.5, 0.8, 0.7), (10, -60, -40)))


def test_dicom_rescale_holds_for_each_slice(tmp_path, hu):
    folder = write_series(tmp_path / "series", hu)
    write_dicom(folder / "i0003.dcm", (hu[2] + 1000) * 2, (-40, -60, 15), 3, RescaleSlope=0.5, RescaleIntercept=-1000)
    assert np.array_equal(read_image(folder)[0], hu)


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
    array, grid = read_image(folder)
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
    array, read = read_image(folder)
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
        ({"ImageOrientationPatient": [0.0, 1, 0, 1, 0, 0]}, "ImageOrientationPatient is"),
        ({"PixelSpacing": [0.8, 0.71]}, "PixelSpacing is"),
        ({"Rows": 3, "Columns": 10}, "Rows, Columns is"),
        ({"ImagePositionPatient": [-40.0, -60, 12.5]}, r"several slices at 12\.500 mm"),
        (
            {"ImagePositionPatient": [-40.0, -60, 16.2]},
            r"3\.700 mm between 12\.500 and 16\.200 mm .*1 slice\(s\) missing",
        ),
        ({"ImagePositionPatient": [-38.0, -60, 15]}, r"2\.000 mm off the line"),
        ({"PixelData": b"\0" * 20}, "pixels cannot be read"),
    ],
)
def test_one_wrong_slice_is_named(tmp_path, hu, changes, message):
    folder = write_series(tmp_path / "series", hu)
    write_dicom(folder / "i0003.dcm", hu[2] + 1024, (-40, -60, 15), 3)
    assert np.array_equal(read_image(folder)[0], hu)
    write_dicom(folder / "i0003.dcm", hu[2] + 1024, (-40, -60, 15), 3, **changes)
    with pytest.raises(UserError, match=message) as error:
        read_image(folder, largest_slice_gap=3.0)
    assert "series" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("gone", range(2, 12))
def test_a_missing_slice_is_named_or_bridged(tmp_path, gone):
    """HU that rise linearly with the position do so without the slice as well."""
    hu = np.broadcast_to(np.arange(12)[:, None, None] * 10, (12, 6, 5)).astype(np.int16)
    folder = write_series(tmp_path / "series", hu)
    (folder / f"i{gone:04d}.dcm").unlink()
    where = f"{10 + 2.5 * (gone - 2):.3f} and {10 + 2.5 * gone:.3f}"
    with pytest.raises(UserError, match=rf"5\.000 mm between {where} mm .*1 slice.* missing, InstanceNumber {gone};"):
        read_image(folder, largest_slice_gap=4.9)
    scan = scans.read_scan(folder, Label.single(write_pngs(tmp_path / "Ground", np.delete(hu, gone - 1, axis=0) > 44)))
    assert np.array_equal(scan.image, hu)
    left = np.arange(12) != gone - 1
    assert np.array_equal(scan.mask[left], (hu > 44)[left])
    # Beside the end of the liver, half of what was not seen counts as liver.
    assert scan.mask[gone - 1].mean() == (0.5 if gone in (5, 6) else gone > 5)
    assert scan.grid.matches(grid_of(hu.shape, (2.5, 0.8, 0.7), (10, -60, -40)))
    assert scan.remarks == ("slices 2.5 to 5 mm apart: interpolated at their positions every 2.5 mm",)


@given(st.lists(st.floats(0.5, 5), min_size=3, max_size=20))
@at_most(25)
def test_uneven_slices_are_interpolated_at_their_positions(steps):
    """HU that are linear in mm stay so, whatever the distances; and every position is within the volume."""
    heights = np.round(np.cumsum([0, *steps]), 3)
    with tempfile.TemporaryDirectory() as name:
        for k, height in enumerate(heights):
            plane = np.full((6, 5), round(100 * height), np.int16)
            write_dicom(Path(name) / f"{k}.dcm", plane, (-40, -60, height), k, RescaleIntercept=0)
        image, grid = read_image(Path(name))
    found = (grid.affine @ [np.arange(grid.shape[0]), *np.zeros((2, grid.shape[0])), np.ones(grid.shape[0])])[0]
    assert (found[0], found[-1]) == pytest.approx((heights[0], heights[-1]))
    even = np.abs(heights - np.linspace(heights[0], heights[-1], len(heights))).max()
    assert np.abs(image[:, 0, 0] - 100 * found).max() <= 1 + 100 * (even if len(found) == len(heights) else 0)


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
    monkeypatch.setattr(dicom, "get_decoder", lambda syntax: Missing)
    with pytest.raises(UserError, match=r"compressed as JPEG 2000.*no decoder"):
        read_image(folder)


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
    array, mask, grid = read_case(folder, label)
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
    assert np.array_equal(read_image(folder)[0], array)


def test_slices_that_are_tilted_more_than_any_gantry_are_refused(tmp_path, hu):
    tilt = np.radians(60)
    cosines = [1.0, 0, 0, 0, float(np.cos(tilt)), float(np.sin(tilt))]
    folder = write_series(tmp_path / "series", hu, ImageOrientationPatient=cosines)
    with pytest.raises(UserError, match=r"60\.0 degrees"):
        read_image(folder)


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEG2000Lossless, JPEGLSLossless, RLELossless])
def test_compressed_series_read_the_same(tmp_path, hu, syntax):
    """Compressed without loss by ITK, or by pydicom where ITK has no such encoder."""
    folder = write_series(tmp_path / "series", np.tile(hu, (1, 4, 4)))
    plain, grid = read_image(folder)
    for path in folder.iterdir():
        one = pydicom.dcmread(path)
        if syntax in (JPEGLSLossless, RLELossless):
            one.compress(syntax)
        else:
            writer = SimpleITK.ImageFileWriter()
            writer.SetFileName(str(tmp_path / "packed.dcm"))
            writer.UseCompressionOn()
            writer.SetCompressor("JPEG" if syntax == JPEGLosslessSV1 else "JPEG2000")
            stored = one.pixel_array.astype(np.int16) - 1024
            writer.Execute(SimpleITK.GetImageFromArray(stored[None]))
            packed = pydicom.dcmread(tmp_path / "packed.dcm")
            for name in ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData"):
                one[name] = packed[name]
            one.RescaleIntercept = 0
            one.file_meta.TransferSyntaxUID = packed.file_meta.TransferSyntaxUID
        assert one.file_meta.TransferSyntaxUID == syntax
        one.save_as(path)
    array, read = read_image(folder)
    assert np.array_equal(array, plain)
    assert read.matches(grid)


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_every_byte_order_reads_the_same(tmp_path, hu, syntax):
    for k, plane in enumerate(hu + 1024):
        pixels = plane.astype(">i2" if syntax == ExplicitVRBigEndian else "<i2").tobytes()
        position = (-40, -60, 10 + 2.5 * k)
        write_dicom(tmp_path / f"{k}", plane, position, k, TransferSyntaxUID=syntax, PixelData=pixels)
    assert np.array_equal(read_image(tmp_path)[0], hu)


def test_a_slice_that_is_there_twice_is_left_out(tmp_path, hu):
    folder = write_series(tmp_path / "series", hu)
    (folder / "again.dcm").write_bytes((folder / "i0003.dcm").read_bytes())
    scan = scans.read_scan(folder)
    assert np.array_equal(scan.image, hu)
    assert scan.remarks == ("1 slices are there twice: the second ones left out",)


def test_slices_of_two_patients_are_refused_and_neither_is_named(tmp_path, hu):
    folder = write_series(tmp_path / "series", hu, PatientID="planted-one")
    write_dicom(folder / "i0003.dcm", hu[2] + 1024, (-40, -60, 15), 3, PatientID="planted-two")
    with pytest.raises(UserError, match="PatientID differs") as error:
        read_image(folder)
    assert "planted" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"PixelSpacing": [-0.8, 0.7]}, "PixelSpacing is .*positive"),
        ({"ImageOrientationPatient": [2.0, 0, 0, 0, 1, 0]}, "two perpendicular unit vectors"),
        ({"ImageOrientationPatient": [1.0, 0, 0, 1, 0, 0]}, "two perpendicular unit vectors"),
        ({"ImageOrientationPatient": [0.0] * 6}, "two perpendicular unit vectors"),
    ],
)
def test_impossible_geometry_is_refused(tmp_path, hu, changes, message):
    folder = write_series(tmp_path / "series", hu, **changes)
    with pytest.raises(UserError, match=message):
        read_image(folder)
