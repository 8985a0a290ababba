"""Join the metrics of all models and test volumes with what the cohort table says of the volumes."""

from pathlib import Path

import pandas as pd
from slicesampling.annotations import read_ledger, write_ledger
from slicesampling.evaluation import model_columns
from slicesampling.job import start

start(snakemake)
tables = []
for path in map(Path, snakemake.input.shards):
    columns = model_columns(path.parent.name, snakemake.params.last)
    tables.append(read_ledger(path).assign(seed=int(path.parents[1].name.removeprefix("seed")), **columns))
cohort = pd.read_csv(snakemake.input.cohort, sep="\t", dtype=str, keep_default_na=False)
metrics = pd.concat(tables).merge(cohort[["volume", "patient", "site", "hard_case"]], on="volume")
first = ["seed", "model", "strategy", "iteration", "converged", "volume", "patient", "site", "hard_case"]
metrics = metrics.sort_values(["seed", "converged", "strategy", "iteration", "volume"], ignore_index=True)
write_ledger(snakemake.output[0], metrics[first + [name for name in metrics if name not in first]])
