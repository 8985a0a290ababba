"""Estimate the cost of a run with the paper's network from a few timed training steps and tiles."""

import contextlib
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from .cohort.volumes import VOXEL_BYTES, Preprocessed
from .domain.models import POOL, Model
from .learning.checkpoint import Checkpoint
from .learning.compute import Compute, device_name
from .learning.geometry import axes
from .learning.inference import sample
from .learning.memory import free_memory
from .learning.networks.aunet import build_network, save_model
from .learning.networks.kinds import network_of
from .learning.patches import AnnotatedVolume, TrainingSet
from .learning.progress import Progress
from .learning.tiling import Architecture, plan_tiles, tile_cost
from .learning.training import INFERENCE_BYTES, Run, Settings, ValidationVolume, train
from .publication.tables import paper_values
from .query.ledger import slice_budget
from .query.strategies import strategies_of

MEASURED_STEPS = 6
"""The number of timed training steps, after as many to warm up."""
PAPER_INTERVAL, PAPER_PATIENCE = 1000, 100
"""Steps between two validations in the paper, and the patience assumed for its "until convergence"."""
IMPORTS = {
    "train": "slicesampling.learning.networks.aunet, torch._dynamo",  # the optimizer imports the latter
    "uncertainty": "slicesampling.learning.networks.aunet, slicesampling.cohort.volumes",
}
"""The imports of a training and of an inference job."""


class EnoughTimed(Exception):  # noqa: N818 - nothing is wrong
    """Enough steps have been timed."""


class AuNetCosts(NamedTuple):
    """Costs of the paper's network.

    step: seconds of a training step with volumes in files or on the device; encode, decode: seconds of one
    multiply-accumulate of the deterministic and of the stochastic part; room: bytes left on the device for training
    volumes; model_bytes: the size of a model's file.
    """

    config: dict[str, Any]
    compute: Compute
    step: dict[str, float]
    encode: float
    decode: float
    room: float
    model_bytes: int

    def training(self, models: Sequence[Model], pool: pd.DataFrame, val: pd.DataFrame) -> dict[Model, float]:
        validation = self.prediction(val)
        seconds = {}
        for model in models:
            steps, validations = training_length(model, pool, self.config)
            if model.begun in models and model.begun != model:
                done = training_length(model.begun, pool, self.config)
                steps, validations = max(steps - done[0], 0), max(validations - done[1], 0)
            step = self.step.get(data_path(model, pool, self.config, self.compute, self.room), self.step["files"])
            seconds[model] = steps * step + validations * validation
        return seconds

    def sampling(self, volumes: pd.DataFrame) -> float:
        return self._inference(volumes, self.config["uncertainty"]["samples"])

    def features(self, volumes: pd.DataFrame) -> float:
        return self._inference(volumes, 0)

    def prediction(self, volumes: pd.DataFrame) -> float:
        return self._inference(volumes, 1)

    def rates(self) -> str:
        rates = [f"{1 / seconds:.3g} training steps a second from {place}" for place, seconds in self.step.items()]
        work = f"{1e-9 / self.decode:.3g} G multiply-accumulates a second in Monte Carlo samples"
        return f"{device_name(self.compute.device)}, {self.compute.precision}: {', '.join([*rates, work])}"

    def _inference(self, volumes: pd.DataFrame, samples: int) -> float:
        """Return the seconds of `samples` samples of all volumes; 0 samples: of the deterministic part alone."""
        architecture, memory = _architecture(self.config), self.compute.memory_for_tiles()
        itemsize = self.compute.dtype.itemsize

        @cache
        def seconds(z: int, y: int, x: int) -> float:
            plan = plan_tiles((z, y, x), architecture, memory, samples, itemsize)
            cost = tile_cost(architecture, plan.shape, itemsize)
            work = cost.encode * self.encode + samples * cost.decode * self.decode
            return float(np.prod([len(starts) for starts in plan.starts])) * work

        return sum(seconds(z, y, x) for z, y, x in volumes[["z", "y", "x"]].to_numpy().tolist())


def measure(config: dict[str, Any], compute: Compute, volume: Preprocessed, name: str, folder: Path) -> AuNetCosts:
    """Time a few steps and samples on a volume; its preprocessed folder is `folder`/`name`."""
    elapsed: dict[str, float] = {}
    step, room = {"files": _training_step(config, compute, volume, "files", folder / "checkpoint.pt")}, 0.0
    if compute.device.type == "cuda":
        room = free_memory(compute.device) - INFERENCE_BYTES
        step["device"] = _training_step(config, compute, volume, "device", folder / "another.pt")
    low, high = config["network"]["aunet"]["training"]["window"]
    window = (low, high)
    network = build_network(config["network"]["aunet"], compute.device).eval()
    trained = {"step": 1, "device": device_name(compute.device), "precision": compute.precision}
    run = Run(best_step=1, state=network.state_dict(), history=[trained])
    save_model(folder / "model.pt", network_of(config).settings, window, run)

    architecture = _architecture(config)
    memory, itemsize = compute.memory_for_tiles(), compute.dtype.itemsize
    plan = plan_tiles(volume.image.shape, architecture, memory, config["uncertainty"]["samples"], itemsize)
    tile = volume.image[tuple(slice(size) for size in plan.shape)]
    for what, count in (("warm up", 1), ("once", 1), ("more", 1 + plan.samples_at_once)):
        started = time.perf_counter()
        sample(network, tile, window, compute, count, ("plan",))
        if compute.device.type == "cuda":
            torch.cuda.synchronize()
        elapsed[what] = time.perf_counter() - started
    shape = plan_tiles(tile.shape, architecture, memory, 1, itemsize).shape
    cost = tile_cost(architecture, shape, itemsize)
    more, decode = 1 + plan.samples_at_once, (elapsed["more"] - elapsed["once"]) / plan.samples_at_once
    if decode <= 0:  # another load disturbed the timing: assume the same speed for both parts
        decode = elapsed["more"] * cost.decode / (cost.encode + more * cost.decode)
    return AuNetCosts(
        config,
        compute,
        step,
        encode=max(elapsed["once"] - decode, 0) / cost.encode,
        decode=decode / cost.decode,
        room=room,
        model_bytes=(folder / "model.pt").stat().st_size,
    )


