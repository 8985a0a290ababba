"""Compare the composition of each annotated set after the last iteration with that of the data pool."""

import pandas as pd
from slicesampling.domain.records import read_table, write_table
from slicesampling.evaluation.composition import composition
from slicesampling.evaluation.summaries import ledger_columns
from slicesampling.jobs.job import start

start(snakemake)
cohort = read_table(snakemake.input.cohort)
ledgers = [read_table(path).assign(**ledger_columns(path)) for path in snakemake.input.ledgers]
write_table(snakemake.output[0], composition(pd.concat(ledgers), read_table(snakemake.input.reference), cohort))
