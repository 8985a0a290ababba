"""Serve a page on which the volumes of a run that has ended can be looked at; see --help."""

import argparse
import logging
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "scripts"))

import numpy as np
from slicesampling.cohort.volumes import all_volume_folders, load_preprocessed
from slicesampling.configuration import read_configuration
from slicesampling.jobs.command import faults_in_one_line
from slicesampling.page.server import PORT, listen
from slicesampling.page.viewing import Run, make_viewer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(";")[0] + ".")
    parser.add_argument("--results", type=Path, default=Path("results"), help="of the run (default: results)")
    parser.add_argument(
        "--configfile",
        type=Path,
        nargs="+",
        default=[],
        help="as snakemake was given; entropy maps take samples and device from it",
    )
    parser.add_argument("--port", type=int, help=f"of this machine (default: {PORT}, or a free one)")
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    token = secrets.token_urlsafe(32)
    try:
        with faults_in_one_line():
            run = Run(options.results, entropy_maps(options.results, read_configuration(options.configfile)))
            listen(make_viewer(run, token), token, options.port)
    except KeyboardInterrupt:
        print()


def entropy_maps(results: Path, config: dict[str, Any]) -> Callable[[str, str], np.ndarray]:
    """Return the function that samples a model on a volume as the run did: predictive entropy in nats (z, y, x)."""
    folders = all_volume_folders(results)

    def entropy(model: str, volume: str) -> np.ndarray:
        from slicesampling.learning.compute import computing  # torch, which takes seconds, only where it is needed
        from slicesampling.learning.networks.interface import load_model

        seed, name = model.split("/")
        compute = computing(config["compute"])
        loaded = load_model(results / "models" / model / "model.pt", compute)
        key = (int(seed.removeprefix("seed")), name, volume, "uncertainty")
        image = load_preprocessed(folders[volume]).image
        sampled = loaded.sample(image, config["uncertainty"]["samples"], key)
        return sampled.measures["predictive_entropy"].cpu().numpy()

    return entropy


if __name__ == "__main__":
    main()
