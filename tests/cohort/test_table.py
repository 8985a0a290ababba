"""Each fault of a cohort is found with its row and column, all at once, and a sound cohort has none."""

import logging
import re
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from conftest import at_most, calls
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from slicesampling import UserError
from slicesampling.cohort import contents, scans
from slicesampling.cohort import table as cohort
from slicesampling.domain.labels import Label

COLUMNS = [*cohort.REQUIRED_COLUMNS, *cohort.OPTIONAL_COLUMNS]
SPLITS = ["pool", "pool", "pool", "val", "test", "test"]
AFFINE = np.diag([-1.0, -1, 2, 1])


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array.T, affine), path)
    return str(path)


def write_table(path: Path, table: pd.DataFrame) -> Path:
    table.to_csv(path, sep="\t", index=False)
    return path


def faults_of(table: pd.DataFrame, initial_volumes: int, queried_volumes: int = 0) -> list[cohort.Fault]:
    """Return all that is wrong with a table for the simulated annotator."""
    return [*cohort.table_faults(table), *cohort.size_faults(table, initial_volumes, queried_volumes, people=False)]


@pytest.fixture
def sound(tmp_path) -> pd.DataFrame:
    """A cohort without faults: six volumes, one patient each, rows 2 to 7 of the table."""
    image = np.zeros((4, 6, 5), np.int16)
    image[:, 0] = -1000
    rows = []
    for k, split in enumerate(SPLITS):
        image[0, 0, 0] = -1000 - k  # no two are one
        mask = np.zeros(image.shape, np.uint8)
        mask[1:3, 2:4, : k % 3 + 1] = 2
        files = write_nifti(tmp_path / f"{k}-ct.nii", image), write_nifti(tmp_path / f"{k}-liver.nii", mask)
        rows.append([f"vol-{k}", f"p{k}", "here", split, *files, "", "", ""])
    return cohort.read_cohort(write_table(tmp_path / "cohort.tsv", pd.DataFrame(rows, columns=COLUMNS)))


def places(faults: list[cohort.Fault]) -> set[tuple[int, str]]:
    return {(fault.row, fault.column) for fault in faults}


@pytest.mark.parametrize(
    ("spacing", "place", "message"),
    [
        ((17, 1, 1), "image", r"is 8 mm long along z; accepted is half a voxel of 17 mm or more"),
        ((2, 1, 13), "image", r"is 5 mm long along x"),
        ((12, 1, 1), "label", r"the liver has 0\.024 ml, but 0\.\d+ ml when resampled to voxels of 12x1x1 mm"),
        ((2, 6, 5), "label", r"the liver has 0\.024 ml, but 0\.12 ml when resampled"),
    ],
)
def test_what_the_common_grid_cannot_hold_is_a_fault(sound, spacing, place, message):
    """Otherwise a thin stack would become air with an empty mask, or its liver twice as large."""
    faults, measured = contents.check_contents(sound.iloc[2:3], workers=1, spacing=spacing)
    assert places(faults) == {(4, place)}
    assert re.search(message, str(faults[0]))
    assert measured.empty


def test_a_sound_cohort_has_no_faults(sound):
    assert faults_of(sound, initial_volumes=3) == []
    faults, measured = contents.check_contents(sound, workers=2, spacing=(2, 1, 1))
    assert faults == []
    assert measured["volume"].tolist() == sound["volume"].tolist()
    assert tuple(measured.columns) == contents.MEASUREMENTS
    first = measured.iloc[2].to_dict()
    # 2 x 2 x 3 voxels of 2 mm3 in two slices.
    assert first.pop("structure_ml") == first.pop("resampled_ml") == pytest.approx(12 * 2 / 1000)
    assert first.pop("air_hu") == -1000
    assert len(first.pop("digest")) == 64
    assert first == {
        "volume": "vol-2",
        "slices": 4,
        "rows": 6,
        "columns": 5,
        "spacing_z": 2.0,
        "spacing_y": 1.0,
        "spacing_x": 1.0,
        "structure_slices": 2,
        "structure_hu": 0,
        "soft_tissue": 1,
        "second_component": 0,
        "touches": "",
        "file_patient": 0,
        "remarks": "[]",
    }
    cohort.fail_on(faults, "cohort.tsv")


