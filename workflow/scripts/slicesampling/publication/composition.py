"""The table of the composition of annotated sets."""

import pandas as pd

from .. import STRUCTURE
from ..evaluation.composition import ALL, ALL_HARD, END_SHARE, ENDS
from ..query.strategies import strategies_in
from .layout import MISSING, Table, lay_out, printed, thousands
from .wording import join


def composition_table(composition: pd.DataFrame) -> Table:
    """Supplement 11: patients, sites, hard cases and ends of the organ in each strategy's last set and in the pool.

    composition: from `evaluation.composition.composition`. For several seeds, mean and range are printed.
    """
    strategies, seeds = [*strategies_in(composition), "pool"], composition["seed"].nunique()
    cells: dict[str, dict[str, str]] = {}
    for part in composition["part"].unique():
        own = composition[composition["part"] == part].groupby("strategy")
        rows = {name: own.get_group(name) for name in strategies if name in own.groups}
        if part == ALL:
            counts = {"slices": "Slices", "structure_slices": f"Slices with {STRUCTURE}", "patients": "Patients"}
            for column, label in counts.items():
                cells[label] = {printed(name): _spread(rows[name][column], percent=False) for name in rows}
        else:
            named = part.removeprefix("all ")
            label = f"{named[0].upper()}{named[1:]} [%]"
            cells[label] = {printed(name): _spread(rows[name]["share"], percent=True) for name in rows}
    has_hard = (composition["part"] == ALL_HARD).any()
    return Table(
        composition.reset_index(drop=True),
        lay_out(cells),
        note=join(
            f"In per cent of the set's slices with {STRUCTURE}; the initial set is part of each. {ENDS.capitalize()}: "
            f"the first and the last {100 * END_SHARE:.0f} % of a volume's slices with {STRUCTURE}, at least one slice "
            "each.",
            "" if has_hard else "The cohort table names no hard cases in the data pool (its column hard_case).",
            f"Mean over {seeds} seeds, in brackets the smallest and the largest."
            if seeds > 1
            else "One seed: the table does not show the variation between seeds.",
            "The CSV file has the slices and patients of each part.",
        ),
    )


def _spread(values: pd.Series, percent: bool) -> str:
    """Return the mean, with the range in brackets if the values differ."""

    def text(value: float) -> str:
        return f"{100 * value:.1f}" if percent else thousands(value)

    if values.isna().any():
        return MISSING
    lower, upper = values.min(), values.max()
    return text(values.mean()) if lower == upper else f"{text(values.mean())} ({text(lower)}–{text(upper)})"
