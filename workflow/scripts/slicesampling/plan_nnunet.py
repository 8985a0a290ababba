"""Estimate the cost of a run with nnU-Net from a few timed mini-batches and a prediction."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from .cohort.nnunet_dataset import NUMBER, Labelled, write_dataset
from .cohort.volumes import Preprocessed
from .domain.models import Model
from .learning.checkpoint import Termination, write_state
from .learning.compute import Compute, device_name
from .learning.networks.nnunet import (
    DATASET,
    PLANNED,
    NnUNet,
    Processes,
    ensemble,
    last_state,
    require_nnunet,
    results_of,
)

IMPORTS = {
    "train": "slicesampling.learning.networks.nnunet",
    "uncertainty": "slicesampling.learning.networks.nnunet, nnunetv2.inference.predict_from_raw_data",
}
"""The imports of a training and of an inference job."""
IMPORTED = "nnunetv2.run.run_training"
"""The import of each process of nnU-Net."""


class NnUNetCosts(NamedTuple):
    """Costs of nnU-Net.

    start: seconds to start a process; step, validation_step: seconds of a mini-batch in training and in validation;
    prepare, predict: seconds per voxel of preparation and of a prediction by one member; lengths: for each trainer the
    epochs, and the training and validation mini-batches of an epoch; model_bytes: the size of a model's file.
    """

    config: dict[str, Any]
    compute: Compute
    start: float
    step: float
    validation_step: float
    prepare: float
    predict: float
    lengths: dict[str, tuple[int, int, int]]
    model_bytes: int

    def training(self, models: Sequence[Model], pool: pd.DataFrame, val: pd.DataFrame) -> dict[Model, float]:
        """Return the seconds of each training.

        The length of a training does not depend on the number of slices. Preparation is an upper limit: it assumes that
        the whole data pool is annotated.
        """
        network, seconds = self.config["network"]["nnunet"], {}
        for model in models:
            trainer = network["trainer"]["converged" if model.converged else "iteration"]
            if model.begun in models and model.begun != model and trainer == network["trainer"]["iteration"]:
                seconds[model] = 0.0  # the model of the last iteration is reused
                continue
            epochs, steps, validations = self.lengths[trainer]
            member = self.start + epochs * (steps * self.step + validations * self.validation_step)
            prepared = self.start + (_voxels(pool) + _voxels(val)) * self.prepare
            seconds[model] = prepared + network["folds"] * member
        return seconds

    def sampling(self, volumes: pd.DataFrame) -> float:
        return self.prediction(volumes)

    def features(self, volumes: pd.DataFrame) -> float:
        return 0.0  # nnU-Net provides no features

    def prediction(self, volumes: pd.DataFrame) -> float:
        return _voxels(volumes) * self.predict * self.config["network"]["nnunet"]["folds"]

    def rates(self) -> str:
        speed = f"{1 / self.step:.3g} mini-batches of nnU-Net a second, {self.predict * 1e6:.3g} s for a million voxels"
        return f"{device_name(self.compute.device)}: {speed} and one member"


def measure(config: dict[str, Any], compute: Compute, volume: Preprocessed, name: str, folder: Path) -> NnUNetCosts:
    """Time a few steps and a prediction on a volume; its preprocessed folder is `folder`/`name`."""
    require_nnunet()
    network, threads = config["network"]["nnunet"], config["compute"]["threads"]
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {IMPORTED}"], check=True)
    start = time.perf_counter() - started
    place = folder / "nnunet"
    labelled = [Labelled(part, folder / name, volume.mask) for part in ("train", "val")]
    spacing = write_dataset(place, DATASET, "to be measured", labelled[:1], labelled[1:], {}, 1)
    common = ["--dataset", str(NUMBER), "--configuration", network["configuration"]]
    with Termination(compute.device) as termination:
        nnunet = Processes(place, threads, termination)
        started = time.perf_counter()
        planned, measured = place / PLANNED, place / "measured"
        kept = ["--spacing", *map(str, spacing), "--to", str(planned)]
        nnunet.run("prepare", *common, "--planner", network["planner"], *kept)
        prepare = max(time.perf_counter() - started - start, 0.0) / (2 * volume.image.size)
        plans = planned.read_text(encoding="utf-8")
        trainers = list(dict.fromkeys(network["trainer"].values()))
        common += ["--plans", plans, "--fold", "0", "--device", compute.device.type, "--to", str(measured)]
        nnunet.run("measure", *common, "--trainers", *trainers)
    found = json.loads(measured.read_text(encoding="utf-8"))
    results = results_of(place, trainers[-1], plans, network)
    state = last_state(results / "fold_0")
    assert state is not None
    content = ensemble([state], results, network, spacing)
    write_state(folder / "model.pt", content)
    model = NnUNet(content, compute)
    for _ in range(2):  # the first to warm up
        started = time.perf_counter()
        model.sample(volume.image, 1, ("plan",))
        predict = time.perf_counter() - started
    return NnUNetCosts(
        config,
        compute,
        start,
        step=found["step"],
        validation_step=found["validation_step"],
        prepare=prepare,
        predict=predict / volume.image.size,
        lengths={trainer: tuple(numbers) for trainer, numbers in found["lengths"].items()},
        model_bytes=network["folds"] * (folder / "model.pt").stat().st_size,
    )


def _voxels(volumes: pd.DataFrame) -> float:
    return float((volumes["z"] * volumes["y"] * volumes["x"]).sum())
