"""The common interface of all networks: a training task, and what a trained model predicts.

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
        """Return the probability of liver, float32 (z, y, x) on the device, in a volume of HU (z, y, x)."""
        ...

    def sample(
        self, image: np.ndarray | Tensor, samples: int, key: Sequence[str | int], keep_mean: bool = False
    ) -> Sampled:
        """Return what samples make of a volume of HU (z, y, x), on the device; with `keep_mean` their mean too.

        samples: how many are drawn, by `key`; an ensemble has its members instead.
        """
        ...


class Task(NamedTuple):
    """A training: of what, how, and where the next attempt finds what an interrupted one has kept.

    network, compute: sections of the configuration; training, end: what the kind of network makes of the rest of it.
    annotated: what is learnt from; ledger: the same as a table; validation: volumes whose masks are known.
    folders: volume → its preprocessed folder.
    key: of all random numbers, the same for a converged model and for the model of the last iteration, which it carries
    on.
    checkpoint: a file, beside which others may begin with its name; begun_checkpoint: that of the model that it carries
    on. For a model that carries on nothing, both are the same.
    script: of the job; a kind of network may run it in several processes.
    progress: is told how far what is kept has come.
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
    """Train a model, write it to `task.model`, and return its history; where several processes train, one has it.

    A row for each validation: step, epoch, loss, validation_jaccard, validation_dice, device, precision, whether its
    state was `chosen` for the model, and what else the kind of network knows.
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
