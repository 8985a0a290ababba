"""The page of a run with people says what is known, what is not, and by which method."""

import re

import numpy as np
import pandas as pd
import pytest
from slicesampling.evaluation.annotation_times import SINGLE, WHOLE, Estimate, Ratio
from slicesampling.publication.people import annotation_page, minutes_figure

ROUNDS = pd.DataFrame(
    {
        "model": ["initial", "uss-1", "uss-2", "uss-3"],
        "slices": [10, 14, 18, 22],
        "structure_slices": [5, 8, 10, 13],
        "untimed": [0, 0, 0, 0],
        "minutes": [0.0, 4.0, 7.0, 9.0],
        "all_minutes": [0.0, 4.5, 8.0, 10.0],
        "validation_dice": [0.5, 0.6, 0.7, 0.75],
        "validation_jaccard": [0.4, 0.5, 0.6, 0.65],
        "test_dice": [np.nan] * 4,
    }
)
KINDS = pd.DataFrame(
    [(SINGLE, "proposal", True, 7, 31.0, 20.0, 30.0, 40.0), (WHOLE, "empty", False, 2, 5.0, 4.0, 5.0, 6.0)],
    columns=["kind", "start", "structure", "slices", "mean", "lower_quartile", "median", "upper_quartile"],
)
AGREEMENT = pd.DataFrame([("anna", "<b>ben</b>", 4, 1, 1, 0.5)])
AGREEMENT.columns = ["first", "second", "slices", "both_empty", "one_empty", "dice"]
REVIEW = pd.DataFrame(
    {"volume": [f"v{k:02}" for k in range(30)], "split": "pool", "uncertainty": 0.1, "structure_ml": 1500.0}
)
REVIEW["most_uncertain_slice"] = 7


def page(**changes: object) -> str:
    given = {
        "rounds": ROUNDS,
        "estimate": Estimate(0.79, 0.7, 0.85, 0.8),
        "more": 4,
        "kinds": KINDS,
        "ratio": Ratio(0.4, 0.3, 0.55, 6, 20),
        "assumed": 3,
        "agreement": AGREEMENT,
        "review": REVIEW,
        "picture": b"png",
        "left_out": ["table2_annotations"],
    }
    text = annotation_page(**(given | changes))
    return re.sub(r"\s+", " ", text)


def test_the_page_states_estimates_with_their_uncertainty_and_method() -> None:
    text = page()
    assert "from 0.750 to 0.790 [0.700, 0.850]" in text
    assert "take 2 minutes at the pace of the last round" in text  # 2 minutes for 4 slices, 4 more
    assert "power law, 1 − Dice = a · slices^(−b), fitted to the 4 models with b = 0.80" in text
    assert (
        "took 0.40 of the time of a single slice (95 % bootstrap interval 0.30 to 0.55; 6 whole volumes, 20 si" in text
    )
    assert "The assumption is 1/3 = 0.33" in text
    assert "This run has no table2_annotations" in text
    assert "anna and &lt;b&gt;ben&lt;/b&gt;" in text
    assert "The first of 30 volumes" in text
    assert "v19" in text
    assert "v20" not in text


def test_the_page_says_what_cannot_be_told() -> None:
    none = {"estimate": None, "ratio": None, "agreement": AGREEMENT.head(0), "review": None, "kinds": KINDS.head(0)}
    text = page(**none, left_out=[], rounds=ROUNDS.head(2))
    assert (
        "this needs 4 models with different numbers of slices, none of them with a Dice of 1. The last round has "
        in text
    )
    assert "in a completely annotated volume is unknown" in text
    assert "annotated by two people yet" in text
    assert "This run has no" not in text
    alone = page(**none, rounds=ROUNDS.head(1))
    assert "none of them with a Dice of 1.</li>" in alone
    assert "no interval with fewer than two volumes" in page(ratio=Ratio(0.4, np.nan, np.nan, 1, 20))
    assert "have not improved" in page(estimate=Estimate(0.7, 0.6, 0.8, -0.1))


def test_times_that_nobody_measured_are_left_out_and_said_to_be() -> None:
    assert "is unknown, because other tools were used" not in page()
    some = ROUNDS.assign(untimed=[0, 0, 0, 2])
    text = page(rounds=some)
    assert "The time of 2 slices is unknown, because other tools were used." in text
    assert "take 4 minutes at the pace of the last round" in text  # 2 minutes for the 2 slices that were timed
    none = ROUNDS.assign(untimed=[0, 0, 0, 4], minutes=[0.0, 4.0, 7.0, 7.0])
    text = page(rounds=none)
    assert "and take an unknown time, because no time of the last round is known. Estimate" in text
    assert "nan" not in text.lower()
    minutes, slices = minutes_figure(none, Estimate(0.79, 0.7, 0.85, 0.8), 4).axes
    assert [len(axes.containers) for axes in (minutes, slices)] == [0, 1]  # no estimate at a time that is not known


@pytest.mark.parametrize("estimate", [None, Estimate(0.79, 0.7, 0.85, 0.8)])
def test_the_figure_shows_what_there_is(estimate: Estimate | None) -> None:
    both = ROUNDS.assign(test_dice=[0.4, 0.5, 0.6, 0.7])
    figure = minutes_figure(both, estimate, 4)
    minutes, slices = figure.axes
    assert [list(line.get_xdata()) for line in minutes.lines[:2]] == [ROUNDS["minutes"].tolist()] * 2
    assert [list(line.get_ydata()) for line in slices.lines[:2]] == [
        both["validation_dice"].tolist(),
        both["test_dice"].tolist(),
    ]
    ends = [float(axes.lines[2].get_xdata()[0]) for axes in figure.axes] if estimate else []
    assert ends == ([11.0, 26.0] if estimate else [])
    assert len(minutes_figure(ROUNDS.head(1), None, 4).axes[0].lines) == 1
