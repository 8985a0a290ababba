"""Laws of the uncertainty measures: their bounds, agreement with definitions, means over slices and regions."""

import re
import textwrap

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from slicesampling import NOT_ANNOTATED
from slicesampling.learning import uncertainty
from slicesampling.learning.ensembles import sampled
from slicesampling.learning.uncertainty import (
    MEASURES,
    Region,
    dilated,
    moments,
    predictive_entropy,
    selective_slice_uncertainty,
    slice_columns,
    slice_counts,
    slice_profiles,
    slice_uncertainty,
    structure_region,
    volume_columns,
    volume_scores,
    volume_uncertainty,
)


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


SAMPLES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.just(2), st.just(3), st.just(2), st.just(2)),
    elements=st.floats(-40, 40, width=32),
)


@given(SAMPLES)
def test_measures_keep_their_bounds_and_agree_with_kept_samples(drawn: np.ndarray) -> None:
    known = moments(torch.from_numpy(drawn))
    entropy, information, spread = (MEASURES[name](known).numpy() for name in MEASURES)
    assert (information >= 0).all()
    assert (information <= entropy).all()
    assert (spread >= 0).all()
    assert (spread <= 0.25 + 1e-6).all()
    kept = np.exp(drawn - np.logaddexp(drawn[:, :1], drawn[:, 1:]), dtype=np.float64)
    mean = kept.mean(axis=0)
    assert np.allclose(entropy, scipy.stats.entropy(mean, axis=0), atol=1e-5)
    assert np.allclose(information, entropy - scipy.stats.entropy(kept, axis=1).mean(axis=0), atol=2e-5)
    assert np.allclose(spread, kept[:, 1].var(axis=0), atol=1e-6)


@given(SAMPLES)
def test_samples_that_agree_leave_nothing_to_disagree_on(drawn: np.ndarray) -> None:
    known = moments(torch.from_numpy(drawn[:1]).expand(7, -1, -1, -1, -1))
    assert MEASURES["mutual_information"](known).max() < 1e-6
    assert MEASURES["variance"](known).max() < 1e-6


def test_the_example_of_the_documentation_is_a_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs/strategies.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^( +def [^\n]*Moments.*?^ +MEASURES.*?)$", page, flags=re.MULTILINE | re.DOTALL)
    monkeypatch.setattr(uncertainty, "MEASURES", dict(MEASURES))
    exec(textwrap.dedent(example), vars(uncertainty))  # as if it stood at the end of that file
    assert slice_columns()[-1] == "least_confidence_selective"
    values = uncertainty.MEASURES["least_confidence"](moments(torch.randn((5, 2, 3, 3, 3))))
    assert 0 < values.min() <= values.max() <= 0.5


def test_the_order_of_samples_changes_nothing_but_rounding() -> None:
    drawn = torch.randn((9, 2, 3, 4, 5), generator=torch.Generator().manual_seed(3))
    one, other = moments(drawn), moments(drawn.flip(0))
    for name, measure in MEASURES.items():
        assert torch.allclose(measure(one), measure(other), atol=1e-6), name


def of_volume(values: torch.Tensor, region: Region | None) -> float:
    return volume_uncertainty(slice_uncertainty(values), selective_slice_uncertainty(values, region), region)


def test_volume_uncertainty_counts_the_dilated_liver_only() -> None:
    """A single liver voxel is dilated to an 11×11×11 box; what lies outside, or how large the volume is, is nothing."""
    random = np.random.default_rng(1)
    entropy = torch.from_numpy(random.random((30, 31, 32)))
    liver = torch.zeros(entropy.shape, dtype=torch.bool)
    liver[15, 16, 3] = True
    region = structure_region(liver)
    score = of_volume(entropy, region)
    assert score == pytest.approx(entropy[10:21, 11:22, :9].mean().item())
    profile = selective_slice_uncertainty(entropy, region)
    assert profile[10:21] == pytest.approx(entropy[10:21, 11:22, :9].mean(dim=(1, 2)).numpy())
    assert not profile[:10].any()
    assert not profile[21:].any()
    entropy[0] = 100
    assert of_volume(entropy, region) == score
    assert (selective_slice_uncertainty(entropy, region) == profile).all()


