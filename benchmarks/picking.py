"""Picking slices by the maps of an ensemble, beside reading these maps alone.

    .venv/bin/python benchmarks/picking.py [--shape 300 380 380] [--members 5] [--volumes 2] [--threads 1]

Maps have one structure and are smooth, as a network's are, in each of the formats. Prints seconds a volume, and their
ratio.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import common
import nibabel
import numpy as np
import torch
from scipy.ndimage import zoom
from slicesampling.learning.ensembles import ensemble_scores, members_of, read_map
from slicesampling.learning.uncertainty import MEASURES

KINDS = (".nii.gz", ".npz")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", type=int, nargs=3, default=[300, 380, 380])
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--volumes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"Measured on {common.machine(common.compute_of('cpu', 'float32', options.threads))}.\n")
    print("| maps | measures | reading | picking | ratio | memory |\n| --- | --- | ---: | ---: | ---: | ---: |")
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), kind, options)
            maps = members_of(Path(folder))
            started = time.monotonic()
            for paths in maps.values():
                for path in paths:
                    read_map(path, None)
            reading = time.monotonic() - started
            for measures in (["predictive_entropy"], list(MEASURES)):
                started = time.monotonic()
                ensemble_scores(maps, None, 11, measures)
                picking = time.monotonic() - started
                memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
                each = [seconds / options.volumes for seconds in (reading, picking)]
                print(
                    f"| {kind} | {'all' if len(measures) > 1 else measures[0]} | {each[0]:.1f} s | {each[1]:.1f} s | "
                    f"{picking / reading:.2f} | {memory:.1f} GiB |", flush=True,
                )  # fmt: skip


def write(folder: Path, kind: str, options: argparse.Namespace) -> None:
    random = np.random.default_rng(0)
    for member in range(options.members):
        (folder / f"fold_{member}").mkdir()
        for volume in range(options.volumes):
            coarse = random.normal(0, 1.5, [max(n // 20, 2) for n in options.shape])
            axes = np.meshgrid(*((np.arange(n) + 0.5) / n - 0.5 for n in options.shape), indexing="ij", sparse=True)
            liver = sum((axis / half) ** 2 for axis, half in zip(axes, (0.25, 0.2, 0.2), strict=True))
            scores = zoom(coarse, np.divide(options.shape, coarse.shape), order=1) + np.clip(9 * (1 - liver), -20, 9)
            values = (1 / (1 + np.exp(-scores))).astype(np.float32)
            path = folder / f"fold_{member}/{volume}{kind}"
            if kind == ".npz":  # as nnU-Net saves them
                np.savez_compressed(path, probabilities=np.stack([1 - values, values]))
            else:
                nibabel.save(nibabel.Nifti1Image(values.T, np.diag([-1, -1, 1, 1])), path)


if __name__ == "__main__":
    main()
