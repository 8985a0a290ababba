"""The page and the figure of the cost and benefit of annotation by people, with a prediction for the next round."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .. import STRUCTURE
from ..domain.models import INITIAL, Model
from ..evaluation.annotation_times import LEAST_MODELS, LEVEL, SINGLE, WHOLE, Estimate, Ratio
from .layout import Table, lay_out, number, with_interval
from .pages import filled
from .style import MARKED, PAGE, styled
from .wording import count

VALIDATION, TEST = "validation", "test"
SHOWN_VOLUMES = 20
"""The number of volumes shown in the list for review."""


@styled
def minutes_figure(rounds: pd.DataFrame, estimate: Estimate | None, more: int) -> Figure:
    """Draw validation and test Dice of each model over minutes at work, and over annotated slices.

    rounds: rows of `model slices untimed minutes validation_dice test_dice`, in order; test_dice is missing without a
    test. estimate: the predicted validation Dice with `more` slices, drawn with its interval.
    """
    figure = Figure(figsize=(PAGE, 2.6), layout="constrained")
    for axes, cost in zip(figure.subplots(1, 2, sharey=True), ("minutes", "slices"), strict=True):
        for name, colour, marker in ((VALIDATION, "#0072B2", "o"), (TEST, "#D55E00", "s")):
            values = rounds[f"{name}_dice"]
            if values.notna().any():
                axes.plot(rounds[cost], values, color=colour, marker=marker, label=name, **MARKED)
        if estimate is not None:
            minutes_a_slice = _minutes_a_slice(rounds)
            added = more if cost == "slices" else more * minutes_a_slice
            at = rounds[cost].iloc[-1] + added
            ends = [[max(estimate.value - estimate.lower, 0)], [max(estimate.upper - estimate.value, 0)]]
            if not np.isnan(at):
                axes.errorbar(
                    [at], [estimate.value], ends, fmt="o", mfc="white", color="0.4", ms=4, label="next, estimated"
                )
        axes.set(xlabel="annotation time [min]" if cost == "minutes" else "annotated slices")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=cost == "slices"))
    figure.axes[0].set_ylabel("mean Dice")
    figure.axes[1].legend(loc="best")
    return figure


def _minutes_a_slice(rounds: pd.DataFrame) -> float:
    """Return the minutes per slice in the last round; NaN if no time of that round is known."""
    last = rounds[["minutes", "slices", "untimed"]].diff().iloc[-1]
    timed = last["slices"] - last["untimed"]
    return float(last["minutes"] / timed) if timed > 0 else np.nan


def annotation_page(
    rounds: pd.DataFrame,
    estimate: Estimate | None,
    more: int,
    kinds: pd.DataFrame,
    ratio: Ratio | None,
    assumed: float,
    agreement: pd.DataFrame,
    review: pd.DataFrame | None,
    picture: bytes,
    left_out: Sequence[str],
) -> str:
    """Return the page of the run with people.

    rounds: see `minutes_figure`, with `structure_slices all_minutes`; estimate, more: for the next round; kinds,
    agreement, ratio: from `evaluation.annotation_times`; assumed: 1 / `ratio` in the configuration; review: rows of
    `volume split uncertainty structure_ml most_uncertain_slice`, None before the end of the loop; picture: the figure
    as PNG; left_out: names of the tables and figures that this run cannot fill.
    """
    tables = [_rounds(rounds)]
    if len(kinds):
        tables.append(_kinds(kinds))
    tables += [_agreement(agreement)] if len(agreement) else []
    tables += [_review(review)] if review is not None else []
    findings = [_next(estimate, more, rounds), _ratio(ratio, assumed)]
    untimed = int(rounds["untimed"].iloc[-1])
    if untimed:
        findings.append(
            f"The time of {count(untimed, 'slice')} is unknown, because other tools were used. The minutes are those "
            "of the other slices."
        )
    if not len(agreement):
        findings.append("No slice has been annotated by two people yet, so that their agreement is unknown.")
    if left_out:
        findings.append(f"This run has no {', '.join(left_out)}: they compare strategies or need test volumes.")
    return filled(
        "people.html",
        title="Annotation by people",
        picture=picture,
        caption="Mean Dice over time at work and over annotated slices, one point per model",
        findings=findings,
        tables=tables,
    )


def _rounds(rounds: pd.DataFrame) -> Table:
    cells = {}
    for row in rounds.to_dict("records"):
        name = "Before round 1" if row["model"] == INITIAL else f"Round {Model.parse(str(row['model'])).iteration}"
        cells[name] = {
            "Annotated slices": number(row["slices"], 0),
            f"with {STRUCTURE}": number(row["structure_slices"], 0),
            "Minutes": number(row["minutes"], 1),
            "with second opinions": number(row["all_minutes"], 1),
            "Validation Dice": number(row["validation_dice"], 3),
            "Test Dice": number(row["test_dice"], 3),
        }
    note = (
        "Slices that came with a mask are included, but took no minutes. Minutes: time at work of the annotators who "
        "answered first. Validation: best state, mean over the volumes, annotated slices only."
    )
    return Table(rounds, lay_out(cells), title="Annotated slices and results of the models", note=note)


def _next(estimate: Estimate | None, more: int, rounds: pd.DataFrame) -> str:
    if estimate is None:
        last = rounds["validation_dice"].diff().iloc[-1] if len(rounds) > 1 else np.nan
        change = "" if np.isnan(last) else f" The last round has changed the validation Dice by {number(last, 3)}."
        needed = f"this needs {LEAST_MODELS} models with different numbers of slices, none of them with a Dice of 1"
        return f"The effect of the next round cannot be predicted: {needed}.{change}"
    now = rounds["validation_dice"].iloc[-1]
    minutes = more * _minutes_a_slice(rounds)
    pace = f"take {number(minutes, 0)} minutes at the pace of the last round"
    if np.isnan(minutes):
        pace = "take an unknown time, because no time of the last round is known"
    text = (
        f"Another {count(more, 'slice')} would change the validation Dice from {number(now, 3)} to "
        f"{with_interval(estimate.value, (estimate.lower, estimate.upper), 3)}, and {pace}. "
        f"Estimate and {100 * LEVEL:g} % interval are from a power law, 1 − Dice = a · slices^(−b), fitted to the "
        f"{count(len(rounds), 'model')} with b = {number(estimate.exponent, 2)}."
    )
    return text if estimate.exponent > 0 else f"{text} The models have not improved with more slices so far."


def _ratio(ratio: Ratio | None, assumed: float) -> str:
    paper = f"The assumption is 1/{assumed:g} = {number(1 / assumed, 2)} (annotation_time_ratio; the paper: 1/3)."
    if ratio is None:
        return (
            "Whether a slice takes less time in a completely annotated volume is unknown: this needs both whole "
            f"volumes and single slices with {STRUCTURE}. {paper}"
        )
    interval = "no interval with fewer than two volumes of a kind"
    if not np.isnan(ratio.lower):
        interval = f"{100 * LEVEL:g} % bootstrap interval {number(ratio.lower, 2)} to {number(ratio.upper, 2)}"
    return (
        f"A slice with {STRUCTURE} in a completely annotated volume took {number(ratio.ratio, 2)} of the time of a "
        f"single slice ({interval}; {count(ratio.whole_volumes, 'whole volume')}, "
        f"{count(ratio.single_slices, 'single slice')}). {paper}"
    )


def _kinds(kinds: pd.DataFrame) -> Table:
    cells = {}
    for row in kinds.sort_values(["kind", "start", "structure"], ascending=[True, True, False]).to_dict("records"):
        begun = {"proposal": "from the proposal", "empty": "from an empty mask"}.get(
            str(row["start"]), "from an answer"
        )
        name = f"{row['kind'].capitalize()}, {begun}, {'with' if row['structure'] else 'without'} {STRUCTURE}"
        cells[name] = {
            "Slices": number(row["slices"], 0),
            "Mean": number(row["mean"], 1),
            "Median": number(row["median"], 1),
            "Quartiles": f"{number(row['lower_quartile'], 1)} to {number(row['upper_quartile'], 1)}",
        }
    note = f"{WHOLE.capitalize()}: all slices of the volume were answered in one round; {SINGLE}: all others."
    return Table(kinds, lay_out(cells), title="Seconds at work on a slice", note=note)


def _agreement(agreement: pd.DataFrame) -> Table:
    cells = {
        f"{row['first']} and {row['second']}": {
            "Slices": number(row["slices"], 0),
            "Mean Dice": number(row["dice"], 3),
            f"Both without {STRUCTURE}": number(row["both_empty"], 0),
            f"One without {STRUCTURE}": number(row["one_empty"], 0),
        }
        for row in agreement.to_dict("records")
    }
    note = f"Dice: over slices in which either drew {STRUCTURE}; 0 if the other did not."
    return Table(agreement, lay_out(cells), title="Agreement of two annotators", note=note)


def _review(review: pd.DataFrame) -> Table:
    cells = {
        row["volume"]: {
            "Split": row["split"],
            "Uncertainty": number(row["uncertainty"], 4),
            f"{STRUCTURE.capitalize()} [ml]": number(row["structure_ml"], 0),
            "Most uncertain slice": number(row["most_uncertain_slice"], 0),
        }
        for row in review.head(SHOWN_VOLUMES).to_dict("records")
    }
    note = f"The first of {count(len(review), 'volume')}; all are in results/review.tsv."
    return Table(review, lay_out(cells), title="Segmentations to review, the most uncertain first", note=note)
