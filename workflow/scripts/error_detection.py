"""Compare the uncertainty of the models that queries asked with their errors."""

import functools
from pathlib import Path

import pandas as pd
from slicesampling.evaluation.error_detection import SCORES, error_detection
from slicesampling.jobs.job import start
from slicesampling.jobs.tsv import read_table, write_table

start(snakemake)
wanted = ["volume", "slice", "wrong_voxels", *SCORES]
ledgers = {(path.parent.name, path.stem.split("-")[0]): read_table(path) for path in map(Path, snakemake.input.ledgers)}


@functools.lru_cache(maxsize=1)  # all strategies begin with the initial model
def scored(seed: str, model: str) -> pd.DataFrame | None:
    """Return the slices of all shards as the model scores them; nothing where its uncertainty is not computed."""
    shards = sorted(path for path in map(Path, snakemake.input.slices) if path.parent.parts[-2:] == (seed, model))
    return pd.concat([read_table(path)[wanted] for path in shards], ignore_index=True) if shards else None


rows = []
for iteration in range(1, snakemake.params.last + 1):
    for (seed, strategy), ledger in ledgers.items():
        model = "initial" if iteration == 1 else f"{strategy}-{iteration - 1}"
        slices = scored(seed, model)
        if slices is not None:
            names = {"seed": int(seed.removeprefix("seed")), "strategy": strategy, "iteration": iteration}
            rows.append({**names, "model": model, **error_detection(slices, ledger, iteration)})
write_table(snakemake.output[0], pd.DataFrame(rows).sort_values(["seed", "strategy", "iteration"]))
