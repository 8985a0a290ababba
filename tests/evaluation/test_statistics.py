"""Laws of the statistics, and their agreement with independent computations."""

import warnings
from itertools import product

import numpy as np
import pandas as pd
import pytest
from conftest import at_most
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linprog
from scipy.stats import kstest, rankdata, wilcoxon
from slicesampling.domain.metrics import METRICS
from slicesampling.evaluation.statistics import (
    bootstrap,
    bootstrap_p,
    bootstrap_weights,
    compare,
    holm,
    interval,
    paired,
    quantile_regression,
    signed_rank_p,
    stars,
    summarise,
    weighted_means,
    weighted_quantiles,
    wilcoxon_against_best,
)
from statsmodels.regression.quantile_regression import QuantReg

LAW = at_most(50)
STRATEGIES = ("uvs", "rvs", "uss", "rss")


def converged(values):
    """Lay out strategy → values of its cases as the table of metrics."""
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "seed": 1,
                    "strategy": name,
                    "iteration": 5,
                    "converged": True,
                    "volume": [f"v{case}" for case in range(len(cases))],
                    "dice": cases,
                }
            )
            for name, cases in values.items()
        ],
        ignore_index=True,
    )


def test_the_four_metrics():
    assert list(METRICS) == ["dice", "rve", "msd", "hd"]
    assert [metric.tail_quantile for metric in METRICS.values()] == [0.05, 0.95, 0.95, 0.95]
    assert [metric.label for metric in METRICS.values()] == ["Dice", "RVE [%]", "MSD [mm]", "HD [mm]"]


@LAW
@given(values=hnp.arrays(float, st.integers(1, 30), elements=st.floats(0, 100)), data=st.data())
def test_summary_against_interpolation_between_sorted_cases(values, data):
    ordered = sorted(values)
    grid = np.linspace(0, 100, len(ordered)) if len(ordered) > 1 else [50]
    expected = (sum(ordered) / len(ordered), np.interp(5, grid, ordered), np.interp(95, grid, ordered))
    np.testing.assert_allclose(summarise(values), expected, atol=1e-9)
    assert summarise(data.draw(st.permutations(values))) == pytest.approx(summarise(values))


@pytest.mark.parametrize("values", [[], [1.0, np.nan]])
def test_summary_drops_nothing(values):
    with pytest.raises(ValueError, match="at least one number and no NaN"):
        summarise(values)


def exact_p_value(differences):
    """Return P(rank sum of the positive differences ≤ the one seen), over all 2^n signs."""
    kept = differences[differences != 0]
    ranks = rankdata(np.abs(kept))
    seen = ranks[kept > 0].sum()
    sums = [ranks[list(signs)].sum() for signs in product([False, True], repeat=len(kept))]
    return np.mean(np.array(sums) <= seen + 1e-9)


@LAW
@given(
    differences=hnp.arrays(int, st.integers(1, 9), elements=st.integers(1, 10**6), unique=True),
    signs=hnp.arrays(bool, 9),
    zeros=st.integers(0, 3),
)
def test_p_value_against_all_signs(differences, signs, zeros):
    signed = np.r_[np.where(signs[: len(differences)], differences, -differences), np.zeros(zeros)]
    values = pd.DataFrame({"best": np.zeros(len(signed)), "other": signed})
    if signed.mean() >= 0:
        values["other"] = -signed
    table = wilcoxon_against_best(values, larger_is_better=True)
    assert table["best"].tolist() == [True, signed.mean() == 0]
    assert table.loc["other", "p_value"] == pytest.approx(exact_p_value(values["other"].to_numpy()))


