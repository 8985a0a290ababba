"""Laws of the synthetic cohort: replay, stability of the plan, agreement of files and renderings, plausible anatomy."""

import dataclasses
import hashlib
import time
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from slicesampling import UserError
from slicesampling.jobs.randomness import generator
from slicesampling.phantom import anatomy as phantom

PAPER = {name: {"pool": site.pool, "val": site.val, "test": site.test} for name, site in phantom.SITES.items()}
SETTINGS = {"seed": 3, "matrix": 48, "sites": PAPER, "hard_cases": 0.2, "excluded": 4}


def row_of(volume: str, folder: Path | str = "", **changes: object) -> pd.Series:
    plan = phantom.plan_cohort(SETTINGS, str(folder)).set_index("volume", drop=False)
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


def liver_ml(labels: np.ndarray, grid: phantom.Grid) -> float:
    return float(np.isin(labels, (phantom.LIVER, phantom.TUMOUR)).sum() * np.prod(grid.spacing) / 1000)


def test_plan_of_the_paper_has_its_counts_and_is_instant():
    started = time.perf_counter()
    plan = phantom.plan_cohort({**SETTINGS, "excluded": 65}, "data")
    assert time.perf_counter() - started < 1
    used = plan[plan["exclude"] == ""]
    assert used["split"].value_counts().to_dict() == {"pool": 240, "test": 234, "val": 10}
    assert len(plan) == 484 + 65
    assert plan["volume"].is_unique
    assert plan["volume"].str.fullmatch(r"[a-z]+-[pvtx]\d{3}").all()
    assert set(plan.loc[plan["exclude"] != "", "split"]) == {"pool"}
    assert plan["image"].str.startswith("data/").all()
    assert plan["label"].str.startswith("data/").all()


def test_hard_cases_keep_their_share_and_every_kind_occurs():
    plan = phantom.plan_cohort(SETTINGS, "data").query("exclude == ''")
    hard = plan["hard_case"] != ""
    for split in ("pool", "test"):
        assert hard[plan["split"] == split].mean() == pytest.approx(0.2, abs=0.02)
    assert not hard[plan["split"] == "val"].any()
    assert set(plan["hard_case"]) == {"", *phantom.HARD_CASES}
    none = phantom.plan_cohort({**SETTINGS, "hard_cases": 0.0}, "data")
    assert (none["hard_case"] == "").all()


def test_adding_volumes_leaves_the_rows_of_the_others():
    few = {**SETTINGS, "sites": {"lits": {"pool": 5, "val": 1, "test": 6}, "chaos": {"pool": 2, "val": 1, "test": 1}}}
    more = {**few, "sites": {**PAPER, "lits": {"pool": 9, "val": 3, "test": 20}}, "excluded": 7}
    small, large = (phantom.plan_cohort(settings, "data").set_index("volume") for settings in (few, more))
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
        phantom.plan_cohort({**SETTINGS, **change}, "data")


def test_an_unknown_hard_case_is_named():
    with pytest.raises(UserError, match="unicorn"):
        phantom.scan_of(row_of("lits-p001", hard_case="unicorn"), SETTINGS)


@pytest.mark.parametrize("volume", ["yokohama-p001", "chaos-p002"])
def test_same_seed_same_bytes_and_another_seed_or_volume_others(tmp_path, volume):
    site, _ = volume.split("-")
    rows = [row_of(volume, tmp_path / name) for name in ("first", "second", "seed")]
    rows.append(row_of(f"{site}-v001", tmp_path))
    for row, seed in zip(rows, (3, 3, 4, 3), strict=True):
        phantom.write_volume(row, {**SETTINGS, "seed": seed})
    phantom.write_volume(rows[1], SETTINGS)  # over what is there
    for column in ("image", "label"):
        first, second, other_seed, other_volume = (digest(row[column]) for row in rows)
        assert first == second
        assert len({first, other_seed, other_volume}) == 3
    assert not list(tmp_path.rglob(".*"))


def test_the_result_does_not_depend_on_how_many_slices_are_rendered_at_a_time(monkeypatch):
    row = row_of("lits-t002", hard_case="metal streaks")
    hu, labels, _ = phantom.render_row(row, SETTINGS)
    monkeypatch.setattr(phantom, "CHUNK", 7 * 48 * 48)
    hu_again, labels_again, _ = phantom.render_row(row, SETTINGS)
    assert (labels == labels_again).mean() > 0.9999
    assert np.abs(hu.astype(int) - hu_again).mean() < 0.05


