"""Laws of masks that are missing, or annotated on some slices only, where people annotate."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scans import CANONICAL, grid_of, rotated, write_nifti
from slicesampling import NOT_ANNOTATED, UserError
from slicesampling.cohort import contents, scans, table, volumes
from slicesampling.cohort.plausibility import warnings_of
from slicesampling.domain.labels import Label

COLUMNS = [*table.REQUIRED_COLUMNS, "liver_values", table.IGNORE]


def written(folder: Path, labels: np.ndarray, thickness: float = 2.0) -> tuple[Path, Path]:
    grid = grid_of(labels.shape, (thickness, 1.0, 1.0))
    image = np.random.default_rng(0).integers(-100, 200, labels.shape).astype(np.int16)
    image[:, 0] = -1000
    image[0, 0, 0] -= int(folder.name) if folder.name.isdigit() else 0  # no two are one
    return write_nifti(folder / "image.nii.gz", image, grid), write_nifti(folder / "label.nii.gz", labels, grid)


@given(
    annotated=st.lists(st.booleans(), min_size=2, max_size=9),
    thickness=st.sampled_from([0.5, 0.7, 1.5, 2.0, 3.1]),
    seed=st.integers(0, 9),
)
def test_a_slice_is_annotated_if_nothing_of_it_hangs_on_what_is_not(
    tmp_path_factory: pytest.TempPathFactory, annotated: list[bool], thickness: float, seed: int
) -> None:
    """Whatever stood in the slices that are not annotated, the annotated ones are the same, and there are no more."""
    folder = tmp_path_factory.mktemp("partly")
    random = np.random.default_rng(seed)
    truth = (random.random((len(annotated), 5, 6)) < 0.5).astype(np.uint8)
    truth[:, 0, 0] = 1
    labels = truth.copy()
    labels[~np.array(annotated)] = 255
    image, mask = written(folder, labels, thickness)
    partly = scans.preprocess(image, Label.single(mask, ignore=255), CANONICAL).mask
    known = volumes.annotated(partly)
    assert set(np.unique(partly[known])) <= {0, 1}
    assert (partly[~known] == NOT_ANNOTATED).all()
    filled = []
    for value in (0, 1):
        labels[~np.array(annotated)] = value
        image, mask = written(folder, labels, thickness)
        filled.append(scans.preprocess(image, Label.single(mask), CANONICAL).mask)
        assert np.array_equal(filled[-1][known], partly[known])
    if all(annotated):
        assert known.all()
    if not any(annotated):
        assert not known.any()
    depth = np.arange(len(known)) * CANONICAL[0] + CANONICAL[0] / 2  # mm from the lower edge, in which slices end
    below = np.clip(np.floor(depth / thickness - 0.5 + 1e-6), 0, len(annotated) - 1).astype(int)
    above = np.clip(np.ceil(depth / thickness - 0.5 - 1e-6), 0, len(annotated) - 1).astype(int)
    assert known.tolist() == [annotated[low] and annotated[high] for low, high in zip(below, above, strict=True)]


def test_a_volume_without_a_mask_is_not_annotated_anywhere(tmp_path: Path) -> None:
    image, _ = written(tmp_path, np.zeros((6, 5, 4), np.uint8))
    row = {"image": str(image), "label": "", "liver_values": ""}
    preprocessed = contents.preprocess_row(row, {"spacing": CANONICAL, "largest_slice_gap": 5})
    assert (preprocessed.mask == NOT_ANNOTATED).all()
    volumes.save_preprocessed(tmp_path / "volume", preprocessed)
    assert not (tmp_path / "volume/native_mask.nii.gz").exists()
    assert not volumes.annotated(volumes.load_preprocessed(tmp_path / "volume").mask).any()
    with pytest.raises(UserError, match="native_mask"):
        volumes.load_native_mask(tmp_path / "volume")


def test_a_tilted_volume_loses_no_slice_that_is_not_annotated(tmp_path: Path) -> None:
    """What nobody has annotated stays so, although its slices are resampled twice."""
    labels = np.ones((12, 40, 40), np.uint8)
    labels[6] = 255
    tilted = grid_of(labels.shape, (3.0, 1.0, 1.0))
    affine = tilted.affine.copy()
    affine[1, 0] = 0.6  # each slice lies further back than the one below
    grid = type(tilted)(labels.shape, affine)
    image = write_nifti(tmp_path / "image.nii.gz", np.zeros(labels.shape, np.int16), grid)
    label = write_nifti(tmp_path / "label.nii.gz", labels, grid)
    mask = scans.preprocess(image, Label.single(label, ignore=255), CANONICAL).mask
    known = volumes.annotated(mask)
    assert not known.all()
    assert known.any()
    place = np.flatnonzero(~known) * CANONICAL[0]
    assert place.min() < 6.5 * 3.0 < place.max() + 3
    assert rotated(grid, 0, (0, 1)).matches(grid)


def cohort(folder: Path, *changes: dict[str, str]) -> pd.DataFrame:
    """A table of four volumes: two of the pool, one of which has no mask, one for validation, and one to test."""
    labels = np.zeros((6, 5, 4), np.uint8)
    labels[2:4, 1:3, 1:3] = 1
    labels[5] = 255
    rows = []
    for number, split in enumerate(["pool", "pool", "val", "test"]):
        (folder / str(number)).mkdir(exist_ok=True)
        image, label = written(folder / str(number), labels * (number + 1) if split == "test" else labels)
        rows.append([f"v{number}", f"p{number}", "here", split, str(image), str(label), "", "255"])
    made = pd.DataFrame(rows, columns=COLUMNS, dtype=str)
    made.loc[1, ["label", "ignore_value"]] = ""
    made.loc[3, ["label", "ignore_value"]] = ""
    for change in changes:
        row = int(change.pop("row"))
        made.loc[row, list(change)] = list(change.values())
    made.to_csv(folder / "cohort.tsv", sep="\t", index=False)
    return table.read_cohort(folder / "cohort.tsv")


def of_people(made: pd.DataFrame) -> list[table.Fault]:
    """Return all that is wrong with a table where people annotate."""
    return [*table.table_faults(made, people=True), *table.size_faults(made, 1, 0, people=True)]


def test_people_need_masks_for_validation_alone(tmp_path: Path) -> None:
    sound = cohort(tmp_path)
    assert of_people(sound) == []
    faults, measured = contents.check_contents(sound, workers=2)
    assert faults == []
    assert measured["structure_slices"].fillna(-1).tolist() == [2, -1, 2, -1]
    told = warnings_of(measured, sound)["warning"]
    assert len(told) == 0  # nothing of masks that are no whole livers
    assert not told.str.contains("liver|mask").any()
    assert of_people(sound[sound["split"] != "test"]) == []
    simulated = {(fault.row, fault.column) for fault in table.table_faults(sound)}
    assert simulated == {(3, "label"), (5, "label"), (2, "ignore_value"), (4, "ignore_value")}


@pytest.mark.parametrize(
    ("change", "column", "advice"),
    [
        ({"row": "2", "label": ""}, "label", "the cell is empty"),
        ({"row": "0", "ignore_value": "no"}, "ignore_value", "a positive whole number, such as 255"),
        ({"row": "0", "ignore_value": "0"}, "ignore_value", "a positive whole number, such as 255"),
        ({"row": "0", "liver_values": "1,255"}, "ignore_value", "stands among the liver_values as well"),
        ({"row": "1", "ignore_value": "255"}, "ignore_value", "goes with a mask file"),
        ({"row": "3", "ignore_value": "255"}, "ignore_value", "goes with a mask file"),
        ({"row": "2", "split": "test"}, "split", "choose the best model"),
    ],
)
def test_a_fault_of_what_is_not_annotated_is_one_line(
    tmp_path: Path, change: dict[str, str], column: str, advice: str
) -> None:
    row = int(change["row"])
    faults = of_people(cohort(tmp_path, change))
    assert any(fault.column == column and advice in fault.advice for fault in faults), faults
    assert {fault.row for fault in faults} <= {row + 2, table.HEADER_ROW}


def test_a_table_without_the_column_stays_as_it_was(tmp_path: Path) -> None:
    made = cohort(tmp_path)
    made.drop(columns=[table.IGNORE]).to_csv(tmp_path / "other.tsv", sep="\t", index=False)
    assert list(table.read_cohort(tmp_path / "other.tsv")) == [*table.REQUIRED_COLUMNS, *table.OPTIONAL_COLUMNS]