def _training_step(
    config: dict[str, Any], compute: Compute, volume: Any, training_data: str, checkpoint: Path
) -> float:
    """Return the median seconds of a training step on one fully annotated volume in files or on the device, after a
    warm-up."""
    settings = Settings(**network_of(config).training, epochs=2 * MEASURED_STEPS, steps=None, patience=None)
    settings = settings._replace(patch=axes(settings.patch), validation_interval=10**9)
    times: list[float] = []

    def count(now: Progress) -> None:
        times.append(time.perf_counter())
        if len(times) > 2 * MEASURED_STEPS:
            raise EnoughTimed

    annotated = AnnotatedVolume("plan", volume.image, volume.mask, np.arange(len(volume.image)))
    with contextlib.suppress(EnoughTimed):
        train(
            build_network(config["network"]["aunet"], compute.device),
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
    network = config["network"]["aunet"]
    return Architecture(tuple(network["filters"]), network["in_plane_levels"])


def training_length(model: Model, pool: pd.DataFrame, config: dict[str, Any]) -> tuple[float, float]:
    """Return the expected numbers of training steps and validations of a model, from the sizes of the pool's volumes.

    pool: rows of z, y, x on the common grid and `structure`, the share of slices with liver. For a training that ends
    only by its patience, the ratio of the best step to the patience is taken from the paper (Table 3).
    """
    training = config["network"]["aunet"]["training"]
    depth, height, width = training["patch"]
    planes = np.ceil(pool["y"] / height) * np.ceil(pool["x"] / width)
    # A random phase adds one block in (depth - 1) / depth of the cases.
    tiles_of_volume = float((planes * ((pool["z"] + depth - 1) / depth)).mean())
    tiles_of_slice = float(planes.mean())
    budget: float = config["slices_per_iteration"]  # type: ignore[assignment]
    if config["slices_per_iteration"] == "auto":
        liver = round(float((pool["structure"] * pool["z"]).mean() * config["volumes_per_iteration"]))
        budget = slice_budget(pd.DataFrame({"iteration": [1], "structure": [liver]}), config["annotation_time_ratio"])

    tiles = config["initial_volumes"] * tiles_of_volume
    if model.strategy == POOL:
        tiles = len(pool) * tiles_of_volume
    elif model.iteration:
        strategy, iteration = strategies_of(config)[model.strategy], model.iteration
        if strategy.slices:
            asked = budget / float(pool["structure"].mean()) if strategy.until_liver else budget
            tiles += iteration * asked * tiles_of_slice
        else:
            tiles += iteration * config["volumes_per_iteration"] * tiles_of_volume
        tiles = min(tiles, len(pool) * tiles_of_volume)

    end = training["converged" if model.converged else "iteration"]
    ends = []
    if end["epochs"] is not None:
        ends.append(end["epochs"] * np.ceil(tiles / training["batch_size"]))
    if end["steps"] is not None:
        ends.append(end["steps"])
    if end["patience"] is not None:
        times = _papers_best_step("data pool" if model.strategy == POOL else "iter. 5 (converged)")
        validations = end["patience"] * (1 + times / PAPER_INTERVAL / PAPER_PATIENCE)
        ends.append(validations * training["validation_interval"])
    steps = float(min(ends))
    return steps, float(np.ceil(steps / training["validation_interval"]))


@cache
def _papers_best_step(row: str) -> float:
    values = paper_values()
    chosen = (values["table"] == "table3_training_steps") & (values["row"] == row)
    return float(values.loc[chosen, "value"].mean())


def data_path(model: Model, pool: pd.DataFrame, config: dict[str, Any], compute: Compute, room: float) -> str:
    """Return where a model's training volumes will be, device or files, by the rule of `training.keep_near`.

    pool: rows of z, y, x on the common grid. Each singly annotated slice is assumed to be in a volume of its own.
    """
    volumes = config["initial_volumes"]
    if model.strategy == POOL:
        volumes = len(pool)
    elif model.iteration:
        slices = config["slices_per_iteration"]
        added = config["volumes_per_iteration"] if not strategies_of(config)[model.strategy].slices else slices
        volumes += len(pool) if added == "auto" else model.iteration * added
    size = min(volumes, len(pool)) * float((pool["z"] * pool["y"] * pool["x"]).mean()) * VOXEL_BYTES
    if compute.training_data != "auto":
        return compute.training_data
    return "device" if size <= room else "files"