def test_without_liver_all_voxels_count_for_the_volume_and_none_for_a_slice() -> None:
    entropy = torch.from_numpy(np.random.default_rng(2).random((3, 4, 5)))
    assert structure_region(torch.zeros(entropy.shape, dtype=torch.bool)) is None
    assert of_volume(entropy, None) == pytest.approx(entropy.mean().item())
    assert selective_slice_uncertainty(entropy, None).tolist() == [0, 0, 0]


def test_columns_are_named_after_measure_region_and_maximum() -> None:
    random = torch.Generator().manual_seed(4)
    measures = {name: torch.rand((20, 9, 8), generator=random) for name in MEASURES}
    region = structure_region(measures["variance"] > 0.999)
    columns = slice_profiles(measures, region)
    assert list(columns) == slice_columns()
    score = volume_scores(columns, region)
    assert list(score) == volume_columns()
    for name, values in measures.items():
        assert score[name] == pytest.approx(values[region.box][region.mask].double().mean().item())
        assert score[f"{name}_maximum"] == slice_uncertainty(values).max()
        assert score[f"{name}_selective_maximum"] == selective_slice_uncertainty(values, region).max()


@pytest.mark.parametrize("measure", MEASURES)
def test_a_measure_alone_is_the_same_as_among_all(measure: str) -> None:
    maps = torch.rand((3, 5, 9, 8), generator=torch.Generator().manual_seed(5))
    alone, among_all = sampled(maps, True, [measure]), sampled(maps, True)
    assert list(alone.measures) == [measure]
    assert torch.equal(alone.measures[measure], among_all.measures[measure])
    assert torch.equal(alone.liver, among_all.liver)
    assert torch.equal(alone.mean_probability, among_all.mean_probability)
    region = structure_region(alone.liver, 3)
    profiles = slice_profiles(alone.measures, region)
    expected = volume_scores(slice_profiles(among_all.measures, region), region)
    assert volume_scores(profiles, region).items() <= expected.items()


@given(hnp.arrays(bool, st.tuples(st.just(2), *[st.integers(1, 5)] * 3)))
def test_wrong_voxels_are_all_that_would_have_to_be_changed(masks: np.ndarray) -> None:
    """By slice: those of the prediction and those of the reference, less twice what both have."""
    liver, reference = torch.from_numpy(masks)
    counts = slice_counts(liver, reference.to(torch.uint8))
    both = (masks[0] & masks[1]).sum(axis=(1, 2))
    assert counts["structure_voxels"] == masks[0].sum(axis=(1, 2)).tolist()
    assert counts["wrong_voxels"] == (masks.sum(axis=(0, 2, 3)) - 2 * both).tolist()
    assert slice_counts(liver, None) == counts | {"wrong_voxels": [None] * len(liver)}
    partly = reference.to(torch.uint8)
    partly[0] = NOT_ANNOTATED
    assert slice_counts(liver, partly) == counts | {"wrong_voxels": [None, *counts["wrong_voxels"][1:]]}


@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3), half=st.integers(0, 6), share=st.floats(0, 0.2), seed=st.integers(0, 99)
)
def test_dilation_agrees_with_scipy(shape: tuple[int, int, int], half: int, share: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random(shape) < share
    side = 2 * half + 1
    expected = scipy.ndimage.maximum_filter(mask.astype(np.uint8), side, mode="constant")
    assert np.array_equal(dilated(torch.from_numpy(mask), side).numpy(), expected)
    region = structure_region(torch.from_numpy(mask), side)
    assert (region is not None) == mask.any()
    assert of_volume(torch.from_numpy(expected.astype(float)), region) == float(mask.any())
