"""Answer a query from the reference masks."""

from pathlib import Path

from slicesampling.annotation.ledger import annotate, read_ledger, write_ledger
from slicesampling.jobs.job import start

start(snakemake)
budget = int(Path(snakemake.input.budget).read_text()) if snakemake.input.budget else None
ledger, query, reference = (read_ledger(snakemake.input[name]) for name in ("ledger", "query", "reference"))
iteration = int(snakemake.wildcards.iteration)
write_ledger(snakemake.output[0], annotate(ledger, query, reference, iteration, liver_slices=budget))
