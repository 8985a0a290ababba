"""Laws of what annotation took and brought: sums add up, and known ratios and power laws are found again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slicesampling.answers.store import CANNOT_TELL, MASK, NO_STRUCTURE, Answer, Answers, to_runs
from slicesampling.evaluation.annotation_times import (
    SINGLE,
    WHOLE,
    agreement,
    annotation_times,
    costs_by_round,
    next_round,
    seconds_by_kind,
    whole_to_single,
)

SHAPE = (4, 6)


def answer(volume: str, index: int, seconds: float, who: str = "anna", area: int = 6, round: str = "uss-1") -> Answer:
    mask = (np.arange(24) < area).reshape(SHAPE)
    what = MASK if area else NO_STRUCTURE
    return Answer(round, volume, index, who, what, SHAPE, to_runs(mask), seconds, "", "")


@pytest.fixture
def answers(tmp_path: Path) -> Answers:
    """Volume w is annotated as a whole in the first round, of v single slices in both, some twice, one again."""
    kept = Answers(tmp_path)
    for index in range(3):
        kept.add(answer("w", index, 20, round="initial"))
    kept.close("initial")
    kept.add(answer("v", 1, 60))
    kept.add(answer("v", 1, 90, "ben", area=3))
    kept.add(answer("v", 2, 30, area=0))
    kept.add(replace(answer("v", 3, 500), answer=CANNOT_TELL, runs=()))
    kept.close("uss-1")
    kept.add(answer("v", 1, 15, round="uss-2"))  # a correction
    kept.add(answer("v", 5, 45, "ben", round="uss-2"))
    return kept


def test_times_add_up_round_by_round(answers: Answers) -> None:
    rounds = ["initial", "uss-1", "uss-2"]
    times = annotation_times(answers, rounds, {"w": 3, "v": 9})
    assert len(times) == len(answers.all)
    assert times.loc[times["volume"] == "w", "kind"].eq(WHOLE).all()
    assert times.loc[times["volume"] == "v", "kind"].eq(SINGLE).all()
    costs = costs_by_round(times, rounds).set_index("round")
    assert costs["slices"].tolist() == [3, 6, 7]
    assert costs["minutes"].tolist() == pytest.approx([1, 1 + 590 / 60, 1 + 650 / 60])
    assert costs["all_minutes"].iloc[-1] == pytest.approx(times["seconds"].sum() / 60)
    assert costs["all_minutes"].tolist() == pytest.approx([1, 1 + 680 / 60, 1 + 740 / 60])
    before = annotation_times(answers, rounds[:2], {"w": 3, "v": 9})
    pd.testing.assert_frame_equal(costs_by_round(before, rounds[:2]), costs.head(2).reset_index())


def test_seconds_go_by_slice_and_annotator(answers: Answers) -> None:
    times = annotation_times(answers, ["initial", "uss-1", "uss-2"], {"w": 3, "v": 9})
    found = seconds_by_kind(times).set_index(["kind", "structure"])
    assert found.loc[(WHOLE, True), "slices"].item() == 3
    assert found.loc[(WHOLE, True), "mean"].item() == 20
    assert found.loc[(SINGLE, True), "slices"].item() == 3  # of anna with her correction, and twice of ben
    assert found.loc[(SINGLE, True), "mean"].item() == pytest.approx((75 + 90 + 45) / 3)
    assert found.loc[(SINGLE, False), "median"].item() == 30
    assert found["slices"].sum() == 7  # nobody's time on what nobody could tell


def test_unknown_times_change_no_statistic_of_times(answers: Answers) -> None:
    """Nor do they count as no time at all; the slices themselves count."""
    rounds, depths = ["initial", "uss-1", "uss-2"], {"w": 3, "v": 9, "u": 9}
    known = annotation_times(answers, rounds, depths)
    answers.add(replace(answer("u", 1, 0, round="uss-2"), seconds=None))
    answers.add(replace(answer("u", 2, 0, area=0, round="uss-2"), seconds=None))
    times = annotation_times(answers, rounds, depths)
    assert times["seconds"].isna().sum() == 2
    pd.testing.assert_frame_equal(seconds_by_kind(times), seconds_by_kind(known))
    assert whole_to_single(times, np.random.default_rng(0)) == whole_to_single(known, np.random.default_rng(0))
    costs, before = (costs_by_round(each, rounds).set_index("round") for each in (times, known))
    assert costs["untimed"].tolist() == [0, 0, 2]
    assert not before["untimed"].any()
    assert costs["slices"].tolist() == [3, 6, 9]
    pd.testing.assert_frame_equal(costs[["minutes", "all_minutes"]], before[["minutes", "all_minutes"]])
    answers.add(replace(answer("v", 2, 0, area=0, round="uss-2"), seconds=None))  # a correction of what took 30 s
    corrected = annotation_times(answers, rounds, depths)
    assert not (seconds_by_kind(corrected)["structure"] == False).any()  # noqa: E712 - a column
    assert costs_by_round(corrected, rounds)["untimed"].tolist() == [0, 0, 2]  # of which a part is known


def test_a_known_ratio_is_found_and_lies_in_its_interval(tmp_path: Path) -> None:
    answers, random = Answers(tmp_path), np.random.default_rng(0)
    for volume in range(12):
        pace = random.lognormal(0, 0.3)  # some volumes are harder than others
        for index in range(5):
            answers.add(answer(f"w{volume}", index, 10 * pace * random.lognormal(0, 0.2)))
        answers.add(answer(f"v{volume}", 0, 30 * pace * random.lognormal(0, 0.2)))
    depths = {f"{kind}{volume}": 5 for kind in "wv" for volume in range(12)}
    times = annotation_times(answers, ["uss-1"], depths)
    found = whole_to_single(times, np.random.default_rng(1))
    assert found is not None
    assert found.lower < 1 / 3 < found.upper
    assert found.lower < found.ratio < found.upper
    assert found.upper - found.lower < 0.4
    assert (found.whole_volumes, found.single_slices) == (12, 12)
    faster = times.assign(seconds=times["seconds"].where(times["kind"] == SINGLE, times["seconds"] / 2))
    half = whole_to_single(faster, np.random.default_rng(1))
    assert half is not None
    assert half[:3] == pytest.approx([value / 2 for value in found[:3]])


def test_without_both_kinds_there_is_no_ratio_and_from_one_volume_no_interval(answers: Answers) -> None:
    random = np.random.default_rng(0)
    assert whole_to_single(annotation_times(answers, ["uss-1"], {"v": 9}), random) is None
    assert whole_to_single(annotation_times(answers, [], {}), random) is None
    found = whole_to_single(annotation_times(answers, ["initial", "uss-1"], {"w": 3, "v": 9}), random)
    assert found is not None
    assert found.ratio == pytest.approx(20 / 75)
    assert np.isnan(found.lower)


def test_two_annotators_agree_as_far_as_their_masks_did_before_they_saw_each_others(tmp_path: Path) -> None:
    answers = Answers(tmp_path)
    answers.add(answer("v", 3, 10, "ben", 1))  # corrected below, before anna answers
    for index, (one, other) in enumerate([(6, 3), (0, 0), (4, 0), (5, 15)]):
        answers.add(answer("v", index, 10, "ben", one))
        answers.add(answer("v", index, 10, "anna", other))
    answers.add(answer("v", 3, 10, "anna", area=5))  # as ben's, which she sees now
    answers.add(answer("v", 9, 10, "cleo"))
    answers.add(replace(answer("v", 9, 10, "anna"), answer=CANNOT_TELL, runs=()))
    (row,) = agreement(answers, ["uss-1"]).to_dict("records")
    assert (row["first"], row["second"], row["slices"], row["both_empty"], row["one_empty"]) == ("anna", "ben", 4, 1, 1)
    assert row["dice"] == pytest.approx((2 * 3 / 9 + 0 + 2 * 5 / 20) / 3)
    assert agreement(answers, []).empty


@given(st.floats(0.05, 2), st.floats(0.05, 2), st.integers(4, 8))
def test_a_power_law_is_found_again_without_uncertainty(factor: float, exponent: float, models: int) -> None:
    slices = [20.0 + 10 * number for number in range(models)]
    missing = [0.5 * factor * (count / 20) ** -exponent for count in slices]
    if missing[0] >= 1:
        return
    estimate = next_round(slices, [1 - value for value in missing], 10)
    assert estimate is not None
    expected = 1 - 0.5 * factor * ((slices[-1] + 10) / 20) ** -exponent
    assert estimate.value == pytest.approx(expected, abs=1e-9)
    assert estimate.exponent == pytest.approx(exponent)
    assert estimate.upper - estimate.lower < 1e-6


def test_the_interval_holds_as_often_as_it_says() -> None:
    random, inside = np.random.default_rng(0), 0
    slices = np.array([40.0, 80, 120, 160, 200])
    for _ in range(400):
        noisy = np.exp(np.log(0.3) - 0.5 * np.log(np.append(slices, 240) / 40) + random.normal(0, 0.1, 6))
        estimate = next_round(slices.tolist(), (1 - noisy[:5]).tolist(), 40)
        assert estimate is not None
        assert estimate.lower <= estimate.value <= estimate.upper
        inside += estimate.lower <= 1 - noisy[5] <= estimate.upper
    assert 0.92 < inside / 400 < 0.98


@pytest.mark.parametrize(
    ("slices", "values"),
    [([5, 9, 13], [0.1, 0.2, 0.3]), ([5, 5, 9, 13], [0.1] * 4), ([1, 2, 3, 4], [0.1, 0.2, 0.3, 1])],
)
def test_what_cannot_be_told_is_not(slices: list[float], values: list[float]) -> None:
    assert next_round(slices, values, 4) is None
