"""Laws of the uncertainty measures: bounds of the entropy, agreement with definitions."""

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from slicesampling.learning.uncertainty import dilated, predictive_entropy, slice_uncertainty, volume_uncertainty


@given(hnp.arrays(np.float64, (2, 3, 4, 5), elements=st.floats(0, 1)))
def test_entropy_agrees_with_scipy_and_its_bounds(scores: np.ndarray) -> None:
    probability = np.stack([scores[0], 1 - scores[0]])
    entropy = predictive_entropy(torch.from_numpy(probability)).numpy()
    assert entropy.shape == (3, 4, 5)
    assert np.allclose(entropy, scipy.stats.entropy(probability, axis=0))
    assert (entropy >= 0).all()
    assert (entropy <= np.log(2) + 1e-12).all()


def test_certain_voxels_have_no_entropy_and_undecided_ones_the_most() -> None:
    entropy = predictive_entropy(torch.tensor([[0.0, 1.0, 0.5], [1.0, 0.0, 0.5]]))
    assert entropy.tolist() == pytest.approx([0, 0, np.log(2)])


def test_slice_uncertainty_is_the_mean_of_each_slice() -> None:
    entropy = np.random.default_rng(0).random((5, 6, 7)).astype(np.float32)
    profile = slice_uncertainty(torch.from_numpy(entropy))
    assert profile == pytest.approx([plane.astype(float).mean() for plane in entropy])


def test_volume_uncertainty_counts_the_dilated_liver_only() -> None:
    """A single liver voxel is dilated to an 11×11×11 box; what lies outside, or how large the volume is, is nothing."""
    random = np.random.default_rng(1)
    entropy = torch.from_numpy(random.random((30, 31, 32)))
    liver = torch.zeros(entropy.shape, dtype=torch.bool)
    liver[15, 16, 3] = True
    score = volume_uncertainty(entropy, liver)
    assert score.liver_found
    assert score.predictive_entropy == pytest.approx(entropy[10:21, 11:22, :9].mean().item())
    entropy[0] = 100
    assert volume_uncertainty(entropy, liver) == score


def test_without_liver_all_voxels_count_and_it_is_flagged() -> None:
    entropy = torch.from_numpy(np.random.default_rng(2).random((3, 4, 5)))
    score = volume_uncertainty(entropy, torch.zeros(entropy.shape, dtype=torch.bool))
    assert score == (pytest.approx(entropy.mean().item()), False)


@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3), half=st.integers(0, 6), share=st.floats(0, 0.2), seed=st.integers(0, 99)
)
def test_dilation_agrees_with_scipy(shape: tuple[int, int, int], half: int, share: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random(shape) < share
    side = 2 * half + 1
    expected = scipy.ndimage.maximum_filter(mask.astype(np.uint8), side, mode="constant")
    assert np.array_equal(dilated(torch.from_numpy(mask), side).numpy(), expected)
    score = volume_uncertainty(torch.from_numpy(expected.astype(float)), torch.from_numpy(mask), side)
    assert score == (float(mask.any()), mask.any())
