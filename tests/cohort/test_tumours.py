"""A tumour whose name does not say of what it is counts where it lies in the liver or touches it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scans import grid_of, rectangle, write_nifti, write_series, write_structures
from scipy import ndimage
from slicesampling.cohort.masks import with_tumours
from slicesampling.cohort.scans import preprocess, read_scan
from slicesampling.cohort.table import read_cohort, table_faults
from slicesampling.domain.labels import Label

BOX = (6, 7, 8)


@given(liver=arrays(bool, BOX), tumours=arrays(bool, BOX, elements=st.booleans()))
def test_a_tumour_counts_as_a_whole_or_not_at_all(liver: np.ndarray, tumours: np.ndarray) -> None:
    remarks: list[str] = []
    found = with_tumours(liver, tumours, remarks)
    assert found[liver].all()
    assert not (found & ~(liver | tumours)).any()
    parts, count = ndimage.label(tumours)
    left_out = 0
    for number in range(1, count + 1):
        part = parts == number
        grown = part.copy()  # by the six neighbours, by hand
        for axis in range(3):
            for step in (1, -1):
                shifted = np.roll(part, step, axis)
                shifted[(slice(None),) * axis + (0 if step == 1 else -1,)] = False
                grown |= shifted
        touches = (grown & liver).any()
        assert (found[part].all()) if touches else (found[part] == liver[part]).all()
        left_out += not touches
    assert remarks == ([f"{left_out} of {count} tumours do not touch the liver: left out"] if left_out else [])


def volume() -> tuple[np.ndarray, np.ndarray]:
    """A volume with a liver (5), a tumour in its hole, one at its side and one far away (all 7), and a spleen (2)."""
    mask = np.zeros((12, 20, 20), np.uint8)
    mask[2:9, 3:10, 3:10] = 5
    mask[4:6, 5:7, 5:7] = 7
    mask[3:5, 10:12, 4:6] = 7
    mask[8:11, 15:18, 15:18] = 7
    mask[2:4, 15:18, 3:6] = 2
    return np.zeros(mask.shape, np.int16), mask


def test_in_a_mask_file(tmp_path: Path) -> None:
    image, mask = volume()
    grid = grid_of(mask.shape, (2.0, 1.0, 1.0))
    ct, path = (write_nifti(tmp_path / f"{name}.nii.gz", array, grid) for name, array in (("a", image), ("b", mask)))
    label = Label.single(path, [5], touching=[7])
    scan = read_scan(ct, label)
    expected = np.isin(mask, (5, 7))
    expected[8:11, 15:18, 15:18] = False
    turned = write_nifti(tmp_path / "expected.nii.gz", expected.astype(np.uint8), grid)
    np.testing.assert_array_equal(scan.mask, read_scan(ct, Label.single(turned)).mask)
    assert scan.remarks == ("1 of 3 tumours do not touch the liver: left out",)
    assert preprocess(ct, label, (2.0, 1.0, 1.0)).mask.sum() == expected.sum()
    without = write_nifti(tmp_path / "without.nii.gz", np.where(mask == 7, 0, mask), grid)
    of_none = read_scan(ct, Label.single(without, [5], touching=[7]))  # a patient without
    assert of_none.mask.sum() == (mask == 5).sum()


def test_in_a_structure_set(tmp_path: Path) -> None:
    series = write_series(tmp_path / "ct", np.zeros((12, 20, 24), np.int16))
    liver = [rectangle(10 + 2.5 * k, -39, -35, -58, -54) for k in range(2, 8)]
    at_it = [rectangle(10 + 2.5 * k, -35, -33, -57, -55) for k in (3, 4)]
    away = [rectangle(10 + 2.5 * k, -30, -28, -50, -48) for k in (3, 4)]
    names = {1: "Liver", 2: "tumour 1", 3: "tumour 2"}
    path = write_structures(tmp_path / "rs.dcm", {1: liver, 2: at_it, 3: away}, names)
    both = read_scan(series, Label.single(path, [1, 2])).mask
    scan = read_scan(series, Label.single(path, [1], touching=[2, 3]))
    np.testing.assert_array_equal(scan.mask, both)
    assert scan.mask.sum() > read_scan(series, Label.single(path, [1])).mask.sum()
    assert "1 of 2 tumours do not touch the liver: left out" in scan.remarks


@pytest.mark.parametrize(
    ("values", "tumours", "message"),
    [("1", "2,x", "positive whole numbers"), ("", "2", "liver_values must say"), ("1,2", "2", "means one thing")],
)
def test_a_wrong_cell_is_refused(tmp_path: Path, values: str, tumours: str, message: str) -> None:
    header = ["volume", "patient", "site", "split", "image", "label", "liver_values", "tumour_values"]
    cells = ["a", "a", "s", "pool", "a.nii", "b.nii", values, tumours]
    (tmp_path / "cohort.tsv").write_text("\t".join(header) + "\n" + "\t".join(cells) + "\n")
    cohort = read_cohort(tmp_path / "cohort.tsv")
    faults = table_faults(cohort, files=False)
    assert [fault.column for fault in faults] == ["tumour_values"]
    assert message in faults[0].advice
