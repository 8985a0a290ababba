"""What annotation costs and buys: the time model by hand, and laws of areas, shares and crossings."""

import numpy as np
import pandas as pd
import pytest
from conftest import at_most
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from slicesampling.domain.metrics import METRICS
from slicesampling.evaluation.efficiency import (
    annotation_costs,
    area_under,
    cost_to_reach,
    learning_curves,
    share_of_pool,
)

LAW = at_most(50)


def counted(**counts):
    return pd.DataFrame(
        [
            {"seed": seed, "strategy": name, "iteration": k, "structure_slices": value}
            for name, seeds in counts.items()
            for seed, values in enumerate(seeds, start=1)
            for k, value in enumerate(values)
        ]
    )


def test_the_papers_time_model_by_hand():
    """60 initial slices of whole volumes take 20 slice times; 30 more of whole volumes take as long as 10 alone."""
    table = counted(uvs=[[60, 90]], uss=[[60, 70]], pool=[[300]]).sample(frac=1, random_state=1)
    costs = annotation_costs(table, minutes_per_slice=2, ratio=3)
    assert costs["minutes"].to_dict() == {
        ("pool", 0): 200,
        ("uss", 0): 40,
        ("uss", 1): 60,
        ("uvs", 0): 40,
        ("uvs", 1): 60,
    }
    assert costs.loc[("uss", 1), "structure_slices"] == 70
    assert (annotation_costs(table, 4, 3)["minutes"] == 2 * costs["minutes"]).all()


def test_costs_are_means_over_seeds():
    costs = annotation_costs(counted(rss=[[30, 40], [60, 80]]), 1, 3)
    assert costs["structure_slices"].tolist() == [45, 60]
    assert costs["minutes"].tolist() == [15, 30]


@LAW
@given(
    steps=hnp.arrays(float, 4, elements=st.floats(0.5, 5)),
    heights=hnp.arrays(float, 5, elements=st.floats(0, 1)),
    ends=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_area_is_the_mean_of_the_interpolated_curve(steps, heights, ends):
    costs = np.concatenate([[1.0], 1 + np.cumsum(steps)])
    lower, upper = (1 + end * (costs[-1] - 1) for end in sorted(ends))
    if upper - lower < 1e-3:
        return
    grid = np.linspace(lower, upper, 20001)
    expected = np.trapezoid(np.interp(grid, costs, heights), grid) / (upper - lower)
    assert area_under(costs, heights, (lower, upper)) == pytest.approx(expected, abs=1e-4)
    replicates = area_under(costs, np.stack([heights, 2 * heights], axis=1), (lower, upper))
    np.testing.assert_allclose(replicates[1], 2 * replicates[0], atol=1e-12)  # rounds what is next to nothing


def test_area_of_a_flat_curve_and_of_none_of_the_range():
    costs = np.array([1.0, 2.0, 2.0, 4.0])  # an iteration that found no liver costs nothing
    assert area_under(costs, np.full(4, 0.7), (1.0, 4.0)) == pytest.approx(0.7)
    assert area_under(costs, np.array([0.1, 0.2, 0.3, 0.4]), (2.0, 2.0)) == pytest.approx(0.2)


def test_share_of_the_pool_is_one_for_its_equal_and_less_for_worse():
    for about in METRICS.values():
        assert share_of_pool(np.array([0.8]), 0.8, about) == 1
        worse = 0.4 if about.larger_is_better else 1.6
        assert share_of_pool(np.array([worse]), 0.8, about) == pytest.approx(0.5)


def test_cost_to_reach_a_level():
    costs, shares = np.array([10.0, 20.0, 40.0]), np.array([0.90, 0.96, 0.94])
    assert cost_to_reach(costs, shares, 0.95) == pytest.approx(10 + 10 * 5 / 6)
    assert cost_to_reach(costs, shares, 0.96) == 20
    assert cost_to_reach(costs, shares, 0.5) == 10
    assert np.isnan(cost_to_reach(costs, shares, 0.97))


@LAW
@given(hnp.arrays(int, (4, 6), elements=st.integers(0, 9)), st.integers(0, 8))
def test_cost_to_reach_of_many_curves_is_that_of_each(heights, below):
    level = below + 0.5
    costs = np.array([10.0, 20.0, 20.0, 40.0])
    found = cost_to_reach(costs, heights, np.full(6, level))
    for curve, cost in zip(heights.T, found, strict=True):
        grid = np.linspace(0, 3, 3001)  # along the curve, which may stand upright
        high = np.interp(grid, range(4), curve) >= level
        expected = np.interp(grid[high.argmax()], range(4), costs) if high.any() else np.nan
        np.testing.assert_allclose(cost, expected, atol=0.03)


def test_curves_begin_with_the_initial_model_and_pair_their_cases():
    rows = [
        {"strategy": name, "iteration": k, "converged": c, "seed": 1, "volume": volume, "dice": value + number / 10}
        for name, k, c, value in [("initial", 0, False, 0.1), ("uss", 1, False, 0.3), ("uss", 1, True, 0.9)]
        for number, volume in enumerate(["a", "b", "c"])
    ]
    metrics = pd.DataFrame(rows).sample(frac=1, random_state=2)
    costs = annotation_costs(counted(uss=[[6, 9]]), 1, 3)
    weights = np.array([[1, 1, 1], [0, 0, 3]])
    (curve,) = learning_curves(metrics, costs, "dice", "minutes", weights).values()
    np.testing.assert_allclose(curve.costs, [2, 5])
    np.testing.assert_allclose(curve.cases, [[0.1, 0.2, 0.3], [0.3, 0.4, 0.5]])
    np.testing.assert_allclose(curve.means, [[0.2, 0.3], [0.4, 0.5]])
