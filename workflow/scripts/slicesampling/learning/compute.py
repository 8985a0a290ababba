"""Device, precision and memory of computations, and the provenance of results beside the configuration."""

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
    "tf32": torch.float32,  # on a GPU, convolutions and products read 10 bits of the mantissa
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
DEVICE_SHARE = 0.6
"""Share of a GPU's available memory for a tile's feature maps; the rest is for whole volumes and convolutions."""
CPU_TILE_GIB = 3
"""Memory for a tile's feature maps on any CPU; it is fixed because other tiles round differently."""


class Compute(NamedTuple):
    """Device, precision and memory of computations, see `computing`.

    precision: a key of `PRECISIONS`, of the feature maps in training and in Monte Carlo sampling. tile_memory: bytes
    for the feature maps of a tile in inference; None: `DEVICE_SHARE` of what is available at the time. training_data:
    compute.training_data of the configuration.
    """

    device: torch.device
    precision: str = "float32"
    tile_memory: float | None = None
    training_data: str = "auto"

    @property
    def dtype(self) -> torch.dtype:
        """The type of feature maps in training and in Monte Carlo sampling."""
        return PRECISIONS[self.precision]

    @property
    def prediction_dtype(self) -> torch.dtype:
        """The type of feature maps in validation and prediction, never bfloat16.

        Rounding folded weights to the 8 bits of bfloat16 shifts all cases of a model in the same direction, which a
        paired test mistakes for an effect (method, section 7; benchmarks/NOTES.md). A CPU gains nothing from float16.
        """
        narrow = self.dtype != torch.float32 and self.device.type == "cuda"
        return torch.float16 if narrow else torch.float32

    def memory_for_tiles(self) -> float:
        """Return the bytes now available for the feature maps of a tile."""
        if self.tile_memory is not None:
            return self.tile_memory
        return DEVICE_SHARE * available_memory(self.device)


def computing(settings: dict[str, Any]) -> Compute:
    """Resolve the `compute` section of the configuration on this machine, and set torch's number of threads.

    The number of threads must come from the configuration, because it determines the split of sums and so their last
    bits. Raise UserError if the device does not exist or does not support the precision.
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
        has_not = f"which {device_name(device)} does not support"
        raise UserError(f"compute.precision is {precision}, {has_not}; accepted here: auto, {', '.join(possible)}")
    if name == "cuda":  # torch's own default is tf32 in convolutions and float32 in products
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    memory = None if tile_gib == "auto" else tile_gib * 2**30
    if memory is None and name == "cpu":
        memory = CPU_TILE_GIB * 2**30
    logger.info("computing on %s (%s) in %s", device_name(device), device, precision)
    return Compute(device, precision, memory, settings["training_data"])


def _own_gpu() -> torch.device:
    """Return the GPU of this process, and make it torch's default GPU."""
    rank, count = local_rank(), torch.cuda.device_count()
    if rank >= count:
        raise UserError(f"compute.training_processes: process {rank + 1} has no GPU; this job sees {count}")
    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    return device


def device_name(device: torch.device) -> str:
    """Return the product name of a GPU, or the architecture of the CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({platform.machine()})"


def _fast_precision() -> str:
    """Return the fast precision for stable training on this GPU: bfloat16 if supported, else float16."""
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def _keep_freed_memory() -> None:
    """Let the C library keep freed memory: new pages for each feature map take a third of the time on a CPU.

    All threads share the kept memory. That of threads that read ahead is limited to less than a volume, which made
    their reading 50 % slower.
    """
    with contextlib.suppress(OSError, AttributeError):  # the C library is not glibc
        libc = ctypes.CDLL("libc.so.6")
        trim_threshold, mmap_max, arena_max = -1, -4, -8  # of malloc.h
        libc.mallopt(arena_max, 1)
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)


def fingerprint(*parts: Any) -> str:
    """Return a digest of arrays and JSON values, which identifies the training of a checkpoint."""
    digest = hashlib.blake2b()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(repr((part.shape, part.dtype.str)).encode())
            for plane in part:  # plane by plane, because the array may be memory-mapped
                digest.update(np.ascontiguousarray(plane).data)
        else:
            digest.update(json.dumps(part, sort_keys=True).encode())
    return digest.hexdigest()


def origin(source: str | Path) -> dict[str, Any]:
    """Return the provenance of results beside the configuration and the device: source revision, versions, system.

    source: the folder of the workflow; the revision is "unknown" if it is not a git checkout or git is missing.
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
