"""Let a strategy choose what is to be annotated next."""

from pathlib import Path

import pandas as pd
from slicesampling.annotation.candidates import mark_candidates
from slicesampling.annotation.strategies import STRATEGIES
from slicesampling.jobs.job import start
from slicesampling.jobs.randomness import generator
from slicesampling.jobs.tsv import read_table, write_table

start(snakemake)
wildcards, params, measure = snakemake.wildcards, snakemake.params, snakemake.params.measure
strategy = STRATEGIES[wildcards.strategy]
pool = read_table(snakemake.input.reference)[["volume", "slice"]]  # the answers stay hidden
if strategy.uncertain:
    slices = pd.concat([read_table(path) for path in snakemake.input.slices], ignore_index=True)
    volumes = pd.concat([read_table(path) for path in snakemake.input.volumes])
    slices["candidate"] = mark_candidates(slices, measure, params.candidate_distance)
    slices = slices.rename(columns={measure: "slice_score"})[["volume", "slice", "slice_score", "candidate"]]
    volumes = volumes.rename(columns={measure: "volume_score"})[["volume", "volume_score"]]
    pool = pool.merge(slices, on=["volume", "slice"], validate="1:1").merge(volumes, on="volume", validate="m:1")
budget = int(Path(snakemake.input.budget).read_text()) if strategy.slices else params.volumes
random = generator(int(wildcards.seed), wildcards.strategy, int(wildcards.iteration), "query")
query = strategy.choose(pool, read_table(snakemake.input.ledger), budget, random)
write_table(snakemake.output[0], query)
