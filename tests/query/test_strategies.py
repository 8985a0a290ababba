"""Ledger arithmetic of all strategies: what an iteration adds, and what it never does (sections II-D, IV-A)."""

import itertools
import logging
import re
import textwrap
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, at_most
from hypothesis import given
from hypothesis import strategies as st
from pools import make_pool, run
from slicesampling.learning import uncertainty
from slicesampling.query import rules
from slicesampling.query.rules import RULES
from slicesampling.query.strategies import ERROR, MEASURES, QUERY, STRATEGIES, Strategy


def keys(table: pd.DataFrame) -> set[tuple[str, int]]:
    return set(zip(table["volume"], table["slice"], strict=True))


@pytest.mark.parametrize("name", STRATEGIES)
@at_most(10)
@given(seed=st.integers(0, 9999))
def test_what_every_ledger_obeys(name: str, seed: int) -> None:
    pool = make_pool(seed)
    budget = 6 if STRATEGIES[name].slices else 2
    ledgers = run(pool, name, budget, seed)
    answers = pool.set_index(["volume", "slice"])["structure"]
    initial = ledgers[0]
    assert keys(initial) == keys(pool[pool["volume"].isin(["v0", "v3"])])
    for iteration, (before, after) in enumerate(itertools.pairwise(ledgers), start=1):
        pd.testing.assert_frame_equal(after.head(len(before)), before)  # it only grows
        added = after.iloc[len(before) :]
        assert (added["iteration"] == iteration).all()
        assert not after.duplicated(["volume", "slice"]).any()
        assert [answers[key] for key in zip(after["volume"], after["slice"], strict=True)] == after[
            "structure"
        ].tolist()
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


def every_strategy() -> list[Strategy]:
    """Every strategy that can be put together, with and without foreground-aware choices."""
    made = []
    for unit, of_unit in RULES.items():
        for rule, how in of_unit.items():
            measures = [*MEASURES, *([ERROR] if unit == "slice" and how.regions else [])] if how.measures else [None]
            for measure, region in itertools.product(measures, how.regions or [None]):
                if measure != ERROR or region == "slice":
                    shares = [{}, {"foreground": 0.0}, {"foreground": 0.5}] if "foreground" in how.parameters else [{}]
                    made += [Strategy("", unit, rule, measure, region if measure else None, share) for share in shares]
    return made


def test_what_strategies_read_is_in_the_uncertainty_tables() -> None:
    assert tuple(uncertainty.MEASURES) == MEASURES
    columns = {
        "slice": {*uncertainty.slice_columns(), *uncertainty.COUNTS},
        "volume": set(uncertainty.volume_columns()),
    }
    for unit, of_unit in columns.items():
        read = {
            column for strategy in every_strategy() if strategy.unit == unit for column in strategy.columns.values()
        }
        assert read == of_unit
    assert [STRATEGIES[name].columns for name in ("uvs", "uss")] == [{"score": "predictive_entropy"}] * 2
    assert [STRATEGIES[name].columns for name in ("rvs", "rss")] == [{}] * 2


def test_only_an_upper_bound_sees_the_errors() -> None:
    for strategy in every_strategy():
        assert ("wrong_voxels" in strategy.columns.values()) == strategy.upper_bound
        assert not (strategy.upper_bound and strategy.uncertain)
    assert not any(strategy.upper_bound for strategy in STRATEGIES.values())


@at_most(3)
@given(seed=st.integers(0, 9999))
def test_a_query_sees_nothing_but_what_its_strategy_reads(seed: int) -> None:
    """Other columns, a score among them, may hold anything; and the order of rows changes nothing."""
    random = np.random.default_rng(seed)
    pool = make_pool(seed)[["volume", "slice"]]
    ledger = pool.sample(frac=0.1, random_state=seed)
    features = random.random((len(pool), 4))
    seen = {name: random.integers(0, 9, len(pool)) for name in ("score", "structure_score", "structure_voxels")}
    order = random.permutation(len(pool))
    for strategy in every_strategy():
        first = pool.assign(**seen)
        if not strategy.slices:
            first["score"] = first.groupby("volume")["score"].transform("first")
        other = first.assign(
            structure=1, **{name: random.random(len(pool)) for name in seen if name not in strategy.columns}
        )
        rest: dict[str, Any] = {"budget": 5, "progress": 0.5}
        query = strategy.choose(first, ledger, generator=np.random.default_rng(1), features=features, **rest)
        again = strategy.choose(
            other.iloc[order], ledger, generator=np.random.default_rng(1), features=features[order], **rest
        )
        pd.testing.assert_frame_equal(query, again)


def test_an_error_that_is_not_known_counts_as_none() -> None:
    pool = pd.DataFrame({"volume": "a", "slice": range(7), "score": [0, 9, np.nan, 4, 0, 2, 1]})
    query = Strategy("", "slice", "peaks", ERROR, "slice").choose(
        pool, pool.head(0), 3, np.random.default_rng(0), distance=1
    )
    assert query["slice"].tolist() == [1, 3, 5]


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
        left = pool["structure"].sum() - before["structure"].sum()
        assert added["structure"].sum() == min(6, left)
        if left >= 6:
            assert added["structure"].iloc[-1] == 1  # no slice is annotated after the budget is met


@pytest.mark.parametrize(("name", "unit", "draws"), [("rvs", ["volume"], 300), ("rss", ["volume", "slice"], 500)])
def test_random_choices_are_uniform(name: str, unit: list[str], draws: int) -> None:
    """Over many seeds each volume, and each slice, is chosen first as often as any other (chi-squared bound)."""
    pool = make_pool(1, volumes=3)
    empty = pd.DataFrame({"volume": pd.Series(dtype=str), "slice": pd.Series(dtype=int)})
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
