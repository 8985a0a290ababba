"""Where and how networks are computed, and what results depend on beside the configuration."""

import contextlib
import ctypes
import hashlib
import importlib.metadata
import json
import logging
import platform
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from .. import UserError
from .memory import available_memory
from .processes import local_rank

logger = logging.getLogger(__name__)

PRECISIONS = {
    "float32": torch.float32,
    "tf32": torch.float32,  # of which convolutions and products on a GPU read 10 bits behind the point
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
DEVICE_SHARE = 0.6
"""Of the available memory of a GPU for the feature maps of a tile; the rest is for whole volumes and convolutions."""
CPU_TILE_GIB = 3
"""The same on every CPU, because other tiles round differently."""


class Compute(NamedTuple):
    """Where and how networks are computed, as `computing` decides it.

    `precision`, a key of `PRECISIONS`, is that of the feature maps in training and in Monte Carlo sampling.
    `tile_memory` is the bytes for those of one tile in inference; None: `DEVICE_SHARE` of what is available then.
    `training_data` is compute.training_data of the configuration.
    """

    device: torch.device
    precision: str = "float32"
    tile_memory: float | None = None
    training_data: str = "auto"

    @property
    def dtype(self) -> torch.dtype:
        """Of the feature maps in training and in Monte Carlo sampling."""
        return PRECISIONS[self.precision]

    @property
    def prediction_dtype(self) -> torch.dtype:
        """Of the feature maps in validation and prediction, never bfloat16.

        Rounding folded weights to its 8 bits shifts all cases of a model alike, and a paired test takes that for an
        effect (method, section 7; benchmarks/NOTES.md). A CPU gains nothing from float16.
        """
        narrow = self.dtype != torch.float32 and self.device.type == "cuda"
        return torch.float16 if narrow else torch.float32

    def memory_for_tiles(self) -> float:
        """Return the bytes that the feature maps of a tile may take now."""
        if self.tile_memory is not None:
            return self.tile_memory
        return DEVICE_SHARE * available_memory(self.device)


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
    if name == "cpu":
        device, fast, possible = torch.device("cpu"), "float32", ["float32", "bfloat16", "float16"]
        _keep_freed_memory()
    else:
        device, fast = _own_gpu(), _fast_precision()
        possible = [name for name in PRECISIONS if name != "bfloat16" or fast == "bfloat16"]
    precision = fast if precision == "auto" else precision
    if precision not in possible:
        has_not = f"which {device_name(device)} has not"
        raise UserError(f"compute.precision is {precision}, {has_not}; accepted here: auto, {', '.join(possible)}")
    if name == "cuda":  # torch's own default is tf32 in convolutions and float32 in products
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    memory = None if tile_gib == "auto" else tile_gib * 2**30
    if memory is None and name == "cpu":
        memory = CPU_TILE_GIB * 2**30
    logger.info("computes on %s (%s) in %s", device_name(device), device, precision)
    return Compute(device, precision, memory, settings["training_data"])


def _own_gpu() -> torch.device:
    """Return the GPU of this process, and make it the one that torch takes where none is said."""
    rank, count = local_rank(), torch.cuda.device_count()
    if rank >= count:
        raise UserError(f"compute.training_processes: process {rank + 1} has no GPU; this job sees {count}")
    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    return device


def device_name(device: torch.device) -> str:
    """Return how the maker calls a GPU, or the kind of the CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({platform.machine()})"


def _fast_precision() -> str:
    """Return what this GPU multiplies fastest and trains stably with: bfloat16, or float16 where it has only that."""
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def _keep_freed_memory() -> None:
    """Let the C library keep what is freed: fresh pages for each feature map cost a third of the time on a CPU.

    All threads share what is kept. What threads that read ahead keep of their own is limited to less than a volume:
    reading one took them half as long again.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        libc = ctypes.CDLL("libc.so.6")
        trim_threshold, mmap_max, arena_max = -1, -4, -8  # of malloc.h
        libc.mallopt(arena_max, 1)
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)


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
