"""List all segmented volumes, the most uncertain first."""

import pandas as pd
from slicesampling.domain.records import read_table, write_table
from slicesampling.jobs.job import start

start(snakemake)
scores = pd.concat([read_table(path) for path in snakemake.input.scores])
cohort = read_table(snakemake.input.cohort)
table = scores.merge(cohort[["volume", "site", "split"]], on="volume", validate="1:1")
write_table(snakemake.output[0], table.sort_values(["uncertainty", "volume"], ascending=[False, True]))
