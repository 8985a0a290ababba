"""Estimate the cost of a run: jobs, hours and disk space of each stage, from a few measurements on this machine."""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import yaml

from . import UserError, plan_aunet, plan_nnunet
from .cohort.contents import preprocess_row
from .cohort.grids import resample_mask
from .cohort.volumes import VOXEL_BYTES, save_preprocessed
from .domain.models import INITIAL, POOL, Model
from .evaluation.metrics import segmentation_metrics
from .experiment import Experiment
from .learning.compute import Compute

NETWORKS: dict[str, ModuleType] = {"aunet": plan_aunet, "nnunet": plan_nnunet}
"""The module for each network.kind that measures its costs and lists its imports."""
IMPORTS = {
    "preprocess": "slicesampling.cohort.contents",
    "evaluate": "slicesampling.evaluation.metrics, slicesampling.cohort.volumes",
    "others": "slicesampling.publication.figures",
}
"""The imports of a job of each stage, which take most of its start-up time."""
STAGES = ("preprocess", "train", "uncertainty", "features", "predict", "evaluate", "others")


class NetworkCosts(Protocol):
    """Seconds of a network's work, without the start of jobs; volumes: a row (z, y, x) of sizes in voxels each."""

    @property
    def model_bytes(self) -> int:
        """The size of a model's file."""
        ...

    def training(self, models: Sequence[Model], pool: pd.DataFrame, val: pd.DataFrame) -> dict[Model, float]:
        """Return the seconds of each training; pool: with `structure`, the share of slices with liver."""
        ...

    def sampling(self, volumes: pd.DataFrame) -> float:
        """Return the seconds that the uncertainty of these volumes takes."""
        ...

    def features(self, volumes: pd.DataFrame) -> float: ...

    def prediction(self, volumes: pd.DataFrame) -> float: ...

    def rates(self) -> str:
        """Return the measured device and rates as text."""
        ...


class Measured(NamedTuple):
    """Measured costs: seconds to start a job of each stage; seconds of preprocessing and of evaluation, and bytes of a
    written mask, per native voxel; and the costs of the network."""

    starts: dict[str, float]
    preprocess: float
    evaluate: float
    mask_bytes: float
    network: NetworkCosts


def measure(config: dict[str, Any], compute: Compute, row: Mapping[str, str]) -> Measured:
    """Time each kind of work on one volume, a row of the cohort, with this configuration.

    Raise UserError for a kind of network without a module in `NETWORKS`.
    """
    kind = config["network"]["kind"]
    if kind not in NETWORKS:
        raise UserError(f"plan: network.kind is {kind}; accepted: {' or '.join(NETWORKS)}")
    elapsed: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = work()
        elapsed[name] = time.perf_counter() - started
        return result

    imports = IMPORTS | NETWORKS[kind].IMPORTS
    imports |= dict.fromkeys(("features", "predict"), imports["uncertainty"])
    for modules in set(imports.values()):
        command = [sys.executable, "-c", f"import {modules}"]
        timed(modules, lambda: subprocess.run(command, check=True, cwd=Path(__file__).parents[1]))  # noqa: B023

    with tempfile.TemporaryDirectory() as folder:

        def prepare() -> Any:
            volume = preprocess_row(row, config["preprocessing"])
            save_preprocessed(Path(folder) / "volume", volume)
            return volume

        volume = timed("preprocess", prepare)
        size = (Path(folder) / "volume/native_mask.nii.gz").stat().st_size
        moved = np.roll(volume.mask.astype(bool), 2, axis=(0, 1, 2))
        timed(
            "evaluate",
            lambda: segmentation_metrics(
                resample_mask(moved, volume.grid, volume.native_grid), volume.native_mask, volume.native_grid.spacing
            ),
        )
        native = volume.native_mask.size
        network = NETWORKS[kind].measure(config, compute, volume, "volume", Path(folder))
    return Measured(
        starts={stage: elapsed[imports[stage]] for stage in STAGES},
        preprocess=elapsed["preprocess"] / native,
        evaluate=elapsed["evaluate"] / native,
        mask_bytes=size / native,
        network=network,
    )


def preprocessed_shapes(volumes: pd.DataFrame, spacing: Sequence[float]) -> pd.DataFrame:
    """Return `z`, `y`, `x` of each volume on the common grid; the bounding box of an oblique one may be larger.

    volumes: rows of slices, rows, columns and spacing_z, spacing_y, spacing_x in mm.
    """
    sizes = {
        axis: np.floor(volumes[count] * volumes[f"spacing_{axis}"] / target + 0.5).clip(lower=1).astype(int)
        for axis, count, target in zip("zyx", ("slices", "rows", "columns"), spacing, strict=True)
    }
    return pd.DataFrame(sizes)


class Plan(NamedTuple):
    """A row for each stage (stage, jobs, device_hours, cpu_hours, disk_gib), and the hours of the longest chain of
    dependent jobs, a lower limit for any number of workers."""

    stages: pd.DataFrame
    longest_hours: float

    def wall_hours(self, workers: int) -> float:
        """Return a lower limit of the hours of a run with `workers` jobs at a time."""
        job_hours = self.stages["job_hours"].sum()
        return max(float(job_hours) / workers, self.longest_hours)


