"""Answer a query from the reference masks."""

from pathlib import Path

from slicesampling.answers.annotators import annotate
from slicesampling.jobs.job import start
from slicesampling.jobs.tsv import read_table, write_table

start(snakemake)
budget = int(Path(snakemake.input.budget).read_text()) if snakemake.input.budget else None
ledger, query, reference = (read_table(snakemake.input[name]) for name in ("ledger", "query", "reference"))
iteration = int(snakemake.wildcards.iteration)
write_table(snakemake.output[0], annotate(ledger, query, reference, iteration, liver_slices=budget))
