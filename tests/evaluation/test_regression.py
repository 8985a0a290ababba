"""The weighted quantile regression: as good as a linear programme's, and its intervals contain the seeds."""

import numpy as np
import pytest
from scipy.optimize import linprog
from slicesampling.evaluation.regression import weighted_regressions
from slicesampling.evaluation.statistics import quantile_regression
from trainings import simulated_metrics

CELLS = [(1, 0, 0), (1, 1, 1), (1, 1, 0), (1, 0, 1)]


def loss(coefficients, outcome, design, weights, quantile):
    residuals = outcome - design @ coefficients
    return float((weights * np.where(residuals > 0, quantile * residuals, (quantile - 1) * residuals)).sum())


def smallest_loss(outcome, design, weights, quantile):
    rows, covariates = design.shape
    costs = np.concatenate([np.zeros(covariates), quantile * weights, (1 - quantile) * weights])
    equal = np.hstack([design, np.eye(rows), -np.eye(rows)])
    return linprog(costs, A_eq=equal, b_eq=outcome, bounds=[(None, None)] * covariates + [(0, None)] * 2 * rows).fun


@pytest.mark.parametrize("cells", [2, 3, 4])
@pytest.mark.parametrize("quantile", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("decimals", [1, 9])  # with and without ties
def test_no_coefficients_fit_better(cells, quantile, decimals):
    random = np.random.default_rng(cells)
    for cases in (3, 8, 25):
        design = np.repeat(np.array(CELLS[:cells], dtype=float), cases, axis=0)[:, : min(cells, 3)]
        outcome = random.normal(size=len(design)).round(decimals)
        weights = np.tile(random.multinomial(cases, np.full(cases, 1 / cases), size=3), (1, cells))
        for found, counted in zip(weighted_regressions(outcome, design, weights, quantile), weights, strict=True):
            reached = loss(found, outcome, design, counted, quantile)
            assert reached == pytest.approx(smallest_loss(outcome, design, counted, quantile), abs=1e-7)


def test_cells_of_different_sizes_and_a_shift_of_all_rows():
    random = np.random.default_rng(0)
    design = np.array([*[CELLS[0]] * 30, *[CELLS[1]] * 8, *[CELLS[2]] * 15, *[CELLS[3]] * 4], dtype=float)
    outcome, weights = random.normal(size=57), random.integers(1, 4, (2, 57))
    found = weighted_regressions(outcome, design, weights, 0.9)
    for coefficients, counted in zip(found, weights, strict=True):
        best = smallest_loss(outcome, design, counted, 0.9)
        assert loss(coefficients, outcome, design, counted, 0.9) == pytest.approx(best, abs=1e-7)
    moved = weighted_regressions(3 * outcome + design @ [1, 2, 3], design, weights, 0.9)
    np.testing.assert_allclose(moved, 3 * found + [1, 2, 3], atol=1e-9)


def effect(random=None, **settings):
    return quantile_regression(simulated_metrics(**settings), "dice", 0.05, random=random)


def test_intervals_widen_where_trainings_shift_and_find_a_planted_effect():
    width = []
    for training in (0.0, 0.05):
        settings = {"training": training, "volumes": 60}
        asymptotic, drawn = effect(**settings), effect(np.random.default_rng(1), **settings)
        columns = ["coefficient", "lower", "upper", "p_value"]
        assert asymptotic.coefficients["coefficient"].equals(drawn.coefficients["coefficient"])
        assert not asymptotic.coefficients[columns[1:]].equals(drawn.coefficients[columns[1:]])
        width.append((drawn.coefficients["upper"] - drawn.coefficients["lower"])["slice_sampling"])
    assert width[1] > 2 * width[0]
    planted = effect(np.random.default_rng(1), better={"uss": 0.1, "rss": 0.1}).coefficients
    assert planted.loc["slice_sampling", "p_value"] < 0.01 < planted.loc["uncertainty_sampling", "p_value"]
    assert planted.loc["slice_sampling", "lower"] < 0.1 < planted.loc["slice_sampling", "upper"]


def test_intervals_do_not_depend_on_the_order_of_rows():
    metrics = simulated_metrics()
    results = [
        quantile_regression(rows, "dice", 0.05, random=np.random.default_rng(1)).coefficients
        for rows in (metrics, metrics.sample(frac=1, random_state=2))
    ]
    np.testing.assert_allclose(results[0][["lower", "upper"]], results[1][["lower", "upper"]], atol=1e-9)


def test_one_seed_keeps_the_asymptotic_intervals():
    one, other = effect(seeds=1), effect(np.random.default_rng(1), seeds=1)
    assert one.coefficients.equals(other.coefficients)
