"""What a run will cost: jobs, hours and disk of each stage, from a few measurements on this machine."""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from .annotation.ledger import slice_budget
from .annotation.strategies import strategies_of
from .cohort.contents import preprocess_row
from .cohort.grids import resample_mask
from .cohort.volumes import save_preprocessed
from .configuration import job_counts, shards
from .evaluation.metrics import segmentation_metrics
from .learning.checkpoint import Checkpoint
from .learning.geometry import axes
from .learning.inference import sample
from .learning.memory import free_memory
from .learning.models import Compute, build_network, device_name, save_model
from .learning.patches import AnnotatedVolume, TrainingSet
from .learning.progress import Progress
from .learning.tiling import Architecture, plan_tiles, tile_cost
from .learning.training import INFERENCE_BYTES, Settings, ValidationVolume, train
from .publication.tables import paper_values

MEASURED_STEPS = 6
"""Steps of training that are timed, after as many to warm up."""
IMPORTS = {
    "preprocess": "slicesampling.cohort.contents",
    "train": "slicesampling.learning.training, torch._dynamo",  # the optimizer imports the latter
    "uncertainty": "slicesampling.learning.inference, slicesampling.cohort.volumes",
    "features": "slicesampling.learning.inference, slicesampling.cohort.volumes",
    "predict": "slicesampling.learning.inference, slicesampling.cohort.volumes",
    "evaluate": "slicesampling.evaluation.metrics, slicesampling.cohort.volumes",
    "others": "slicesampling.publication.figures",
}
"""What a job of each stage imports, which is most of the time that it takes to start."""
VOXEL_BYTES = 3
"""Of a preprocessed volume: HU as int16, the mask as uint8."""
PAPER_INTERVAL, PAPER_PATIENCE = 1000, 100
"""Steps between two validations in the paper, and the patience that stands for its "until convergence"."""


class Measured(NamedTuple):
    """Seconds: of the start of a job of each stage, of a training step whose volumes lie in files or on the device, of
    one multiply-accumulate of the deterministic and of the stochastic part, of preprocessing and evaluation for each
    native voxel; and bytes that are left on the device for training volumes, of a written mask for each voxel, and of a
    written model."""

    starts: dict[str, float]
    step: dict[str, float]
    encode: float
    decode: float
    preprocess: float
    evaluate: float
    room: float
    mask_bytes: float
    model_bytes: int


class EnoughTimed(Exception):  # noqa: N818 - nothing is wrong
    """Enough steps have been timed."""


def measure(config: dict[str, Any], compute: Compute, row: Mapping[str, str]) -> Measured:
    """Time each kind of work on one volume, a row of the cohort, with this configuration."""
    elapsed: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = work()
        if compute.device.type == "cuda":
            torch.cuda.synchronize()
        elapsed[name] = time.perf_counter() - started
        return result

    for modules in set(IMPORTS.values()):
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
        step, room = {"files": _training_step(config, compute, volume, "files", Path(folder) / "checkpoint.pt")}, 0.0
        if compute.device.type == "cuda":
            room = free_memory(compute.device) - INFERENCE_BYTES
            step["device"] = _training_step(config, compute, volume, "device", Path(folder) / "another.pt")
        state = build_network(config["network"], torch.device("cpu")).state_dict()
        model = Path(folder) / "model.pt"
        trained = {"step": 1, "device": device_name(compute.device), "precision": compute.precision}
        run: dict[str, Any] = {"best_step": 1, "state": state, "history": [trained]}
        save_model(model, config["network"], config["training"]["window"], run)
        model_bytes = model.stat().st_size

    architecture = _architecture(config)
    window = tuple(config["training"]["window"])
    network = build_network(config["network"], compute.device).eval()
    samples = config["uncertainty"]["samples"]
    memory = compute.memory_for_tiles()
    plan = plan_tiles(volume.image.shape, architecture, memory, samples, compute.dtype.itemsize)
    tile = volume.image[tuple(slice(size) for size in plan.shape)]
    for name, count in (("warm up", 1), ("once", 1), ("more", 1 + plan.samples_at_once)):
        timed(name, lambda: sample(network, tile, window, compute, count, ("plan",)))  # noqa: B023
    shape = plan_tiles(tile.shape, architecture, memory, 1, compute.dtype.itemsize).shape
    cost = tile_cost(architecture, shape, compute.dtype.itemsize)
    more, decode = 1 + plan.samples_at_once, (elapsed["more"] - elapsed["once"]) / plan.samples_at_once
    if decode <= 0:  # the machine was busy meanwhile: as if both parts computed at one speed
        decode = elapsed["more"] * cost.decode / (cost.encode + more * cost.decode)
    return Measured(
        starts={stage: elapsed[modules] for stage, modules in IMPORTS.items()},
        step=step,
        encode=max(elapsed["once"] - decode, 0) / cost.encode,
        decode=decode / cost.decode,
        preprocess=elapsed["preprocess"] / native,
        evaluate=elapsed["evaluate"] / native,
        room=room,
        mask_bytes=size / native,
        model_bytes=model_bytes,
    )


