"""Compare the uncertainty of the models that queries asked with their errors."""

import functools
from pathlib import Path

import pandas as pd
from slicesampling.evaluation.error_detection import SCORES, WRONG, error_detection
from slicesampling.evaluation.records import ledger_columns
from slicesampling.jobs.job import start
from slicesampling.jobs.tsv import read_table, write_table

start(snakemake)
wanted = ["volume", "slice", WRONG, *SCORES]
ledgers = [(path, read_table(path)) for path in map(Path, snakemake.input.ledgers)]


@functools.lru_cache(maxsize=1)  # all strategies begin with the initial model
def scored(seed: str, model: str) -> pd.DataFrame | None:
    """Return the slices of all shards as the model scores them; nothing where its uncertainty is not computed."""
    shards = sorted(path for path in map(Path, snakemake.input.slices) if path.parent.parts[-2:] == (seed, model))
    return pd.concat([read_table(path)[wanted] for path in shards], ignore_index=True) if shards else None


rows = []
for iteration in range(1, snakemake.params.last + 1):
    for path, ledger in ledgers:
        names = ledger_columns(path)
        model = "initial" if iteration == 1 else f"{names['strategy']}-{iteration - 1}"
        slices = scored(path.parent.name, model)
        if slices is not None:
            names |= {"iteration": iteration, "model": model}
            rows.append({**names, **error_detection(slices, ledger, iteration)})
write_table(snakemake.output[0], pd.DataFrame(rows).sort_values(["seed", "strategy", "iteration"]))
