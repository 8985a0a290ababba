"""Summarise the findings of the run in words."""

from pathlib import Path

from slicesampling.domain.records import read_table
from slicesampling.jobs.files import write_text
from slicesampling.jobs.job import start
from slicesampling.publication.overview import overview

start(snakemake)
records = {name: read_table(path) for name, path in snakemake.input.items() if name != "picture"}
picture = Path(snakemake.input.picture).read_bytes()
write_text(
    snakemake.output[0],
    overview(**records, picture=picture, synthetic=snakemake.params.synthetic, titles=snakemake.params.titles),
)
