"""Trained models as files, and the device they run on."""

import contextlib
import ctypes
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from . import UserError
from .checkpoint import write_state
from .files import replacing
from .network import AnisotropicUNet

logger = logging.getLogger(__name__)

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DEVICE_SHARE = 0.6
"""Of the free memory of a GPU for the feature maps of a tile; the rest is for whole volumes and convolutions."""
CPU_TILE_GIB = 3
"""The same on every CPU, because other tiles round differently."""
DATA_SHARE = 0.2
"""Of the free memory of a GPU for training volumes, at most."""


class Compute(NamedTuple):
    """Where and how networks are computed: device, type of the feature maps, and bytes for those of one tile."""

    device: torch.device
    dtype: torch.dtype
    tile_memory: float

    @property
    def precision(self) -> str:
        """The type of the feature maps as the configuration calls it."""
        return str(self.dtype).removeprefix("torch.")


def computing(settings: dict[str, Any]) -> Compute:
    """Return what the `compute` section of the configuration means on this machine, and bind torch to its threads.

    The number of threads must come from the configuration: sums are split by it, so their last bits depend on it.
    Raises UserError where there is no such device, or it has no such precision.
    """
    torch.set_num_threads(settings["threads"])
    name, precision, tile_gib = settings["device"], settings["precision"], settings["tile_gib"]
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("compute.device is cuda, but torch finds no CUDA device; accepted here: auto, cpu")
    device = torch.device(name)
    if name == "cuda":  # with its number, because the current GPU is each thread's own
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if name == "cpu":
        _keep_freed_memory()
    fast = _fast_precision() if name == "cuda" else "float32"
    if precision == "auto":
        precision = fast
    elif name == "cuda" and precision == "bfloat16" != fast:
        raise UserError(f"compute.precision is bfloat16, which this GPU has not; accepted here: auto, float32, {fast}")
    if tile_gib == "auto":
        memory = DEVICE_SHARE * torch.cuda.mem_get_info()[0] if name == "cuda" else CPU_TILE_GIB * 2**30
    else:
        memory = tile_gib * 2**30
    logger.info("computes on %s in %s", device_name(device), precision)
    return Compute(device, PRECISIONS[precision], memory)


def device_name(device: torch.device) -> str:
    """Return how the maker calls a GPU, or the kind of the CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({platform.machine()})"


def home_of_data(setting: str, compute: Compute, size: int) -> torch.device | None:
    """Return the device to which `size` bytes of training volumes are copied, or None: they stay maps of their files.

    `setting` is compute.training_data: auto copies them to a GPU where they take no more than `DATA_SHARE` of it.
    """
    fits = compute.device.type == "cuda" and size <= DATA_SHARE * torch.cuda.mem_get_info()[0]
    return compute.device if setting == "device" or (setting == "auto" and fits) else None


def _fast_precision() -> str:
    """Return what this GPU multiplies fastest and trains stably with: bfloat16, or float16 where it has only that."""
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def _keep_freed_memory() -> None:
    """Let the C library keep what is freed: fresh pages for each feature map cost a third of the time on a CPU."""
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        libc = ctypes.CDLL("libc.so.6")
        trim_threshold, mmap_max = -1, -4  # of malloc.h
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)


class Model(NamedTuple):
    """A trained network, ready for inference, and the HU `window` that its intensities were scaled by."""

    network: AnisotropicUNet
    window: tuple[float, float]


def build_network(settings: dict[str, Any], device: torch.device) -> AnisotropicUNet:
    """Return an untrained network for the `network` section of the configuration."""
    return AnisotropicUNet(settings["filters"], settings["in_plane_levels"], settings["dropout"]).to(device)


def save_model(path: str | Path, settings: dict[str, Any], window: list[float], run: dict[str, Any]) -> None:
    """Write the best state of a training `run` with what is needed to use it, by rename."""
    content = {"network": settings, "window": list(window), "best_step": run["best_step"], "state": run["state"]}
    with replacing(path) as temporary:
        write_state(temporary, content)


def load_model(path: str | Path, device: torch.device) -> Model:
    """Return the model that `save_model` wrote, in inference mode on `device`."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    network = build_network(content["network"], device)
    network.load_state_dict(content["state"])
    low, high = content["window"]
    return Model(network.eval(), (low, high))


def fingerprint(*parts: Any) -> str:
    """Return a digest of arrays and of anything that JSON can hold: whether a checkpoint belongs to these."""
    digest = hashlib.blake2b()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(repr((part.shape, part.dtype.str)).encode())
            for plane in part:  # of a map of a file, never all at once
                digest.update(np.ascontiguousarray(plane).data)
        else:
            digest.update(json.dumps(part, sort_keys=True).encode())
    return digest.hexdigest()


def origin(source: str | Path) -> dict[str, Any]:
    """Return what results depend on beside the configuration and the device: source revision, versions, system.

    `source` is the folder of the workflow; its revision is unknown where it is no git checkout or git is missing.
    """
    packages = ("snakemake", "torch", "numpy", "scipy", "pandas", "statsmodels", "nibabel", "pydicom", "matplotlib")
    try:
        command = ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=40"]
        revision = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        revision = "unknown"
    return {
        "source_revision": revision,
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "system": platform.platform(),
    }
