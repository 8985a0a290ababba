"""Collect the slices of the data pool, and whether each holds liver."""

import pandas as pd
from slicesampling.domain.records import read_table, write_table
from slicesampling.jobs.job import start

start(snakemake)
slices = pd.concat([read_table(path) for path in snakemake.input.shards])
pool = slices[slices["volume"].isin(snakemake.params.pool)]
write_table(snakemake.output[0], pool.sort_values(["volume", "slice"]))