def _training_step(
    config: dict[str, Any], compute: Compute, volume: Any, training_data: str, checkpoint: Path
) -> float:
    """Return the seconds of a training step on one fully annotated volume that lies in files or on the device, after a
    warm-up."""
    training = {name: value for name, value in config["training"].items() if name not in ("iteration", "converged")}
    settings = Settings(**training, epochs=2 * MEASURED_STEPS, steps=None, patience=None)
    settings = settings._replace(patch=axes(settings.patch), validation_interval=10**9)
    times: list[float] = []

    def count(now: Progress) -> None:
        times.append(time.perf_counter())
        if len(times) > 2 * MEASURED_STEPS:
            raise EnoughTimed

    annotated = AnnotatedVolume("plan", volume.image, volume.mask, np.arange(len(volume.image)))
    with contextlib.suppress(EnoughTimed):
        train(
            build_network(config["network"], compute.device),
            TrainingSet([annotated], settings.patch),
            [ValidationVolume(volume.image, volume.mask)],
            settings,
            compute._replace(training_data=training_data),
            ("plan",),
            Checkpoint(checkpoint, "plan", minutes=1e9),
            count,
        )
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
        strategy, iteration = strategies_of(config)[name], int(rest[0])
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
    if end["steps"] is not None:
        ends.append(end["steps"])
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


def data_path(model: str, pool: pd.DataFrame, config: dict[str, Any], compute: Compute, room: float) -> str:
    """Return where the training volumes of a model will lie, device or files, as `training.keep_near` decides it.

    pool: rows of z, y, x on the common grid. Slices that are annotated alone are taken to lie in a volume each.
    """
    name, *rest = model.removesuffix("-converged").split("-")
    volumes = config["initial_volumes"]
    if name == "pool":
        volumes = len(pool)
    elif rest:
        slices = config["slices_per_iteration"]
        added = config["volumes_per_iteration"] if not strategies_of(config)[name].slices else slices
        volumes += len(pool) if added == "auto" else int(rest[0]) * added
    size = min(volumes, len(pool)) * float((pool["z"] * pool["y"] * pool["x"]).mean()) * VOXEL_BYTES
    if compute.training_data != "auto":
        return compute.training_data
    return "device" if size <= room else "files"


class Plan(NamedTuple):
    """A row for each stage (stage, jobs, device_hours, cpu_hours, disk_gib), and the hours of the longest chain of jobs
    that wait for each other: no number of workers makes the run shorter."""

    stages: pd.DataFrame
    longest_hours: float

    def wall_hours(self, workers: int) -> float:
        """Return the hours of a run with so many jobs at a time, at least."""
        job_hours = self.stages["job_hours"].sum()
        return max(float(job_hours) / workers, self.longest_hours)


