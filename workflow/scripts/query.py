"""Let a strategy choose what is to be annotated next."""

from pathlib import Path

import pandas as pd
from slicesampling.annotation.strategies import Strategy
from slicesampling.jobs.job import start
from slicesampling.jobs.randomness import generator
from slicesampling.jobs.tsv import read_table, write_table

start(snakemake)
wildcards, params = snakemake.wildcards, snakemake.params
strategy = Strategy(**params.strategy)
pool = read_table(snakemake.input.reference)[["volume", "slice"]]  # the answers stay hidden
if strategy.uncertain:
    unit = ["volume", "slice"] if strategy.slices else ["volume"]
    scores = pd.concat([read_table(path) for path in snakemake.input.scores])[[*unit, strategy.column]]
    pool = pool.merge(scores.rename(columns={strategy.column: "score"}), on=unit, validate="m:1")
budget = int(Path(snakemake.input.budget).read_text()) if strategy.slices else params.volumes
random = generator(int(wildcards.seed), wildcards.strategy, int(wildcards.iteration), "query")
query = strategy.choose(pool, read_table(snakemake.input.ledger), budget, random, params.candidate_distance)
write_table(snakemake.output[0], query)
