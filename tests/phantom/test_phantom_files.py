"""Laws of the synthetic cohort: its table is the paper's, and its files hold what was rendered."""

import hashlib
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pydicom
import pytest
from conftest import calls
from PIL import Image
from slicesampling import UserError
from slicesampling.phantom import anatomy, files, scanner, shapes, sites

PAPER = {name: {"pool": site.pool, "val": site.val, "test": site.test} for name, site in sites.SITES.items()}
SETTINGS = {"seed": 3, "matrix": 48, "sites": PAPER, "hard_cases": 0.2, "excluded": 4}


def row_of(volume: str, folder: Path | str = "", **changes: object) -> pd.Series:
    plan = sites.plan_cohort(SETTINGS, str(folder)).set_index("volume", drop=False)
    row = plan.loc[volume].copy()
    row["hard_case"] = ""
    for key, value in changes.items():
        row[key] = value
    return row


def digest(path: str) -> str:
    """Hash of a file, or of the names and contents of a folder."""
    files = sorted(Path(path).iterdir()) if Path(path).is_dir() else [Path(path)]
    joined = b"".join(file.name.encode() + file.read_bytes() for file in files)
    return hashlib.sha256(joined).hexdigest()


def in_lps(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Array (z, y, x) and affine of a NIfTI file, turned so that the axes grow to the left, the back and the head."""
    image = nibabel.load(path)
    codes = nibabel.orientations.axcodes2ornt
    turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), codes("LPS"))
    turned = image.as_reoriented(turn)
    return np.asarray(turned.dataobj).transpose(2, 1, 0), turned.affine


def test_plan_of_the_paper_has_its_counts_and_is_instant():
    plan = sites.plan_cohort({**SETTINGS, "excluded": 65}, "data")
    assert calls(lambda: sites.plan_cohort({**SETTINGS, "excluded": 65}, "data")) < 20 * len(plan)
    used = plan[plan["exclude"] == ""]
    assert used["split"].value_counts().to_dict() == {"pool": 240, "test": 234, "val": 10}
    assert len(plan) == 484 + 65
    assert plan["volume"].is_unique
    assert plan["volume"].str.fullmatch(r"[a-z]+-[pvtx]\d{3}").all()
    assert set(plan.loc[plan["exclude"] != "", "split"]) == {"pool"}
    assert plan["image"].str.startswith("data/").all()
    assert plan["label"].str.startswith("data/").all()


def test_hard_cases_keep_their_share_and_every_kind_occurs():
    plan = sites.plan_cohort(SETTINGS, "data").query("exclude == ''")
    hard = plan["hard_case"] != ""
    for split in ("pool", "test"):
        assert hard[plan["split"] == split].mean() == pytest.approx(0.2, abs=0.02)
    assert not hard[plan["split"] == "val"].any()
    assert set(plan["hard_case"]) == {"", *anatomy.HARD_CASES}
    none = sites.plan_cohort({**SETTINGS, "hard_cases": 0.0}, "data")
    assert (none["hard_case"] == "").all()


def test_adding_volumes_leaves_the_rows_of_the_others():
    few = {**SETTINGS, "sites": {"lits": {"pool": 5, "val": 1, "test": 6}, "chaos": {"pool": 2, "val": 1, "test": 1}}}
    more = {**few, "sites": {**PAPER, "lits": {"pool": 9, "val": 3, "test": 20}}, "excluded": 7}
    small, large = (sites.plan_cohort(settings, "data").set_index("volume") for settings in (few, more))
    pd.testing.assert_frame_equal(small, large.loc[small.index])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"matrix": 4}, "matrix"),
        ({"hard_cases": 1.5}, "hard_cases"),
        ({"excluded": -1}, "excluded"),
        ({"sites": {"mainz": {"pool": 1}}}, "mainz"),
        ({"sites": {"lits": {"train": 1}}}, "train"),
        ({"sites": {"lits": {"pool": 1000}}}, "1000"),
    ],
)
def test_faults_in_the_settings_are_named(change, words):
    with pytest.raises(UserError, match=words):
        sites.plan_cohort({**SETTINGS, **change}, "data")


@pytest.mark.parametrize("volume", ["yokohama-p001", "chaos-p002"])
def test_same_seed_same_bytes_and_another_seed_or_volume_others(tmp_path, volume):
    site, _ = volume.split("-")
    rows = [row_of(volume, tmp_path / name) for name in ("first", "second", "seed")]
    rows.append(row_of(f"{site}-v001", tmp_path))
    for row, seed in zip(rows, (3, 3, 4, 3), strict=True):
        files.write_volume(row, {**SETTINGS, "seed": seed})
    files.write_volume(rows[1], SETTINGS)  # over what is there
    for column in ("image", "label"):
        first, second, other_seed, other_volume = (digest(row[column]) for row in rows)
        assert first == second
        assert len({first, other_seed, other_volume}) == 3
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize("volume", ["yokohama-p001", "rumc-p002", "dresden-p001", "lits-p003"])
def test_nifti_read_back_is_the_rendering_in_hounsfield_units(tmp_path, volume):
    row = row_of(volume, tmp_path)
    files.write_volume(row, SETTINGS)
    hu, labels, grid = scanner.render_row(row, SETTINGS)
    image, affine = in_lps(row["image"])
    label, label_affine = in_lps(row["label"])
    site = sites.SITES[row["site"]]
    np.testing.assert_allclose(image, hu, atol=site.slope / 2)
    np.testing.assert_array_equal(affine, label_affine)
    np.testing.assert_allclose(np.diag(affine)[:3], [-grid.spacing[2], -grid.spacing[1], grid.spacing[0]], rtol=1e-5)
    np.testing.assert_allclose(affine[:3, 3], [-grid.origin[2], -grid.origin[1], grid.origin[0]], atol=1e-3)
    np.testing.assert_array_equal(label > 0, np.isin(labels, (shapes.LIVER, shapes.TUMOUR)))
    stored = nibabel.load(row["image"])
    assert "".join(nibabel.aff2axcodes(stored.affine)) == site.orientation
    assert (stored.dataobj.slope, stored.dataobj.inter) == (site.slope, site.intercept)
    assert stored.get_data_dtype() == np.int16


def test_only_lits_tells_tumour_from_liver(tmp_path):
    for volume, values in (("lits-p001", {0, 1, 2}), ("yokohama-p001", {0, 1})):
        row = row_of(volume, tmp_path, hard_case="large tumour")
        files.write_volume(row, SETTINGS)
        assert set(np.unique(in_lps(row["label"])[0])) == values


def test_dicom_series_sorted_by_position_agrees_with_masks_in_reverse(tmp_path):
    row = row_of("chaos-p001", tmp_path)
    files.write_volume(row, SETTINGS)
    hu, labels, grid = scanner.render_row(row, SETTINGS)
    by_name = [pydicom.dcmread(path) for path in sorted(Path(row["image"]).iterdir())]
    series = sorted(by_name, key=lambda slide: slide.ImagePositionPatient[2])
    assert [slide.InstanceNumber for slide in series] == list(range(len(hu), 0, -1))
    assert [slide.InstanceNumber for slide in by_name] not in (list(range(1, len(hu) + 1)), list(range(len(hu), 0, -1)))
    assert len({slide.SOPInstanceUID for slide in series}) == len(series)
    assert len({slide.SeriesInstanceUID for slide in series}) == 1
    z = np.array([slide.ImagePositionPatient[2] for slide in series], float)
    np.testing.assert_allclose(np.diff(z), grid.spacing[0], atol=2e-4)
    assert float(series[0].SliceThickness) == pytest.approx(grid.spacing[0], abs=1e-3)
    np.testing.assert_allclose(np.array(series[0].PixelSpacing, float), grid.spacing[1:], atol=1e-5)
    assert list(series[0].ImageOrientationPatient) == [1, 0, 0, 0, 1, 0]
    read = np.stack([s.pixel_array * float(s.RescaleSlope) + float(s.RescaleIntercept) for s in series])
    np.testing.assert_array_equal(read, np.maximum(hu, sites.SITES["chaos"].intercept))
    masks = np.stack([np.asarray(Image.open(path)) for path in sorted(Path(row["label"]).glob("*.png"))])
    np.testing.assert_array_equal(masks[::-1] > 0, np.isin(labels, (shapes.LIVER, shapes.TUMOUR)))


@pytest.mark.parametrize("exclude", sites.EXCLUSIONS)
def test_an_excluded_volume_has_a_mask_that_is_wrong_in_the_said_way(tmp_path, exclude):
    plan = sites.plan_cohort(SETTINGS, str(tmp_path)).set_index("exclude", drop=False)
    row = plan.loc[exclude].iloc[0]
    files.write_volume(row, SETTINGS)
    _, labels, _ = scanner.render_row(row, SETTINGS)
    mask, right = in_lps(row["label"])[0] > 0, np.isin(labels, (shapes.LIVER, shapes.TUMOUR))
    extra = mask & ~right
    if exclude == sites.EXCLUSIONS[0]:
        assert extra.any()
        assert (labels[extra] == shapes.VENA_CAVA).all()
        assert (mask | ~right).all()
    else:
        dice = 2 * (mask & right).sum() / (mask.sum() + right.sum())
        assert 0.5 < dice < 0.93
