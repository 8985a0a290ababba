"""Collect the slices of the data pool and whether they hold liver."""

import pandas as pd
from slicesampling.annotation.ledger import read_ledger, write_ledger
from slicesampling.jobs.job import start

start(snakemake)
slices = pd.concat([read_ledger(path) for path in snakemake.input])
pool = slices[slices["volume"].isin(snakemake.params.pool)]
write_ledger(snakemake.output[0], pool.sort_values(["volume", "slice"]))
