"""How often the 95 % intervals of the quantile regression (table 9) hold zero, in simulated runs without an effect.

Errors are log-normal: a part of the case (0.3), a part of the case's result in one training (0.5), and a shift of all
errors of a training. Two columns: the asymptotic intervals, and those of the bootstrap over patients and seeds.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

from slicesampling.evaluation.statistics import quantile_regression
from slicesampling.query.strategies import STRATEGIES

RUNS = 200
CASES = [(40, 1, 0.1), (120, 1, 0.1), (234, 1, 0.1), (40, 5, 0.1), (120, 5, 0.1)]


def simulated(random: np.random.Generator, patients: int, seeds: int, shift: float) -> pd.DataFrame:
    """Return the errors of one converged model a strategy and seed, in the table of metrics."""
    case = 0.3 * random.normal(size=patients)
    index = pd.MultiIndex.from_product([range(seeds), STRATEGIES], names=["seed", "strategy"])
    rows = [
        pd.DataFrame({"volume": range(patients), "patient": range(patients)}).assign(
            seed=seed,
            strategy=strategy,
            converged=True,
            hd=np.exp(case + 0.5 * random.normal(size=patients) + shift * random.normal()),
        )
        for seed, strategy in index
    ]
    return pd.concat(rows, ignore_index=True)


print("| patients | seeds | shift of a training | asymptotic | bootstrap over patients and seeds |")
print("|---:|---:|---:|---:|---:|")
for patients, seeds, shift in CASES:
    random = np.random.default_rng(1)
    held = np.zeros(2)
    for _ in range(RUNS):
        metrics = simulated(random, patients, seeds, shift)
        for column, drawn in enumerate([None, random][: 1 + (seeds > 1)]):
            effects = quantile_regression(metrics, "hd", 0.95, random=drawn).coefficients.iloc[1:]
            held[column] += ((effects["lower"] <= 0) & (effects["upper"] >= 0)).mean()
    shares = [f"{100 * share:.0f} %" for share in held / RUNS]
    other = shares[1] if seeds > 1 else "–"
    print(f"| {patients} | {seeds} | {100 * shift:.0f} % | {shares[0]} | {other} |", flush=True)
