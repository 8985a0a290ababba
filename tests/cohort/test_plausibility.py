"""Each warning is told where its fault is planted and nowhere else; the page shows it first."""

import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from slicesampling.cohort import plausibility
from slicesampling.cohort.contents import MEASUREMENTS
from slicesampling.cohort.grids import Grid
from slicesampling.cohort.plausibility import measure, warnings_of
from slicesampling.cohort.volumes import Preprocessed
from slicesampling.domain.records import read_table, write_table
from slicesampling.publication.cohort_report import cohort_page, thumbnail

SPACING = (3.0, 2.0, 2.0)


def plausible(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return a body of water in air with a liver of 1.5 litres, (z, y, x) in HU, and its mask."""
    z, y, x = np.ogrid[:60, :120, :120]
    body = (y - 60) ** 2 + (x - 60) ** 2 < 50**2
    liver = ((z - 30) / 18) ** 2 + ((y - 55) / 33) ** 2 + ((x - 45) / 26) ** 2 < 1
    image = np.where(liver, 60, np.where(body, 20, -1000)) + np.random.default_rng(seed).integers(-9, 9, (60, 120, 120))
    return image.astype(np.int16), liver & body


def row(name: str, image: np.ndarray, mask: np.ndarray, **changes: object) -> dict[str, object]:
    measured = {f"spacing_{axis}": size for axis, size in zip("zyx", SPACING, strict=True)}
    size = dict(zip(("slices", "rows", "columns"), image.shape, strict=True))
    millilitres = mask.sum() * np.prod(SPACING) / 1000
    volume = {"volume": name, "structure_ml": millilitres, "resampled_ml": millilitres, "structure_slices": 1}
    read = {"file_patient": 0, "remarks": "[]"}
    return volume | size | measured | measure(image, mask) | read | changes


def patients(volumes: pd.DataFrame, **same: str) -> pd.DataFrame:
    """Return a cohort with a patient for each volume, but those that `same` names."""
    return pd.DataFrame({"volume": volumes["volume"], "patient": [same.get(v, v) for v in volumes["volume"]]})


def test_patients_in_files_are_compared_with_those_of_the_table():
    numbers = {"a": 1, "b": 2, "c": 1, "d": 0, "e": 2}
    rows = [row(name, *plausible(k), file_patient=number) for k, (name, number) in enumerate(numbers.items())]
    volumes = pd.DataFrame(rows)
    found = warnings_of(volumes, patients(volumes, c="a", d="a", e="b"))
    assert found.empty
    found = warnings_of(volumes, patients(volumes, b="a", d="a"))
    assert found.to_numpy().tolist() == [
        ["b", "its file names another patient than a; the table says that they are one"],
        ["c", "its file names the patient that a names; the table says that they are two"],
        ["e", "its file names the patient that b names; the table says that they are two"],
    ]


def test_what_the_reader_decided_is_told_remark_by_remark(tmp_path):
    """Whatever a remark holds, semicolons, quotes or tabs, it comes back from the table as one."""
    remarks = ["one; and the same", 'a "quoted"\tone', "two"]
    volumes = pd.DataFrame([row("v", *plausible(0), remarks=json.dumps(remarks))])
    write_table(tmp_path / "volumes.tsv", volumes)
    volumes["remarks"] = read_table(tmp_path / "volumes.tsv")["remarks"]
    assert warnings_of(volumes, patients(volumes))["warning"].tolist() == remarks


def test_a_plausible_cohort_has_no_warning():
    volumes = pd.DataFrame([row(f"v{seed}", *plausible(seed)) for seed in range(3)])
    assert set(MEASUREMENTS) == set(volumes.columns)
    assert warnings_of(volumes, patients(volumes)).empty


@pytest.mark.parametrize(("share", "told"), [(1.019, False), (1.021, True), (0.981, False), (0.979, True)])
def test_a_mask_that_changes_on_the_common_grid_is_told(share, told):
    one = row("v", *plausible(0))
    volumes = pd.DataFrame([one | {"resampled_ml": share * one["structure_ml"]}])
    found = warnings_of(volumes, patients(volumes))["warning"].tolist()
    change = f"the liver has {100 * share - 100:+.1f} % of volume on the common grid; its voxels are coarse for it"
    assert found == [change] * told


def clipped(image, mask):
    return np.clip(image, -160, 240), mask


def shifted(image, mask):
    return (image + 1000).astype(np.int16), mask


def upside_down(image, mask):
    return image, np.roll(mask, 55, axis=2)


def cut(image, mask):
    return image[24:], mask[24:]


def in_parts(image, mask):
    parts = mask.copy()
    parts[30] = False
    return image, parts


def small(image, mask):
    return image, mask & (np.arange(60)[:, None, None] < 20)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (clipped, "no voxel is below -500 HU"),
        (shifted, "the liver has 1060 HU"),
        (upside_down, "of the mask lies on soft tissue"),
        (cut, "reaches the end of the stack at the feet"),
        (in_parts, r"the second holds 50\.0 %"),
        (small, "the liver has 87 ml"),
    ],
)
def test_each_fault_is_told(fault, message):
    sound = [row(f"v{seed}", *plausible(seed)) for seed in range(3)]
    faulty = row("faulty", *fault(*plausible(7)))
    volumes = pd.DataFrame([*sound, faulty])
    found = warnings_of(volumes, patients(volumes))
    assert set(found["volume"]) == {"faulty"}
    assert any(re.search(message, warning) for warning in found["warning"]), found["warning"].tolist()


def test_what_only_the_cohort_tells():
    rows = [row(f"v{seed}", *plausible(seed)) for seed in range(4)]
    rows[2]["spacing_z"] = 30.0
    rows.append(row("copy", *plausible(1)))
    volumes = pd.DataFrame(rows)
    found = warnings_of(volumes, patients(volumes)).set_index("volume")["warning"].to_dict()
    assert found == {
        "v2": "the spacing along z is 30 mm, 3 in half of the cohort",
        "copy": "the image is, voxel by voxel, that of v1",
    }


def test_measurements_by_hand():
    image = np.full((4, 4, 4), -1000, np.int16)
    mask = np.zeros(image.shape, bool)
    mask[1:3, 1:3, 1:3] = True
    image[mask] = 100
    image[1, 1, 1] = 1000
    measured = measure(image, mask)
    assert {name: measured[name] for name in plausibility.MEASURED[:5]} == {
        "air_hu": -1000,
        "structure_hu": 100,
        "soft_tissue": 7 / 8,
        "second_component": 0,
        "touches": "",
    }
    mask[0, 0, 0] = mask[3, 3, 3] = True
    both = measure(image, mask)
    assert both["touches"] == "feet and head"
    assert both["second_component"] == pytest.approx(1 / 10)
    assert both["digest"] == measured["digest"] != measure(image.reshape(2, 8, 4), mask.reshape(2, 8, 4))["digest"]


def volume(seed: int) -> Preprocessed:
    image, mask = plausible(seed)
    grid = Grid((60, 120, 120), np.diag([*SPACING, 1.0]))
    return Preprocessed(image, mask.astype(np.uint8), grid, grid)


def test_the_page_shows_the_oddest_first_and_nothing_unescaped():
    names = ["a", "b", "odd"]
    volumes = pd.DataFrame([row("a", *plausible(1)), row("b", *plausible(2)), row("odd", *clipped(*plausible(3)))])
    cohort = pd.DataFrame({"volume": [*names, "x"], "site": "<i>", "split": "pool"})
    cohort = cohort.assign(patient=cohort["volume"], exclude=["", "", "", "<b>bad"])
    page = cohort_page(cohort, volumes, lambda name: volume(names.index(name)))
    assert re.findall(r'<th scope="row">(\w+)</th><td><img', page) == ["odd", "a", "b"]
    assert "3 volumes, 1 warning on 1 of them" in page
    assert "no voxel is below" in page
    assert "x: &lt;b&gt;bad" in page
    assert "<i>" not in page
    assert page.count("data:image/png;base64,") == 3
    assert "120×120×60\n2×2×3 mm" in page
    assert "Excluded" not in cohort_page(cohort[:3], volumes, lambda name: volume(names.index(name)))


def test_thumbnails_are_three_planes_with_the_head_up():
    made = volume(0)
    bright = Preprocessed(made.image.copy(), made.mask, made.grid, made.grid)
    bright.image[-3:] = 250  # at the head
    with Image.open(io.BytesIO(thumbnail(bright))) as picture:
        pixels = np.asarray(picture.convert("L"), dtype=float)
    third = pixels.shape[1] // 3
    for panel in (pixels[:, :third], pixels[:, third : 2 * third]):
        upper, lower = panel[: len(panel) // 2], panel[len(panel) // 2 :]
        assert upper.max() == 255
        assert (upper > 240).sum() > (lower > 240).sum() + 20
