"""Tables as tab-separated text: ids stay text, floats keep all their digits."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from .files import replacing


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a table that has a `volume` column (ledger, query, reference or uncertainty), ids as text."""
    return pd.read_csv(path, sep="\t", dtype={"volume": str})


def write_table(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table as TSV, by rename; floats keep all their digits."""
    with replacing(path) as temporary:
        table.to_csv(temporary, sep="\t", index=False)


def joined(tables: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    """Return the tables of a shard's volumes as one; an empty one with `columns` where all of them are faulty."""
    return pd.concat(tables) if tables else pd.DataFrame(columns=list(columns))
