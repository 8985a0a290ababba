"""Reliability and calibration error: counts by hand, and laws."""

import numpy as np
import pandas as pd
import pytest
import torch
from slicesampling.evaluation.calibration import BINS, calibration_errors, pooled, reliability


def volumes(probability: float, share: float, shape: tuple[int, int, int] = (6, 20, 20)) -> tuple[torch.Tensor, ...]:
    """Return a volume of one probability, and a reference that holds a share of its voxels."""
    generator = torch.Generator().manual_seed(1)
    return torch.full(shape, probability), torch.rand(shape, generator=generator) < share


def test_counts_by_hand() -> None:
    probability = torch.tensor([[[0.0, 0.0, 0.0, 0.0, 0.05, 0.95, 1.0, 0.4]]])
    reference = torch.tensor([[[0, 0, 0, 0, 0, 1, 1, 1]]]) == 1
    counts = reliability(probability, reference, dilation=3).set_index("bin")
    # Near: the three liver voxels, and one on the left.
    assert counts["voxels"].sum() == 4
    assert counts.loc[0].tolist() == pytest.approx([1, 0.05, 0])
    assert counts.loc[int(0.4 * BINS)].tolist() == pytest.approx([1, 0.4, 1])
    assert counts.loc[BINS - 1].tolist() == pytest.approx([2, 1.95, 2])
    assert counts["structure"].sum() == 3


@pytest.mark.parametrize("probability", [0.03, 0.5, 0.97])
def test_a_model_that_is_right_as_often_as_it_says_has_no_error(probability: float) -> None:
    counts = reliability(*volumes(probability, probability), dilation=11).assign(model="uss-1")
    assert float(calibration_errors(counts)["ece"].iloc[0]) == pytest.approx(0, abs=0.03)
    wrong = reliability(*volumes(probability, 1 - probability), dilation=11).assign(model="uss-1")
    assert float(calibration_errors(wrong)["ece"].iloc[0]) == pytest.approx(abs(1 - 2 * probability), abs=0.03)


def test_volumes_and_seeds_are_pooled_by_voxels() -> None:
    small, large = (reliability(*volumes(0.9, 0.5, (2, size, size)), dilation=1) for size in (10, 30))
    counts = pd.concat([small.assign(model="a"), large.assign(model="a"), small.assign(model="b")])
    bins = pooled(counts).set_index("model")
    assert bins.loc["a", "voxels"] == small["voxels"].sum() + large["voxels"].sum()
    assert bins.loc["b", "structure"] == pytest.approx(small["structure"].sum() / small["voxels"].sum())
    expected = np.average(
        [small["structure"].sum() / small["voxels"].sum(), large["structure"].sum() / large["voxels"].sum()],
        weights=[small["voxels"].sum(), large["voxels"].sum()],
    )
    assert bins.loc["a", "structure"] == pytest.approx(expected)
    errors = calibration_errors(counts).set_index("model")["ece"]
    assert errors["a"] == pytest.approx(abs(expected - 0.9), abs=1e-6)


def test_nothing_near_the_liver_counts_nothing() -> None:
    empty = reliability(torch.zeros(3, 4, 5), torch.zeros(3, 4, 5, dtype=torch.bool), dilation=11)
    assert empty["voxels"].sum() == 0
    assert len(empty) == BINS
