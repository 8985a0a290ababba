"""The verdicts on the paper's claims, on simulated runs in which the truth is known."""

import numpy as np
import pandas as pd
import pytest
from slicesampling.domain.metrics import METRICS
from slicesampling.evaluation.claims import ABSENT, CLAIMS, FAILS, HOLDS, OPEN, judge
from slicesampling.evaluation.composition import ALL_HARD
from trainings import simulated_metrics

NAMES = ("uvs", "rvs", "uss", "rss")
LARGE = 0.05
"""A difference of the Dice ten times the spread between trainings."""


def run(seeds=5, training=0.005, strategies=NAMES, **settings):
    """Simulate the metrics of a run of two iterations, in no order."""
    settings = {"volumes": 30, "iterations": 2, "difficulty": 0.02} | settings
    return simulated_metrics(strategies, seeds, training=training, **settings).sample(frac=1, random_state=0)


def spent(slices=40, seeds=5, strategies=NAMES, last=2):
    rows = [(s, name, k, slices) for s in range(1, seeds + 1) for name in strategies for k in range(last + 1)]
    rows += [(s, "pool", 0, 1000) for s in range(1, seeds + 1)]
    return pd.DataFrame(rows, columns=["seed", "strategy", "iteration", "slices"])


def sets(shares=(0.3, 0.32, 0.28, 0.31, 0.29), part=ALL_HARD):
    rows = [(seed, name, part, value) for seed, share in enumerate(shares, start=1) for name, value in
            (("uss", share), ("pool", 0.2))]  # fmt: skip
    return pd.DataFrame(rows, columns=["seed", "strategy", "part", "share"])


def judged(metrics, slices=40, composition=None):
    composition = sets() if composition is None else composition
    annotated = spent(slices, metrics["seed"].nunique(), last=metrics["iteration"].max())
    return judge(metrics, annotated, composition, np.random.default_rng(0)).set_index(["claim", "metric"])


def verdicts(frame, claim):
    return set(frame.loc[claim, "verdict"])


def test_a_strategy_made_better_is_the_best_and_the_most_robust():
    frame = judged(run(better={"uss": LARGE}))
    for claim in ("best_last", "best_converged", "robust", "robust_pool"):
        assert verdicts(frame, claim) == {HOLDS}
    assert frame.loc[("best_last", "dice"), "estimate"] == pytest.approx(LARGE, abs=0.02)
    assert frame.loc[("best_last", "hd"), "estimate"] == pytest.approx(-200 * LARGE, abs=4)
    assert verdicts(frame, "worst_first") <= {OPEN, FAILS}


def test_a_strategy_made_worse_is_neither():
    frame = judged(run(better={"uss": -LARGE}, first={"uss": LARGE}))
    for claim in ("best_last", "best_converged", "robust", "robust_pool", "worst_first", "rss_worst"):
        assert verdicts(frame, claim) == {FAILS}


def test_one_better_rival_refutes_and_one_equal_rival_leaves_open():
    assert verdicts(judged(run(better={"rvs": LARGE})), "best_converged") == {FAILS}
    equal = judged(run(better={"uss": LARGE, "rvs": LARGE}))
    assert verdicts(equal, "best_converged") == {OPEN}
    assert set(equal.loc["best_converged", "rival"]) == {"rvs"}


def test_the_worst_are_found():
    frame = judged(run(better={"rss": -LARGE}, first={"uss": -LARGE}))
    assert verdicts(frame, "rss_worst") == verdicts(frame, "worst_first") == {HOLDS}


def test_the_fewest_slices_are_counted():
    for own, verdict in ((39, HOLDS), (40, OPEN), (41, FAILS)):
        metrics, table = run(), spent(40.0)
        table.loc[table["strategy"] == "uss", "slices"] = own + 0.1 * table["seed"] - 0.3
        row = judge(metrics, table, sets(), np.random.default_rng(0)).set_index("claim").loc["fewest"]
        assert row["verdict"] == verdict
        assert row["estimate"] == pytest.approx(own - 40)


def test_a_claim_about_all_iterations_but_the_first_needs_each_of_them():
    def later(metrics):
        return judged(metrics).loc[("rss_later", "dice")]

    metrics = run(better={"uss": LARGE}, first={"uss": -LARGE}, iterations=4)
    assert later(metrics)["verdict"] == HOLDS
    once = (metrics["strategy"] == "rss") & (metrics["iteration"] == 3) & ~metrics["converged"]
    for more, verdict in ((LARGE, OPEN), (2 * LARGE, FAILS)):
        row = later(metrics.assign(dice=metrics["dice"] + more * once))
        assert (row["verdict"], row["remark"]) == (verdict, "decided in iteration 3")
    assert later(run(iterations=1))["remark"] == "one iteration"


def test_noise_is_seldom_taken_for_an_effect():
    ranked = [claim.name for claim in CLAIMS if claim.kind == "rank" and len(claim.rivals) > 1]
    found = [
        judged(run(training=0.01, random_seed=number)).xs("dice", level="metric").loc[ranked, "verdict"]
        for number in range(4)
    ]
    shares = pd.concat(found).value_counts(normalize=True)
    assert shares[OPEN] > 0.8
    assert shares.get(HOLDS, 0) < 0.1