def test_boxes_only_save_time():
    who = patient(7, "motion")
    stronger = who.waves * np.array([3, 1, 1, 1, 1, 1, 1])  # bent far enough that a box without a margin would cut
    who = dataclasses.replace(who, waves=stronger)
    names = ("liver", "vena cava", "gallbladder", "spleen", "kidney cortex")
    everywhere = ((-1e3, -1e3, -1e3), (1e3, 1e3, 1e3))
    open_parts = [part._replace(box=everywhere) if part.name in names else part for part in who.parts]
    (hu, labels), (open_hu, open_labels) = look(who), look(dataclasses.replace(who, parts=open_parts))
    np.testing.assert_array_equal(labels, open_labels)
    assert (hu != open_hu).mean() < 1e-3


@pytest.mark.parametrize("volume", ["yokohama-p001", "rumc-p002", "dresden-p001", "lits-p003"])
def test_nifti_read_back_is_the_rendering_in_hounsfield_units(tmp_path, volume):
    row = row_of(volume, tmp_path)
    phantom.write_volume(row, SETTINGS)
    hu, labels, grid = phantom.render_row(row, SETTINGS)
    image, affine = in_lps(row["image"])
    label, label_affine = in_lps(row["label"])
    site = phantom.SITES[row["site"]]
    np.testing.assert_allclose(image, hu, atol=site.slope / 2)
    np.testing.assert_array_equal(affine, label_affine)
    np.testing.assert_allclose(np.diag(affine)[:3], [-grid.spacing[2], -grid.spacing[1], grid.spacing[0]], rtol=1e-5)
    np.testing.assert_allclose(affine[:3, 3], [-grid.origin[2], -grid.origin[1], grid.origin[0]], atol=1e-3)
    np.testing.assert_array_equal(label > 0, np.isin(labels, (phantom.LIVER, phantom.TUMOUR)))
    stored = nibabel.load(row["image"])
    assert "".join(nibabel.aff2axcodes(stored.affine)) == site.orientation
    assert (stored.dataobj.slope, stored.dataobj.inter) == (site.slope, site.intercept)
    assert stored.get_data_dtype() == np.int16


def test_only_lits_tells_tumour_from_liver(tmp_path):
    for volume, values in (("lits-p001", {0, 1, 2}), ("yokohama-p001", {0, 1})):
        row = row_of(volume, tmp_path, hard_case="large tumour")
        phantom.write_volume(row, SETTINGS)
        assert set(np.unique(in_lps(row["label"])[0])) == values


def test_dicom_series_sorted_by_position_agrees_with_masks_in_reverse(tmp_path):
    row = row_of("chaos-p001", tmp_path)
    phantom.write_volume(row, SETTINGS)
    hu, labels, grid = phantom.render_row(row, SETTINGS)
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
    np.testing.assert_array_equal(read, np.maximum(hu, phantom.SITES["chaos"].intercept))
    masks = np.stack([np.asarray(Image.open(path)) for path in sorted(Path(row["label"]).glob("*.png"))])
    np.testing.assert_array_equal(masks[::-1] > 0, np.isin(labels, (phantom.LIVER, phantom.TUMOUR)))


def patient(seed: int, hard_case: str = "", phase: str = "portal venous", tumours: int = 0) -> phantom.Anatomy:
    return phantom.anatomy(generator(seed, "patient"), hard_case, phase, tumours)


GRID = phantom.Grid((48, 56, 56), (5.5, 7.0, 7.0), (-235.0, -192.5, -192.5))


def look(who: phantom.Anatomy, noise: float = 8.0) -> tuple[np.ndarray, np.ndarray]:
    return phantom.render(who, GRID, generator(0, "noise"), noise)


def test_ordinary_livers_have_a_plausible_volume_side_and_place():
    sizes = []
    for seed in range(6):
        hu, labels = look(patient(seed))
        sizes.append(liver_ml(labels, GRID))
        z, _, x = np.nonzero(labels == phantom.LIVER)
        assert x.mean() < GRID.shape[2] / 2 - 3  # on the patient's right, the image's left
        assert z.min() > 0
        assert z.max() < GRID.shape[0] - 1
        assert hu[0, 0, 0] == -1024  # outside the scanner's circle
    assert min(sizes) > 500
    assert max(sizes) < 3500
    assert 900 < np.median(sizes) < 2000
    assert np.std(sizes) > 30


