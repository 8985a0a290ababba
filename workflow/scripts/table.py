"""Make a table, of the paper or beyond it, from the run's records."""

from pathlib import Path

from slicesampling.domain.records import read_table
from slicesampling.jobs.job import start
from slicesampling.publication.contents import made
from slicesampling.publication.layout import with_strategies, write_files

start(snakemake)
records = {name: read_table(path) for name, path in snakemake.input.items()}
table = made(snakemake.wildcards.table, records, snakemake.params.arguments)
write_files(with_strategies(table, snakemake.params.titles), Path(snakemake.output[0]).with_suffix(""))