def test_no_difference_needs_a_narrow_interval():
    close = judged(run(training=0.0002, noise=0.002))
    assert close.loc[("volumes_equal", "dice"), "verdict"] == HOLDS
    assert judged(run(training=0.02)).loc[("volumes_equal", "dice"), "verdict"] == OPEN
    assert verdicts(judged(run(better={"uvs": LARGE})), "volumes_equal") == {FAILS}


@pytest.mark.parametrize("seeds", [1, 2, 4])
def test_few_seeds_give_no_verdict(seeds):
    frame = judged(run(better={"uss": LARGE}, seeds=seeds), composition=sets(shares=(0.3,) * seeds))
    assert set(frame["verdict"]) == {OPEN}
    assert frame["remark"].str.contains("one seed" if seeds == 1 else f"{seeds} seeds").all()


def test_relabelling_the_rivals_permutes_the_rivals_only():
    metrics = run(better={"uss": LARGE, "uvs": 0.02})
    swap = {"uvs": "rvs", "rvs": "uvs"}
    one, other = judged(metrics), judged(metrics.replace({"strategy": swap}))
    own = [name for name, _ in one.index if name not in ("volumes_equal", "fewest")]
    pd.testing.assert_frame_equal(one.loc[own], other.loc[own].replace({"rival": swap}))
    mirrored = one.loc["volumes_equal"]
    assert np.allclose(mirrored["estimate"], -other.loc["volumes_equal", "estimate"])
    assert np.allclose(mirrored["lower"], -other.loc["volumes_equal", "upper"])


def test_relabelling_the_subject_turns_best_into_worst():
    metrics = run(better={"uss": LARGE})
    frame = judged(metrics.replace({"strategy": {"uss": "rss", "rss": "uss"}}))
    assert verdicts(frame, "best_converged") == verdicts(frame, "rss_worst") == {FAILS}


def test_strategies_that_are_absent():
    frame = judged(run(strategies=("uss", "rvs", "bald"), better={"uss": LARGE, "bald": 2 * LARGE}))
    assert verdicts(frame, "volumes_equal") == verdicts(frame, "rss_worst") == {ABSENT}
    assert verdicts(frame, "best_converged") == {HOLDS}  # among the paper's; bald is none
    assert frame.loc[("best_converged", "dice"), "remark"] == "without UVS, RSS"
    assert verdicts(judged(run(strategies=("rvs",))), "best_last") == {ABSENT}


@pytest.mark.parametrize(
    ("uss", "slices", "verdict"),
    [(0, 40, HOLDS), (0, 44, HOLDS), (0, 60, OPEN), (-LARGE, 40, FAILS), (-LARGE, 60, FAILS), (-LARGE, 20, OPEN)],
)
def test_the_share_of_the_pool_counts_what_was_annotated(uss, slices, verdict):
    row = judged(run(better={"uss": uss}, training=0.0005), slices).loc[("share", "dice")]
    assert row["verdict"] == verdict
    assert row["estimate"] == pytest.approx((0.85 + uss) / 0.85, abs=0.01)
    assert row["remark"] == f"with {slices / 10:.1f} % of the slices"


def test_a_model_of_the_data_pool_that_finds_nothing_is_no_measure():
    metrics = run()
    metrics.loc[metrics["strategy"] == "pool", "dice"] = 0.0
    (row,) = (row for _, row in judged(metrics).iterrows() if "predicts no liver" in row["remark"])
    assert row["verdict"] == OPEN
    assert np.isnan(row["estimate"])


@pytest.mark.parametrize(
    ("composition", "verdict"),
    [
        (sets(), HOLDS),
        (sets((0.1, 0.12, 0.08, 0.11, 0.09)), FAILS),
        (sets((0.1, 0.3, 0.2, 0.15, 0.25)), OPEN),
        (sets(part="all"), OPEN),
    ],
)
def test_hard_cases_by_the_seeds(composition, verdict):
    row = judged(run(), composition=composition).loc[("hard_cases", "")]
    assert row["verdict"] == verdict
    assert ("names no hard cases" in str(row["remark"])) == (ALL_HARD not in set(composition["part"]))


def test_every_claim_has_its_metrics_and_an_estimate_in_its_interval():
    frame = judged(run())
    assert list(dict.fromkeys(frame.index.get_level_values("claim"))) == [claim.name for claim in CLAIMS]
    assert set(frame.loc["best_last"].index) == set(METRICS)
    assert ((frame["lower"] <= frame["estimate"]) & (frame["estimate"] <= frame["upper"])).all()


@pytest.mark.parametrize("number", range(3))
def test_the_interval_shown_is_the_one_that_decides(number):
    frame = judged(run(better={"uss": 0.015, "rss": -0.01}, random_seed=number))
    ranked = [claim.name for claim in CLAIMS if claim.kind == "rank"]
    for row in frame.loc[ranked].itertuples():
        name, metric = row.Index
        best = next(claim.best for claim in CLAIMS if claim.name == name)
        claimed = row.lower > 0 if METRICS[metric].larger_is_better == best else row.upper < 0
        assert claimed == (row.verdict == HOLDS)
        assert row.verdict != FAILS or row.lower * row.upper > 0
