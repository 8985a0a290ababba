"""Conversion of a run's records to the input of statistics, tables and figures."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..domain.models import POOL, seed_and_model


def model_columns(path: str | Path, last: int) -> dict[str, Any]:
    """Return the seed, model, strategy, iteration and converged of the path of a model's folder.

    The model of the data pool gets the iteration `last`.
    """
    seed, model = seed_and_model(path)
    iteration = last if model.strategy == POOL else model.iteration
    return {"seed": seed, "model": str(model), **model._asdict(), "iteration": iteration}


def ledger_columns(path: str | Path) -> dict[str, Any]:
    """Return the seed and strategy of the path of a ledger, such as seed1/uss-5.tsv or seed1/pool.tsv."""
    seed, model = seed_and_model(path)
    return {"seed": seed, "strategy": model.strategy}


def training_row(history: pd.DataFrame) -> dict[str, Any]:
    """Return the step of the chosen state, the number of steps, the device and the precision of a training.

    Several devices or precisions are joined by " + ".
    """
    (best,) = history.loc[history["chosen"], "step"]
    computed = {name: " + ".join(history[name].astype(str).unique()) for name in ("device", "precision")}
    return {"best_step": int(best), "steps": int(history["step"].iloc[-1]), **computed}


def annotation_counts(
    ledger: pd.DataFrame, patients: dict[str, str], iterations: Iterable[int]
) -> list[dict[str, int]]:
    """Return the numbers of annotated slices, slices with liver, and patients in each iteration (Table 2)."""
    rows = []
    for iteration in iterations:
        state = ledger[ledger["iteration"] <= iteration]
        rows.append(
            {
                "iteration": iteration,
                "slices": len(state),
                "structure_slices": int(np.sum(state["structure"])),
                "patients": int(state["volume"].map(patients).nunique()),
            }
        )
    return rows
