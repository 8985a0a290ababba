"""List all segmented volumes, the most uncertain first."""

import pandas as pd
from slicesampling.jobs.job import start
from slicesampling.jobs.tsv import read_table, write_table

start(snakemake)
scores = pd.concat([read_table(path) for path in snakemake.input.scores])
cohort = pd.read_csv(snakemake.input.cohort, sep="\t", dtype=str, keep_default_na=False)
table = scores.merge(cohort[["volume", "site", "split"]], on="volume", validate="1:1")
write_table(snakemake.output[0], table.sort_values(["uncertainty", "volume"], ascending=[False, True]))
