"""Find out of what each annotated set consists after the last iteration, against the data pool."""

from pathlib import Path

import pandas as pd
from slicesampling.evaluation.composition import composition
from slicesampling.evaluation.records import ledger_columns
from slicesampling.jobs.job import start
from slicesampling.jobs.tsv import read_table, write_table

start(snakemake)
cohort = pd.read_csv(snakemake.input.cohort, sep="\t", dtype=str, keep_default_na=False)
ledgers = [read_table(path).assign(**ledger_columns(path)) for path in map(Path, snakemake.input.ledgers)]
write_table(snakemake.output[0], composition(pd.concat(ledgers), read_table(snakemake.input.reference), cohort))
