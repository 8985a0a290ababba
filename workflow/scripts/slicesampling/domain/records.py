"""The records of a run: the columns of its tables, their meaning, and the functions that read and write them.

A column has the same meaning in all tables. Names of volumes, patients and sites are always text: `NA`, `007` and `1e5`
are names. An empty cell is an empty text, or a missing number; nothing else is missing.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from .. import UserError, one_line
from ..jobs.files import replacing

REFERENCE = ("volume", "slice", "structure")
"""A row for each slice of the data pool; slice: z index on the preprocessed grid; structure: 1 if the slice holds the
structure, 0 if not, missing if it is not annotated."""

LEDGER = ("volume", "slice", "iteration", "structure")
"""The annotated slices; iteration: 0 for the initial set. Rows are only added: the rows with iteration ≤ k are the
annotated set after iteration k."""

QUERY = ("volume", "slice", "score", "rank")
"""The slices that a strategy asks for; rank: from 0, the order of annotation."""

WORK_LIST = ("volume", "slice", "rank", "score", "start", "people")
"""A query for people; start: "proposal" or "empty"; people: the number of annotators of the slice, 1 or 2."""

CLOSED = ("round", "volume", "slice", "structure", "record")
"""The slices that people had annotated when a round was closed; round: of the slice's first answer; structure: missing
if the answer is inconclusive; record: the index in the log of the valid answer."""

SEGMENTED = ("volume", "uncertainty", "structure_ml", "most_uncertain_slice")
"""The scores of each volume that a model has segmented for people."""

ANNOTATED = ("slices", "structure_slices", "patients")
"""Counts of an annotated set: slices, slices that hold the structure, and patients."""

TEXT = frozenset(
    (
        *("volume", "patient", "site", "split", "image", "label", "exclude", "hard_case", "liver_values"),
        *("ignore_value", "modality", "tumour_values", "touches", "digest", "remarks"),
        *("model", "strategy", "round", "start", "annotator", "device", "precision"),
        *("metric", "first", "second", "cost", "part", "other", "table", "row", "column", "quantity"),
    )
)
"""The columns that are read as text, even if it looks like numbers. All others hold numbers, or True and False."""

OLD_NAMES = {f"liver{rest}": f"structure{rest}" for rest in ("", "_slices", "_ml", "_hu", "_found")}
"""The new name of each column by its name before version 0.2."""


def read_table(path: str | Path, columns: Collection[str] = (), comment: str | None = None) -> pd.DataFrame:
    """Read a table of a run: comma-separated where `path` ends in .csv, else tab-separated.

    columns: the required columns. comment: the prefix of lines to skip. Raise UserError if a column is missing, or the
    file is not a table.
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
    except ValueError as error:  # an empty file, rows of different lengths, or not UTF-8
        raise UserError(f"{path}: cannot be read as a table ({one_line(error)})") from error
    if not isinstance(table.index, pd.RangeIndex):  # pandas uses surplus cells as row names
        raise UserError(f"{path}: cannot be read as a table (its rows have more cells than its header)")
    table = table.rename(columns=OLD_NAMES)
    missing = [name for name in columns if name not in table]
    if missing:
        raise UserError(f"{path}: has no column {', '.join(missing)}; its columns are {', '.join(table)}")
    return table


def read_cells(path: str | Path) -> pd.DataFrame:
    """Read a table with every cell as text: one that people edit, or that must be written back unchanged."""
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
    """Concatenate the tables of a shard's volumes; return an empty table with `columns` if there is none."""
    return pd.concat(tables) if tables else pd.DataFrame(columns=list(columns))
