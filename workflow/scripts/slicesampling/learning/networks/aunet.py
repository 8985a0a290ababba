"""The paper's network in the common model interface: training, model files, and trained models."""

import inspect
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...cohort.volumes import load_preprocessed
from ...jobs.files import replacing
from .. import inference, patches, training, unet
from ..checkpoint import Checkpoint, write_state
from ..compute import Compute, computing, fingerprint
from ..geometry import axes
from ..inference import Predictor, Sampled, sample, slice_features
from ..patches import TrainingSet
from ..processes import group, launch
from ..training import Run, Settings, ValidationVolume
from ..unet import AnisotropicUNet
from .interface import Task


class AuNet:
    """A trained network with the `window` (HU) from which its intensities are scaled."""

    def __init__(self, network: AnisotropicUNet, window: tuple[float, float], compute: Compute) -> None:
        self.network, self.window, self.compute = network.eval(), window, compute

    @cached_property
    def _predict(self) -> Predictor:
        return Predictor(self.network, self.window, self.compute)

    def probability(self, image: np.ndarray | Tensor) -> Tensor:
        return self._predict(image)

    def sample(
        self, image: np.ndarray | Tensor, samples: int, key: Sequence[str | int], keep_mean: bool = False
    ) -> Sampled:
        return sample(self.network, image, self.window, self.compute, samples, key, keep_mean)

    def slice_features(self, image: np.ndarray | Tensor) -> np.ndarray:
        return slice_features(self.network, image, self.window, self.compute)


def build_network(settings: dict[str, Any], device: torch.device) -> AnisotropicUNet:
    """Return an untrained network for the section network.aunet of the configuration."""
    return AnisotropicUNet(settings["filters"], settings["in_plane_levels"], settings["dropout"]).to(device)


def save_model(path: str | Path, settings: dict[str, Any], window: Sequence[float], run: Run) -> None:
    """Write the best state of a training `run` with its settings, device and precision, by rename."""
    content = {"network": settings, "window": list(window), "best_step": run.best_step, "state": run.state}
    (best,) = (row for row in run.history if row["step"] == run.best_step)
    content |= {"device": best["device"], "precision": best["precision"]}
    with replacing(path) as temporary:
        write_state(temporary, content)


def load(content: dict[str, Any], compute: Compute) -> AuNet:
    """Return the model that `save_model` wrote."""
    network = build_network(content["network"], compute.device)
    network.load_state_dict(content["state"])
    low, high = content["window"]
    return AuNet(network, (low, high), compute)


def train(task: Task) -> list[dict[str, Any]]:
    """Train a network; see `interface.train`. With several processes, each runs the script that calls this."""
    launch(task.script, task.compute["training_processes"])
    compute = computing(task.compute)
    volumes = [load_preprocessed(task.folders[name]) for name in task.validation]
    belongs_to = fingerprint(
        *(task.ledger, task.network, task.training),  # without its end: a longer training continues a shorter one
        *(inspect.getsource(module) for module in (inference, unet, patches, training)),
        *(array for volume in task.annotated for array in (volume.image, volume.mask)),
        *(array for volume in volumes for array in (volume.image, volume.mask)),
    )
    settings = Settings(**task.training, **task.end)
    run = training.train(
        build_network(task.network, compute.device),
        TrainingSet(task.annotated, axes(settings.patch)),
        [ValidationVolume(volume.image, volume.mask) for volume in volumes],
        settings,
        compute,
        key=task.key,
        checkpoint=Checkpoint(task.checkpoint, belongs_to, task.compute["checkpoint_minutes"], task.begun_checkpoint),
        progress=task.progress if group().rank == 0 else lambda now: None,
    )
    if group().rank > 0:
        return []
    save_model(task.model, task.network, task.training["window"], run)
    return [row | {"chosen": row["step"] == run.best_step} for row in run.history]
