"""Laws of the anatomy: plausible livers, hard cases that are hard, no threshold that finds the liver."""

import numpy as np
import pytest
from slicesampling.jobs.randomness import generator
from slicesampling.phantom import anatomy, scanner, shapes


def liver_ml(labels: np.ndarray, grid: scanner.Grid) -> float:
    return float(np.isin(labels, (shapes.LIVER, shapes.TUMOUR)).sum() * np.prod(grid.spacing) / 1000)


def patient(seed: int, hard_case: str = "", phase: str = "portal venous", tumours: int = 0) -> anatomy.Anatomy:
    return anatomy.anatomy(generator(seed, "patient"), hard_case, phase, tumours)


GRID = scanner.Grid((48, 56, 56), (5.5, 7.0, 7.0), (-235.0, -192.5, -192.5))


def look(who: anatomy.Anatomy, noise: float = 8.0) -> tuple[np.ndarray, np.ndarray]:
    return scanner.render(who, GRID, generator(0, "noise"), noise)


def test_ordinary_livers_have_a_plausible_volume_side_and_place():
    sizes = []
    for seed in range(6):
        hu, labels = look(patient(seed))
        sizes.append(liver_ml(labels, GRID))
        z, _, x = np.nonzero(labels == shapes.LIVER)
        assert x.mean() < GRID.shape[2] / 2 - 3  # on the patient's right, the image's left
        assert z.min() > 0
        assert z.max() < GRID.shape[0] - 1
        assert hu[0, 0, 0] == -1024  # outside the scanner's circle
    assert min(sizes) > 500
    assert max(sizes) < 3500
    assert 900 < np.median(sizes) < 2000
    assert np.std(sizes) > 30


@pytest.mark.parametrize("phase", anatomy.PHASES)
def test_the_liver_has_the_attenuation_of_its_phase(phase):
    who = patient(1, phase=phase)
    hu, labels = look(who)
    expected = anatomy.ENHANCEMENT["liver"][anatomy.PHASES.index(phase)]
    assert np.median(hu[labels == shapes.LIVER]) == pytest.approx(expected, rel=0.1, abs=5)


def test_the_liver_cannot_be_had_by_a_threshold():
    hu, labels = look(patient(2))
    liver = labels == shapes.LIVER
    low, high = np.percentile(hu[liver], (5, 95))
    within = (hu >= low) & (hu <= high)
    dice = 2 * (within & liver).sum() / (within.sum() + liver.sum())
    assert dice < 0.75


@pytest.mark.parametrize("hard_case", anatomy.HARD_CASES)
def test_hard_cases_differ_from_the_same_patient_without(hard_case):
    (hu, labels), (hard_hu, hard_labels) = look(patient(5)), look(patient(5, hard_case))
    inside, hard_inside = np.isin(labels, (1, 2)), np.isin(hard_labels, (1, 2))
    change = {
        "polycystic liver": (hard_labels == shapes.TUMOUR).sum() > 0.1 * hard_inside.sum()
        and np.median(hard_hu[hard_labels == shapes.TUMOUR]) < 50,
        "resected liver": hard_inside.sum() < 0.85 * inside.sum(),
        "large tumour": (hard_labels == shapes.TUMOUR).sum() * np.prod(GRID.spacing) / 1000 > 150,
        "fatty liver": np.median(hard_hu[hard_inside]) < np.median(hu[inside]) - 25,
        "metal streaks": (hard_hu > 1200).sum() > (hu > 1200).sum() and hard_hu[hard_inside].std() > hu[inside].std(),
        "motion": (inside ^ hard_inside).sum() > 0.02 * inside.sum(),
    }
    assert change[hard_case]
    assert hard_inside.sum() * np.prod(GRID.spacing) / 1000 > 250