# The table ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "column", "value", "advice"),
    [
        (3, "volume", "a/b", "letters, digits"),
        (3, "volume", "../b", "letters, digits"),
        (3, "volume", ".hidden", "letters, digits"),
        (3, "volume", "two words", "letters, digits"),
        (3, "volume", "vol-ü", "letters, digits"),
        (3, "volume", "", "empty"),
        (4, "volume", "vol-0", "also the volume of row 2"),
        (4, "volume", "VOL-0", "also the volume of row 2"),
        (3, "patient", "", "empty"),
        (3, "site", "", "empty"),
        (3, "split", "", "empty"),
        (3, "split", "train", "accepted are pool, val, test"),
        (3, "split", "Pool", "accepted are pool, val, test"),
        (7, "patient", "p0", r"split pool \(row 2\) and in split test"),
        (3, "image", "", "empty"),
        (3, "image", "nowhere.nii", "no such file"),
        (3, "label", "nowhere", "no such file"),
        (3, "image", __file__, "unknown format"),
        (3, "label", __file__, "unknown format"),
        (3, "liver_values", "liver", "such as 1,2"),
        (3, "liver_values", "0", "such as 1,2"),
    ],
)
def test_one_planted_fault_is_found_where_it_stands(sound, row, column, value, advice):
    sound.loc[row, column] = value
    faults = faults_of(sound, initial_volumes=2)
    assert places(faults) == {(row, column)}
    assert faults[0].value == value
    assert re.search(advice, faults[0].advice)


def test_files_that_cannot_be_are_found(sound, tmp_path):
    empty, pngs, link = tmp_path / "empty", tmp_path / "pngs", tmp_path / "link.nii"
    empty.mkdir()
    pngs.mkdir()
    Image.new("L", (5, 6)).save(pngs / "0.png")
    link.symlink_to(sound.loc[2, "image"])
    for row, column, value, advice in [
        (3, "image", str(empty), "folder is empty"),
        (3, "label", str(empty), "holds no mask"),
        (3, "label", str(pngs), "go with a DICOM image"),
        (4, "image", sound.loc[2, "image"], "also the image of row 2"),
        (4, "image", str(link), "also the image of row 2"),
        (4, "label", sound.loc[2, "label"], "also the label of row 2"),
    ]:
        table = sound.copy()
        table.loc[row, column] = value
        faults = faults_of(table, initial_volumes=2)
        assert places(faults) == {(row, column)}
        assert advice in faults[0].advice


def test_splits_that_are_too_small_are_found(sound):
    assert not faults_of(sound, initial_volumes=2, queried_volumes=1)
    (fault,) = faults_of(sound, initial_volumes=2, queried_volumes=2)
    assert "3 pool volumes are too few: 2 for the initial set and 2 for" in fault.advice
    sound.loc[[3, 5], "exclude"] = "poor mask"
    faults = faults_of(sound, initial_volumes=3)
    assert {(fault.value, fault.advice.split()[0]) for fault in faults} == {("pool", "2"), ("val", "no")}


def test_excluded_rows_need_no_files_and_count_for_nothing(sound):
    sound.loc[4, ["exclude", "image", "label", "patient"]] = ["poor mask", sound.loc[2, "image"], "nowhere.nii", "p5"]
    assert faults_of(sound, initial_volumes=2) == []
    sound.loc[4, "image"] = ""
    assert faults_of(sound, initial_volumes=2) == []
    assert "vol-2" not in cohort.split_volumes(sound, "pool")
    faults, measured = contents.check_contents(sound, workers=1)
    assert (faults, len(measured)) == ([], 5)
    sound.loc[4, "split"] = "wrong"
    assert places(faults_of(sound, initial_volumes=2)) == {(4, "split")}


def test_all_faults_are_reported_together_and_sorted(sound):
    sound.loc[7, "split"] = "train"
    sound.loc[3, "volume"] = "a/b"
    sound.loc[5, "label"] = "nowhere.nii"
    sound.loc[6, "patient"] = "p0"
    faults = faults_of(sound, initial_volumes=9)
    with pytest.raises(UserError) as error:
        cohort.fail_on(faults, "cohort.tsv")
    first, *lines = str(error.value).splitlines()
    assert first == "cohort.tsv: 5 faults"
    assert [re.findall(r"row (\d+), column (\w+)", line) for line in lines] == [
        [("1", "split")],
        [("3", "volume")],
        [("5", "label")],
        [("6", "patient")],
        [("7", "split")],
    ]


@given(st.sets(st.tuples(st.integers(2, 41), st.sampled_from(["volume", "split", "site", "image"])), max_size=12))
@at_most(25)
def test_the_faults_found_are_the_faults_planted(planted):
    table = pd.DataFrame(
        [[f"v{k}", f"p{k}", "s", SPLITS[k % 6], f"{k}", f"{k}", "", "", ""] for k in range(40)],
        columns=COLUMNS,
        index=pd.Index(range(2, 42), name="row"),
    )
    clean = places(faults_of(table, initial_volumes=0))  # no file is there
    bad = {"volume": "a/b-{}", "split": "x{}", "site": "", "image": ""}
    for row, column in planted:
        table.loc[row, column] = bad[column].format(row)
    found = places(faults_of(table, initial_volumes=0))
    assert found == clean | planted


