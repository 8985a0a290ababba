"""The candidate slices of uncertainty slice sampling (section II-D)."""

from collections.abc import Iterable

import numpy as np
import pandas as pd


def slice_candidates(profile: np.ndarray, distance: int = 5, annotated: Iterable[int] = ()) -> np.ndarray:
    """Return the candidate slices of uncertainty slice sampling, in ascending order (Fig. 2).

    They are the local maxima of the slice-level uncertainty profile (z,) that are at least `distance` slices apart,
    where a larger maximum displaces a smaller one, without those already `annotated`. End slices are never candidates.
    """
    import scipy.signal  # the import takes a second, and only a query needs it

    peaks, _ = scipy.signal.find_peaks(np.asarray(profile, dtype=np.float64), distance=distance)
    return np.setdiff1d(peaks, np.fromiter(annotated, dtype=np.intp))


def mark_candidates(slices: pd.DataFrame, score: str, distance: int = 5) -> pd.Series:
    """Return for each row of (volume, slice, `score`) whether it is a candidate (see `slice_candidates`)."""
    candidate = pd.Series(False, index=slices.index)
    for _, rows in slices.sort_values("slice").groupby("volume"):
        candidate[rows.index[slice_candidates(rows[score].to_numpy(), distance)]] = True
    return candidate
