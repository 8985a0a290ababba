"""A table as text, and its four files: CSV at full precision; Markdown, LaTeX and HTML as printed."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..jobs.files import write_text
from ..query.strategies import is_upper_bound
from .pages import filled
from .wording import join

MISSING = "–"
INITIAL, POOL = "initial", "data pool"
DAGGER = "†"
BOUND = f"{DAGGER} upper bound"
"""The explanation of the dagger in figures; tables have `ABOUT_BOUND`."""
ABOUT_BOUND = f"{BOUND}, not for use: it looks into the reference before it asks."
NO_BREAK_SPACE = "\u00a0"
MANY = 6
"""With more strategies, curves have no intervals, which would hide each other, and panels are in several rows."""


class Cell(NamedTuple):
    """A printed cell: its text, stars and weight, the number of columns it spans, and a cell below it."""

    text: str
    stars: str = ""
    bold: bool = False
    span: int = 1
    below: "Cell | None" = None


@dataclass(frozen=True)
class Table:
    """A table; its name and title are from `contents`.

    frame: the data at full precision in long form. display: the cells as text, rows and columns as in the paper, stars
    at the end of a cell. bold: (row, column) labels of bold cells. spanning: labels of rows with one value for all
    columns, which is in each of them. below: a display whose cells are shown below those of the same row and column,
    in HTML. note: explanations for the reader.
    """

    frame: pd.DataFrame
    display: pd.DataFrame
    name: str = ""
    title: str = ""
    note: str = ""
    bold: frozenset[tuple[str, str]] = field(default_factory=frozenset)
    spanning: frozenset[str] = field(default_factory=frozenset)
    below: pd.DataFrame | None = None

    def named(self, name: str, title: str) -> "Table":
        """Return the table with a name and a title."""
        return replace(self, name=name, title=title)

    @property
    def columns(self) -> list[str]:
        return list(self.display.columns)

    @property
    def labels(self) -> str:
        """The labels of all rows and columns."""
        return " ".join(map(str, [*self.display.index, *self.display.columns]))

    @property
    def notes(self) -> str:
        """The note, with an explanation of the dagger if a label has one and the note does not explain it."""
        return join(self.note, ABOUT_BOUND if DAGGER in self.labels and DAGGER not in self.note else "")

    @property
    def corner(self) -> str:
        """The name of the row labels."""
        return str(self.display.index.name or "")

    def rows(self) -> Iterator[tuple[str, list[Cell]]]:
        """Yield the label and the cells of each row, including rows that only `below` has."""
        own, other = list(self.display.index), [] if self.below is None else list(self.below.index)
        labels = other if set(own) <= set(other) else [*own, *(row for row in other if row not in own)]
        for row in labels:
            across = row in self.spanning
            cells = [self._cell(row, column) for column in self.columns[: 1 if across else None]]
            yield row, [cell._replace(span=len(self.columns)) if across else cell for cell in cells]

    def _cell(self, row: str, column: str) -> Cell:
        below = None if self.below is None else _cell(self.below, row, column)
        return _cell(self.display, row, column)._replace(bold=(row, column) in self.bold, below=below)


def _cell(display: pd.DataFrame, row: str, column: str) -> Cell:
    text = display.loc[row, column] if row in display.index and column in display.columns else MISSING
    bare = text.rstrip("*")
    return Cell(bare, text[len(bare) :])


# --- cells and notes ---------------------------------------------------------------------------------------------


def lay_out(cells: Mapping[str, Mapping[str, str]], corner: str = "") -> pd.DataFrame:
    """Return a table of text from row → column → text; `corner` is the name of the row labels."""
    table = pd.DataFrame.from_dict(cells, orient="index", dtype=object).fillna(MISSING)
    table.index.name = corner
    return table


def number(value: float, decimals: int) -> str:
    """Return `value` rounded, with a true minus sign, never "-0.0"; NaN gives the mark of a missing value."""
    if np.isnan(value):
        return MISSING
    text = f"{value:.{decimals}f}"
    return text.replace("-", "−") if float(text) else text.removeprefix("-")


def with_interval(value: float, bounds: tuple[float, float], decimals: int) -> str:
    return f"{number(value, decimals)} [{number(bounds[0], decimals)}, {number(bounds[1], decimals)}]"


def thousands(value: float) -> str:
    """Return `value` as a whole number with a space between groups of three digits."""
    return f"{round(value):,}".replace(",", NO_BREAK_SPACE)


def p_value_text(value: float) -> str:
    return "< 0.001" if value < 0.001 else number(value, 3)


def printed(strategy: str) -> str:
    """Return the short name of a strategy, or of the initial or the data pool model; upper bounds have a dagger."""
    dagger = DAGGER if is_upper_bound(strategy) else ""
    return {"initial": INITIAL, "pool": POOL}.get(strategy, f"{strategy.upper()}{dagger}")


def printed_iteration(iteration: int) -> str:
    return f"iter. {iteration}" if iteration else INITIAL


def with_strategies(table: Table, titles: Mapping[str, str]) -> Table:
    """Return a table whose note describes its custom strategies.

    titles: name → title of custom strategies (see `query.strategies.Strategy`).
    """
    told = [
        f"{printed(name)}: {title}."
        for name, title in titles.items()
        if re.search(rf"(?<!\w){name.upper()}(?!\w)", table.labels)
    ]
    return replace(table, note=join(table.note, *told))


# --- files -------------------------------------------------------------------------------------------------------


def write_files(table: Table, stem: str | Path) -> list[Path]:
    """Write `stem`.csv (full precision), .md, .tex and .html; return the four paths."""
    texts = {
        "csv": table.frame.to_csv(index=False),
        "md": filled("table.md", table=table),
        "tex": filled("table.tex", table=table),
        "html": filled("tables.html", title=table.title, note="", tables=[table]),
    }
    for suffix, text in texts.items():
        write_text(f"{stem}.{suffix}", text)
    return [Path(f"{stem}.{suffix}") for suffix in texts]
