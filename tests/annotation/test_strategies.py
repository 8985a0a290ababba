"""Ledger arithmetic of all strategies: what an iteration adds, and what it never does (sections II-D, IV-A)."""

import itertools
import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slicesampling import UserError
from slicesampling.annotation.ledger import (
    annotate,
    annotate_volumes,
    annotated_slices,
    read_ledger,
    slice_budget,
    write_ledger,
)
from slicesampling.annotation.strategies import STRATEGIES
from slicesampling.evaluation.records import annotation_counts
from slicesampling.jobs.randomness import generator
from slicesampling.learning.uncertainty import mark_candidates


def make_pool(seed: int, volumes: int = 9) -> pd.DataFrame:
    """A data pool with scores and the reference's answers: (volume, slice, liver, volume_score, slice_score, …)."""
    random = np.random.default_rng(seed)
    tables = []
    for number in range(volumes):
        count = int(random.integers(12, 40))
        first, last = np.sort(random.choice(count, 2, replace=False))
        tables.append(
            pd.DataFrame(
                {
                    "volume": f"v{number}",
                    "slice": range(count),
                    "liver": [int(first <= index <= last) for index in range(count)],
                    "volume_score": random.integers(0, 4) / 4,  # few values, so that ties occur
                    "slice_score": random.integers(0, 9, count) / 9,
                }
            )
        )
    pool = pd.concat(tables, ignore_index=True)
    pool["candidate"] = mark_candidates(pool, "slice_score")
    return pool


def run(pool: pd.DataFrame, name: str, budget: int, seed: int, iterations: int = 3) -> list[pd.DataFrame]:
    """The ledgers of an experiment with one strategy, from the initial one on."""
    reference, strategy = pool[["volume", "slice", "liver"]], STRATEGIES[name]
    ledgers = [annotate_volumes(reference, ["v0", "v3"])]
    hidden = pool.drop(columns="liver")
    for iteration in range(1, iterations + 1):
        query = strategy.choose(hidden, ledgers[-1], budget, generator(seed, name, iteration, "query"))
        limit = budget if strategy.until_liver else None
        ledgers.append(annotate(ledgers[-1], query, reference, iteration, liver_slices=limit))
    return ledgers


def keys(table: pd.DataFrame) -> set[tuple[str, int]]:
    return set(zip(table["volume"], table["slice"], strict=True))


@pytest.mark.parametrize("name", STRATEGIES)
@settings(max_examples=10, deadline=None)
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


@pytest.mark.parametrize("name", ["uvs", "rvs"])
@settings(max_examples=10, deadline=None)
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


@settings(max_examples=10, deadline=None)
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


@settings(max_examples=10, deadline=None)
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


def test_random_choices_are_uniform() -> None:
    """Over many seeds each volume, and each slice, is chosen first as often as any other (chi-squared bound)."""
    pool = make_pool(1, volumes=4)
    empty = pd.DataFrame({"volume": pd.Series(dtype=str), "slice": pd.Series(dtype=int)})
    for name, unit in (("rvs", ["volume"]), ("rss", ["volume", "slice"])):
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


def test_a_query_for_what_is_known_or_unknown_is_refused() -> None:
    reference = make_pool(3)[["volume", "slice", "liver"]]
    ledger = annotate_volumes(reference, ["v1"])
    for volume, index, message in (("v1", 0, "annotated already"), ("v2", 999, "not in the data pool")):
        query = pd.DataFrame({"volume": [volume], "slice": [index], "score": [0.0], "rank": [0]})
        with pytest.raises(UserError, match=f"slice {index} of volume {volume} is .*{message}"):
            annotate(ledger, query, reference, 1)


def test_slice_budget_is_the_papers_arithmetic() -> None:
    """Table 2: UVS went from 501 to 3382 liver slices in five iterations, 576 each; 576 / 3 = 192."""
    liver = np.diff([501, 1045, 1537, 2224, 2761, 3382])
    ledger = pd.DataFrame({"iteration": np.repeat(np.arange(6), [501, *liver]), "liver": 1})
    assert slice_budget(ledger, 3) == 192


def test_ledgers_survive_the_file(tmp_path) -> None:
    ledger = annotate_volumes(make_pool(4).assign(volume=lambda t: t["volume"].str.replace("v", "00")), ["001", "002"])
    write_ledger(tmp_path / "ledger.tsv", ledger)
    pd.testing.assert_frame_equal(read_ledger(tmp_path / "ledger.tsv"), ledger)
    slices = annotated_slices(ledger)
    assert list(slices) == ["001", "002"]
    assert all((np.diff(indices) == 1).all() for indices in slices.values())


def test_counts_are_those_of_table_2() -> None:
    pool = make_pool(5)
    ledger = run(pool, "uss", 4, 1)[-1]
    patients = {volume: f"p{int(volume[1:]) // 2}" for volume in pool["volume"].unique()}
    for row in annotation_counts(ledger, patients, range(4)):
        state = [entry for entry in ledger.itertuples() if entry.iteration <= row["iteration"]]
        assert row["slices"] == len(state)
        assert row["liver_slices"] == sum(entry.liver for entry in state)
        assert row["patients"] == len({patients[entry.volume] for entry in state})
