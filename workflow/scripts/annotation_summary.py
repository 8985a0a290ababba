"""Count annotated slices, liver slices and patients over the iterations."""

from pathlib import Path

import pandas as pd
from slicesampling.evaluation.records import annotation_counts
from slicesampling.jobs.job import start
from slicesampling.jobs.tsv import read_table, write_table

start(snakemake)
cohort = pd.read_csv(snakemake.input.cohort, sep="\t", dtype=str)
patients = dict(zip(cohort["volume"], cohort["patient"], strict=True))
rows = []
for path in map(Path, snakemake.input.ledgers):
    ledger, strategy = read_table(path), path.stem.split("-")[0]
    iterations = range(1 if strategy == "pool" else snakemake.params.last + 1)
    names = {"seed": int(path.parent.name.removeprefix("seed")), "strategy": strategy}
    rows += [{**names, **counts} for counts in annotation_counts(ledger, patients, iterations)]
write_table(snakemake.output[0], pd.DataFrame(rows))
