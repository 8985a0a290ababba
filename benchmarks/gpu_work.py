"""What the parts of gpu.py share: sizes, precisions, made volumes, and the calls of the library."""

import contextlib
import gc
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import common  # noqa: F401 - puts the library on the path
import numpy as np
import torch
from slicesampling.learning.checkpoint import Checkpoint
from slicesampling.learning.compute import Compute, computing
from slicesampling.learning.geometry import Axes, axes
from slicesampling.learning.inference import Predictor, sample
from slicesampling.learning.memory import reset_peak_memory
from slicesampling.learning.patches import AnnotatedVolume, TrainingSet
from slicesampling.learning.training import Settings, ValidationVolume, prepared_batches, steps_after, train
from slicesampling.learning.unet import AnisotropicUNet
from torch import Tensor

PRECISIONS = ("float32", "tf32", "bfloat16", "float16")
WINDOW = (-1000.0, 1000.0)
BATCH = 2
Batch = tuple[Tensor, Tensor, Tensor]
Rows = dict[str, Callable[[dict[str, Any]], dict[str, Any]]]
"""The work of each row of a part; it is given the rows before it, and returns cells by the names of their columns."""


class LeftOut(Exception):  # noqa: N818 - nothing is wrong
    """Why a row cannot be had here."""


class Scale(NamedTuple):
    """Sizes in voxels (z, y, x). `patch` is what a training step takes, `crop` one that a CPU does in seconds.

    `checked` is compared with the CPU, `large` has the largest tiles, `sampled` is for Monte Carlo dropout, `clinical`
    for training data and validation. `small_gib` makes small tiles of `large`, `scarce_gib` several of `sampled`.
    """

    filters: tuple[int, ...]
    patch: Axes
    crop: Axes
    checked: Axes
    large: Axes
    sampled: Axes
    clinical: Axes
    small_gib: float
    scarce_gib: float
    samples: int
    lessons: int
    volumes: int
    paper_tile: Axes
    windows: Axes


FULL = Scale(
    filters=(22, 44, 88, 176, 336),
    patch=(4, 180, 180),
    crop=(4, 20, 20),
    checked=(32, 68, 68),
    large=(619, 410, 410),  # a CT of 1 160 slices, preprocessed
    sampled=(64, 356, 356),
    clinical=(282, 380, 380),
    small_gib=3,
    scarce_gib=3,
    samples=20,
    lessons=100,
    volumes=6,
    paper_tile=(4, 180, 180),
    windows=(128, 128, 64),
)
REHEARSAL = Scale(
    filters=(4, 6, 8),
    patch=(4, 20, 20),
    crop=(4, 12, 12),
    checked=(12, 24, 24),
    large=(40, 44, 44),
    sampled=(12, 40, 40),
    clinical=(8, 32, 32),
    small_gib=2**-8,
    scarce_gib=2**-9,
    samples=4,
    lessons=10,
    volumes=2,
    paper_tile=(4, 20, 20),
    windows=(16, 16, 16),
)


class Setting(NamedTuple):
    """Sizes, device, CPU threads, seconds to measure a row for, and a folder for files that nobody keeps."""

    scale: Scale
    device: str
    threads: int
    seconds: float
    folder: Path

    @property
    def fast(self) -> str:
        """The precision that trains stably and fast; the CPU of a rehearsal plays it too."""
        native = self.device == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False)
        return "bfloat16" if native else "float16"


def compute_in(precision: str, setting: Setting, device: str | None = None) -> Compute:
    """Return the library's settings for a precision, and let convolutions multiply in it; a CPU has no tf32."""
    name = device or setting.device
    kind = "float32" if (name, precision) == ("cpu", "tf32") else precision
    chosen = {"device": name, "precision": kind, "threads": setting.threads}
    return computing(chosen | {"tile_gib": "auto", "training_data": "auto"})


