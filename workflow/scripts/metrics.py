"""Join the metrics of all models and test volumes with the cohort table; collect the limit of the grid and the
calibration counts."""

from pathlib import Path

import pandas as pd
from slicesampling.domain.records import read_table, write_table
from slicesampling.evaluation.metrics import SegmentationMetrics
from slicesampling.evaluation.summaries import model_columns
from slicesampling.jobs.job import start

start(snakemake)


def of_all_models(paths: list[str]) -> pd.DataFrame:
    """Return the rows of all shards, with the columns of the model that the paths name."""
    return pd.concat(
        read_table(path).assign(**model_columns(Path(path).parent, snakemake.params.last)) for path in paths
    )


cohort = read_table(snakemake.input.cohort)
limits = [read_table(path) for path in snakemake.input.grid_limit]
limit = pd.concat(limits) if limits else pd.DataFrame(columns=["volume", *SegmentationMetrics._fields])
write_table(snakemake.output.grid_limit, limit.sort_values("volume", ignore_index=True))
metrics = of_all_models(snakemake.input.shards).merge(cohort[["volume", "patient", "site", "hard_case"]], on="volume")
training = read_table(snakemake.input.training)[["seed", "model", "device", "precision"]]
metrics = metrics.merge(training, on=["seed", "model"], validate="m:1")
columns = ["seed", "model", "strategy", "iteration", "converged", "volume", "patient", "site", "hard_case"]
metrics = metrics.sort_values(["seed", "converged", "strategy", "iteration", "volume"], ignore_index=True)
write_table(snakemake.output.metrics, metrics[columns + [name for name in metrics if name not in columns]])
# Sorted independently of the shards, so that the sums are the same to the last bit.
counts = of_all_models(snakemake.input.calibration).sort_values(["seed", "model", "volume", "bin"])
bins = counts.groupby([*columns[:5], "bin"], as_index=False)[["voxels", "probability", "structure"]].sum()
write_table(snakemake.output.calibration, bins)
