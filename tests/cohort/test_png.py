"""Stacks of PNG slices become the volume that they were made of, with the geometry that the user tells."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scans import grid_of, write_nifti
from slicesampling import UserError
from slicesampling.cohort.contents import check_contents
from slicesampling.cohort.png import read_png
from slicesampling.cohort.scans import preprocess, read_scan
from slicesampling.cohort.table import label_of, read_cohort
from slicesampling.domain.labels import Label
from test_importers import command

SPACING, WINDOW = (2.5, 0.8, 0.7), (-160, 240)
SHAPE = (12, 30, 34)


def volume(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """HU (z, y, x) within the window, and a mask that is not symmetric along any axis."""
    hu = np.random.default_rng(seed).integers(*WINDOW, SHAPE).astype(np.int16)
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:9, 4:20, 3:12] = 1
    mask[2:4, 20:24, 3:5] = 1
    return hu, mask


def write_stack(folder: Path, values: np.ndarray, first: str) -> None:
    """Write slices (z from the feet, y, x) as PNG, from the `first` end on, under names that do not sort as text."""
    folder.mkdir(parents=True)
    for k, plane in enumerate(values[::-1] if first == "head" else values):
        Image.fromarray(plane).save(folder / f"case7_slice{k + 8}.png")


def grey(hu: np.ndarray, white: int) -> np.ndarray:
    """HU as a viewer exports them, in the integers that hold `white`."""
    low, high = WINDOW
    scaled = (np.clip(hu, low, high).astype(float) - low) / (high - low) * white
    return np.rint(scaled).astype(np.uint8 if white == 255 else np.uint16)


def arguments(tmp_path: Path, first: str = "head", *further: str) -> list[str | Path]:
    stacking = ["--spacing", *map(str, SPACING), "--window", *map(str, WINDOW), "--first", first, *further]
    where = ["--image", "{patient}/{volume}/ct", "--label", "{patient}/{volume}/liver", "--validation-volumes", "0"]
    return ["png", tmp_path / "data", *where, *stacking, "--to", tmp_path / "cohort.tsv"]


@pytest.mark.parametrize(("first", "white"), [("head", 255), ("feet", 255), ("head", 4095)])
def test_it_is_the_volume_that_the_slices_show(tmp_path: Path, first: str, white: int) -> None:
    hu, mask = volume()
    write_stack(tmp_path / "data/p1/a/ct", grey(hu, white), first)
    write_stack(tmp_path / "data/p1/a/liver", mask * 255, first)
    output = command(*arguments(tmp_path, first, *(["--white", str(white)] if white != 255 else [])))
    assert "1 volumes are written in" in output
    grid = grid_of(SHAPE, SPACING)
    label = Label.single(write_nifti(tmp_path / "mask.nii", mask, grid))
    of_nifti = read_scan(write_nifti(tmp_path / "ct.nii", hu, grid), label)
    row = read_cohort(tmp_path / "cohort.tsv").iloc[0]
    scan = read_scan(row["image"], label_of(row))
    # `write_nifti` counts from any origin, along the same axes: z to the head, y to the back, x to the left.
    assert scan.grid.shape == of_nifti.grid.shape
    np.testing.assert_allclose(scan.grid.spacing, of_nifti.grid.spacing)
    np.testing.assert_array_equal(scan.mask, of_nifti.mask)
    step = (WINDOW[1] - WINDOW[0]) / white
    assert np.abs(scan.image.astype(int) - of_nifti.image).max() <= step / 2 + 0.5
    common = preprocess(row["image"], label_of(row), (1.5, 1.0, 1.0))
    assert common.mask.sum() == preprocess(tmp_path / "ct.nii", label, (1.5, 1.0, 1.0)).mask.sum()


def test_a_clipped_window_is_no_reason_to_take_it_for_mr(tmp_path: Path) -> None:
    hu, mask = volume()
    write_stack(tmp_path / "data/p1/a/ct", grey(hu, 255), "head")
    write_stack(tmp_path / "data/p1/a/liver", mask, "head")
    command(*arguments(tmp_path))
    faults, measured = check_contents(read_cohort(tmp_path / "cohort.tsv"), 1, spacing=SPACING)
    assert (faults, len(measured)) == ([], 1)


def test_without_masks_all_are_for_people(tmp_path: Path) -> None:
    write_stack(tmp_path / "data/p1/a/ct", grey(volume()[0], 255), "head")
    chosen = [item for item in arguments(tmp_path) if item not in ("--label", "{patient}/{volume}/liver")]
    command(*chosen)
    row = read_cohort(tmp_path / "cohort.tsv").iloc[0]
    assert (row["split"], row["label"], row["patient"]) == ("pool", "", "png-p1")


def colour(path: Path) -> None:
    Image.fromarray(np.dstack([np.eye(*SHAPE[1:], dtype=np.uint8) * k for k in (1, 2, 3)])).save(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ct, liver: (ct / "case7_slice10.png").unlink(), "no slice 10 between 8 and 19 (1 missing)"),
        (lambda ct, liver: (liver / "case7_slice19.png").unlink(), "masks 8 to 18 for slices 8 to 19"),
        (lambda ct, liver: (ct / "case7_slice10.png").rename(ct / "other10 (8).png"), "has the number of"),
        (lambda ct, liver: (ct / "case7_slice10.png").rename(ct / "scout.png"), "no number"),
        (lambda ct, liver: colour(ct / "case7_slice10.png"), "mode RGB; accepted is one grey channel"),
        (lambda ct, liver: Image.new("L", (5, 5)).save(ct / "case7_slice10.png"), "has (5, 5) pixels of uint8"),
        (lambda ct, liver: Image.new("I;16", (34, 30)).save(ct / "case7_slice8.png"), "of uint16"),
        (lambda ct, liver: (ct / "case7_slice9.png").write_bytes(b"\x89PNG"), "cannot be read as PNG"),
        (lambda ct, liver: [path.unlink() for path in ct.iterdir()], "0 PNG files"),
        (lambda ct, liver: [path.unlink() for path in liver.iterdir()], "0 PNG files"),
    ],
)
def test_what_does_not_fit_is_left_out_with_the_reason(tmp_path: Path, change, message: str) -> None:
    hu, mask = volume()
    write_stack(tmp_path / "data/p1/a/ct", grey(hu, 255), "head")
    write_stack(tmp_path / "data/p1/a/liver", mask, "head")
    change(tmp_path / "data/p1/a/ct", tmp_path / "data/p1/a/liver")
    output = command(*arguments(tmp_path), code=1)
    assert message in output
    assert "no volume with a mask in the layout png" in output
    assert not list((tmp_path / "data_volumes").glob("*"))


@pytest.mark.parametrize(("without", "message"), [
    ("--first", "png: --first missing"),
    ("--spacing", "png: --spacing missing"),
    ("--window", "png: --window missing"),
])  # fmt: skip
def test_what_png_cannot_say_has_to_be_said(tmp_path: Path, without: str, message: str) -> None:
    (tmp_path / "data").mkdir()
    given = arguments(tmp_path)
    start = given.index(without)
    count = {"--first": 2, "--spacing": 4, "--window": 3}[without]
    assert message in command(*given[:start], *given[start + count :], code=1)


def test_sixteen_bits_need_a_white(tmp_path: Path) -> None:
    write_stack(tmp_path / "data/p1/a/ct", grey(volume()[0], 4095), "head")
    write_stack(tmp_path / "data/p1/a/liver", volume()[1], "head")
    assert "--white says which is white" in command(*arguments(tmp_path), code=1)
    assert "above --white 1000" in command(*arguments(tmp_path, "head", "--white", "1000"), code=1)


def test_each_changed_bit_and_each_cut_is_refused_or_harmless(tmp_path: Path) -> None:
    """Without a look at the checksums, changes near the end of the pixels pass as other pixels."""
    plane = np.random.default_rng(3).integers(0, 9, (12, 10), dtype=np.uint8)
    path = tmp_path / "slice1.png"
    Image.fromarray(plane).save(path)
    content = path.read_bytes()
    flipped = [(k, bytes([content[k] ^ 1 << bit])) for k in range(len(content)) for bit in range(8)]
    damaged = [content[:k] + other + content[k + 1 :] for k, other in flipped]
    damaged += [content[:k] for k in range(len(content))]
    refused: list[str] = []
    for changed in damaged:
        path.write_bytes(changed)
        try:
            np.testing.assert_array_equal(read_png(path), plane)
        except UserError as error:
            refused.append(str(error))
    assert len(refused) > 0.9 * len(damaged)
    assert "\n" not in "".join(refused)


def test_nothing_is_written_over(tmp_path: Path) -> None:
    for kind, values in (("ct", grey(volume()[0], 255)), ("liver", volume()[1])):
        write_stack(tmp_path / f"data/p1/a/{kind}", values, "head")
    command(*arguments(tmp_path))
    assert "exists already" in command(*arguments(tmp_path), code=1)