def test_checking_a_table_costs_no_more_for_a_row_in_a_longer_one(sound):
    """The last one has the size of the paper's."""
    for times in (9, 81):
        many = pd.concat([sound] * times, ignore_index=True)
        many.index += 2
        assert faults_of(many, initial_volumes=2)
        cost = calls(lambda: faults_of(many, initial_volumes=2))  # noqa: B023
        assert cost < 1.1 * times * calls(lambda: faults_of(sound, initial_volumes=2))


# Reading --------------------------------------------------------------------------------------------------------------


def test_reading_keeps_cells_as_text_and_rows_as_editors_count_them(tmp_path):
    path = tmp_path / "cohort.tsv"
    header, first = "patient\tvolume\tsite\tsplit\tlabel\timage", "007\tNA\t1.0\tpool\tl.nii\t i.nii "
    text = f"{header}\r\n{first}\r\n\t\r\n\r\n8\tb\ts\ttest\tl\r\n"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    table = cohort.read_cohort(path)
    assert table.columns.tolist() == COLUMNS
    assert table.index.tolist() == [2, 5]
    assert table.loc[2].tolist() == ["NA", "007", "1.0", "pool", "i.nii", "l.nii", "", "", ""]
    assert table.loc[5].tolist() == ["b", "8", "s", "test", "", "l", "", "", ""]


HEADER = "\t".join(cohort.REQUIRED_COLUMNS)
ROW = "v\tp\ts\tpool\ti.nii\tl.nii"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (HEADER, "no row below the header"),
        (f"{HEADER}\n\t\t\n\n", "no row below the header"),
        (HEADER.replace("\t", ","), "separate the columns by tabs"),
        (f"{HEADER.replace('site', 'sites')}\n{ROW}", r"unknown column(.|\n)*column site, '': the column is missing"),
        (f"{HEADER}\tsplit\n{ROW}\tpool", "more than once"),
        (f"{HEADER}\t\n{ROW}", "unknown column"),
        (f"{HEADER}\n{ROW}\n{ROW}\tpoor", "row 3, column label, 'poor': 7 cells under 6 columns"),
    ],
)
def test_what_is_no_cohort_table_is_refused(tmp_path, text, message):
    path = tmp_path / "cohort.tsv"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        cohort.read_cohort(path)
    assert str(path) in str(error.value)


def test_a_table_that_is_missing_or_no_text_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        cohort.read_cohort(tmp_path / "cohort.tsv")
    (tmp_path / "cohort.tsv").write_bytes(f"{HEADER}\n{ROW}".encode("utf-16"))
    with pytest.raises(UserError, match="UTF-8"):
        cohort.read_cohort(tmp_path / "cohort.tsv")


# The contents ---------------------------------------------------------------------------------------------------------


def test_each_fault_inside_a_file_is_found(sound, tmp_path, caplog):
    moved = AFFINE.copy()
    moved[2, 3] = 7
    mask = np.ones((4, 6, 5), np.uint8)
    write_nifti(Path(sound.loc[2, "label"]), mask, moved)
    write_nifti(Path(sound.loc[3, "label"]), np.zeros_like(mask))
    Path(sound.loc[4, "image"]).write_bytes(b"")
    write_nifti(Path(sound.loc[5, "image"]), np.zeros((2, 4, 6, 5), np.int16))
    Path(sound.loc[6, "label"]).unlink()
    with caplog.at_level(logging.INFO):
        faults, measured = contents.check_contents(sound, workers=3)
    assert [(fault.row, fault.column) for fault in faults] == [
        (2, "label"),
        (3, "label"),
        (4, "image"),
        (5, "image"),
        (6, "label"),
    ]
    for fault, advice in zip(
        faults, ["not on the grid", "is empty", "cannot be read", "three axes", "no such file"], strict=True
    ):
        assert advice in fault.advice
        assert not fault.advice.startswith(fault.value)
        assert "\n" not in fault.advice
    assert measured["volume"].tolist() == ["vol-5"]
    assert "checked 6 of 6 volumes" in caplog.text


# Choosing -------------------------------------------------------------------------------------------------------------


VALUES = st.frozensets(st.integers(1, 999_999_999), max_size=5)
LABELS = st.builds(Label.single, st.just(Path("data/a mask.nii")), VALUES, VALUES, st.none() | st.integers(1, 255))


@given(st.none() | LABELS)
def test_the_cells_of_a_label_name_it(label):
    cells = cohort.label_cells(label)
    assert cohort.label_of(cells) == label
    for column in ("liver_values", "tumour_values", "ignore_value"):
        assert not cells[column] or cohort.WHOLE_NUMBERS.fullmatch(cells[column])