@LAW
@given(
    values=hnp.arrays(float, (6, 3), elements=st.integers(0, 1000).map(float)),
    order=st.permutations(range(6)),
)
def test_the_test_is_blind_to_the_order_of_cases_and_to_a_mirror(values, order):
    # Whole numbers, so that the last bit of a mean or a difference decides nothing.
    table = wilcoxon_against_best(pd.DataFrame(values, columns=list("abc")), larger_is_better=True)
    shuffled = pd.DataFrame(values[order], columns=list("abc"))
    again = wilcoxon_against_best(shuffled, larger_is_better=True)
    mirrored = wilcoxon_against_best(-pd.DataFrame(values, columns=list("abc")), larger_is_better=False)
    pd.testing.assert_frame_equal(table.drop(columns="mean"), mirrored.drop(columns="mean"))
    if table["best"].sum() == again["best"].sum() == 1:
        pd.testing.assert_series_equal(table["p_value"], again["p_value"])


def test_a_planted_difference_is_found_and_only_where_it_is_worse():
    random = np.random.default_rng(3)
    good = random.uniform(0.9, 0.98, 40)
    noise = random.normal(0, 0.01, 40)
    values = pd.DataFrame(
        {"worse": good - random.uniform(0, 0.02, 40), "good": good, "even": good + noise - noise.mean() - 1e-6}
    )
    table = wilcoxon_against_best(values, larger_is_better=True)
    assert table["best"].to_dict() == {"worse": False, "good": True, "even": False}
    assert table["stars"].to_dict() == {"worse": "***", "good": "", "even": ""}
    assert table.loc["worse", "p_value"] == pytest.approx(2.0**-40, rel=1e-6), "all 40 differences have one sign"
    assert table.loc["even", "p_value"] > 0.05
    flipped = wilcoxon_against_best(values, larger_is_better=False)
    assert flipped["best"].to_dict() == {"worse": True, "good": False, "even": False}
    assert flipped.loc["good", "stars"] == "***"


def test_identical_results_are_no_difference():
    table = wilcoxon_against_best(pd.DataFrame({"a": [0.9, 0.8], "b": [0.9, 0.8]}), larger_is_better=True)
    assert table["best"].all()
    assert np.isnan(table.loc["a", "p_value"])
    assert table.loc["b", "p_value"] == 1
    assert table["stars"].tolist() == ["", ""]


def test_a_single_case_and_a_single_strategy():
    table = wilcoxon_against_best(pd.DataFrame({"a": [0.9], "b": [0.8]}), larger_is_better=True)
    assert table.loc["b", "p_value"] == pytest.approx(0.5)
    alone = wilcoxon_against_best(pd.DataFrame({"a": [0.9]}), larger_is_better=True)
    assert alone.loc["a", "best"]


def test_stars():
    assert [stars(p) for p in (0.0, 0.00099, 0.001, 0.0099, 0.01, 0.049, 0.05, 1.0, np.nan)] == [
        *["***"] * 2,
        *["**"] * 2,
        *["*"] * 2,
        *[""] * 3,
    ]


def test_missing_and_repeated_cases_are_errors():
    table = converged({"uvs": [0.9, 0.8], "rvs": [0.9]})
    with pytest.raises(ValueError, match=r"missing: \(1, 'v1'\) of rvs"):
        wilcoxon_against_best(paired(table, "dice"), larger_is_better=True)
    with pytest.raises(ValueError, match="uvs has volume v0 of seed 1 twice"):
        paired(pd.concat([table, table]), "dice")


def test_the_same_volume_in_two_seeds_is_two_cases():
    table = converged({"uvs": [0.9, 0.8], "rvs": [0.7, 0.6]})
    values = paired(pd.concat([table, table.assign(seed=2, dice=table["dice"] + 0.05)]), "dice")
    assert values.loc[(2, "v1"), "rvs"] == pytest.approx(0.65)
    assert values.shape == (4, 2)


def pinball(outcome, design, coefficients, quantile):
    residuals = outcome - design @ coefficients
    return np.where(residuals > 0, quantile * residuals, (quantile - 1) * residuals).sum()


