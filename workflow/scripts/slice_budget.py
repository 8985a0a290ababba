"""Write how many slices the slice strategies add in an iteration."""

from slicesampling.domain.records import read_table
from slicesampling.jobs.files import write_text
from slicesampling.jobs.job import start
from slicesampling.query.ledger import slice_budget

start(snakemake)
budget = snakemake.params.slices
if budget == "auto":
    budget = slice_budget(read_table(snakemake.input[0]), snakemake.params.ratio)
write_text(snakemake.output[0], f"{budget}\n")
