"""A data pool with scores and answers, and a strategy run on it."""

import numpy as np
import pandas as pd
from slicesampling.answers.annotators import annotate, annotate_volumes
from slicesampling.jobs.randomness import generator
from slicesampling.query.candidates import mark_candidates
from slicesampling.query.strategies import STRATEGIES


def make_pool(seed: int, volumes: int = 9) -> pd.DataFrame:
    """A data pool with scores and the reference's answers: (volume, slice, liver, volume_score, slice_score, …)."""
    random = np.random.default_rng(seed)
    tables = []
    for number in range(volumes):
        count = int(random.integers(12, 40))
        first, last = np.sort(random.choice(count, 2, replace=False))
        tables.append(
            pd.DataFrame(
                {
                    "volume": f"v{number}",
                    "slice": range(count),
                    "structure": [int(first <= index <= last) for index in range(count)],
                    "volume_score": random.integers(0, 4) / 4,  # few values, so that ties occur
                    "slice_score": random.integers(0, 9, count) / 9,
                }
            )
        )
    pool = pd.concat(tables, ignore_index=True)
    pool["candidate"] = mark_candidates(pool, "slice_score")
    return pool


def run(pool: pd.DataFrame, name: str, budget: int, seed: int, iterations: int = 3) -> list[pd.DataFrame]:
    """The ledgers of an experiment with one strategy, from the initial one on."""
    reference, strategy = pool[["volume", "slice", "structure"]], STRATEGIES[name]
    ledgers = [annotate_volumes(reference, ["v0", "v3"])]
    hidden = pool[["volume", "slice"]].assign(score=pool["slice_score" if strategy.slices else "volume_score"])
    for iteration in range(1, iterations + 1):
        query = strategy.choose(hidden, ledgers[-1], budget, generator(seed, name, iteration, "query"))
        limit = budget if strategy.until_liver else None
        ledgers.append(annotate(ledgers[-1], query, reference, iteration, structure_slices=limit))
    return ledgers