def refresh(setting: Setting) -> None:
    """Free what the row before held, and undo what it switched."""
    gc.collect()
    torch.backends.cudnn.benchmark = torch.backends.cudnn.deterministic = False
    torch.use_deterministic_algorithms(False)
    if setting.device == "cuda":
        torch.cuda.empty_cache()
    reset_peak_memory(torch.device(setting.device))


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def made_volume(shape: Axes, seed: int = 1) -> ValidationVolume:
    """Return HU and mask of a box in noise, brighter from slice to slice, so that no two slices are alike."""
    random = np.random.default_rng(seed)
    mask = np.zeros(shape, np.uint8)
    mask[tuple(slice(size // 4 + seed % 2, size - size // 4) for size in shape)] = 1
    image = random.integers(-150, 150, shape, dtype=np.int16)
    contrast = np.linspace(60, 350, shape[0]).astype(np.int16)
    image += mask * contrast[:, None, None]
    return ValidationVolume(image, mask)


def training_set(volumes: list[ValidationVolume], patch: Axes, home: torch.device | None = None) -> TrainingSet:
    """Return fully annotated volumes as they are, or on the device `home`."""
    annotated = [
        AnnotatedVolume(str(number), volume.image, volume.mask, np.arange(len(volume.image)))
        for number, volume in enumerate(volumes)
    ]
    data = TrainingSet(annotated, patch)
    if home is not None:
        data.move_to(home)
    return data


def settings_of(patch: Axes, interval: int = 10**9, epochs: int | None = None, rate: float = 1e-5) -> Settings:
    return Settings(patch, BATCH, rate, interval, WINDOW, epochs, None, None)


def batches(data: TrainingSet, network: AnisotropicUNet, compute: Compute) -> Iterator[Batch]:
    """Yield mini-batches as a training of the library gets them, without end."""
    settings = settings_of(data.patch)
    planned = steps_after(0, data, settings, ("gpu",))
    return (batch for _, _, batch in prepared_batches(planned, data, network, settings, compute.device))


def constant_batch(network: AnisotropicUNet, patch: Axes, compute: Compute) -> Batch:
    """Return one mini-batch on the device, half of it liver."""
    size = axes(2 * side for side in patch)
    with contextlib.closing(batches(training_set([made_volume(size)], patch), network, compute)) as stream:
        return next(stream)


def trained(
    network: AnisotropicUNet,
    data: TrainingSet,
    settings: Settings,
    compute: Compute,
    folder: Path,
    progress: Callable[[Any], None] = lambda now: None,
    minutes: float = 60.0,
) -> dict[str, Any]:
    """Run a whole training of the library, with one volume to validate on."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = Checkpoint(folder / "checkpoint.pt", "gpu", minutes)
    return train(
        network, data, [made_volume(axes(2 * n for n in data.patch))], settings, compute, ("gpu",), checkpoint, progress
    )


def new_network(setting: Setting, device: str | torch.device) -> AnisotropicUNet:
    network = AnisotropicUNet(setting.scale.filters)
    network.initialise(torch.Generator().manual_seed(1))
    return network.to(device)


def probability_of(network: AnisotropicUNet, image: np.ndarray, compute: Compute) -> Tensor:
    """Return the probability of liver (z, y, x), without dropout."""
    return Predictor(network, WINDOW, compute)(image)


def entropy_of(network: AnisotropicUNet, image: np.ndarray, compute: Compute, samples: int) -> Tensor:
    """Return the predictive entropy (z, y, x) of Monte Carlo samples."""
    return sample(network, image, WINDOW, compute, samples, ("gpu",)).measures["predictive_entropy"]


class _Count(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "out of memory" in record.getMessage():
            self.messages.append(record.getMessage())


@contextlib.contextmanager
def retries() -> Iterator[list[str]]:
    """Collect what inference says when it takes smaller tiles because the memory did not suffice."""
    handler, logger = _Count(), logging.getLogger("slicesampling.learning.inference")
    logger.addHandler(handler)
    try:
        yield handler.messages
    finally:
        logger.removeHandler(handler)
