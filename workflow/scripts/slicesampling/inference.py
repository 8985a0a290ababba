"""Prediction of whole volumes in tiles, with and without Monte Carlo dropout (eq. 1)."""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from .geometry import Axes, axes
from .network import AnisotropicUNet
from .patches import extract, scale_intensities
from .randomness import seed_of

FEATURE_MAPS = 8
"""Maps of the top level's width that stand in memory at the worst moment, in the top decoder level: the skip
connection, what joins it (as wide), both joined (twice as wide), their dropped copy (twice as wide), two results."""


class TilePlan(NamedTuple):
    """Output shape (z, y, x) of each tile, and the tiles' first voxels along each axis."""

    shape: Axes
    starts: tuple[list[int], list[int], list[int]]


def plan_tiles(shape: Sequence[int], network: AnisotropicUNet, memory: float) -> TilePlan:
    """Return the tiles of a volume (z, y, x) that cost the least and fit into `memory` bytes.

    Where even the smallest tiles do not fit, the smallest are taken.
    The starts are multiples of the network's stride, so that each voxel is seen at the same phase of the poolings
    whatever the tiling: the result does not depend on it.
    """
    budget = memory / (4 * FEATURE_MAPS * network.filters[0])  # voxels of a tile with its margin, in float32
    options: list[list[tuple[int, int, int]]] = []  # for each axis: (tile with margin, tile, number of tiles)
    for axis, size in enumerate(shape):
        sizes = {network.geometry.output_size([-(-size // count)] * 3)[axis] for count in range(1, size + 1)}
        axis_options: list[tuple[int, int, int]] = []
        for tile in sizes:
            step = tile // network.geometry.stride[axis] * network.geometry.stride[axis]
            if tile >= size:
                count = 1
            elif step > 0:
                count = 1 + -(-(size - tile) // step)
            else:  # smaller than a stride: cannot be laid side by side in phase
                continue
            axis_options.append((tile + 2 * network.margin[axis], tile, count))
        options.append(axis_options)

    def cost(choice: tuple[tuple[int, int, int], ...]) -> tuple[bool, int]:
        voxels = int(np.prod([with_margin for with_margin, _, _ in choice]))
        too_large = voxels > budget
        return too_large, voxels if too_large else voxels * int(np.prod([count for _, _, count in choice]))

    best = min(itertools.product(*options), key=cost)
    z, y, x = (
        [number * (size // stride * stride) for number in range(count)]
        for (_, size, count), stride in zip(best, network.geometry.stride, strict=True)
    )
    return TilePlan(axes([size for _, size, _ in best]), (z, y, x))


def predict_tiles(
    network: AnisotropicUNet,
    image: np.ndarray,
    window: tuple[float, float],
    memory: float,
    probability_of: Callable[[list[torch.Tensor], int], torch.Tensor],
) -> np.ndarray:
    """Return class probabilities (class, z, y, x), float32, of a volume of HU (z, y, x), put together from tiles.

    `probability_of` turns what the network's encoder makes of a tile, and the tile's number, into probabilities
    (1, class, z, y, x). Valid convolutions need no blending: each voxel is computed with its full context.
    """
    device = next(network.parameters()).device
    result = np.empty((network.classes, *image.shape), dtype=np.float32)
    plan = plan_tiles(image.shape, network, memory)
    with_margin = [size + 2 * side for size, side in zip(plan.shape, network.margin, strict=True)]
    for number, start in enumerate(itertools.product(*plan.starts)):
        first = [voxel - side for voxel, side in zip(start, network.margin, strict=True)]
        block = scale_intensities(extract(image, first, with_margin), window)
        probability = probability_of(network.encode(torch.from_numpy(block)[None, None].to(device)), number)
        inside = [slice(voxel, voxel + size) for voxel, size in zip(start, plan.shape, strict=True)]
        target = result[(slice(None), *inside)]
        z, y, x = target.shape[1:]
        target[...] = probability[0, :, :z, :y, :x].cpu().numpy()
    return result


@torch.inference_mode()
def predict(network: AnisotropicUNet, image: np.ndarray, window: tuple[float, float], memory: float) -> np.ndarray:
    """Return class probabilities (class, z, y, x) of a volume of HU (z, y, x), without dropout.

    `window` (HU) is scaled to [-1, 1]; `memory` (bytes) bounds the feature maps of a tile.
    """
    network.eval()
    return predict_tiles(
        network, image, window, memory, lambda features, _: network.decode(features, None).softmax(dim=1)
    )


@torch.inference_mode()
def sample_mean_probability(
    network: AnisotropicUNet,
    image: np.ndarray,
    window: tuple[float, float],
    memory: float,
    samples: int,
    key: Sequence[str | int],
) -> np.ndarray:
    """Return the mean class probabilities (class, z, y, x) of `samples` Monte Carlo dropout samples, as in eq. 1.

    Only dropout is stochastic: batch norm stays in inference mode. What lies before the first dropout is computed once
    a tile, and the mean is kept as a running sum, so that memory does not grow with the number of samples. The random
    numbers depend on `key`, the tile and the sample alone.
    """
    network.eval()
    generator = torch.Generator(device=next(network.parameters()).device)

    def mean_probability(features: list[torch.Tensor], tile: int) -> torch.Tensor:
        total: torch.Tensor | int = 0
        for sample in range(samples):
            generator.manual_seed(seed_of(*key, tile, sample))
            total = total + network.decode(features, generator).softmax(dim=1)
        return total / samples  # type: ignore[return-value]

    return predict_tiles(network, image, window, memory, mean_probability)
