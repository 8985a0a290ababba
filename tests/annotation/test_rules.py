"""Laws of the rules of choice: what they never ask for, what follows from their settings, and what chance decides."""

import numpy as np
import pandas as pd
import pytest
from conftest import at_most
from hypothesis import given
from hypothesis import strategies as st
from pools import make_pool
from slicesampling.annotation.rules import RULES, Settings

EVERY = [(unit, name) for unit, rules in RULES.items() for name in rules]
RANKED = [(unit, name) for unit, name in EVERY if RULES[unit][name].ranks]


def table_of(seed: int, unit: str = "slice", share: float = 0.3) -> pd.DataFrame:
    """A table as a rule takes it, in which a share of slices or volumes is annotated."""
    pool, random = make_pool(seed), np.random.default_rng(seed)
    if unit == "volume":
        pool = pool.drop_duplicates("volume", ignore_index=True).drop(columns="slice")
    table = pool.rename(columns={f"{unit}_score": "score"})
    table["annotated"] = random.random(len(table)) < share
    return table[[name for name in ("volume", "slice", "score", "annotated") if name in table]]


def asked(table: pd.DataFrame, unit: str, name: str, seed: int = 0, **given: float) -> list[int]:
    return RULES[unit][name].order(table, np.random.default_rng(seed), Settings(**given)).index.tolist()


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
    assert name in ("peaks", "one_per_volume") or set(rows) == left  # nothing else leaves any out
    assert asked(table.assign(annotated=True), unit, name) == []


@pytest.mark.parametrize(("unit", "name"), RANKED)
def test_scores_in_another_unit_change_no_choice(unit: str, name: str) -> None:
    table = table_of(3, unit)
    assert asked(table.assign(score=8 * table["score"]), unit, name) == asked(table, unit, name)


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
    draws = 4000
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
