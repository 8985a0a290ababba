"""The table of error detection by uncertainty, beyond the paper."""

import pandas as pd

from .. import STRUCTURE
from ..evaluation.error_detection import SCOPES, SCORES, shares
from ..query.strategies import strategies_in
from .layout import MISSING, Table, lay_out, number, printed, printed_iteration, thousands
from .notes import about_seed, mean_over_seeds
from .wording import join

NO_REFERENCE = "no reference"
"""Printed if no volume of the data pool has a reference."""

CHOICES = ("share", "random", "best")
"""The printed shares of wrong voxels, columns of `error_detection.shares`."""


def error_detection_table(found: pd.DataFrame) -> Table:
    """Supplement 7: rank correlation of uncertainty with wrong voxels, and the share of them in each selection.

    found: rows of `error_detection.error_detection` with `seed strategy iteration model`. Means over seeds are printed.
    """
    frame = shares(found)
    cells: dict[str, dict[str, str]] = {}
    for strategy, rows in judged(frame):
        for iteration, each in rows.groupby("iteration"):
            row = cells.setdefault(f"{printed(strategy)}, {printed_iteration(int(iteration))}", {})
            row["Picked slices"] = f"{thousands(each['picked'].mean())} of {thousands(each['slices'].mean())}"
            row["Errors [%]"] = " / ".join(number(100 * each[name].mean(), 1) for name in CHOICES)
            row["× random"] = number(each["times_random"].mean(), 2)
            for score, name in SCORES.items():
                label = name.removeprefix("predictive ").replace("information", "inf.").capitalize()
                row[label] = " / ".join(number(each[f"{score}_{scope}"].mean(), 2) for scope in SCOPES)
    return Table(
        frame.reset_index(drop=True),
        lay_out(cells or {NO_REFERENCE: {"Errors": MISSING}}),
        note=join(
            "No volume of the data pool has a reference: errors cannot be counted." if not cells else "",
            "Each row is a selection from the slices of the data pool that were not annotated before it, with the "
            "scores and segmentations of the previous iteration's model; in iteration 1 that is the initial model for "
            "all strategies. Errors: the share of all wrong voxels in the picked slices / in as many random slices, on "
            "average / in the best selection. Last columns: Spearman's rank correlation of a slice's uncertainty "
            f"(mean over the whole slice, or over the predicted, dilated {STRUCTURE}) with its wrong voxels, "
            f"{' / '.join(SCOPES.values())} (mean). Strategies that use no uncertainty appear if another strategy has "
            "used the same model.",
            mean_over_seeds(found),
            about_seed(found, "the rows"),
        ),
    )


def judged(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return the rows of each strategy that has slices with a reference."""
    known = frame[frame["slices"] > 0]
    return [(strategy, known[known["strategy"] == strategy]) for strategy in strategies_in(known)]
