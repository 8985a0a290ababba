"""Compare the uncertainty with the errors of each model that a query used."""

import functools
from pathlib import Path

import pandas as pd
from slicesampling.domain.models import Model, seed_and_model
from slicesampling.domain.records import read_table, write_table
from slicesampling.evaluation.error_detection import SCORES, WRONG, error_detection
from slicesampling.evaluation.summaries import ledger_columns
from slicesampling.jobs.job import start

start(snakemake)
wanted = ["volume", "slice", WRONG, *SCORES]
ledgers = {path: read_table(path) for path in snakemake.input.ledgers}


@functools.lru_cache(maxsize=1)  # all strategies begin with the initial model
def scored(seed: int, model: Model) -> pd.DataFrame | None:
    """Return the scores of the model for all slices of the pool; None if its uncertainty was not computed."""
    shards = sorted(path for path in map(Path, snakemake.input.slices) if seed_and_model(path.parent) == (seed, model))
    return pd.concat([read_table(path)[wanted] for path in shards], ignore_index=True) if shards else None


rows = []
for iteration in range(1, snakemake.params.last + 1):
    for path, ledger in ledgers.items():
        names = ledger_columns(path)
        model = Model(names["strategy"], iteration).previous
        slices = scored(names["seed"], model)
        if slices is not None:
            names |= {"iteration": iteration, "model": str(model)}
            rows.append({**names, **error_detection(slices, ledger, iteration)})
write_table(snakemake.output[0], pd.DataFrame(rows).sort_values(["seed", "strategy", "iteration"]))
