"""The ledger of what is annotated: which slice, when, and whether it holds liver.

A ledger is a table of (volume, slice, iteration, liver): `slice` is the z index on the preprocessed grid, `iteration`
is 0 for the initial set, `liver` is 0 or 1. It only grows: the state after iteration k is its rows with iteration ≤ k.
"""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from .. import UserError
from ..jobs.files import replacing

logger = logging.getLogger(__name__)

LEDGER = ["volume", "slice", "iteration", "liver"]


def read_ledger(path: str | Path) -> pd.DataFrame:
    """Read a table that has a `volume` column (ledger, query, reference or uncertainty), ids as text."""
    return pd.read_csv(path, sep="\t", dtype={"volume": str})


def write_ledger(path: str | Path, table: pd.DataFrame) -> None:
    """Write a ledger, query or score table as TSV, by rename; floats keep all their digits."""
    with replacing(path) as temporary:
        table.to_csv(temporary, sep="\t", index=False)


def joined(tables: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    """Return the tables of a shard's volumes as one; an empty one with `columns` where all of them are faulty."""
    return pd.concat(tables) if tables else pd.DataFrame(columns=list(columns))


def annotate_volumes(reference: pd.DataFrame, volumes: Iterable[str]) -> pd.DataFrame:
    """Return the ledger in which all slices of `volumes` are annotated before the first iteration.

    reference: (volume, slice, liver), a row for each slice of the data pool: what the simulated annotator sees.
    """
    rows = reference[reference["volume"].isin(list(volumes))].assign(iteration=0)
    return rows[LEDGER].sort_values(["volume", "slice"], ignore_index=True)


def annotate(
    ledger: pd.DataFrame,
    query: pd.DataFrame,
    reference: pd.DataFrame,
    iteration: int,
    liver_slices: int | None = None,
) -> pd.DataFrame:
    """Answer a query from the reference masks, as the paper's simulated annotator, and return the longer ledger.

    The annotator works through `query` (volume, slice, rank) in the order of the ranks; with `liver_slices`, until so
    many slices that hold liver have been annotated (random slice sampling). Raises UserError where the query holds a
    slice twice, one that is annotated already, or one that is not in the data pool.
    """
    asked = query.sort_values(["rank", "volume", "slice"], kind="stable")[["volume", "slice"]]
    again = pd.concat([ledger[["volume", "slice"]], asked]).duplicated()
    if again.any():
        volume, index = pd.concat([ledger[["volume", "slice"]], asked])[again].iloc[0]
        raise UserError(f"query: slice {index} of volume {volume} is asked for twice or annotated already")
    answered = asked.merge(reference, how="left", on=["volume", "slice"], sort=False)
    unknown = answered[answered["liver"].isna()]
    if len(unknown):
        volume, index = unknown.iloc[0][["volume", "slice"]]
        raise UserError(f"query: slice {index} of volume {volume} is not in the data pool")
    if liver_slices is not None:
        seen = answered["liver"].cumsum()
        answered = answered[seen.shift(fill_value=0) < liver_slices]
        if answered["liver"].sum() < liver_slices:
            logger.warning("only %d slices with liver were left, %d wanted", answered["liver"].sum(), liver_slices)
    answered = answered.assign(iteration=iteration, liver=answered["liver"].astype(int))
    return pd.concat([ledger, answered[LEDGER]], ignore_index=True)


def slice_budget(volume_ledger: pd.DataFrame, time_ratio: float) -> int:
    """Return N_S: the mean count of liver slices an iteration of UVS added, divided by `time_ratio` (section IV-A).

    Contouring N slices of one volume takes the time of N / `time_ratio` (the paper: 3) slices of different volumes.
    """
    added = volume_ledger[volume_ledger["iteration"] > 0].groupby("iteration")["liver"].sum()
    return max(1, round(float(added.mean()) / time_ratio))


def annotated_slices(ledger: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the annotated slice indices of each volume, ascending; volumes in alphabetical order."""
    return {volume: np.sort(rows["slice"].to_numpy()) for volume, rows in ledger.groupby("volume")}
