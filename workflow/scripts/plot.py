"""Draw a figure from tables of results alone."""

from pathlib import Path

from slicesampling.domain.records import read_table
from slicesampling.jobs.job import start
from slicesampling.publication.contents import made
from slicesampling.publication.style import save_figure

start(snakemake)
records = {name: read_table(path) for name, path in snakemake.input.items()}
save_figure(made(snakemake.wildcards.plot, records), Path(snakemake.output[0]).with_suffix(""))
