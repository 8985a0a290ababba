"""The cost of a tile in multiply-accumulates and memory, and the tiling of a volume."""

import itertools
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from .geometry import CONVOLUTIONS, Axes, Geometry, axes

SAMPLES_AT_ONCE = 4
"""The most Monte Carlo samples per pass over a tile: small tiles take half the time; more samples gain nothing."""

MOST_ELEMENTS = 2**31 - 1
"""The most elements of a feature map: with more, 32-bit indices in CUDA kernels overflow."""


class Architecture(NamedTuple):
    """The sizes of a network: channels of each level from the top down, number of in-plane levels, and classes."""

    filters: tuple[int, ...]
    in_plane_levels: int
    classes: int = 2

    @property
    def geometry(self) -> Geometry:
        return Geometry(len(self.filters), self.in_plane_levels)


class _Tensor(NamedTuple):
    """A feature map: its channels, the way down (0) or up (1), and for each axis its level and the additional voxels on
    each side."""

    channels: int
    way: int
    levels: Axes
    more: Axes


class _Steps(NamedTuple):
    """The pass of a tile through a network, as matrices over its feature maps.

    tensors: the feature maps; channels: (tensor,); decode: whether each belongs to the stochastic part, (tensor,);
    work: multiply-accumulates per voxel, (tensor,); held: bytes per voxel in memory at each moment, (moment, tensor).
    """

    tensors: list[_Tensor]
    channels: np.ndarray
    decode: np.ndarray
    work: np.ndarray
    held: np.ndarray


@cache
def _steps(architecture: Architecture, bytes_a_value: int) -> _Steps:
    """Follow `AnisotropicUNet.encode` and `decode`, and record the computed and the held feature maps."""
    filters, geometry = architecture.filters, architecture.geometry
    tensors: list[_Tensor] = []
    work: list[int] = []
    moments: list[list[int]] = []
    held: list[int] = []  # the image until it is encoded, skip connections until the tile is done

    def add(channels: int, way: int, level: int | Axes, more: Axes, macs: int, using: list[int]) -> int:
        levels = (level, level, level) if isinstance(level, int) else level
        tensors.append(_Tensor(channels, way, levels, more))
        work.append(macs)
        moments.append([*held, *using, len(tensors) - 1])
        return len(tensors) - 1

    def blocks(features: int, channels_in: int, way: int, level: int) -> int:
        for left in reversed(range(CONVOLUTIONS)):
            flat, width, given = level < architecture.in_plane_levels, filters[level], features
            features = add(width, way, level, (0 if flat else left + 1, left, left), 9 * channels_in, [given])
            if not flat:
                features = add(width, way, level, (left, left, left), 3 * width, [given, features])
            channels_in = width
        return features

    deepest = len(filters) - 1
    features = add(1, 0, 0, geometry.lost[0], 0, [])
    held.append(features)
    for level in range(deepest):
        features = blocks(features, tensors[features].channels, 0, level)
        skip = add(filters[level], 1, level, geometry.lost[level], 0, [features])
        held.append(skip)
        # Pooling halves one axis after the other, x first; its input is held until the end.
        given, halved = features, features
        for axis in (2, 1, 0):
            if geometry.pooling[level][axis] == 2:
                levels = axes(level + (a >= axis) for a in range(3))
                more = axes(geometry.lost[level + 1][a] if a >= axis else 0 for a in range(3))
                halved = add(filters[level], 0, levels, more, 0, [given, halved])
        features = halved
    features = blocks(features, tensors[features].channels, 0, deepest)
    if deepest:
        features = add(filters[-2], 1, deepest - 1, geometry.lost[deepest - 1], filters[-1], [features])
        held.append(features)
    held.pop(0)
    encoded = len(tensors)
    for level in reversed(range(deepest)):
        features = add(2 * filters[level], 1, level, geometry.lost[level], 0, [features])
        features = blocks(features, 2 * filters[level], 1, level)
        if level:
            features = add(filters[level - 1], 1, level - 1, geometry.lost[level - 1], filters[level], [features])
    add(architecture.classes, 1, 0, (0, 0, 0), filters[0], [features])

    channels = np.array([tensor.channels for tensor in tensors], dtype=float)
    in_memory = np.zeros((len(moments), len(tensors)))
    for moment, alive in zip(in_memory, moments, strict=True):
        moment[sorted(set(alive))] = 1
    return _Steps(
        tensors,
        channels,
        np.arange(len(tensors)) >= encoded,
        channels * np.array(work),
        in_memory * channels * bytes_a_value,
    )


