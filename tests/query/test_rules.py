"""Laws of the rules of choice: what they never ask for, what follows from their settings, and what chance decides."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import at_most
from hypothesis import given
from hypothesis import strategies as st
from pools import make_pool
from scipy.spatial.distance import cdist
from slicesampling.query.rules import RULES, Settings, mixed

EVERY = [(unit, name) for unit, rules in RULES.items() for name in rules]
MEASURING = [(unit, name) for unit, name in EVERY if RULES[unit][name].measures]
SPREADING = ["k_centre", "k_means_pp"]


def table_of(seed: int, unit: str = "slice", share: float = 0.3) -> pd.DataFrame:
    """A table as a rule takes it, in which a share of slices or volumes is annotated."""
    pool, random = make_pool(seed), np.random.default_rng(seed)
    if unit == "volume":
        pool = pool.drop_duplicates("volume", ignore_index=True).drop(columns="slice")
    table = pool.rename(columns={f"{unit}_score": "score"})
    table["annotated"] = random.random(len(table)) < share
    table["structure_score"] = random.integers(0, 9, len(table)) / 9
    table["structure_voxels"] = random.integers(0, 3, len(table)) * random.integers(0, 90, len(table))
    names = ("volume", "slice", "score", "structure_score", "structure_voxels", "annotated")
    return table[[name for name in names if name in table]]


def features_of(table: pd.DataFrame, seed: int = 0) -> np.ndarray:
    """Features on a coarse lattice, so that some rows are alike."""
    return np.random.default_rng(seed).integers(0, 4, (len(table), 3)).astype(np.float32)


def asked(table: pd.DataFrame, unit: str, name: str, seed: int = 0, **given: Any) -> list[int]:
    rule = RULES[unit][name]
    of_run = {"budget": len(table), "features": features_of(table) if rule.features else None}
    settings = Settings(**{**of_run, **rule.parameters, **given})
    return rule.order(table, np.random.default_rng(seed), settings).index.tolist()


@pytest.mark.parametrize(("unit", "name"), EVERY)
@at_most(10)
@given(seed=st.integers(0, 9999))
def test_what_every_rule_obeys(unit: str, name: str, seed: int) -> None:
    """It asks once, never for what is annotated, the same of the same generator; and it leaves its arguments alone."""
    table = table_of(seed, unit)
    before = table.copy()
    rows = asked(table, unit, name, seed)
    pd.testing.assert_frame_equal(table, before)
    assert len(set(rows)) == len(rows)
    assert not table.loc[rows, "annotated"].any()
    assert asked(table, unit, name, seed) == rows
    left = set(table.index[~table["annotated"]])
    assert name in ("peaks", "shuffled", "one_per_volume") or set(rows) == left  # nothing else leaves any out
    assert asked(table.assign(annotated=True), unit, name) == []
    if not RULES[unit][name].measures:
        assert asked(table.drop(columns=["score", "structure_score"]), unit, name, seed) == rows


@pytest.mark.parametrize(("unit", "name"), MEASURING)
def test_scores_in_another_unit_change_no_choice(unit: str, name: str) -> None:
    table = table_of(3, unit)
    other = table.assign(score=8 * table["score"], structure_score=8 * table["structure_score"])
    assert asked(other, unit, name) == asked(table, unit, name)


@at_most(20)
@given(seed=st.integers(0, 9999))
def test_top_has_no_larger_score_left_and_the_smaller_place_first(seed: int) -> None:
    table = table_of(seed)
    left = table[~table["annotated"]]
    keys = [(-row.score, row.volume, row.slice, row.Index) for row in left.itertuples()]
    assert asked(table, "slice", "top") == [key[-1] for key in sorted(keys)]


@at_most(20)
@given(seed=st.integers(0, 9999))
def test_one_per_volume_takes_the_largest_of_each(seed: int) -> None:
    table = table_of(seed)
    chosen, left = table.loc[asked(table, "slice", "one_per_volume")], table[~table["annotated"]]
    assert sorted(chosen["volume"]) == sorted(set(left["volume"]))
    assert chosen.set_index("volume")["score"].to_dict() == left.groupby("volume")["score"].max().to_dict()
    assert chosen["score"].is_monotonic_decreasing


@pytest.mark.parametrize("name", ["power", "softrank"])
@at_most(20)
@given(seed=st.integers(0, 9999))
def test_without_noise_a_noisy_rule_is_top(name: str, seed: int) -> None:
    table = table_of(seed)
    assert asked(table, "slice", name, seed, beta=np.inf) == asked(table, "slice", "top")


@pytest.mark.parametrize(
    "beta", [pytest.param(0.5, marks=pytest.mark.slow), pytest.param(1.0, marks=pytest.mark.slow), 2.0]
)
@pytest.mark.parametrize("name", ["power", "softrank"])
def test_chances_of_the_first_are_a_power_of_score_or_rank(name: str, beta: float) -> None:
    """And so the larger a score, the more often its slice is chosen (chi-squared bound, five standard deviations)."""
    scores = np.array([0.2, 0.9, 0.5, 0.05, 0.7])
    table = pd.DataFrame({"volume": "v", "slice": range(5), "score": scores, "annotated": False})
    draws = 1500
    first = [asked(table, "slice", name, seed, beta=beta)[0] for seed in range(draws)]
    weights = (scores if name == "power" else 1 / np.array([4, 1, 3, 5, 2])) ** beta
    expected = draws * weights / weights.sum()
    counts = np.bincount(first, minlength=5)
    assert ((counts - expected) ** 2 / expected).sum() < 4 + 5 * 8**0.5
    assert (np.diff(expected[np.argsort(scores)]) > 0).all()


def test_power_takes_scores_of_zero_last() -> None:
    table = pd.DataFrame({"volume": "v", "slice": range(6), "score": [0, 0.1, 0, 0.2, 0, 0.3], "annotated": False})
    for seed in range(20):
        rows = asked(table, "slice", "power", seed)
        assert set(rows[:3]) == {1, 3, 5}
        assert rows[3:] == [0, 2, 4]


@at_most(30)
@given(seed=st.integers(0, 9999), share=st.sampled_from([0.0, 0.25, 0.5, 0.66, 1.0]))
def test_of_any_first_choices_a_share_is_from_the_part(seed: int, share: float) -> None:
    """Rounded down; both keep their order, and where the part has run out the rest follows."""
    random = np.random.default_rng(seed)
    whole = pd.DataFrame({"number": range(30)}, index=random.permutation(30))
    part = whole.loc[random.permutation(30)[: random.integers(31)]]
    rows = mixed(part, whole, share).index.tolist()
    assert sorted(rows) == list(range(30))
    assert mixed(part, whole, 0).index.tolist() == whole.index.tolist()
    assert mixed(part, whole, 1).index.tolist()[: len(part)] == part.index.tolist()
    rest = [row for row in whole.index if row not in set(part.index)]
    assert [row for row in rows if row in rest] == rest
    for count in range(1, 31):
        assert len(set(part.index) & set(rows[:count])) >= min(int(count * share), len(part))


@pytest.mark.parametrize("name", ["random", *SPREADING, "stratified"])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_foreground_aware_choices_come_from_slices_where_the_model_sees_the_structure(name: str, share: float) -> None:
    table = table_of(5)
    seen = (table["structure_voxels"] > 0) & ~table["annotated"]
    rows = asked(table, "slice", name, 1, foreground=share, beta=1.0, beta_last=1.0)
    for count in range(1, int(seen.sum())):
        assert seen[rows[:count]].sum() >= int(count * share)
    assert set(rows) == set(table.index[~table["annotated"]])
    blind = table.assign(structure_voxels=0)  # where it sees nothing, the choice is that without a share
    assert asked(blind, "slice", name, 1, foreground=share) == asked(table, "slice", name, 1, foreground=0.0)


def test_foreground_aware_choices_are_uniform_among_those_slices() -> None:
    table = pd.DataFrame({"volume": "v", "slice": range(8), "structure_voxels": [0, 3, 0, 9, 1, 0, 0, 2]})
    table["annotated"] = table["slice"] == 3
    draws = 900
    first = [asked(table, "slice", "random", seed, foreground=1.0)[0] for seed in range(draws)]
    counts = np.bincount(first, minlength=8)
    assert set(np.flatnonzero(counts)) == {1, 4, 7}
    assert ((counts[[1, 4, 7]] - draws / 3) ** 2 / (draws / 3)).sum() < 2 + 5 * 4**0.5  # five standard deviations


@at_most(20)
@given(seed=st.integers(0, 9999))
def test_shuffled_are_the_candidates_and_their_order_is_chance(seed: int) -> None:
    table = table_of(seed)
    rows = asked(table, "slice", "shuffled", seed)
    assert set(rows) == set(asked(table, "slice", "peaks"))
    candidates = sorted(rows)
    assert rows == [candidates[place] for place in np.random.default_rng(seed).permutation(len(rows))]


@at_most(20)
@given(seed=st.integers(0, 9999), stride=st.integers(1, 9))
def test_strided_slices_of_a_volume_stand_a_stride_apart(seed: int, stride: int) -> None:
    """Whole volumes one after the other, untouched ones first; only then what lies between."""
    table = table_of(seed)
    table["annotated"] = table["volume"].isin(["v0", "v3"]) & (table["slice"] % 2 == 0)
    chosen = table.loc[asked(table, "slice", "strided", seed, stride=stride)]
    sizes = table.groupby("volume")["slice"].size()
    turns = chosen.groupby((chosen["volume"] != chosen["volume"].shift()).cumsum())
    for _, rows in list(turns)[:7]:  # those of volumes of which nothing is annotated
        name = rows["volume"].iloc[0]
        assert name not in ("v0", "v3")
        assert (np.diff(rows["slice"]) == stride).all()
        assert rows["slice"].iloc[0] < stride
        assert rows["slice"].iloc[-1] + stride >= sizes[name]
    assert chosen["volume"].drop_duplicates().isin(["v0", "v3"]).tolist()[:7] == [False] * 7
    assert asked(table, "slice", "strided", seed, distance=stride) == chosen.index.tolist()


def test_strided_slices_begin_anywhere_in_the_first_stride() -> None:
    table = pd.DataFrame({"volume": "v", "slice": range(20), "annotated": False})
    draws = 400
    first = [asked(table, "slice", "strided", seed, stride=4)[0] for seed in range(draws)]
    counts = np.bincount(first, minlength=4)
    assert ((counts - draws / 4) ** 2 / (draws / 4)).sum() < 3 + 5 * 6**0.5  # five standard deviations
    assert len(counts) == 4


@at_most(20)
@given(seed=st.integers(0, 9999), budget=st.integers(1, 40))
def test_the_chosen_batch_has_the_largest_mean_of_all_that_were_drawn(seed: int, budget: int) -> None:
    table = table_of(seed)
    left = table[~table["annotated"]]
    rows = asked(table, "slice", "stochastic_batches", seed, budget=budget)
    drawn = left.index[np.random.default_rng(seed).permutation(len(left))]
    batches = [drawn[first : first + budget] for first in range(0, len(left) - budget + 1, budget)]
    best = max((table.loc[batch, "score"].mean() for batch in batches), default=-np.inf)
    assert not batches or table.loc[rows[:budget], "score"].mean() == pytest.approx(best)
    assert not batches or set(rows[:budget]) in [set(batch) for batch in batches]


def test_a_batch_of_all_is_all_and_batches_of_one_are_the_top() -> None:
    table = table_of(2)
    left = int((~table["annotated"]).sum())
    assert sorted(asked(table, "slice", "stochastic_batches", budget=left)) == sorted(asked(table, "slice", "top"))
    scores = table.loc[asked(table, "slice", "stochastic_batches", budget=1), "score"]
    assert scores.is_monotonic_decreasing


@pytest.mark.parametrize("unit", ["slice", "volume"])
@at_most(20)
@given(seed=st.integers(0, 9999))
def test_the_greedy_k_centre_is_the_farthest_of_all_that_is_left(unit: str, seed: int) -> None:
    table = table_of(seed, unit)
    features = features_of(table, seed).astype(float)
    rows = asked(table, unit, "k_centre", features=features, budget=6)
    known = table.index[table["annotated"]].tolist()
    left = table.index[~table["annotated"]].tolist()
    distances = cdist(features, features)
    for place, row in enumerate(rows):
        centres = known + rows[:place]
        nearest = distances[:, centres].min(axis=1) if centres else np.full(len(table), np.inf)
        assert nearest[row] == nearest[[r for r in left if r not in rows[:place]]].max()
    assert len(rows) == min(6, len(left))


def test_k_means_pp_chances_are_squared_distances_to_what_is_annotated() -> None:
    table = pd.DataFrame({"volume": "v", "slice": range(5), "annotated": [True, False, False, False, False]})
    features = np.array([[0.0], [1.0], [0.0], [2.0], [3.0]])
    draws = 4000
    first = [asked(table, "slice", "k_means_pp", seed, features=features, budget=1)[0] for seed in range(draws)]
    counts, expected = np.bincount(first, minlength=5), draws * np.array([0, 1, 0, 4, 9]) / 14
    assert counts[[0, 2]].tolist() == [0, 0]
    assert ((counts - expected)[[1, 3, 4]] ** 2 / expected[[1, 3, 4]]).sum() < 2 + 5 * 4**0.5


@pytest.mark.parametrize("name", SPREADING)
def test_without_anything_annotated_or_any_difference_rules_of_distance_still_choose(name: str) -> None:
    table = table_of(1).assign(annotated=False)
    for features in (features_of(table), np.zeros((len(table), 2))):
        assert len(set(asked(table, "slice", name, features=features, budget=9))) == 9


def test_noise_of_a_stratified_choice_falls_over_the_iterations() -> None:
    """At the end it is the top of each part; halfway β is the geometric mean."""
    table = table_of(4)
    plain = {"foreground": 0.0, "beta": 0.5}
    for progress, beta in ((0.0, 0.5), (0.5, 2.0), (1.0, 8.0)):
        rows = asked(table, "slice", "stratified", 3, progress=progress, beta_last=8.0, **plain)
        assert rows == asked(table, "slice", "power", 3, beta=beta)
    last = asked(table, "slice", "stratified", 3, progress=1.0, foreground=1.0, beta=1.0, beta_last=1e9)
    seen = table[(table["structure_voxels"] > 0) & (table["structure_score"] > 0)]
    left = seen[~seen["annotated"]]  # without noise but for the order of ties
    assert set(last[: len(left)]) == set(left.index)
    assert table.loc[last[: len(left)], "structure_score"].is_monotonic_decreasing
