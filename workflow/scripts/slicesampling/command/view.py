"""`slicesampling view`: a page that shows the volumes of a finished run."""

import argparse
import logging
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..cohort.volumes import all_volume_folders, load_preprocessed
from ..configuration import read_configuration
from ..page.server import PORT, listen
from ..page.viewing import Run, make_viewer

EPILOG = """example: slicesampling view --results ../copied/results --configfile my.yaml"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", type=Path, default=Path("results"), help="of the run (default: results)")
    parser.add_argument(
        "--configfile",
        type=Path,
        nargs="+",
        default=[],
        help="as given to snakemake; entropy maps use its samples and device",
    )
    parser.add_argument("--port", type=int, help=f"port on this machine (default: {PORT}, or a free one)")


def run(options: argparse.Namespace) -> None:
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    token = secrets.token_urlsafe(32)
    shown = Run(options.results, entropy_maps(options.results, read_configuration(options.configfile)))
    listen(make_viewer(shown, token), token, options.port)


def entropy_maps(results: Path, config: dict[str, Any]) -> Callable[[str, str], np.ndarray]:
    """Return a function that samples a model on a volume as in the run; predictive entropy in nats (z, y, x)."""
    folders = all_volume_folders(results)

    def entropy(model: str, volume: str) -> np.ndarray:
        from ..learning.compute import computing  # imports torch, which takes seconds
        from ..learning.networks.interface import load_model

        seed, name = model.split("/")
        compute = computing(config["compute"])
        loaded = load_model(results / "models" / model / "model.pt", compute)
        key = (int(seed.removeprefix("seed")), name, volume, "uncertainty")
        image = load_preprocessed(folders[volume]).image
        sampled = loaded.sample(image, config["uncertainty"]["samples"], key)
        return sampled.measures["predictive_entropy"].cpu().numpy()

    return entropy
