"""Files of slice features, by which diversity rules choose."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..jobs.files import replacing

PREFIX = "volume "
"""Prefix of the names in an archive, because a bare volume name could equal an argument of numpy's."""


def write_features(path: str | Path, features: Mapping[str, np.ndarray]) -> None:
    """Write the features (slice, channel) of each volume as a compressed archive of arrays, by rename."""
    named: dict[str, Any] = {f"{PREFIX}{name}": rows for name, rows in features.items()}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **named)


def read_features(paths: Iterable[str | Path], slices: pd.DataFrame) -> np.ndarray:
    """Return the features (row, channel) of each row of `slices` (volume, slice), from what `write_features` wrote."""
    found: dict[str, np.ndarray] = {}
    for path in paths:
        with np.load(path, allow_pickle=False) as archive:
            found |= {name.removeprefix(PREFIX): archive[name] for name in archive.files}
    return np.stack([found[volume][index] for volume, index in zip(slices["volume"], slices["slice"], strict=True)])