def _sizes(architecture: Architecture, bytes_a_value: int, axis: int, outputs: Sequence[int]) -> np.ndarray:
    """Return the size of each feature map along one axis, (output, tensor), for several sizes of the output."""
    geometry, steps = architecture.geometry, _steps(architecture, bytes_a_value)
    levels = [geometry.level_sizes((size, size, size)) for size in outputs]
    return np.array(
        [[sizes[t.levels[axis]][t.way][axis] + 2 * t.more[axis] for t in steps.tensors] for sizes in levels],
        dtype=float,
    )


class TileCost(NamedTuple):
    """Multiply-accumulates of the deterministic part and of one Monte Carlo sample, peak bytes, and the elements of the
    largest feature map."""

    encode: float
    decode: float
    memory: float
    elements: float


def tile_cost(architecture: Architecture, tile: Axes, bytes_a_value: int = 4, samples_at_once: int = 1) -> TileCost:
    """Return the cost of a tile of output size (z, y, x); its memory excludes workspaces of convolutions."""
    z, y, x = (_sizes(architecture, bytes_a_value, axis, [tile[axis]])[0] for axis in range(3))
    steps = _steps(architecture, bytes_a_value)
    work, copies = z * y * x * steps.work, np.where(steps.decode, samples_at_once, 1)
    return TileCost(
        float(work[~steps.decode].sum()),
        float(work[steps.decode].sum()),
        float((steps.held @ (z * y * x * copies)).max()),
        float((z * y * x * copies * steps.channels).max()),
    )


class TilePlan(NamedTuple):
    """Output shape (z, y, x) of each tile, the tiles' first voxels along each axis, and the samples in one pass."""

    shape: Axes
    starts: tuple[list[int], list[int], list[int]]
    samples_at_once: int


def plan_tiles(
    shape: Sequence[int], architecture: Architecture, memory: float, samples: int = 1, bytes_a_value: int = 4
) -> TilePlan:
    """Return the cheapest tiling of a volume (z, y, x) for `samples` samples that fits into `memory` bytes.

    No feature map has more than `MOST_ELEMENTS` elements. If no tiles fit, the smallest are used. The starts are
    multiples of the network's stride, so that each voxel has the same phase of the poolings in any tiling, and the
    result does not depend on the tiling.
    """
    geometry, steps = architecture.geometry, _steps(architecture, bytes_a_value)
    options: list[
        tuple[list[int], np.ndarray]
    ] = []  # for each axis: sizes of a tile, and how many tiles of that size the volume needs
    for axis, size in enumerate(shape):
        stride = geometry.stride[axis]
        counts: dict[int, int] = {}
        for tile in {geometry.output_size([-(-size // count)] * 3)[axis] for count in range(1, size + 1)}:
            step = tile // stride * stride
            if tile >= size:
                counts[tile] = 1
            elif step:  # tiles smaller than a stride cannot be adjacent and in phase
                counts[tile] = 1 + -(-(size - tile) // step)
        options.append((sorted(counts), np.array([counts[tile] for tile in sorted(counts)])))

    repeats = np.where(steps.decode, samples, 1) * steps.work
    (deep, layers), (high, rows), (wide, columns) = options
    in_plane = (
        _sizes(architecture, bytes_a_value, 1, high)[:, None] * _sizes(architecture, bytes_a_value, 2, wide)[None]
    )
    candidates = []
    for depth, along_z, count in zip(deep, _sizes(architecture, bytes_a_value, 0, deep), layers, strict=True):
        voxels = in_plane * along_z
        needed = np.max(voxels @ steps.held.T, axis=-1)
        cost = (voxels @ repeats) * count * rows[:, None] * columns
        fits = (needed <= memory) & ((voxels * steps.channels).max(axis=-1) <= MOST_ELEMENTS)
        ranked = np.where(fits, cost, np.inf) if fits.any() else needed
        row, column = np.unravel_index(np.argmin(ranked), ranked.shape)
        candidates.append((not fits.any(), float(ranked[row, column]), (depth, high[row], wide[column])))
    best = axes(min(candidates)[2])
    at_once = 1
    while at_once < min(samples, SAMPLES_AT_ONCE):
        more = tile_cost(architecture, best, bytes_a_value, at_once + 1)
        if more.memory > memory or more.elements > MOST_ELEMENTS:
            break
        at_once += 1
    z, y, x = (
        [number * (size // stride * stride) for number in range(int(numbers[sizes.index(size)]))]
        for size, stride, (sizes, numbers) in zip(best, geometry.stride, options, strict=True)
    )
    return TilePlan(best, (z, y, x), at_once)


def tile_starts(plan: TilePlan) -> list[Axes]:
    """Return the first voxel (z, y, x) of each tile, in order."""
    return list(itertools.product(*plan.starts))