def linear_programme(outcome, design, quantile):
    """Solve quantile regression exactly: coefficients, and positive and negative parts of the residuals."""
    count, width = design.shape
    solution = linprog(
        np.r_[np.zeros(width), np.full(count, quantile), np.full(count, 1 - quantile)],
        A_eq=np.c_[design, np.eye(count), -np.eye(count)],
        b_eq=outcome,
        bounds=[(None, None)] * width + [(0, None)] * 2 * count,
    )
    return solution.x[:width], solution.fun


@pytest.mark.parametrize("quantile", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("seed", range(3))
def test_quantile_regression_against_a_linear_programme(quantile, seed):
    random = np.random.default_rng(seed)
    values = {name: random.gamma(2.0, 1.0, 61) + shift for shift, name in enumerate(STRATEGIES)}
    result = quantile_regression(converged(values), "dice", quantile)
    design = np.array([[1, name in ("uvs", "uss"), name in ("uss", "rss")] for name in STRATEGIES for _ in range(61)])
    outcome = np.concatenate(list(values.values()))
    expected, optimum = linear_programme(outcome, design.astype(float), quantile)
    assert pinball(outcome, design, result.coefficients["coefficient"].to_numpy(), quantile) == pytest.approx(
        optimum, rel=1e-5
    )
    if quantile == 0.5:  # in the tails the optimum is a set of points
        np.testing.assert_allclose(result.coefficients["coefficient"], expected, atol=0.05)
    assert result.cases == 4 * 61
    assert result.note == ""


def test_planted_effects_are_found_and_their_intervals_cover_them():
    truth = pd.Series({"intercept": 0.9025, "uncertainty_sampling": 0.02, "slice_sampling": -0.03})
    covered = []
    for seed in range(40):
        random = np.random.default_rng(seed)
        values = {
            name: 0.9 + 0.02 * (name in ("uvs", "uss")) - 0.03 * (name in ("uss", "rss")) + random.uniform(0, 0.05, 400)
            for name in STRATEGIES
        }
        table = quantile_regression(converged(values), "dice", 0.05).coefficients
        np.testing.assert_allclose(table["coefficient"], truth, atol=0.004)
        assert (table["p_value"] < 0.001).all()
        covered.append((table["lower"] < truth) & (truth < table["upper"]))
    assert (np.mean(covered, axis=0) > 0.85).all(), "95 % intervals hold the truth in most of 40 draws"


def test_other_models_stay_out_of_the_regression():
    random = np.random.default_rng(0)
    table = converged({name: random.uniform(0, 1, 50) for name in STRATEGIES})
    strangers = [table.assign(converged=False, dice=-9.0), table.assign(strategy="pool", dice=9.0)]
    strangers += [table.assign(strategy="aware", dice=-9.0), table.assign(strategy="by_error", dice=9.0)]
    expected = quantile_regression(table, "dice", 0.05)
    result = quantile_regression(pd.concat([table, *strangers], ignore_index=True), "dice", 0.05)
    pd.testing.assert_frame_equal(result.coefficients, expected.coefficients)


@pytest.mark.parametrize(
    ("names", "missing", "note"),
    [
        (("uvs", "rvs"), ["slice_sampling"], "slice sampling is the same for all strategies"),
        (("uss", "uvs"), ["uncertainty_sampling"], "uncertainty sampling is the same for all strategies"),
        (("uss",), ["uncertainty_sampling", "slice_sampling"], "uncertainty sampling is the same"),
        (("uvs", "rss"), ["uncertainty_sampling", "slice_sampling"], "do not separate"),
        (("uss", "rvs"), ["uncertainty_sampling", "slice_sampling"], "do not separate"),
        (("uss", "rvs", "uvs"), [], ""),
    ],
)
def test_effects_that_the_strategies_cannot_tell(names, missing, note):
    random = np.random.default_rng(1)
    result = quantile_regression(converged({name: random.normal(size=100) for name in names}), "dice", 0.05)
    coefficients = result.coefficients
    assert list(coefficients.index[coefficients["coefficient"].isna()]) == missing
    assert coefficients.drop(index=missing).notna().all(axis=None)
    assert note in result.note
    assert bool(note) == bool(result.note)


@pytest.mark.parametrize("cases", [1, 2, 5, 19])
def test_few_cases_are_said(cases):
    random = np.random.default_rng(1)
    result = quantile_regression(converged({name: random.normal(size=cases) for name in STRATEGIES}), "dice", 0.05)
    assert "fewer than 20 cases" in result.note
    if result.coefficients.isna().any(axis=None):
        assert "no interval" in result.note


def test_no_and_too_few_cases_give_an_empty_table_and_say_so():
    table = converged({"uvs": [0.9], "rvs": [0.8], "uss": [0.7]})
    for rows, count in ((table, 3), (table.assign(converged=False), 0)):
        result = quantile_regression(rows, "dice", 0.05)
        assert result.coefficients.isna().all(axis=None)
        assert result.note == f"{count} cases are too few for a regression"


def test_identical_cases_are_said():
    result = quantile_regression(converged({name: [1.0] * 30 for name in STRATEGIES}), "dice", 0.05)
    assert result.coefficients["coefficient"].tolist() == pytest.approx([1, 0, 0])
    assert result.note == "no interval or p-value: too few cases, or too many equal values"


def test_a_stopped_iteration_and_other_warnings_are_said(monkeypatch):
    class Impatient(QuantReg):
        def fit(self, q):
            warnings.warn("overflow encountered in exp", RuntimeWarning, stacklevel=1)
            return super().fit(q=q, max_iter=1)

    monkeypatch.setattr("statsmodels.regression.quantile_regression.QuantReg", Impatient)
    random = np.random.default_rng(1)
    result = quantile_regression(converged({name: random.normal(size=100) for name in STRATEGIES}), "dice", 0.05)
    assert result.note == "overflow encountered in exp; Maximum number of iterations (1) reached"


# --- beyond the paper --------------------------------------------------------------------------------------------


def test_holm_by_hand_and_its_laws():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    p_values = np.random.default_rng(1).uniform(size=20)
    corrected = holm(p_values)
    assert (corrected >= p_values).all()
    assert (np.argsort(corrected, kind="stable")[0]) == np.argmin(p_values)
    assert corrected.min() == pytest.approx(min(1, 20 * p_values.min()))
    assert holm([]).size == 0


@LAW
@given(
    values=hnp.arrays(float, st.integers(1, 40), elements=st.integers(0, 9).map(float)),
    data=st.data(),
    quantile=st.floats(0, 1),
)
def test_weighted_statistics_are_those_of_repeated_cases(values, data, quantile):
    weights = data.draw(hnp.arrays(np.int64, (3, len(values)), elements=st.integers(0, 3)))
    weights[:, data.draw(st.integers(0, len(values) - 1))] += 1
    repeated = [np.repeat(values, row) for row in weights]
    np.testing.assert_allclose(weighted_means(values, weights), [sample.mean() for sample in repeated])
    expected = [np.quantile(sample, quantile) for sample in repeated]
    np.testing.assert_allclose(weighted_quantiles(values, weights, quantile), expected, atol=1e-9)


def test_the_bootstrap_draws_patients_and_seeds_each_as_a_whole():
    seeds, patients = np.repeat([1, 2, 3], 6), np.tile(["a", "a", "b", "c", "d", "d"], 3)
    weights = bootstrap_weights(seeds, patients, np.random.default_rng(0), 500)
    for replicate in weights[:50]:
        table = replicate.reshape(3, 6)
        np.testing.assert_array_equal(table[:, [0, 4]], table[:, [1, 5]])  # volumes of one patient
        products = np.outer(table.sum(axis=1), table.sum(axis=0))
        np.testing.assert_array_equal(products, table * table.sum())  # patient times seed
    per_seed = weights.reshape(500, 3, 6).sum(axis=2) / weights.sum(axis=1)[:, None] * 3
    assert set(per_seed.round(9).ravel()) == {0, 1, 2, 3}
    per_patient = weights[:, [0, 2, 3, 4]].sum(axis=1)
    assert set(weights[:, :6].reshape(500, 6)[:, [0, 2, 3, 4]].sum(axis=1)) <= set(range(0, 13, 4))
    assert per_patient.mean() == pytest.approx(4, rel=0.1)
    one_seed = bootstrap_weights(np.ones(6), patients[:6], np.random.default_rng(0), 500)
    assert (one_seed[:, [0, 2, 3, 4]].sum(axis=1) == 4).all()
    again = bootstrap_weights(seeds, patients, np.random.default_rng(0), 500)
    np.testing.assert_array_equal(weights, again)


def test_the_bootstrap_agrees_with_scipy_s():
    from scipy.stats import bootstrap

    values = np.random.default_rng(4).gamma(2, size=60)
    ours = interval(
        weighted_means(values, bootstrap_weights(np.ones(60), np.arange(60), np.random.default_rng(1), 9999))
    )
    theirs = bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(2)).confidence_interval
    np.testing.assert_allclose(ours, theirs, rtol=0.02)


