"""The run's own records, put into the tables that statistics, tables and figures are made from."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


def model_columns(model: str, last: int) -> dict[str, Any]:
    """Return what a model's name says: model, strategy, iteration, converged.

    Names are `initial`, `uss-3`, `uss-5-converged`, `pool-converged`; the data pool counts as of iteration `last`.
    """
    parts = model.removesuffix("-converged").split("-")
    iteration = int(parts[1]) if len(parts) > 1 else {"initial": 0, "pool": last}[parts[0]]
    return {
        "model": model,
        "strategy": parts[0],
        "iteration": iteration,
        "converged": model.endswith("-converged"),
    }


def ledger_columns(path: Path) -> dict[str, Any]:
    """Return what the path of a ledger, such as seed1/uss-5.tsv or seed1/pool.tsv, says: seed and strategy."""
    return {"seed": int(path.parent.name.removeprefix("seed")), "strategy": path.stem.split("-")[0]}


def training_row(history: pd.DataFrame) -> dict[str, Any]:
    """Return the step whose state was chosen for the model, the steps in all, and on what device and in what precision,
    several where a training went on elsewhere."""
    (best,) = history.loc[history["chosen"], "step"]
    computed = {name: " + ".join(history[name].astype(str).unique()) for name in ("device", "precision")}
    return {"best_step": int(best), "steps": int(history["step"].iloc[-1]), **computed}


def annotation_counts(
    ledger: pd.DataFrame, patients: dict[str, str], iterations: Iterable[int]
) -> list[dict[str, int]]:
    """Return for each iteration the annotated slices, those with liver, and the patients they come from (Table 2)."""
    rows = []
    for iteration in iterations:
        state = ledger[ledger["iteration"] <= iteration]
        rows.append(
            {
                "iteration": iteration,
                "slices": len(state),
                "liver_slices": int(np.sum(state["liver"])),
                "patients": int(state["volume"].map(patients).nunique()),
            }
        )
    return rows
