"""The records of a run: which columns its tables have, what they hold, and the one way to read and write them.

A column has one meaning in all tables. Names of volumes, patients and sites are text, whatever they look like: `NA`,
`007` and `1e5` are names. An empty cell is an empty text, or a missing number; nothing else is missing.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from .. import UserError, one_line
from ..jobs.files import replacing

REFERENCE = ("volume", "slice", "structure")
"""A row for each slice of the data pool; slice: z index on the preprocessed grid; structure: whether it holds any, 0,
1, or missing where nobody has annotated."""

LEDGER = ("volume", "slice", "iteration", "structure")
"""What is annotated; iteration: 0 for the initial set. It only grows: the state after iteration k is its rows with
iteration ≤ k."""

QUERY = ("volume", "slice", "score", "rank")
"""What a strategy wants annotated; rank: 0 first."""

WORK_LIST = ("volume", "slice", "rank", "score", "start", "people")
"""A query as people see it; start: "proposal" or "empty"; people: how many annotate the slice, 1 or 2."""

CLOSED = ("round", "volume", "slice", "structure", "record")
"""What people had annotated when a round was closed; round: in which the slice was first answered; structure: missing
where nobody could tell; record: the place in the log of the answer that holds."""

SEGMENTED = ("volume", "uncertainty", "structure_ml", "most_uncertain_slice")
"""What a model says of each volume that it has segmented for people."""

ANNOTATED = ("slices", "structure_slices", "patients")
"""Counts of an annotated set: slices, those of them that hold structure, and the patients they come from."""

TEXT = frozenset(
    (
        *("volume", "patient", "site", "split", "image", "label", "exclude", "hard_case", "liver_values"),
        *("ignore_value", "modality", "tumour_values", "touches", "digest", "remarks"),
        *("model", "strategy", "round", "start", "annotator", "device", "precision"),
        *("metric", "first", "second", "cost", "part", "other", "table", "row", "column", "quantity"),
    )
)
"""The columns that hold text, also where it looks like numbers. All others hold numbers, or True and False."""

OLD_NAMES = {f"liver{rest}": f"structure{rest}" for rest in ("", "_slices", "_ml", "_hu", "_found")}
"""What columns were called before version 0.2, and what they are called now."""


def read_table(path: str | Path, columns: Collection[str] = (), comment: str | None = None) -> pd.DataFrame:
    """Read a table of a run: comma-separated where `path` ends in .csv, else tab-separated.

    columns: those that it must have. comment: what lines begin with that are left out. Raises UserError where a column
    is missing, or the file is no table.
    """
    layout: dict[str, Any] = {"sep": "," if Path(path).suffix == ".csv" else "\t", "comment": comment}
    try:
        names = list(pd.read_csv(path, **layout, nrows=0))
        table = pd.read_csv(
            path,
            **layout,
            dtype={name: str for name in names if name in TEXT},
            keep_default_na=False,
            na_values={name: [""] for name in names if name not in TEXT},
        )
    except ValueError as error:  # an empty file, rows of different lengths, or no UTF-8
        raise UserError(f"{path}: cannot be read as a table ({one_line(error)})") from error
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes what is beyond the header for names of rows
        raise UserError(f"{path}: cannot be read as a table (its rows have more cells than its header)")
    table = table.rename(columns=OLD_NAMES)
    missing = [name for name in columns if name not in table]
    if missing:
        raise UserError(f"{path}: has no column {', '.join(missing)}; its columns are {', '.join(table)}")
    return table


def read_cells(path: str | Path) -> pd.DataFrame:
    """Read a table that may be edited by hand, or must come out as it went in: every cell as text; see `read_table`."""
    try:
        return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False)
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a table; save it as tab-separated UTF-8 text") from error


def write_table(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table as tab-separated text, by rename; floats keep all their digits."""
    with replacing(path) as temporary:
        table.to_csv(temporary, sep="\t", index=False)


def joined(tables: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    """Return the tables of a shard's volumes as one; an empty one with `columns` where all of them are faulty."""
    return pd.concat(tables) if tables else pd.DataFrame(columns=list(columns))
