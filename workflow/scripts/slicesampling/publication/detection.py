"""Whether uncertainty points at errors: its table, beyond the paper."""

import pandas as pd

from .. import STRUCTURE
from ..evaluation.error_detection import SCOPES, SCORES, shares
from ..query.strategies import strategies_in
from .layout import MISSING, Table, lay_out, number, printed, printed_iteration, thousands
from .notes import about_seed, mean_over_seeds
from .wording import join

NO_REFERENCE = "no reference"
"""What stands where no volume of the data pool has a reference."""

CHOICES = ("share", "random", "best")
"""Whose share of the wrong voxels is printed, by the columns of `error_detection.shares`."""


def error_detection_table(found: pd.DataFrame) -> Table:
    """Supplement 7: rank correlation of uncertainty with wrong voxels, and the share of them that each choice holds.

    found: rows of `error_detection.error_detection` with `seed strategy iteration model`; printed are means over seeds.
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
            "Each row is a choice: the slices of the data pool that are left before it, as the model of the iteration "
            "before segments and scores them; in iteration 1 that is the initial model for all strategies. Errors: the "
            "share of all wrong voxels that the picked slices hold / that of as many slices by a random choice, on "
            "average / by the best one. Last columns: Spearman's rank correlation of a slice's uncertainty "
            f"(mean over the whole slice, or over the predicted, dilated {STRUCTURE}) with its wrong voxels, "
            f"{' / '.join(SCOPES.values())} (mean). Strategies that ask no uncertainty appear where another one has "
            "asked the same model.",
            mean_over_seeds(found),
            about_seed(found, "the rows"),
        ),
    )


def judged(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return the rows of each strategy for which any slice has a reference."""
    known = frame[frame["slices"] > 0]
    return [(strategy, known[known["strategy"] == strategy]) for strategy in strategies_in(known)]
