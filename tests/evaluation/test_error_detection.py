"""Laws of error detection: correlations are Spearman's, and shares lie between what can and what must be found."""

import numpy as np
import pandas as pd
import pytest
from conftest import at_most
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from slicesampling.evaluation.error_detection import SCORES, error_detection, rank_correlations, shares
from slicesampling.learning.uncertainty import slice_columns

LAW = at_most(20)


def scored(seed: int = 0, volumes: int = 4, slices: int = 12) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    table = pd.DataFrame([{"volume": f"v{v}", "slice": z} for v in range(volumes) for z in range(slices)])
    table["wrong_voxels"] = random.integers(0, 6, len(table)) * random.integers(0, 2, len(table))
    for number, score in enumerate(SCORES):
        table[score] = random.normal(size=len(table)) + number * table["wrong_voxels"]
    return table


def ledger_of(table: pd.DataFrame, random: np.random.Generator, iterations: int = 3) -> pd.DataFrame:
    drawn = table.sample(frac=0.5, random_state=int(random.integers(99)))[["volume", "slice"]]
    return drawn.assign(iteration=random.integers(0, iterations + 1, len(drawn)))


def test_scores_are_the_columns_of_the_uncertainty_stage() -> None:
    assert list(SCORES) == slice_columns()


@LAW
@given(st.integers(0, 50))
def test_correlations_are_scipys(seed: int) -> None:
    table = scored(seed)
    found = rank_correlations(table)
    for score in SCORES:
        assert found[f"{score}_pool"] == pytest.approx(stats.spearmanr(table[score], table["wrong_voxels"])[0])
        each = [stats.spearmanr(rows[score], rows["wrong_voxels"])[0] for _, rows in table.groupby("volume")]
        assert found[f"{score}_volumes"] == pytest.approx(np.mean(each))


def test_volumes_without_a_difference_have_no_say_within_volumes() -> None:
    table = scored().assign(variance=lambda rows: rows["wrong_voxels"] ** 2)
    table.loc[table["volume"] == "v1", "wrong_voxels"] = 3
    table.loc[table["volume"] == "v2", "variance"] = 0.0
    found = rank_correlations(table)
    assert found["variance_volumes"] == pytest.approx(1)
    assert found["variance_pool"] < 1
    assert np.isnan(rank_correlations(table.assign(wrong_voxels=0))["variance_volumes"])
    assert np.isnan(rank_correlations(table.assign(wrong_voxels=0))["variance_pool"])


@LAW
@given(st.integers(0, 50), st.integers(1, 3))
def test_a_choice_finds_no_more_than_the_best_and_all_choices_find_all(seed: int, iteration: int) -> None:
    table, random = scored(seed), np.random.default_rng(seed)
    ledger = ledger_of(table, random)
    found = error_detection(table, ledger, iteration)
    assert 0 <= found["wrong_picked"] <= found["wrong_best"] <= found["wrong"]
    assert found["slices"] == len(table) - (ledger["iteration"] < iteration).sum()
    assert found["picked"] == (ledger["iteration"] == iteration).sum()
    # What an iteration does not pick is left for the next one.
    after = error_detection(table, ledger, iteration + 1)
    assert found["wrong"] - found["wrong_picked"] == after["wrong"]
    shuffled = error_detection(table.sample(frac=1, random_state=seed), ledger, iteration)
    assert shuffled == pytest.approx(found, nan_ok=True)


@pytest.mark.slow
def test_the_random_share_is_what_random_choices_hold_on_average() -> None:
    table, random = scored(volumes=6), np.random.default_rng(1)
    held = []
    for _ in range(100):
        picked = table.sample(9, random_state=int(random.integers(10**6)))[["volume", "slice"]].assign(iteration=1)
        held.append(error_detection(table, picked, 1))
    found = shares(pd.DataFrame(held))
    assert found["share"].mean() == pytest.approx(found["random"].iloc[0], rel=0.1)
    assert found["times_random"].mean() == pytest.approx(1, rel=0.1)
    assert (found["share"] <= found["best"]).all()


def test_without_reference_there_is_nothing_to_judge() -> None:
    table, random = scored(), np.random.default_rng(2)
    ledger = ledger_of(table, random)
    empty = table.assign(wrong_voxels=np.nan)
    found = error_detection(empty, ledger, 1)
    assert found["slices"] == found["picked"] == found["wrong"] == 0
    assert shares(pd.DataFrame([found]))[["share", "random", "best", "times_random"]].isna().all(axis=None)
    half = table.assign(wrong_voxels=table["wrong_voxels"].where(table["volume"] != "v0"))
    others = table["volume"] != "v0"
    alone = error_detection(table[others], ledger[ledger["volume"] != "v0"], 1)
    assert error_detection(half, ledger, 1) == pytest.approx(alone, nan_ok=True)
