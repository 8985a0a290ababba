"""Trained models as files, and the device they run on."""

import hashlib
import importlib.metadata
import json
import platform
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import torch

from . import UserError
from .files import replacing
from .network import AnisotropicUNet


def computing_device(name: str, threads: int) -> torch.device:
    """Return the device called `name` (auto: CUDA where there is a device), and bind torch to `threads` CPU threads.

    The number of threads must come from the configuration: sums are split by it, so their last bits depend on it.
    """
    torch.set_num_threads(threads)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("compute.device is cuda, but torch finds no CUDA device; accepted here: auto, cpu")
    return torch.device(name)


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
        torch.save(content, temporary)


def load_model(path: str | Path, device: torch.device) -> Model:
    """Return the model that `save_model` wrote, in inference mode on `device`."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    network = build_network(content["network"], device)
    network.load_state_dict(content["state"])
    low, high = content["window"]
    return Model(network.eval(), (low, high))


def fingerprint(*parts: Any) -> str:
    """Return a digest of anything that JSON can hold, to tell whether a checkpoint belongs to these settings."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def origin(source: str | Path) -> dict[str, Any]:
    """Return what results depend on beside the configuration: source revision, versions, device.

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
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
        "system": platform.platform(),
    }
