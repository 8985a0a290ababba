"""Laws of the rounds in which people annotate."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slicesampling import UserError
from slicesampling.answers.annotators import annotate, annotate_volumes, annotated_masks
from slicesampling.answers.rounds import (
    WORK_LIST,
    first_query,
    open_round,
    people_ledger,
    progress,
    unanswered,
    waiting,
    work_list,
)
from slicesampling.answers.store import CANNOT_TELL, MASK, NO_STRUCTURE, Answer, Answers, to_runs
from slicesampling.domain.records import write_table


def answer(
    volume: str, index: int, liver: bool, round: str, annotator: str = "anna", what: str | None = None
) -> Answer:
    mask = np.full((2, 3), liver)
    moment = "2026-01-02T03:04:05Z"
    what = what or (MASK if liver else NO_STRUCTURE)
    return Answer(round, volume, index, annotator, what, (2, 3), to_runs(mask), 30.0, moment, moment)


def test_a_run_goes_as_far_as_the_closed_rounds_allow() -> None:
    assert progress("uss", 2, True, [], False) == ([], ["initial"], "uss-1")
    assert progress("uss", 2, False, [], False) == ([], [], "initial")
    assert progress("uss", 2, False, ["initial"], False) == (["initial"], ["initial"], "uss-1")
    assert progress("uss", 2, True, ["uss-1"], False) == (["uss-1"], ["initial", "uss-1"], "uss-2")
    assert progress("uss", 2, True, ["uss-2", "uss-1"], False) == (
        ["uss-1", "uss-2"],
        ["initial", "uss-1", "uss-2"],
        None,
    )
    assert progress("uss", 2, True, ["uss-1"], True) == (["uss-1"], ["initial", "uss-1"], None)
    assert progress("uss", 3, True, ["uss-2", "uss-1"], False).open == "uss-3"  # more iterations: the loop goes on
    with pytest.raises(UserError, match=r"holds rounds of uvs; accepted with strategies \[uss\]: its own"):
        progress("uss", 2, True, ["uvs-1"], False)
    with pytest.raises(UserError, match="nothing is annotated"):
        progress("uss", 2, False, [], True)


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 30), min_size=1),
    st.integers(1, 8),
    st.integers(1, 60),
    st.integers(0, 5),
)
def test_the_first_slices_are_evenly_spaced(depths: dict[str, int], volumes: int, count: int, seed: int) -> None:
    pool = pd.DataFrame([(name, index) for name, depth in depths.items() for index in range(depth)])
    pool.columns = ["volume", "slice"]
    asked = first_query(pool, volumes, count, np.random.default_rng(seed))
    again = first_query(pool.sample(frac=1, random_state=seed), volumes, count, np.random.default_rng(seed))
    pd.testing.assert_frame_equal(asked, again)
    assert len(asked) <= count
    assert asked["volume"].nunique() <= min(volumes, len(depths))
    assert not asked[["volume", "slice"]].duplicated().any()
    for volume, rows in asked.groupby("volume"):
        slices, depth = rows["slice"].to_numpy(), depths[str(volume)]
        assert slices[0] >= 0
        assert slices[-1] < depth
        gaps = np.diff(slices)
        assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1
        assert abs(slices[0] - (depth - 1 - slices[-1])) <= depth / len(slices)
    share = count // min(volumes, len(depths))
    if all(depth > share for depth in depths.values()):
        assert len(asked) == count


@given(st.integers(0, 40), st.floats(0, 1), st.floats(0, 1), st.integers(0, 9))
def test_a_work_list_is_the_query_with_shares_drawn_at_random(
    count: int, proposals: float, twice: float, seed: int
) -> None:
    query = pd.DataFrame({"volume": "a", "slice": range(count), "score": 0.5, "rank": range(count)[::-1]})
    drawn = work_list(query, proposals, twice, np.random.default_rng(seed))
    assert list(drawn) == list(WORK_LIST)
    assert drawn["rank"].tolist() == list(range(count))
    assert set(drawn["slice"]) == set(range(count))
    assert (drawn["start"] == "proposal").sum() == round(proposals * count)
    assert (drawn["people"] == 2).sum() == round(twice * count)
    assert set(drawn["start"]) <= {"proposal", "empty"}
    assert set(drawn["people"]) <= {1, 2}


def test_the_ledger_of_people_is_that_of_the_simulated_annotator(tmp_path: Path) -> None:
    """Where they answer the same, in the order of the ranks; later corrections change an answer and no place."""
    reference = pd.DataFrame(
        [(volume, index, int(2 <= index <= 5)) for volume in "abc" for index in range(8)],
        columns=["volume", "slice", "structure"],
    )
    ledger = given_ledger = annotate_volumes(reference, ["a"])
    truth = reference.set_index(["volume", "slice"])["structure"]
    answers = Answers(tmp_path)
    for iteration, asked in enumerate([[("c", 4), ("b", 7)], [("b", 3), ("c", 0)]], start=1):
        query = pd.DataFrame(asked, columns=["volume", "slice"]).assign(rank=range(2))
        ledger = annotate(ledger, query, reference, iteration)
        for volume, index in asked:
            answers.add(answer(volume, index, bool(truth[volume, index]), f"uss-{iteration}"))
        answers.add(answer(*asked[0], True, f"uss-{iteration}"))  # again
        answers.close(f"uss-{iteration}")
        pd.testing.assert_frame_equal(people_ledger(given_ledger, answers.table()), ledger)
    answers.add(answer("c", 4, False, "uss-3"))
    answers.add(answer("b", 0, True, "uss-3", what=CANNOT_TELL))
    corrected = people_ledger(given_ledger, answers.table())
    expected = ledger.copy()
    expected.loc[len(given_ledger), "structure"] = 0
    pd.testing.assert_frame_equal(corrected, expected)


def test_without_any_liver_there_is_nothing_to_learn(tmp_path: Path) -> None:
    answers = Answers(tmp_path)
    answers.add(answer("a", 0, False, "initial"))
    none = pd.DataFrame(columns=["volume", "slice", "iteration", "structure"])
    with pytest.raises(UserError, match="none of the 1 annotated slices holds liver"):
        people_ledger(none, answers.table())
    answers.add(answer("a", 1, True, "initial"))
    assert people_ledger(none, answers.table())["structure"].tolist() == [0, 1]


def test_answers_take_the_place_of_slices_and_of_no_others(tmp_path: Path) -> None:
    answers = Answers(tmp_path)
    answers.add(answer("a", 1, True, "uss-1"))
    answers.close("uss-1")
    answers.add(answer("a", 2, True, "uss-2"))  # later than the round that is trained
    own = np.full((4, 2, 3), 2, np.uint8)
    mask = annotated_masks(tmp_path, "uss-1")("a", own.copy())
    assert (mask[1] == 1).all()
    assert (np.delete(mask, 1, axis=0) == 2).all()
    own.flags.writeable = False
    assert np.array_equal(annotated_masks(tmp_path, "uss-1")("a", own), mask)
    assert annotated_masks(tmp_path, "uss-1")("b", own) is own
    assert annotated_masks(tmp_path / "none", None)("a", own) is own  # the simulated annotator
    with pytest.raises(UserError, match="the answer to slice 1 of volume a has"):
        annotated_masks(tmp_path, "uss-1")("a", np.zeros((4, 3, 3), np.uint8))
    with pytest.raises(UserError, match="the answer to slice 1 of volume a has"):
        annotated_masks(tmp_path, "uss-1")("a", np.zeros((1, 2, 3), np.uint8))


def test_a_round_waits_until_as_many_people_as_wanted_have_answered(tmp_path: Path) -> None:
    lists, answers = tmp_path / "work_lists", Answers(tmp_path / "answers")
    assert open_round(lists, answers) is None
    rows = [("a", 0, 0, 0.5, "empty", 2), ("a", 1, 1, 0.4, "proposal", 1), ("b", 0, 2, 0.3, "empty", 1)]
    asked = pd.DataFrame(rows, columns=list(WORK_LIST))
    write_table(lists / "uss-9.tsv", asked)
    write_table(lists / "uss-10.tsv", asked)
    assert open_round(lists, answers) == "uss-10"
    line = "Round 10: {} for annotation. Run make annotate, then the same command again."
    assert waiting(lists, answers, "uss-10") == line.format("3 slices of 2 volumes wait")
    answers.add(answer("a", 0, True, "uss-10"))
    answers.add(answer("a", 0, True, "uss-10"))
    answers.add(answer("b", 0, True, "uss-10", what=CANNOT_TELL))
    assert unanswered(asked, answers)["rank"].tolist() == [0, 1]
    answers.add(answer("a", 0, True, "uss-10", "ben"))
    assert waiting(lists, answers, "uss-10") == line.format("1 slice of 1 volume waits")
    answers.add(answer("a", 1, True, "uss-10", "ben"))
    assert "all slices are annotated" in waiting(lists, answers, "uss-10")
    answers.close("uss-10")
    assert open_round(lists, answers) is None
