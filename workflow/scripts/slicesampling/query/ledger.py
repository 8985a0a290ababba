"""Functions of the ledger of an annotated set; its columns are `domain.records.LEDGER`."""

import numpy as np
import pandas as pd


def slice_budget(volume_ledger: pd.DataFrame, time_ratio: float) -> int:
    """Return N_S: the mean number of liver slices that UVS adds per iteration, divided by `time_ratio` (section IV-A).

    Contouring N slices of one volume takes as long as N / `time_ratio` slices of different volumes (paper: 3).
    """
    added = volume_ledger[volume_ledger["iteration"] > 0].groupby("iteration")["structure"].sum()
    return max(1, round(float(added.mean()) / time_ratio))


def annotated_slices(ledger: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the annotated slice indices of each volume, ascending; volumes in alphabetical order."""
    return {volume: np.sort(rows["slice"].to_numpy()) for volume, rows in ledger.groupby("volume")}