def test_comparison_by_hand():
    result = compare([3.0, 2.0, -1.0, 0.0], ["a", "b", "c", "d"])
    assert result.rank_biserial == pytest.approx((3 + 2 - 1) / 6)
    assert (result.patients, result.equal, result.tied) == (4, 1, 0)
    assert compare([0.0, 0.0], ["a", "b"])[0] == 1
    assert compare([1.0, 1.0, 1.0], ["a", "b", "c"]).rank_biserial == 1
    assert compare([1.0, 1.0, 2.0], ["a", "b", "c"]).tied == 2
    # Two volumes of one patient that cancel out are no difference; many volumes of one patient are one witness.
    assert compare([1.0, -1.0], ["a", "a"]).equal == 1
    assert compare([1.0] * 50, ["a"] * 50).p_value == 1


def simulated(random, patients, shift=0.0):
    """Draw skewed errors of two models on the same patients, the second worse by a factor."""
    case = random.normal(size=(patients, 1))
    return np.exp(0.5 * case + 0.4 * random.normal(size=(patients, 2)) + [0, shift])


@pytest.mark.slow
def test_simulation_of_no_difference_and_of_a_planted_one():
    """P-values are uniform, intervals hold the truth at their rate, a planted difference is found."""
    random, patients, runs = np.random.default_rng(7), 234, 300
    sd = np.hypot(0.5, 0.4)
    truth = {"mean": np.exp(sd**2 / 2), "p95": np.exp(1.6448536 * sd), "mean difference": 0, "p95 difference": 0}
    held, p_values, found = dict.fromkeys(truth, 0), [], 0
    names = np.arange(patients)
    for _ in range(runs):
        errors = simulated(random, patients)
        weights = bootstrap_weights(np.ones(patients), names, random, 500)
        means = [weighted_means(column, weights) for column in errors.T]
        tails = [weighted_quantiles(column, weights, 0.95) for column in errors.T]
        estimates = (means[0], tails[0], means[0] - means[1], tails[0] - tails[1])
        for name, estimate in zip(truth, estimates, strict=True):
            lower, upper = interval(estimate)
            held[name] += lower <= truth[name] <= upper
        p_values.append(compare(errors[:, 0] - errors[:, 1], names).p_value)
        planted = simulated(random, patients, shift=0.2)
        found += compare(planted[:, 0] - planted[:, 1], names).p_value < 0.05
    assert kstest(p_values, "uniform").pvalue > 0.01
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.03)
    for name, count in held.items():
        assert 0.91 <= count / runs <= 0.99, (name, count / runs)
    assert found / runs > 0.95


