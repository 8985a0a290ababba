"""What a run will cost: jobs, hours and disk of each stage, from a few measurements on this machine."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from .annotations import slice_budget
from .inference import sample
from .metrics import segmentation_metrics
from .models import Compute, build_network
from .patches import AnnotatedVolume, TrainingSet
from .strategies import STRATEGIES
from .tables import paper_values
from .tiling import Architecture, plan_tiles, tile_cost
from .training import Checkpoint, Progress, Settings, ValidationVolume, train
from .volumes import canonical_grid, preprocess, read_case, resample_mask, save_preprocessed

MEASURED_STEPS = 6
"""Steps of training that are timed, after as many to warm up."""
PAPER_INTERVAL, PAPER_PATIENCE = 1000, 100
"""Steps between two validations in the paper, and the patience that stands for its "until convergence"."""


class Measured(NamedTuple):
    """Seconds: of the start of a job with and without torch, of a training step, of one multiply-accumulate of the
    deterministic and of the stochastic part, of preprocessing and evaluation for each native voxel; and bytes of a
    written mask for each voxel."""

    start: float
    light_start: float
    step: float
    encode: float
    decode: float
    preprocess: float
    evaluate: float
    mask_bytes: float


class Stopped(Exception):
    """Enough steps have been timed."""


def measure(config: dict[str, Any], compute: Compute, image: str, label: str) -> Measured:
    """Time each kind of work on one volume of the cohort, given by the paths in its row, with this configuration."""
    elapsed: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = work()
        if compute.device.type == "cuda":
            torch.cuda.synchronize()
        elapsed[name] = time.perf_counter() - started
        return result

    for name, modules in (("start", "slicesampling.training, torch._dynamo"), ("light_start", "slicesampling.figures")):
        command = [sys.executable, "-c", f"import {modules}"]
        timed(name, lambda: subprocess.run(command, check=True, cwd=Path(__file__).parents[1]))  # noqa: B023

    with tempfile.TemporaryDirectory() as folder:
        spacing = tuple(config["preprocessing"]["spacing"])

        def prepare() -> Any:
            volume = preprocess(image, label, spacing)
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
        step = _training_step(config, compute, volume, Path(folder) / "checkpoint.pt")

    architecture = _architecture(config)
    window = tuple(config["training"]["window"])
    network = build_network(config["network"], compute.device).eval()
    samples = config["uncertainty"]["samples"]
    plan = plan_tiles(volume.image.shape, architecture, compute.tile_memory, samples, compute.dtype.itemsize)
    tile = volume.image[tuple(slice(size) for size in plan.shape)]
    for name, count in (("warm up", 1), ("once", 1), ("more", 1 + plan.samples_at_once)):
        timed(name, lambda: sample(network, tile, window, compute, count, ("plan",)))  # noqa: B023
    shape = plan_tiles(tile.shape, architecture, compute.tile_memory, 1, compute.dtype.itemsize).shape
    cost = tile_cost(architecture, shape, compute.dtype.itemsize)
    decode = max(elapsed["more"] - elapsed["once"], 0) / plan.samples_at_once
    return Measured(
        start=elapsed["start"],
        light_start=elapsed["light_start"],
        step=step,
        encode=max(elapsed["once"] - decode, 0) / cost.encode,
        decode=decode / cost.decode,
        preprocess=elapsed["preprocess"] / native,
        evaluate=elapsed["evaluate"] / native,
        mask_bytes=size / native,
    )


def _training_step(config: dict[str, Any], compute: Compute, volume: Any, checkpoint: Path) -> float:
    """Return the seconds of a training step on one fully annotated volume, after a warm-up."""
    training = {name: value for name, value in config["training"].items() if name not in ("iteration", "converged")}
    settings = Settings(**training, epochs=2 * MEASURED_STEPS, patience=None)
    settings = settings._replace(patch=tuple(settings.patch), validation_interval=10**9)
    times: list[float] = []

    def count(now: Progress) -> None:
        times.append(time.perf_counter())
        if len(times) > 2 * MEASURED_STEPS:
            raise Stopped

    annotated = AnnotatedVolume("plan", volume.image, volume.mask, np.arange(len(volume.image)))
    try:
        train(
            build_network(config["network"], compute.device),
            TrainingSet([annotated], settings.patch),
            [ValidationVolume(volume.image, volume.mask)],
            settings,
            compute,
            ("plan",),
            Checkpoint(checkpoint, "plan", minutes=1e9),
            count,
        )
    except Stopped:
        pass
    return float(np.median(np.diff(times[len(times) // 2 :])))


def _architecture(config: dict[str, Any]) -> Architecture:
    return Architecture(tuple(config["network"]["filters"]), config["network"]["in_plane_levels"])


def preprocessed_shapes(volumes: pd.DataFrame, spacing: Sequence[float]) -> pd.DataFrame:
    """Return `z`, `y`, `x` of each volume on the common grid; the bounding box of an oblique one may be larger.

    volumes: rows of slices, rows, columns and spacing_z, spacing_y, spacing_x in mm.
    """
    sizes = {
        axis: np.floor(volumes[count] * volumes[f"spacing_{axis}"] / target + 0.5).clip(lower=1).astype(int)
        for axis, count, target in zip("zyx", ("slices", "rows", "columns"), spacing, strict=True)
    }
    return pd.DataFrame(sizes)


def training_length(model: str, pool: pd.DataFrame, config: dict[str, Any]) -> tuple[float, float]:
    """Return how many steps and validations a model takes, from the sizes of the pool's volumes.

    pool: rows of z, y, x on the common grid and `liver`, the share of slices with liver. A training that ends by its
    patience alone is taken to find its best model after as many times its patience as the paper's did (Table 3).
    """
    training, (depth, height, width) = config["training"], config["training"]["patch"]
    planes = np.ceil(pool["y"] / height) * np.ceil(pool["x"] / width)
    # A phase drawn at random makes one block more in (depth - 1) / depth of the cases.
    tiles_of_volume = float((planes * ((pool["z"] + depth - 1) / depth)).mean())
    tiles_of_slice = float(planes.mean())
    budget: float = config["slices_per_iteration"]  # type: ignore[assignment]
    if config["slices_per_iteration"] == "auto":
        liver = round(float((pool["liver"] * pool["z"]).mean() * config["volumes_per_iteration"]))
        budget = slice_budget(pd.DataFrame({"iteration": [1], "liver": [liver]}), config["annotation_time_ratio"])

    name, *rest = model.removesuffix("-converged").split("-")
    tiles = config["initial_volumes"] * tiles_of_volume
    if name == "pool":
        tiles = len(pool) * tiles_of_volume
    elif rest:
        strategy, iteration = STRATEGIES[name], int(rest[0])
        if strategy.slices:
            asked = budget / float(pool["liver"].mean()) if strategy.until_liver else budget
            tiles += iteration * asked * tiles_of_slice
        else:
            tiles += iteration * config["volumes_per_iteration"] * tiles_of_volume
        tiles = min(tiles, len(pool) * tiles_of_volume)

    end = training["converged" if model.endswith("-converged") else "iteration"]
    ends = []
    if end["epochs"] is not None:
        ends.append(end["epochs"] * np.ceil(tiles / training["batch_size"]))
    if end["patience"] is not None:
        times = _papers_best_step("data pool" if name == "pool" else "iter. 5 (converged)")
        validations = end["patience"] * (1 + times / PAPER_INTERVAL / PAPER_PATIENCE)
        ends.append(validations * training["validation_interval"])
    steps = float(min(ends))
    return steps, float(np.ceil(steps / training["validation_interval"]))


@cache
def _papers_best_step(row: str) -> float:
    values = paper_values()
    chosen = (values["table"] == "table3_training_steps") & (values["row"] == row)
    return float(values.loc[chosen, "value"].mean())


def job_counts(config: dict[str, Any], models: Sequence[str], splits: dict[str, int]) -> dict[str, int]:
    """Return the number of jobs of each stage; splits: volumes in pool, val and test."""
    seeds, strategies, iterations = len(config["seeds"]), config["strategies"], config["iterations"]
    uncertain = sum(STRATEGIES[name].uncertain for name in strategies)
    shards = {
        "preprocess": min(config["shards"]["preprocessing"], sum(splits.values())),
        "uncertainty": min(config["shards"]["uncertainty"], splits["pool"]),
        "test": min(config["shards"]["test"], splits["test"]),
    }
    sampled = (1 + uncertain * (iterations - 1)) if uncertain else 0
    return {
        "preprocess": shards["preprocess"],
        "train": seeds * len(models),
        "uncertainty": seeds * sampled * shards["uncertainty"],
        "predict": seeds * len(models) * shards["test"],
        "evaluate": seeds * len(models) * shards["test"],
    }


def estimate(
    config: dict[str, Any], measured: Measured, compute: Compute, models: Sequence[str], volumes: pd.DataFrame, jobs: int
) -> pd.DataFrame:
    """Return a row for each stage: `jobs`, `device_hours`, `cpu_hours` and `disk_gib`.

    volumes: a row for each used volume, with its split and what `check_cohort` measured. jobs: of the whole run; those
    that no stage accounts for choose, count and draw. Device hours are those during which a job holds a device.
    """
    sizes = preprocessed_shapes(volumes, config["preprocessing"]["spacing"])
    volumes = volumes.join(sizes).assign(liver=volumes["liver_slices"] / volumes["slices"])
    native = volumes["slices"] * volumes["rows"] * volumes["columns"]
    parts = {split: volumes[volumes["split"] == split] for split in ("pool", "val", "test")}
    counts = job_counts(config, models, {split: len(rows) for split, rows in parts.items()})
    architecture, seeds = _architecture(config), len(config["seeds"])

    @cache
    def seconds(shape: tuple[int, int, int], samples: int) -> float:
        plan = plan_tiles(shape, architecture, compute.tile_memory, samples, compute.dtype.itemsize)
        cost = tile_cost(architecture, plan.shape)
        tiles = np.prod([len(starts) for starts in plan.starts])
        return float(tiles * (cost.encode * measured.encode + samples * cost.decode * measured.decode))

    def inference(rows: pd.DataFrame, samples: int) -> float:
        return sum(seconds((int(z), int(y), int(x)), samples) for z, y, x in rows[["z", "y", "x"]].to_numpy())

    lengths = [training_length(model, parts["pool"], config) for model in models]
    train_seconds = sum(
        measured.start + steps * measured.step + validations * inference(parts["val"], 1)
        for steps, validations in lengths
    )
    sampled = counts["uncertainty"] / max(min(config["shards"]["uncertainty"], len(parts["pool"])), 1)
    job_seconds = {
        "preprocess": counts["preprocess"] * measured.light_start + native.sum() * measured.preprocess,
        "train": seeds * train_seconds,
        "uncertainty": counts["uncertainty"] * measured.start
        + sampled * inference(parts["pool"], config["uncertainty"]["samples"]),
        "predict": counts["predict"] * measured.start + seeds * len(models) * inference(parts["test"], 1),
        "evaluate": counts["evaluate"] * measured.light_start
        + seeds * len(models) * native[volumes["split"] == "test"].sum() * measured.evaluate,
    }
    counts["others"] = jobs - sum(counts.values())
    job_seconds["others"] = counts["others"] * measured.light_start
    voxels = {split: float(rows[["z", "y", "x"]].prod(axis=1).sum()) for split, rows in parts.items()}
    weights = sum(parameter.numel() for parameter in build_network(config["network"], torch.device("meta")).parameters())
    disk = {
        "preprocess": sum(voxels.values()) * 3 + native.sum() * measured.mask_bytes,  # int16 image and uint8 mask
        "train": seeds * len(models) * weights * 4,
        "predict": seeds * len(models) * voxels["test"] * measured.mask_bytes,
    }
    on_device = {"train", "uncertainty", "predict"}
    rows = [
        {
            "stage": stage,
            "jobs": counts[stage],
            "device_hours": value / 3600 if stage in on_device else 0.0,
            "cpu_hours": value / 3600 * (config["compute"]["threads"] if stage in on_device else 1),
            "disk_gib": disk.get(stage, 0.0) / 2**30,
        }
        for stage, value in job_seconds.items()
    ]
    return pd.DataFrame(rows)


def wall_hours(table: pd.DataFrame, config: dict[str, Any], workers: int) -> float:
    """Return the hours that a run takes at least when `workers` jobs run at a time: work, and what waits for what.

    A strategy's iterations follow one another; slice strategies wait for those of UVS where their budget is auto.
    """
    hours = dict(zip(table["stage"], table["device_hours"].where(table["device_hours"] > 0, table["cpu_hours"]), strict=True))
    count = dict(zip(table["stage"], table["jobs"], strict=True))
    one = {stage: hours[stage] / count[stage] if count[stage] else 0.0 for stage in hours}
    chains = 2 if config["slices_per_iteration"] == "auto" and len(config["strategies"]) > 1 else 1
    chain = 1 + chains * config["iterations"] + 1  # trainings one after the other: initial, iterations, converged
    longest = one["preprocess"] + chain * one["train"] + (chain - 2) * one["uncertainty"] + one["predict"] + one["evaluate"]
    return max(sum(hours.values()) / workers, longest)
