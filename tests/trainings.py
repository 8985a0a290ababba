"""The metrics of simulated trainings with several seeds, in which the spread of each source is known."""

import numpy as np
import pandas as pd
from slicesampling.query.strategies import STRATEGIES


def simulated_metrics(
    strategies: tuple[str, ...] = tuple(STRATEGIES),
    seeds: int = 5,
    volumes: int = 20,
    iterations: int = 3,
    training: float = 0.01,
    noise: float = 0.01,
    better: dict[str, float] | None = None,
    first: dict[str, float] | None = None,
    difficulty: float = 0.03,
    random_seed: int = 0,
) -> pd.DataFrame:
    """Return a table of metrics whose Dice is 0.85, a case's difficulty, and what follows.

    difficulty, training, noise: standard deviations between cases, between trainings, which shifts all cases of a model
    alike, and of a case in a training; better: what a strategy's Dice has above that; first: the same in the first
    iteration, where it is another. Patients have two volumes each. Errors follow the Dice.
    """
    random = np.random.default_rng(random_seed)
    hard = random.normal(0, difficulty, volumes)
    models = [("initial", 0, False), *[(name, k, False) for name in strategies for k in range(1, iterations + 1)]]
    models += [*[(name, iterations, True) for name in strategies], ("pool", iterations, True)]
    tables = []
    for seed in range(1, seeds + 1):
        for strategy, iteration, converged in models:
            above = better if first is None or iteration != 1 else first
            shift = training * random.normal() + (above or {}).get(strategy, 0.0)
            dice = 0.85 + hard + shift + noise * random.normal(size=volumes)
            model = f"{strategy}-{iteration}" if strategy in strategies else strategy
            tables.append(
                pd.DataFrame(
                    {
                        "seed": seed,
                        "model": f"{model}-converged" if converged else model,
                        "strategy": strategy,
                        "iteration": iteration,
                        "converged": converged,
                        "volume": [f"v{number:02}" for number in range(volumes)],
                        "patient": [f"p{number // 2:02}" for number in range(volumes)],
                        "dice": dice,
                        "rve": 100 * (1 - dice),
                        "msd": 10 * (1 - dice),
                        "hd": 200 * (1 - dice),
                        "degenerate": False,
                        "device": "CPU",
                        "precision": "float32",
                    }
                )
            )
    return pd.concat(tables, ignore_index=True)


def simulated_annotations(
    strategies: tuple[str, ...] = tuple(STRATEGIES), seeds: int = 5, iterations: int = 3
) -> pd.DataFrame:
    """Return the annotated liver slices of the same trainings: 60 at first, 30 more in each iteration."""
    return pd.DataFrame(
        [
            {"seed": seed, "strategy": name, "iteration": iteration, "structure_slices": 60 + 30 * iteration}
            for seed in range(1, seeds + 1)
            for name in strategies
            for iteration in range(iterations + 1)
        ]
    )
