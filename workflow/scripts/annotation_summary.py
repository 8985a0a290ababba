"""Count annotated slices, liver slices and patients over the iterations."""

import pandas as pd
from slicesampling.domain.models import POOL
from slicesampling.domain.records import read_table, write_table
from slicesampling.evaluation.summaries import annotation_counts, ledger_columns
from slicesampling.jobs.job import start

start(snakemake)
cohort = read_table(snakemake.input.cohort)
patients = dict(zip(cohort["volume"], cohort["patient"], strict=True))
rows = []
for path in snakemake.input.ledgers:
    names = ledger_columns(path)
    iterations = range(1 if names["strategy"] == POOL else snakemake.params.last + 1)
    rows += [{**names, **counts} for counts in annotation_counts(read_table(path), patients, iterations)]
write_table(snakemake.output[0], pd.DataFrame(rows))
