"""Laws of structure sets: pixels whose centre lies within are the mask, also where slices are missing.

Segmentations: see test_export.
"""

from pathlib import Path

import numpy as np
import pytest
from scans import read_case, rectangle, write_series, write_structures
from slicesampling.cohort import scans
from slicesampling.cohort.grids import Grid
from slicesampling.domain.labels import Label


def test_contours_are_filled_where_pixel_centres_lie_within(tmp_path):
    """Pixels are 0.7 wide and 0.8 high from (-40, -60); a contour within another is a hole."""
    folder = write_series(tmp_path / "series", np.zeros((4, 20, 30), np.int16))
    outer = rectangle(12.5, -40 + 0.7 * 2.5, -40 + 0.7 * 20.4, -60 + 0.8 * 3.5, -60 + 0.8 * 15.4)
    inner = rectangle(12.5, -40 + 0.7 * 5.5, -40 + 0.7 * 9.5, -60 + 0.8 * 6.5, -60 + 0.8 * 8.5)
    other = rectangle(15.2, -40 - 0.1, -40 + 0.7 * 1.5, -60 - 5, -60 + 0.8 * 0.5)
    path = write_structures(tmp_path / "rs.dcm", {4: [outer, inner], 7: [other]})
    expected = np.zeros((4, 20, 30), bool)
    expected[1, 4:16, 3:21] = True
    expected[1, 7:9, 6:10] = False
    assert np.array_equal(read_case(folder, path, [4])[1], expected)
    expected[2, 0:1, 0:2] = True
    assert np.array_equal(read_case(folder, path, [4, 7])[1], expected)
    with pytest.raises(scans.LabelError, match="has 2 regions of interest; liver_values must say"):
        read_case(folder, path)
    with pytest.raises(scans.LabelError, match="has no region of interest 5; it has 4, 7"):
        read_case(folder, path, [5])
    write_structures(path, {1: [rectangle(99, 0, 1, 0, 1)]})
    with pytest.raises(scans.LabelError, match=r"the contour at 99\.000 mm .* off any slice"):
        read_case(folder, path)
    with pytest.raises(scans.LabelError, match="Modality is CT; accepted for a mask are SEG and RTSTRUCT"):
        read_case(folder, folder / "i0001.dcm")


def test_a_circle_keeps_its_area(tmp_path):
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    folder = write_series(tmp_path / "series", np.zeros((3, 80, 90), np.int16))
    circle = np.stack([-9 + 20 * np.cos(angle), -30 + 20 * np.sin(angle), np.full(200, 12.5)], axis=1)
    mask = read_case(folder, write_structures(tmp_path / "rs.dcm", {1: [circle]}))[1]
    assert mask.any(axis=(1, 2)).tolist() == [False, True, False]
    assert mask.sum() * 0.7 * 0.8 == pytest.approx(np.pi * 20**2, rel=0.01)


SLICES, RADIUS, CENTRE = 14, 15.0, np.array((-25.0, -40.0, 26.0))


def ball_contours(planes: range | list[int], spacing: float = 2.5) -> list[np.ndarray]:
    """Return the outlines of a ball in planes of a series from z = 10 mm."""
    angle = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    heights = 10 + spacing * np.array(planes)
    radii = [np.sqrt(RADIUS**2 - (z - CENTRE[2]) ** 2) if abs(z - CENTRE[2]) < RADIUS else 0 for z in heights]
    return [
        np.stack([CENTRE[0] + r * np.cos(angle), CENTRE[1] + r * np.sin(angle), np.full(100, z)], axis=1)
        for z, r in zip(heights, radii, strict=True)
        if r > 1
    ]


def series_without(folder: Path, gone: list[int]) -> Path:
    write_series(folder, np.zeros((SLICES, 60, 60), np.int16))
    for k in gone:
        (folder / f"i{k + 1:04d}.dcm").unlink()
    return folder


def measured(mask: np.ndarray, grid: Grid) -> tuple[float, np.ndarray]:
    """Return the volume (ml) and the centroid (z, y, x in mm) of a mask."""
    index = np.argwhere(mask).mean(axis=0)
    return float(mask.sum() * np.prod(grid.spacing) / 1000), grid.affine[:3, :3] @ index + grid.affine[:3, 3]


@pytest.mark.parametrize("gone", [[k] for k in range(1, SLICES - 1)] + [[3, 8], [2, 4, 11]])
def test_the_contour_of_a_missing_slice_counts_where_the_slice_is_filled_in(tmp_path, gone):
    path = write_structures(tmp_path / "rs.dcm", {1: ball_contours(range(SLICES))})
    whole = read_case(series_without(tmp_path / "whole", []), path)
    bridged = read_case(series_without(tmp_path / "bridged", gone), path)
    assert bridged[2].matches(whole[2])
    assert np.array_equal(bridged[1], whole[1])


@pytest.mark.parametrize("first", [0, 1])
def test_contours_between_the_slices_are_left_out_and_told(tmp_path, first):
    """Every second slice is missing, so that the series looks whole."""
    path = write_structures(tmp_path / "rs.dcm", {1: ball_contours(range(SLICES))})
    gone = list(range(first, SLICES, 2))
    scan = scans.read_scan(series_without(tmp_path / "series", gone), Label.single(path))
    volume, centroid = measured(scan.mask, scan.grid)
    assert volume == pytest.approx(4 / 3 * np.pi * RADIUS**3 / 1000, rel=0.03)
    assert centroid == pytest.approx(CENTRE[::-1], abs=0.6)
    assert scan.remarks == ("the contours of 6 planes lie between the slices: left out",)


@pytest.mark.parametrize(
    ("contours", "gone"),
    [
        (ball_contours(range(0, SLICES, 2)), []),  # drawn on every second slice
        (ball_contours(range(SLICES)), [8, 9, 10, 11, 12, 13]),  # the series ends within the ball
        ([one + np.array([25, 0, 0]) for one in ball_contours(range(SLICES))], []),  # a part lies beside the image
    ],
)
def test_a_mask_that_loses_a_part_of_its_contours_is_refused(tmp_path, contours, gone):
    path = write_structures(tmp_path / "rs.dcm", {1: contours})
    with pytest.raises(scans.LabelError, match=r"its contours enclose .* ml|off any slice"):
        read_case(series_without(tmp_path / "series", gone), path)


def test_regions_add_up_and_a_contour_counts_once(tmp_path):
    """A tumour in the liver is no hole of it."""
    folder = series_without(tmp_path / "series", [])
    liver = ball_contours(range(SLICES))
    tumour = [CENTRE + (one - CENTRE) * (0.3, 0.3, 1) for one in liver[3:6]]
    expected = read_case(folder, write_structures(tmp_path / "liver.dcm", {1: liver}))[1]
    both = read_case(folder, write_structures(tmp_path / "both.dcm", {1: liver, 2: tumour}), [1, 2])[1]
    twice = read_case(folder, write_structures(tmp_path / "twice.dcm", {1: [*liver, *liver[2:7]]}))[1]
    assert np.array_equal(both, expected)
    assert np.array_equal(twice, expected)


def test_a_contour_across_slices_is_refused(tmp_path):
    slanted = rectangle(12.5, -30, -20, -50, -40) + np.array([[0, 0, -1], [0, 0, -1], [0, 0, 1], [0, 0, 1]])
    path = write_structures(tmp_path / "rs.dcm", {1: [slanted]})
    with pytest.raises(scans.LabelError, match=r"a contour reaches from 11\.500 to 13\.500 mm"):
        read_case(series_without(tmp_path / "series", []), path)
