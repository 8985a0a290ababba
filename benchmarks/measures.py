"""All measures of uncertainty and the counts of voxels against the paper's entropy alone, for one volume.

Both are timed in turn in one process, as CPU seconds of one thread, so that other work on the machine matters little.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from unittest import mock

import common
import numpy as np
import torch
from slicesampling.learning import inference
from slicesampling.learning.compute import Compute
from slicesampling.learning.uncertainty import (
    Moments,
    selective_slice_uncertainty,
    slice_counts,
    slice_profiles,
    slice_uncertainty,
    structure_region,
    volume_scores,
    volume_uncertainty,
)
from slicesampling.learning.unet import AnisotropicUNet

SHAPE = (40, 180, 180)
WINDOW = (-1000.0, 1000.0)
CHANNELS = (22, 44, 88, 176, 336)


def mean_alone(samples: Iterable[torch.Tensor]) -> Moments:
    """The mean probability and nothing else: what the paper's entropy takes."""
    total, count = torch.empty(0), 0
    for count, scores in enumerate(samples, start=1):
        probability = scores.float().softmax(dim=0)
        total = probability if count == 1 else total.add_(probability)
    none = torch.empty(0)
    return Moments(total.div_(count), none, none)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=float, default=0.5, help="of the default network's channels")
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=7)
    given = parser.parse_args()
    compute: Compute = common.compute_of("cpu", "float32", 1)
    network = AnisotropicUNet([int(given.width * n) for n in CHANNELS])
    network.initialise(torch.Generator().manual_seed(1))
    network.eval()
    random = np.random.default_rng(1)
    image = random.integers(-1000, 1000, SHAPE).astype(np.int16)
    reference = torch.from_numpy(random.random(SHAPE) < 0.1)

    def all_of_them() -> None:
        sampled = inference.sample(network, image, WINDOW, compute, given.samples, ("key",))
        region = structure_region(sampled.liver)
        slice_counts(sampled.liver, reference)
        volume_scores(slice_profiles(sampled.measures, region), region)

    def entropy_alone() -> None:
        measures = {"predictive_entropy": lambda known: known.entropy_of_mean}
        with mock.patch.object(inference, "moments", mean_alone), mock.patch.object(inference, "MEASURES", measures):
            sampled = inference.sample(network, image, WINDOW, compute, given.samples, ("key",))
        entropy = sampled.measures["predictive_entropy"]
        region = structure_region(sampled.liver)
        selective = selective_slice_uncertainty(entropy, region)
        volume_uncertainty(slice_uncertainty(entropy), selective, region)

    def features() -> None:
        inference.slice_features(network, image, WINDOW, compute)

    def seconds(work: Callable[[], None]) -> float:
        started = time.thread_time()
        work()
        return time.thread_time() - started

    times = [[seconds(work) for work in (entropy_alone, all_of_them, features)] for _ in range(given.pairs + 1)][1:]
    alone, whole, deepest = (statistics.median(column) for column in zip(*times, strict=True))
    ratios = sorted(both / one for one, both, _ in times)
    print(f"{common.machine(compute)}; {given.samples} samples of {' × '.join(map(str, SHAPE))} voxels\n")
    print(f"entropy alone {alone:.2f} s; all measures and counts {whole:.2f} s; slice features {deepest:.2f} s")
    print(f"all to entropy alone, of {given.pairs} pairs: {ratios[0]:.3f} to {ratios[-1]:.3f}, median ", end="")
    print(f"{statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
