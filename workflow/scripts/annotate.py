"""Answer a query from the reference masks."""

from pathlib import Path

from slicesampling.answers.annotators import annotate
from slicesampling.domain.records import read_table, write_table
from slicesampling.jobs.job import start

start(snakemake)
budget = int(Path(snakemake.input.budget).read_text()) if snakemake.input.budget else None
ledger, query, reference = (read_table(snakemake.input[name]) for name in ("ledger", "query", "reference"))
iteration = int(snakemake.wildcards.iteration)
write_table(snakemake.output[0], annotate(ledger, query, reference, iteration, structure_slices=budget))