def estimate(
    config: dict[str, Any],
    measured: Measured,
    compute: Compute,
    models: Sequence[str],
    volumes: pd.DataFrame,
    jobs: int,
) -> Plan:
    """Return what the whole run will cost.

    volumes: a row for each used volume, with its split and what `check_cohort` measured. jobs: of the whole run; those
    that no stage accounts for choose, count and draw.
    """
    volumes = volumes.join(preprocessed_shapes(volumes, config["preprocessing"]["spacing"]))
    volumes = volumes.assign(
        liver=volumes["liver_slices"] / volumes["slices"],
        native=volumes["slices"] * volumes["rows"] * volumes["columns"],
        voxels=volumes["z"] * volumes["y"] * volumes["x"],
    )
    pool, val, test = (volumes[volumes["split"] == split] for split in ("pool", "val", "test"))
    counts = job_counts(config, models, {"pool": len(pool), "val": len(val), "test": len(test)})
    counts["others"] = jobs - sum(counts.values())
    architecture, seeds = _architecture(config), len(config["seeds"])
    memory = compute.memory_for_tiles()

    @cache
    def volume_seconds(z: int, y: int, x: int, samples: int) -> float:
        plan = plan_tiles((z, y, x), architecture, memory, samples, compute.dtype.itemsize)
        cost = tile_cost(architecture, plan.shape, compute.dtype.itemsize)
        work = cost.encode * measured.encode + samples * cost.decode * measured.decode
        return float(np.prod([len(starts) for starts in plan.starts])) * work

    def inference(rows: pd.DataFrame, samples: int) -> float:
        """Return the seconds of so many samples of all volumes; 0: of the deterministic part alone."""
        return sum(volume_seconds(z, y, x, samples) for z, y, x in rows[["z", "y", "x"]].to_numpy().tolist())

    training = {}
    for model in models:
        steps, validations = training_length(model, pool, config)
        carried_on = model.removesuffix("-converged")
        if carried_on in models and carried_on != model:
            done = training_length(carried_on, pool, config)
            steps, validations = max(steps - done[0], 0), max(validations - done[1], 0)
        step = measured.step.get(data_path(model, pool, config, compute, measured.room), measured.step["files"])
        training[model] = measured.starts["train"] + steps * step + validations * inference(val, 1)
    work = {  # seconds of one job
        "preprocess": volumes["native"].sum() * measured.preprocess / counts["preprocess"],
        "uncertainty": inference(pool, config["uncertainty"]["samples"]) / shards(config, "uncertainty", len(pool)),
        "features": inference(pool, 0) / shards(config, "uncertainty", len(pool)),
        "predict": inference(test, 1) / shards(config, "test", len(test)),
        "evaluate": test["native"].sum() * measured.evaluate / shards(config, "test", len(test)),
        "train": sum(training.values()) / len(training) - measured.starts["train"],
        "others": 0.0,
    }
    one = {stage: start + work[stage] for stage, start in measured.starts.items()}
    disk = {
        "preprocess": volumes["voxels"].sum() * VOXEL_BYTES + volumes["native"].sum() * measured.mask_bytes,
        "train": counts["train"] * measured.model_bytes,
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

    strategies = strategies_of(config)

    def loop(strategy: str) -> float:
        """Return the seconds from the first model to the last query's, one after the other."""
        asks = strategies[strategy]
        waits = one["uncertainty"] * bool(asks.columns) + one["features"] * asks.how.features
        return sum(waits + training[f"{strategy}-{k}"] for k in range(1, config["iterations"] + 1))

    chains = [training["pool-converged"]]
    for strategy in config["strategies"]:
        before = loop("uvs") if config["slices_per_iteration"] == "auto" and strategies[strategy].slices else 0.0
        last = training[f"{strategy}-{config['iterations']}-converged"]
        chains.append(training["initial"] + before + loop(strategy) + last)
    return Plan(stages, (one["preprocess"] + max(chains) + one["predict"] + one["evaluate"]) / 3600)


def describe(plan: Plan, measured: Measured, compute: Compute, workers: int) -> str:
    """Return the plan as a Markdown table, with what it rests on."""
    table = plan.stages.drop(columns="job_hours")
    table.loc["all"] = table.sum()
    table = table.astype({"jobs": int}).rename(
        columns={"device_hours": "device hours", "cpu_hours": "CPU hours", "disk_gib": "disk (GiB)"}
    )
    cells = table.map(lambda value: f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}")
    rates = [f"{1 / seconds:.3g} training steps a second from {place}" for place, seconds in measured.step.items()]
    return (
        f"{cells.to_markdown(colalign=('left', *['right'] * 4), disable_numparse=True)}\n\n"
        f"With {workers} jobs at a time it takes at least {plan.wall_hours(workers):.3g} hours; the longest chain of "
        f"jobs that wait for each other takes {plan.longest_hours:.3g}.\n"
        f"Measured on {device_name(compute.device)}, {compute.precision}: {', '.join(rates)}, "
        f"{1e-9 / measured.decode:.3g} G multiply-accumulates a second in Monte Carlo samples, "
        f"{measured.starts['train']:.2g} s to start a training.\n"
    )
