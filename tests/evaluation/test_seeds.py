"""What several seeds tell: rates without any effect, planted spreads, planted winners."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp, wilcoxon
from slicesampling.evaluation.seeds import (
    factors_of_a_spread,
    penalties,
    penalty_matrix,
    same_strategy_twice,
    spread,
    spreads,
)
from trainings import simulated_metrics

DOZEN = (*("uvs", "rvs", "uss", "rss"), *(f"own{number}" for number in range(8)))


def test_one_strategy_twice_by_hand():
    metrics = simulated_metrics(("uss",), seeds=3, iterations=2)
    tests = same_strategy_twice(metrics)
    assert len(tests) == 4 * 3 * (1 + 2 + 1 + 1)  # metrics × pairs of seeds × (initial, iterations, converged, pool)
    rows = metrics[metrics["model"] == "uss-2-converged"].pivot_table(index="volume", columns="seed", values="hd")
    mine = tests.query("strategy == 'uss' and converged and metric == 'hd' and first_seed == 1 and second_seed == 3")
    better, worse = sorted((1, 3), key=lambda seed: rows[seed].mean())
    assert mine["p_value"].item() == wilcoxon(rows[worse] - rows[better], alternative="greater").pvalue


def test_without_spread_between_trainings_twice_the_level_is_found_and_with_it_more():
    """The better of two is found by the data, so that a one-sided test at 0.05 calls 10 % of equal pairs different."""
    found = {}
    for training in (0.0, 0.01):
        metrics = simulated_metrics(("uss",), seeds=2, volumes=30, iterations=120, training=training)
        p_values = same_strategy_twice(metrics).query("metric == 'dice'")["p_value"]
        found[training] = [(p_values < level).mean() for level in (0.05, 0.01)]
    assert found[0.0] == pytest.approx([0.10, 0.02], abs=0.05)
    assert found[0.01][0] > 0.6


def test_the_spread_of_planted_effects_and_its_laws():
    random = np.random.default_rng(0)
    seeds, cases = random.normal(0, 2, (400, 1)), random.normal(0, 5, (1, 400))
    values = 7 + seeds + cases + random.normal(0, 1, (400, 400))
    found = spread(values)
    assert found == pytest.approx((2, 5, 1), rel=0.1)
    assert spread(values.T) == pytest.approx((found.cases, found.seeds, found.rest))
    assert spread(3 * values + 100) == pytest.approx([3 * value for value in found])
    assert spread(7 + cases + 0 * seeds) == pytest.approx((0, float(cases.std(ddof=1)), 0), abs=1e-6)
    assert np.isnan(spread(values[:1])).all()
    assert np.isnan(spread(values[:, :1])).all()


def test_spreads_of_models_are_those_of_the_simulation():
    metrics = simulated_metrics(seeds=40, volumes=40, iterations=1, training=0.02, noise=0.01)
    found = spreads(metrics).query("metric == 'dice'")
    assert len(found) == 1 + 4 + 4 + 1
    np.testing.assert_allclose(found["seeds"].mean(), 0.02, rtol=0.1)
    np.testing.assert_allclose(found["rest"].mean(), 0.01, rtol=0.1)
    lower, upper = factors_of_a_spread(40)
    assert ((found["seeds"] / lower > 0.016) & (found["seeds"] / upper < 0.025)).all()


def test_a_spread_of_few_seeds_lies_between_its_factors():
    values = np.random.default_rng(0).normal(size=(20000, 5)).std(axis=1, ddof=1)
    lower, upper = factors_of_a_spread(5)
    assert ((values * lower < 1) & (values * upper > 1)).mean() == pytest.approx(0.95, abs=0.01)


def test_penalties_are_paired_t_tests_over_seeds():
    metrics = simulated_metrics(("uvs", "uss"), seeds=4)
    tests = penalties(metrics)
    assert len(tests) == 4 * 3
    means = metrics[~metrics["converged"]].groupby(["strategy", "iteration", "seed"])["msd"].mean()
    for test in tests[tests["metric"] == "msd"].itertuples():
        assert (test.first, test.second) == ("uvs", "uss")
        expected = ttest_1samp(means["uvs"][test.iteration] - means["uss"][test.iteration], 0)
        assert (test.t, test.p_value) == pytest.approx((expected.statistic, expected.pvalue))
    assert (tests["p_holm"] >= tests["p_value"]).all()


def test_the_matrix_finds_planted_winners_in_all_metrics():
    better = {"own1": 0.2, "uss": 0.1}
    tests = penalties(simulated_metrics(DOZEN, training=0.002, better=better))
    for metric in ("dice", "hd"):
        matrix = penalty_matrix(tests, metric, DOZEN, "p_value")
        assert np.isnan(np.diag(matrix)).all()
        assert (matrix.loc["own1"].drop("own1") == 1).all()
        assert (matrix["own1"].drop("own1") == 0).all()
        others = [name for name in DOZEN if name not in better]
        assert (matrix.loc["uss", others] == 1).all()
        assert matrix.loc[others, others].mean(axis=None) < 0.1
        corrected = penalty_matrix(tests, metric, DOZEN, "p_holm")
        assert (corrected.fillna(0) <= matrix.fillna(0)).all(axis=None)
        assert corrected.loc[others, others].max(axis=None) == 0
        swapped = penalty_matrix(tests.assign(difference=-tests["difference"]), metric, DOZEN, "p_value")
        pd.testing.assert_frame_equal(swapped, matrix.T)


def test_without_any_spread_a_difference_is_certain_and_none_is_none():
    metrics = simulated_metrics(("uvs", "rvs"), training=0, noise=0)
    tests = penalties(metrics)
    assert (tests["p_value"] == 1).all()
    moved = metrics.assign(dice=metrics["dice"] + 0.125 * (metrics["strategy"] == "uvs"))
    matrix = penalty_matrix(penalties(moved.round(3)), "dice", ["uvs", "rvs"], "p_holm")
    assert matrix.loc["uvs", "rvs"] == 1
    assert matrix.loc["rvs", "uvs"] == 0