@given(st.lists(st.integers(1, 999_999_999), min_size=1), st.sampled_from([",", ", "]))
def test_the_order_of_values_in_a_cell_says_nothing(values, comma):
    row = {"label": "mask.nii", "liver_values": comma.join(map(str, values))}
    assert cohort.WHOLE_NUMBERS.fullmatch(row["liver_values"])
    label = cohort.label_of(row)
    assert label == cohort.label_of(cohort.label_cells(label)) == Label.single(Path("mask.nii"), values)


@given(st.lists(st.text("abc", min_size=1), unique=True), st.integers(1, 9))
def test_shards_part_the_volumes_and_stay_when_some_are_added(names, count):
    shards = [cohort.shard_of(names, k, count) for k in range(count)]
    assert sorted(name for hand in shards for name in hand) == sorted(names)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    longer = [cohort.shard_of([*names, "x", "y"], k, count) for k in range(count)]
    for hand, later in zip(shards, longer, strict=True):
        assert later[: len(hand)] == hand


def test_a_shard_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="from 0 to 1, got 2"):
        cohort.shard_of(["a"], 2, 2)


@given(st.permutations(range(20)), st.integers(0, 100), st.integers(1, 20))
@at_most(50)
def test_the_initial_set_depends_on_seed_and_pool_alone(order, seed, size):
    table = pd.DataFrame([[f"v{k}", "pool", ""] for k in range(20)], columns=["volume", "split", "exclude"])
    table.loc[20] = ["other", "test", ""]
    table.loc[21] = ["bad", "pool", "poor mask"]
    chosen = cohort.initial_set(cohort.split_volumes(table, "pool"), seed, size)
    assert chosen == cohort.initial_set(cohort.split_volumes(table.iloc[[*order, 20, 21]], "pool"), seed, size)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == size
    assert set(chosen) <= {f"v{k}" for k in range(20)}


def test_initial_sets_differ_between_seeds_and_reach_every_volume(sound):
    chosen = {name for seed in range(40) for name in cohort.initial_set(cohort.split_volumes(sound, "pool"), seed, 1)}
    assert chosen == {"vol-0", "vol-1", "vol-2"}
    with pytest.raises(UserError, match="needs 4 volumes, but the pool has 3"):
        cohort.initial_set(cohort.split_volumes(sound, "pool"), 0, 4)


def test_volumes_of_a_split_keep_the_order_of_the_table(sound):
    assert cohort.split_volumes(sound.iloc[::-1], "pool") == ["vol-2", "vol-1", "vol-0"]
    assert cohort.split_volumes(sound, "test") == ["vol-4", "vol-5"]


def test_files_outside_of_the_data_root_are_refused_whatever_links_say(sound, tmp_path):
    root = Path(sound.loc[2, "image"]).parent
    assert not cohort.table_faults(sound, data_root=root)
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    secret = outside / "image.nii"
    secret.write_bytes(b"")
    (root / "link.nii").symlink_to(secret)
    for row, path in ((3, secret), (4, root / "link.nii"), (5, root / ".." / outside.name / "image.nii")):
        sound.loc[row, "image"] = str(path)
    faults = cohort.table_faults(sound, data_root=root)
    assert [(fault.row, fault.column) for fault in faults if "outside of" in fault.advice] == [
        (3, "image"),
        (4, "image"),
        (5, "image"),
    ]


@pytest.mark.parametrize("patient", ["a/b", "../x", "x" * 65, "a;rm", "a\x00b", "$(id)", "<b>"])
def test_patients_are_named_plainly(sound, patient):
    sound.loc[2, "patient"] = patient
    faults = [fault for fault in faults_of(sound, 1) if fault.row == 2]
    assert [(fault.column, "accepted" in fault.advice) for fault in faults] == [("patient", True)]
    sound.loc[2, "patient"] = "Łukasz 7-b"
    assert not faults_of(sound, 1)


def test_faulty_volumes_are_excluded_with_their_reason(sound):
    Path(sound.loc[2, "image"]).write_bytes(b"broken")
    faults, measured = contents.check_contents(sound, 1)
    assert "vol-0" not in set(measured["volume"])
    left = cohort.without_faulty(sound, faults, 1)
    assert list(cohort.used(left)["volume"]) == list(measured["volume"])
    assert left.loc[2, "exclude"].startswith("faulty image: cannot be read")
    assert sound.loc[2, "exclude"] == ""
    with pytest.raises(UserError, match="too few") as error:
        cohort.without_faulty(sound, faults, 3)
    assert "row 2, column image" in str(error.value)


def test_identifiers_in_files_become_numbers(sound, monkeypatch):
    names = iter(["planted-a", "planted-b", "planted-a", "", "planted-c", ""])
    read = scans.read_scan
    monkeypatch.setattr(scans, "read_scan", lambda *arguments: read(*arguments)._replace(patient=next(names)))
    _, measured = contents.check_contents(sound, 1)
    assert measured["file_patient"].tolist() == [1, 2, 1, 0, 3, 0]
    assert "planted" not in measured.to_csv()
