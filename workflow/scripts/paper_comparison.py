"""Show tables 2 to 9 of this run beside those of the paper."""

from slicesampling.domain.records import read_table
from slicesampling.jobs.files import write_text
from slicesampling.jobs.job import start
from slicesampling.publication.tables import paper_comparison

start(snakemake)
records = {name: read_table(path) for name, path in snakemake.input.items()}
write_text(snakemake.output[0], paper_comparison(**records))
