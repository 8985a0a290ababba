"""How the cost of Monte Carlo dropout grows with volumes, samples and slices: seconds and memory, a process each."""

import argparse
import json

import common
import numpy as np
import torch
from slicesampling.learning.inference import sample
from slicesampling.learning.uncertainty import slice_profiles, structure_region, volume_scores
from slicesampling.learning.unet import AnisotropicUNet

FILTERS, IN_PLANE = (4, 8, 16, 32, 64), 96
"""Narrow and small, so that all rows take minutes on two cores."""
BASE = {"volumes": 1, "samples": 20, "slices": 100}
ROWS = [
    *({"volumes": n} for n in (1, 2, 4, 8)),
    *({"samples": n} for n in (1, 5, 20, 80)),
    *({"slices": n} for n in (100, 250, 500, 1000)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--row", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    compute = common.compute_of(given.device, given.precision, given.threads)
    if given.row:
        network = AnisotropicUNet(FILTERS)
        network.initialise(torch.Generator().manual_seed(1))
        network.to(compute.device).eval()
        shape = (given.row["slices"], IN_PLANE, IN_PLANE)
        image = np.random.default_rng(1).integers(-1000, 1000, shape).astype(np.int16)

        def work() -> None:
            for number in range(given.row["volumes"]):
                result = sample(network, image, (-1000, 1000), compute, given.row["samples"], (number,))
                region = structure_region(result.liver)
                volume_scores(slice_profiles(result.measures, region), region)

        time = common.seconds(work, 1 if given.row["volumes"] * given.row["samples"] > 80 else 3, compute.device)
        print(json.dumps({"seconds": time, "memory": common.peak_gib(compute.device)}))
        return
    options = ["--device", given.device, "--precision", given.precision, "--threads", str(given.threads)]
    print(f"{common.machine(compute)}; filters {FILTERS}, {IN_PLANE}×{IN_PLANE} pixels; the others are {BASE}\n")
    print("| what grows | to | seconds | of the first | memory (GiB) |\n|:---|---:|---:|---:|---:|")
    first: dict[str, float] = {}
    for row in ROWS:
        (name, value), result = *row.items(), common.in_a_process([*options, "--row", json.dumps(BASE | row)])
        first.setdefault(name, result["seconds"])
        ratio = result["seconds"] / first[name]
        print(f"| {name} | {value} | {result['seconds']:.2f} | {ratio:.2f} | {result['memory']:.2f} |", flush=True)


if __name__ == "__main__":
    main()
