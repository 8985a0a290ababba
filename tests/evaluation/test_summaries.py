"""Laws of the records: what they count is what the ledgers say."""

from pools import make_pool, run
from slicesampling.evaluation.summaries import annotation_counts


def test_counts_are_those_of_table_2() -> None:
    pool = make_pool(5)
    ledger = run(pool, "uss", 4, 1)[-1]
    patients = {volume: f"p{int(volume[1:]) // 2}" for volume in pool["volume"].unique()}
    for row in annotation_counts(ledger, patients, range(4)):
        state = [entry for entry in ledger.itertuples() if entry.iteration <= row["iteration"]]
        assert row["slices"] == len(state)
        assert row["structure_slices"] == sum(entry.structure for entry in state)
        assert row["patients"] == len({patients[entry.volume] for entry in state})