def planned_jobs(snakefile: str | Path, config: Mapping[str, Any], folder: str | Path) -> dict[str, int]:
    """Return the number of jobs of each rule for a complete run in `folder`, from a dry run of Snakemake."""
    with tempfile.TemporaryDirectory() as temporary:
        overlay = Path(temporary) / "config.yaml"
        overlay.write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--directory", str(folder)]
        command += ["--configfile", str(overlay), "--cores", "1", "--dry-run", "--forceall", "--quiet", "rules"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"plan: Snakemake cannot count the jobs: {done.stdout[-500:]}{done.stderr[-500:]}")
    said = done.stdout + done.stderr
    table = said[said.index("Job stats:") :].split("\n\n")[0]
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, flags=re.MULTILINE)}


def estimate(experiment: Experiment, measured: Measured, volumes: pd.DataFrame, jobs: Mapping[str, int]) -> Plan:
    """Return the estimated cost of the whole run.

    volumes: a row for each used volume, with its split and the measurements of `check_cohort`. jobs: the number of jobs
    of each rule, see `planned_jobs`; rules of no stage are counted as others.
    """
    config, models = experiment.config, experiment.models
    volumes = volumes.join(preprocessed_shapes(volumes, config["preprocessing"]["spacing"]))
    volumes = volumes.assign(
        structure=volumes["structure_slices"] / volumes["slices"],
        native=volumes["slices"] * volumes["rows"] * volumes["columns"],
        voxels=volumes["z"] * volumes["y"] * volumes["x"],
    )
    pool, val, test = (volumes[volumes["split"] == split] for split in ("pool", "val", "test"))
    counts = {stage: jobs.get(stage, 0) for stage in STAGES}
    counts["evaluate"] += jobs.get("grid_limit", 0)  # the same work
    counts["others"] = jobs.get("total", sum(jobs.values())) - sum(counts.values())
    seeds, network, starts = len(experiment.seeds), measured.network, measured.starts
    training = {name: starts["train"] + seconds for name, seconds in network.training(models, pool, val).items()}
    shards = {stage: min(config["shards"][stage], len(rows)) for stage, rows in (("uncertainty", pool), ("test", test))}
    work = {  # seconds of one job
        "preprocess": volumes["native"].sum() * measured.preprocess / counts["preprocess"],
        "uncertainty": network.sampling(pool) / shards["uncertainty"],
        "features": network.features(pool) / shards["uncertainty"],
        "predict": network.prediction(test) / shards["test"],
        "evaluate": test["native"].sum() * measured.evaluate / shards["test"],
        "train": sum(training.values()) / len(training) - starts["train"],
        "others": 0.0,
    }
    one = {stage: start + work[stage] for stage, start in starts.items()}
    disk = {
        "preprocess": volumes["voxels"].sum() * VOXEL_BYTES + volumes["native"].sum() * measured.mask_bytes,
        "train": counts["train"] * network.model_bytes,
        "predict": seeds * len(models) * test["voxels"].sum() * measured.mask_bytes,
    }
    on_device = pd.Series({stage: stage in ("train", "uncertainty", "features", "predict") for stage in one})
    hours = pd.Series({stage: one[stage] * counts[stage] / 3600 for stage in one})
    stages = pd.DataFrame(
        {
            "jobs": pd.Series(counts)[list(one)],
            "job_hours": hours,
            "device_hours": hours.where(on_device, 0.0),
            "cpu_hours": hours * np.where(on_device, config["compute"]["threads"], 1),
            "disk_gib": (pd.Series(disk) / 2**30).reindex(list(one), fill_value=0.0),
        }
    ).rename_axis("stage")

    def loop(strategy: str) -> float:
        """Return the seconds of a strategy's iterations, one after the other, without the initial model."""
        asks = experiment.strategies[strategy]
        waits = one["uncertainty"] * bool(asks.columns) + one["features"] * asks.how.features
        return sum(waits + training[Model(strategy, k)] for k in experiment.iterations)

    chains = [training[Model(POOL, converged=True)]]
    for end in experiment.ledgers:
        auto = config["slices_per_iteration"] == "auto" and experiment.strategies[end.strategy].slices
        before = training[Model(INITIAL)] + (loop("uvs") if auto else 0.0)
        chains.append(before + loop(end.strategy) + training[end._replace(converged=True)])
    return Plan(stages, (one["preprocess"] + max(chains) + one["predict"] + one["evaluate"]) / 3600)


def describe(plan: Plan, measured: Measured, workers: int) -> str:
    """Return the plan as a Markdown table, with the measurements that it is based on."""
    table = plan.stages.drop(columns="job_hours")
    table.loc["all"] = table.sum()
    table = table.astype({"jobs": int}).rename(
        columns={"device_hours": "device hours", "cpu_hours": "CPU hours", "disk_gib": "disk (GiB)"}
    )
    cells = table.map(lambda value: f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}")
    return (
        f"{cells.to_markdown(colalign=('left', *['right'] * 4), disable_numparse=True)}\n\n"
        f"With {workers} jobs at a time it takes at least {plan.wall_hours(workers):.3g} hours; the longest chain of "
        f"dependent jobs takes {plan.longest_hours:.3g}.\n"
        f"Measured on {measured.network.rates()}, {measured.starts['train']:.2g} s to start a training.\n"
    )