def test_simulation_of_the_quantile_regression():
    """Without effect the intervals hold zero nearly at their rate (table 9 says how nearly); a planted one is found."""
    random, runs = np.random.default_rng(3), 60
    held = found = 0
    for _ in range(runs):
        case = random.normal(size=234)
        draw = {name: np.exp(0.3 * case + 0.5 * random.normal(size=234)) for name in STRATEGIES}
        plain = quantile_regression(converged(draw), "dice", 0.95).coefficients.loc["slice_sampling"]
        held += plain["lower"] <= 0 <= plain["upper"]
        shifted = {name: values + 2 * (name in ("uss", "rss")) for name, values in draw.items()}
        effect = quantile_regression(converged(shifted), "dice", 0.95).coefficients.loc["slice_sampling"]
        found += effect["p_value"] < 0.05 and effect["lower"] <= 2 <= effect["upper"]
    assert 0.8 <= held / runs <= 0.99
    assert found / runs >= 0.8


@pytest.mark.parametrize("number", range(12))
def test_signed_ranks_agree_with_all_assignments_of_signs(number):
    """With ties and zeros, which scipy counts one after the other, and without, also for more than it counts."""
    random = np.random.default_rng(number)
    differences = random.integers(-4, 6, 8).astype(float) if number % 2 else random.normal(0.3, 1, 6 * number + 1)
    some = differences[differences != 0]
    if len(some) < 10:
        ranks = rankdata(np.abs(some))
        sums = np.array([ranks @ signs for signs in product((0, 1), repeat=len(some))])
        expected = np.mean(sums >= ranks[some > 0].sum() - 1e-9)
    else:
        expected = wilcoxon(differences, alternative="greater").pvalue
    assert signed_rank_p(differences, larger_is_better=False) == pytest.approx(expected)
    assert compare(differences, np.arange(len(differences))).p_value == pytest.approx(wilcoxon(differences).pvalue)


