"""Laws of the features' files: every slice gets its own row back, from whichever file, in whichever order."""

from pathlib import Path

import numpy as np
import pandas as pd
from slicesampling.query.features import read_features, write_features


def test_each_slice_gets_its_row(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    features = {
        name: random.random((count, 3), dtype=np.float32) for name, count in (("file", 4), ("b c", 2), ("d", 5))
    }
    write_features(tmp_path / "one.npz", {"file": features["file"], "d": features["d"]})
    write_features(tmp_path / "two.npz", {"b c": features["b c"]})
    write_features(tmp_path / "none.npz", {})
    slices = pd.DataFrame([(name, index) for name, rows in features.items() for index in range(len(rows))])
    slices = slices.set_axis(["volume", "slice"], axis=1).sample(frac=1, random_state=1)
    found = read_features(sorted(tmp_path.glob("*.npz")), slices)
    for row, (name, index) in zip(found, slices.itertuples(index=False), strict=True):
        assert (row == features[name][index]).all()
    assert found.dtype == np.float32
