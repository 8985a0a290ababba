"""Laws of the scanner: the grid is the site's, the noise what was asked for, and the patient the same on any grid."""

import dataclasses

import numpy as np
import pytest
from slicesampling import UserError
from slicesampling.phantom import scanner, shapes, sites
from test_anatomy import liver_ml, look, patient
from test_phantom_files import SETTINGS, row_of


def test_an_unknown_hard_case_is_named():
    with pytest.raises(UserError, match="unicorn"):
        scanner.scan_of(row_of("lits-p001", hard_case="unicorn"), SETTINGS)


def test_the_result_does_not_depend_on_how_many_slices_are_rendered_at_a_time(monkeypatch):
    row = row_of("lits-t002", hard_case="metal streaks")
    hu, labels, _ = scanner.render_row(row, SETTINGS)
    monkeypatch.setattr(scanner, "CHUNK", 7 * 48 * 48)
    hu_again, labels_again, _ = scanner.render_row(row, SETTINGS)
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


def test_noise_has_the_standard_deviation_that_was_asked_for():
    who = patient(3)
    quiet, labels = look(who, 1e-3)
    loud, _ = look(who, 20.0)
    difference = (loud.astype(float) - quiet)[labels == shapes.LIVER]
    assert abs(difference.mean()) < 2
    assert 10 < difference.std() < 25


def test_a_coarser_matrix_shows_the_same_patient():
    row = row_of("yokohama-t001")
    (_, coarse, coarse_grid), (_, fine, fine_grid) = (
        scanner.render_row(row, {**SETTINGS, "matrix": matrix}) for matrix in (48, 96)
    )
    assert coarse_grid.spacing[2] == pytest.approx(2 * fine_grid.spacing[2])
    assert liver_ml(coarse, coarse_grid) == pytest.approx(liver_ml(fine, fine_grid), rel=0.08)


def test_at_the_full_matrix_voxels_and_slices_are_those_of_table_1():
    plan = sites.plan_cohort(SETTINGS, "data").groupby("site").head(4)
    ranges = {
        "yokohama": (0.5, 0.8),
        "rumc": (0.6, 1.0),
        "dresden": (0.6, 0.9),
        "lits": (0.6, 1.0),
        "chaos": (0.6, 0.8),
    }
    for _, row in plan.iterrows():
        grid = scanner.scan_of(row, {**SETTINGS, "matrix": 512}).grid
        low, high = ranges[row["site"]]
        site = sites.SITES[row["site"]]
        assert low - 0.05 <= grid.spacing[2] <= high + 0.05
        assert site.slices[0] <= grid.shape[0] <= site.slices[1]
        assert grid.spacing[0] in site.slice_thickness
