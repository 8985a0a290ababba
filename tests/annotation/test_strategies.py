"""Ledger arithmetic of all strategies: what an iteration adds, and what it never does (sections II-D, IV-A)."""

import itertools
import logging
import re
import textwrap

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, at_most
from hypothesis import given
from hypothesis import strategies as st
from pools import make_pool, run
from slicesampling.annotation import rules
from slicesampling.annotation.rules import RULES
from slicesampling.annotation.strategies import MEASURES, QUERY, REGIONS, STRATEGIES, Strategy
from slicesampling.learning import uncertainty


def keys(table: pd.DataFrame) -> set[tuple[str, int]]:
    return set(zip(table["volume"], table["slice"], strict=True))


@pytest.mark.parametrize("name", STRATEGIES)
@at_most(10)
@given(seed=st.integers(0, 9999))
def test_what_every_ledger_obeys(name: str, seed: int) -> None:
    pool = make_pool(seed)
    budget = 6 if STRATEGIES[name].slices else 2
    ledgers = run(pool, name, budget, seed)
    answers = pool.set_index(["volume", "slice"])["liver"]
    initial = ledgers[0]
    assert keys(initial) == keys(pool[pool["volume"].isin(["v0", "v3"])])
    for iteration, (before, after) in enumerate(itertools.pairwise(ledgers), start=1):
        pd.testing.assert_frame_equal(after.head(len(before)), before)  # it only grows
        added = after.iloc[len(before) :]
        assert (added["iteration"] == iteration).all()
        assert not after.duplicated(["volume", "slice"]).any()
        assert [answers[key] for key in zip(after["volume"], after["slice"], strict=True)] == after["liver"].tolist()
    for again, ledger in zip(run(pool, name, budget, seed), ledgers, strict=True):
        pd.testing.assert_frame_equal(again, ledger)
    shuffled = pool.sample(frac=1, random_state=seed).reset_index(drop=True)
    if not STRATEGIES[name].until_liver:  # rows in another order change nothing
        assert keys(run(shuffled, name, budget, seed)[-1]) == keys(ledgers[-1])


