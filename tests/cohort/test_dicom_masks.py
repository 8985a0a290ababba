"""Laws of structure sets: pixels whose centre lies within are the mask. Segmentations: see test_export."""

import numpy as np
import pytest
from scans import read_case, rectangle, write_series, write_structures
from slicesampling.cohort import scans


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
