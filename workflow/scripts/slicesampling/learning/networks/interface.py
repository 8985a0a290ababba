"""The common model interface: a training task, and the predictions of a trained model.

A kind of network is a module of this package with `train(task)` and `load(content, compute)`; `kinds.KINDS` lists them.
"""

import importlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ...cohort.volumes import load_preprocessed, write_mask
from ..compute import Compute
from ..inference import LIVER, Sampled
from ..patches import AnnotatedVolume
from ..progress import Progress
from .kinds import KINDS

logger = logging.getLogger(__name__)


class Trained(Protocol):
    """A trained model on its device."""

    def probability(self, image: np.ndarray | Tensor) -> Tensor:
        """Return the probability of liver, float32 (z, y, x) on the device, for a volume of HU (z, y, x)."""
        ...

    def sample(
        self, image: np.ndarray | Tensor, samples: int, key: Sequence[str | int], keep_mean: bool = False
    ) -> Sampled:
        """Return the measures of samples of a volume of HU (z, y, x), on the device; with `keep_mean` their mean too.

        samples: the number of samples, drawn by `key`; an ensemble uses its members instead.
        """
        ...


class Task(NamedTuple):
    """A training: its data, its settings, and its checkpoints.

    network, compute: sections of the configuration; training, end: from the kind of network (see `kinds.Kind`).
    annotated: the annotated volumes; ledger: the annotated set as text; validation: volumes with known masks.
    folders: volume → its preprocessed folder.
    key: the key of all random numbers; it is the same for a converged model and the model of the last iteration, whose
    training it continues.
    checkpoint: a file; others beside it may start with its name. begun_checkpoint: that of the model whose training
    this one continues; the same as checkpoint if there is none.
    model: the file to write.
    script: the script of the job, which a kind of network may run in several processes.
    progress: called with the progress of the training.
    """

    network: dict[str, Any]
    training: dict[str, Any]
    end: Any
    compute: dict[str, Any]
    annotated: Sequence[AnnotatedVolume]
    ledger: str
    validation: Sequence[str]
    folders: Mapping[str, Path]
    key: tuple[str | int, ...]
    checkpoint: Path
    begun_checkpoint: Path
    model: Path
    script: str
    progress: Callable[[Progress], None]


def train(task: Task) -> list[dict[str, Any]]:
    """Train a model, write it to `task.model`, and return its history; of several processes only one returns it.

    The history has a row per validation: step, epoch, loss, validation_jaccard, validation_dice, device, precision,
    whether its state was `chosen` for the model, and further columns of the kind of network.
    """
    history: list[dict[str, Any]] = _module(task.network["kind"]).train(task)
    return history


def load_model(path: str | Path, compute: Compute) -> Trained:
    """Return the model in a file, ready for inference; its kind defaults to aunet."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    model: Trained = _module(content["network"].get("kind", "aunet")).load(content, compute)
    return model


def _module(kind: str) -> ModuleType:
    return importlib.import_module(f".{KINDS[kind].module}", __package__)


def write_proposals(model: Trained, volumes: Iterable[str], folders: Mapping[str, Path], to: Path) -> None:
    """Write VOLUME.nii.gz in the folder `to` for each of `volumes`: the model's mask on the preprocessed grid.

    folders: volume → its preprocessed folder.
    """
    for name in volumes:
        volume = load_preprocessed(folders[name])
        liver = model.probability(volume.image) > LIVER
        write_mask(to / f"{name}.nii.gz", liver.cpu().numpy(), volume.grid)
        logger.info("%s segmented", name)
