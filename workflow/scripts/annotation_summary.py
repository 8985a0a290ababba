"""Count annotated slices, liver slices and patients over the iterations."""

from pathlib import Path

import pandas as pd
from slicesampling.evaluation.records import annotation_counts, ledger_columns
from slicesampling.jobs.job import start
from slicesampling.jobs.tsv import read_table, write_table

start(snakemake)
cohort = pd.read_csv(snakemake.input.cohort, sep="\t", dtype=str)
patients = dict(zip(cohort["volume"], cohort["patient"], strict=True))
rows = []
for path in map(Path, snakemake.input.ledgers):
    names = ledger_columns(path)
    iterations = range(1 if names["strategy"] == "pool" else snakemake.params.last + 1)
    rows += [{**names, **counts} for counts in annotation_counts(read_table(path), patients, iterations)]
write_table(snakemake.output[0], pd.DataFrame(rows))
