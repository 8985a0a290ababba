"""Let a strategy choose what to annotate next."""

from pathlib import Path

import pandas as pd
from slicesampling.answers.store import Answers
from slicesampling.domain.records import read_table, write_table
from slicesampling.jobs.job import start
from slicesampling.jobs.randomness import generator
from slicesampling.query.features import read_features
from slicesampling.query.strategies import Strategy

start(snakemake)
wildcards, params = snakemake.wildcards, snakemake.params
strategy = Strategy(**params.strategy)
pool = read_table(snakemake.input.reference)[["volume", "slice"]]  # a query does not see the reference
if strategy.columns:
    unit = ["volume", "slice"] if strategy.slices else ["volume"]
    seen = {column: name for name, column in strategy.columns.items()}
    known = pd.concat([read_table(path) for path in snakemake.input.scores])[[*unit, *seen]]
    pool = pool.merge(known.rename(columns=seen), on=unit, validate="m:1")
features = read_features(snakemake.input.features, pool) if strategy.how.features else None
budget = int(Path(snakemake.input.budget).read_text()) if strategy.slices else params.volumes
iteration = int(wildcards.iteration)
random = generator(int(wildcards.seed), wildcards.strategy, iteration, "query")
progress = (iteration - 1) / max(params.iterations - 1, 1) if strategy.scheduled else 0.0
ledger = read_table(snakemake.input.ledger)
if params.closed:  # slices marked as inconclusive are not asked for again
    ledger = pd.concat([ledger, Answers(params.answers).closed_table(params.closed)])
query = strategy.choose(pool, ledger, budget, random, params.candidate_distance, progress, features)
write_table(snakemake.output[0], query)