def test_the_example_of_the_documentation_is_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function and an entry: then a strategy can be put together with it."""
    page = (ROOT / "docs/strategies.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^( +def spaced.*?^ +RULES.*?)$", page, flags=re.MULTILINE | re.DOTALL)
    monkeypatch.setitem(RULES, "slice", dict(RULES["slice"]))
    exec(textwrap.dedent(example), vars(rules))  # as if it stood at the end of that file
    monkeypatch.setitem(STRATEGIES, "sss", Strategy("spaced slice sampling", "slice", "spaced"))
    assert not STRATEGIES["sss"].uncertain
    ledgers = run(make_pool(1), "sss", 6, seed=1)
    assert [len(ledger) - len(ledgers[0]) for ledger in ledgers] == [6 * k for k in range(len(ledgers))]


def test_measures_and_columns_are_those_of_the_uncertainty_tables() -> None:
    assert tuple(uncertainty.MEASURES) == MEASURES
    columns = {"slice": uncertainty.slice_columns(), "volume": uncertainty.volume_columns()}
    named = {
        (unit, Strategy("", unit, rule, measure, region).column)
        for unit, of_unit in RULES.items()
        for rule, how in of_unit.items()
        for measure, region in itertools.product(MEASURES, REGIONS)
        if how.ranks
    }
    assert named == {(unit, column) for unit, of_unit in columns.items() for column in of_unit}
    assert [STRATEGIES[name].column for name in ("uvs", "uss")] == ["predictive_entropy"] * 2


@at_most(25)
@given(seed=st.integers(0, 9999), budget=st.integers(1, 60))
def test_the_paper_s_four_ask_as_section_ii_d_says(seed: int, budget: int) -> None:
    """Byte for byte what each strategy, written out for itself, asks for."""
    pool = make_pool(seed)
    ledger = pool.sample(frac=0.1 * (seed % 4), random_state=seed)[["volume", "slice"]]
    annotated = keys(ledger)
    left = [row for row in pool.itertuples() if (row.volume, row.slice) not in annotated]
    volumes = sorted(set(pool["volume"]) - set(ledger["volume"]))
    scores = pool.groupby("volume")["volume_score"].first()
    candidates = sorted(
        (row for row in left if row.candidate), key=lambda row: (-row.slice_score, row.volume, row.slice)
    )
    uncertain = sorted(volumes, key=lambda volume: (-scores[volume], volume))[:budget]
    drawn = np.random.default_rng(seed).permutation(len(volumes))[:budget]
    order = np.random.default_rng(seed).permutation(len(left))

    def whole(chosen: list[str], known: bool) -> list[tuple[str, int, float, int]]:
        return [
            (row.volume, row.slice, row.volume_score if known else np.nan, rank)
            for rank, volume in enumerate(chosen)
            for row in pool.itertuples()
            if row.volume == volume
        ]

    expected = {
        "uvs": whole(uncertain, known=True),
        "rvs": whole([volumes[place] for place in drawn], known=False),
        "uss": [(row.volume, row.slice, row.slice_score, rank) for rank, row in enumerate(candidates[:budget])],
        "rss": [(left[place].volume, left[place].slice, np.nan, rank) for rank, place in enumerate(order)],
    }
    for name, rows in expected.items():
        strategy = STRATEGIES[name]
        hidden = pool[["volume", "slice"]].assign(score=pool["slice_score" if strategy.slices else "volume_score"])
        query = strategy.choose(hidden, ledger, budget, np.random.default_rng(seed))
        assert query.to_csv(sep="\t") == pd.DataFrame(rows, columns=QUERY).to_csv(sep="\t"), name


@pytest.mark.parametrize("name", ["uvs", "rvs"])
@at_most(10)
@given(seed=st.integers(0, 9999))
def test_volume_strategies_add_whole_volumes(name: str, seed: int) -> None:
    pool = make_pool(seed)
    ledgers = run(pool, name, 2, seed)
    scores = pool.groupby("volume")["volume_score"].first()
    for before, after in itertools.pairwise(ledgers):
        added = after.iloc[len(before) :]
        names = set(added["volume"])
        assert len(names) == 2
        assert keys(added) == keys(pool[pool["volume"].isin(names)])
        if name == "uvs":
            left = sorted(set(pool["volume"]) - set(before["volume"]), key=lambda volume: (-scores[volume], volume))
            assert names == set(left[:2])


@at_most(10)
@given(seed=st.integers(0, 9999))
def test_uncertainty_slice_sampling_adds_the_most_uncertain_candidates(seed: int) -> None:
    pool = make_pool(seed)
    ledgers = run(pool, "uss", 6, seed)
    for before, after in itertools.pairwise(ledgers):
        added = after.iloc[len(before) :]
        candidates = [
            (-row.slice_score, row.volume, row.slice)
            for row in pool.itertuples()
            if row.candidate and (row.volume, row.slice) not in keys(before)
        ]
        assert len(added) == min(6, len(candidates))
        assert keys(added) == {(volume, index) for _, volume, index in sorted(candidates)[:6]}


@at_most(10)
@given(seed=st.integers(0, 9999))
def test_random_slice_sampling_stops_exactly_at_its_liver_slices(seed: int) -> None:
    pool = make_pool(seed)
    ledgers = run(pool, "rss", 6, seed)
    for before, after in itertools.pairwise(ledgers):
        added = after.iloc[len(before) :]
        left = pool["liver"].sum() - before["liver"].sum()
        assert added["liver"].sum() == min(6, left)
        if left >= 6:
            assert added["liver"].iloc[-1] == 1  # no slice is annotated after the budget is met


@pytest.mark.parametrize(("name", "unit"), [("rvs", ["volume"]), ("rss", ["volume", "slice"])])
def test_random_choices_are_uniform(name: str, unit: list[str]) -> None:
    """Over many seeds each volume, and each slice, is chosen first as often as any other (chi-squared bound)."""
    pool = make_pool(1, volumes=4)
    empty = pd.DataFrame({"volume": pd.Series(dtype=str), "slice": pd.Series(dtype=int)})
    draws = 1000
    first = [STRATEGIES[name].choose(pool, empty, 1, np.random.default_rng(i)).iloc[0] for i in range(draws)]
    counts = pd.DataFrame(first)[unit].value_counts()
    units = len(pool[unit].drop_duplicates())
    expected = draws / units
    chi_squared = ((counts - expected) ** 2 / expected).sum() + (units - len(counts)) * expected
    assert chi_squared < units - 1 + 5 * (2 * (units - 1)) ** 0.5  # five standard deviations


@pytest.mark.parametrize(("name", "budget"), [("uvs", 99), ("rvs", 99), ("uss", 999), ("rss", 999)])
def test_too_little_left_is_taken_and_said(name: str, budget: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        ledgers = run(make_pool(2), name, budget, 1, iterations=1)
    assert f"{budget} wanted" in caplog.text
    assert len(ledgers[1]) > len(ledgers[0])
