"""Laws of the ledger: the slice budget is the paper's, and a file changes nothing."""

import numpy as np
import pandas as pd
from pools import make_pool
from slicesampling.answers.annotators import annotate_volumes
from slicesampling.domain.records import read_table, write_table
from slicesampling.query.ledger import annotated_slices, slice_budget


def test_slice_budget_is_the_papers_arithmetic() -> None:
    """Table 2: UVS went from 501 to 3382 liver slices in five iterations, 576 each; 576 / 3 = 192."""
    liver = np.diff([501, 1045, 1537, 2224, 2761, 3382])
    ledger = pd.DataFrame({"iteration": np.repeat(np.arange(6), [501, *liver]), "structure": 1})
    assert slice_budget(ledger, 3) == 192


def test_ledgers_survive_the_file(tmp_path) -> None:
    ledger = annotate_volumes(make_pool(4).assign(volume=lambda t: t["volume"].str.replace("v", "00")), ["001", "002"])
    write_table(tmp_path / "ledger.tsv", ledger)
    pd.testing.assert_frame_equal(read_table(tmp_path / "ledger.tsv"), ledger)
    slices = annotated_slices(ledger)
    assert list(slices) == ["001", "002"]
    assert all((np.diff(indices) == 1).all() for indices in slices.values())
