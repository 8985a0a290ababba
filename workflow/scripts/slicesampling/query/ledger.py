"""The ledger of what is annotated: which slice, when, and whether it holds liver.

A ledger is a table of (volume, slice, iteration, liver): `slice` is the z index on the preprocessed grid, `iteration`
is 0 for the initial set, `liver` is 0 or 1. It only grows: the state after iteration k is its rows with iteration ≤ k.
"""

import numpy as np
import pandas as pd

LEDGER = ["volume", "slice", "iteration", "liver"]


def slice_budget(volume_ledger: pd.DataFrame, time_ratio: float) -> int:
    """Return N_S: the mean count of liver slices an iteration of UVS added, divided by `time_ratio` (section IV-A).

    Contouring N slices of one volume takes the time of N / `time_ratio` (the paper: 3) slices of different volumes.
    """
    added = volume_ledger[volume_ledger["iteration"] > 0].groupby("iteration")["liver"].sum()
    return max(1, round(float(added.mean()) / time_ratio))


def annotated_slices(ledger: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the annotated slice indices of each volume, ascending; volumes in alphabetical order."""
    return {volume: np.sort(rows["slice"].to_numpy()) for volume, rows in ledger.groupby("volume")}