@pytest.mark.parametrize(("case", "training"), [(0.0, 0.01), (0.03, 0.01), (0.06, 0.005)])
@pytest.mark.slow
def test_intervals_of_five_seeds_hold_the_truth_at_their_rate(case, training):
    """Whether the spread is due to trainings, to patients or to both; without the seeds they do not."""
    random, runs, held = np.random.default_rng(1), 400, np.zeros(2)
    names = pd.MultiIndex.from_product([range(5), range(60)], names=["seed", "volume"])
    cases = names.to_frame(index=False).assign(patient=lambda table: table["volume"])
    for _ in range(runs):
        values = case * random.normal(size=60) + training * random.normal(size=(5, 1))
        weights, seeds = bootstrap(cases, random)
        estimates = weighted_means((values + 0.01 * random.normal(size=(5, 60))).ravel(), weights)
        for place, shares in enumerate((seeds, None)):
            lower, upper = interval(estimates, shares)
            held[place] += lower <= 0 <= upper
    assert 0.92 <= held[0] / runs <= 0.98
    assert held[1] < held[0]
    assert case or held[1] / runs < 0.9


def test_an_interval_respects_transformations_and_is_its_p_value_s():
    random = np.random.default_rng(3)
    cases = pd.MultiIndex.from_product([range(5), range(20)], names=["seed", "volume"]).to_frame(index=False)
    weights, seeds = bootstrap(cases.assign(patient=cases["volume"]), random)
    for shift in np.linspace(-0.02, 0.02, 9):
        values = shift + np.repeat(0.01 * random.normal(size=5), 20) + 0.01 * random.normal(size=100)
        estimates = weighted_means(values, weights)
        ends = interval(estimates, seeds)
        assert interval(np.exp(estimates), seeds) == pytest.approx(tuple(np.exp(ends)))
        assert (bootstrap_p(estimates, seeds) < 0.05) == (ends[0] > 0 or ends[1] < 0)
        wider = interval(estimates, seeds, comparisons=3)
        assert wider[0] <= ends[0] < interval(estimates)[0] < interval(estimates)[1] < ends[1] <= wider[1]
    assert interval([1.0, np.inf, np.inf], np.full((3, 2), 0.5)) == (1.0, np.inf)