@pytest.mark.parametrize("phase", phantom.PHASES)
def test_the_liver_has_the_attenuation_of_its_phase(phase):
    who = patient(1, phase=phase)
    hu, labels = look(who)
    expected = phantom.ENHANCEMENT["liver"][phantom.PHASES.index(phase)]
    assert np.median(hu[labels == phantom.LIVER]) == pytest.approx(expected, rel=0.1, abs=5)


def test_the_liver_cannot_be_had_by_a_threshold():
    hu, labels = look(patient(2))
    liver = labels == phantom.LIVER
    low, high = np.percentile(hu[liver], (5, 95))
    within = (hu >= low) & (hu <= high)
    dice = 2 * (within & liver).sum() / (within.sum() + liver.sum())
    assert dice < 0.75


def test_noise_has_the_standard_deviation_that_was_asked_for():
    who = patient(3)
    quiet, labels = look(who, 1e-3)
    loud, _ = look(who, 20.0)
    difference = (loud.astype(float) - quiet)[labels == phantom.LIVER]
    assert abs(difference.mean()) < 2
    assert 10 < difference.std() < 25


@pytest.mark.parametrize("hard_case", phantom.HARD_CASES)
def test_hard_cases_differ_from_the_same_patient_without(hard_case):
    (hu, labels), (hard_hu, hard_labels) = look(patient(5)), look(patient(5, hard_case))
    inside, hard_inside = np.isin(labels, (1, 2)), np.isin(hard_labels, (1, 2))
    change = {
        "polycystic liver": (hard_labels == phantom.TUMOUR).sum() > 0.1 * hard_inside.sum()
        and np.median(hard_hu[hard_labels == phantom.TUMOUR]) < 50,
        "resected liver": hard_inside.sum() < 0.85 * inside.sum(),
        "large tumour": (hard_labels == phantom.TUMOUR).sum() * np.prod(GRID.spacing) / 1000 > 150,
        "fatty liver": np.median(hard_hu[hard_inside]) < np.median(hu[inside]) - 25,
        "metal streaks": (hard_hu > 1200).sum() > (hu > 1200).sum() and hard_hu[hard_inside].std() > hu[inside].std(),
        "motion": (inside ^ hard_inside).sum() > 0.02 * inside.sum(),
    }
    assert change[hard_case]
    assert hard_inside.sum() * np.prod(GRID.spacing) / 1000 > 250


@pytest.mark.parametrize("exclude", phantom.EXCLUSIONS)
def test_an_excluded_volume_has_a_mask_that_is_wrong_in_the_said_way(tmp_path, exclude):
    plan = phantom.plan_cohort(SETTINGS, str(tmp_path)).set_index("exclude", drop=False)
    row = plan.loc[exclude].iloc[0]
    phantom.write_volume(row, SETTINGS)
    _, labels, _ = phantom.render_row(row, SETTINGS)
    mask, right = in_lps(row["label"])[0] > 0, np.isin(labels, (phantom.LIVER, phantom.TUMOUR))
    extra = mask & ~right
    if exclude == phantom.EXCLUSIONS[0]:
        assert extra.any()
        assert (labels[extra] == phantom.VENA_CAVA).all()
        assert (mask | ~right).all()
    else:
        dice = 2 * (mask & right).sum() / (mask.sum() + right.sum())
        assert 0.5 < dice < 0.93


def test_a_coarser_matrix_shows_the_same_patient():
    row = row_of("yokohama-t001")
    (_, coarse, coarse_grid), (_, fine, fine_grid) = (
        phantom.render_row(row, {**SETTINGS, "matrix": matrix}) for matrix in (48, 96)
    )
    assert coarse_grid.spacing[2] == pytest.approx(2 * fine_grid.spacing[2])
    assert liver_ml(coarse, coarse_grid) == pytest.approx(liver_ml(fine, fine_grid), rel=0.08)


def test_at_the_full_matrix_voxels_and_slices_are_those_of_table_1():
    plan = phantom.plan_cohort(SETTINGS, "data").groupby("site").head(4)
    ranges = {
        "yokohama": (0.5, 0.8),
        "rumc": (0.6, 1.0),
        "dresden": (0.6, 0.9),
        "lits": (0.6, 1.0),
        "chaos": (0.6, 0.8),
    }
    for _, row in plan.iterrows():
        grid = phantom.scan_of(row, {**SETTINGS, "matrix": 512}).grid
        low, high = ranges[row["site"]]
        site = phantom.SITES[row["site"]]
        assert low - 0.05 <= grid.spacing[2] <= high + 0.05
        assert site.slices[0] <= grid.shape[0] <= site.slices[1]
        assert grid.spacing[0] in site.slice_thickness
