"""The geometry of the anisotropic u-net: the sizes of its feature maps after valid convolutions and poolings."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

Axes = tuple[int, int, int]

CONVOLUTIONS = 2
"""Convolution blocks per level, before and after each skip connection (Fig. 1)."""


def axes(values: Iterable[int]) -> Axes:
    """Return three numbers (z, y, x) as plain integers."""
    z, y, x = (int(value) for value in values)
    return z, y, x


class _Levels(NamedTuple):
    levels: int
    in_plane_levels: int


class Geometry(_Levels):
    """Sizes in voxels, (z, y, x), of a u-net with `levels` levels, of which the first `in_plane_levels` are in-plane.

    In an in-plane level the convolutions are 3 wide along y and x only, and the pooling below it halves y and x only.
    """

    @cached_property
    def pooling(self) -> list[Axes]:
        """The pooling factors (z, y, x) between each level and the next."""
        return [(1 if level < self.in_plane_levels else 2, 2, 2) for level in range(self.levels - 1)]

    @cached_property
    def lost(self) -> list[Axes]:
        """The voxels that each level loses per side on the way down or up: one for each 3-wide kernel."""
        return [
            (0 if level < self.in_plane_levels else CONVOLUTIONS, CONVOLUTIONS, CONVOLUTIONS)
            for level in range(self.levels)
        ]

    @cached_property
    def crops(self) -> list[Axes]:
        """The voxels cropped from each side of each skip connection, which are those lost below it."""
        crops: list[Axes] = []
        below = np.array(self.lost[-1])
        for pooling, lost in zip(reversed(self.pooling), reversed(self.lost[:-1]), strict=True):
            crops.insert(0, axes(below * pooling))
            below = below * pooling + 2 * np.array(lost)
        return crops

    @cached_property
    def margin(self) -> Axes:
        """The voxels of context lost on each side: (20, 92, 92) for the paper's network."""
        return axes(np.add(self.crops[0], 2 * np.array(self.lost[0]))) if self.crops else self.lost[0]

    @cached_property
    def stride(self) -> Axes:
        """The period of the poolings' phase in voxels (z, y, x)."""
        return axes(np.prod([(1, 1, 1), *self.pooling], axis=0))

    def output_size(self, at_least: Sequence[int]) -> Axes:
        """Return the smallest output (z, y, x) of at least `at_least` voxels for which all poolings divide evenly.

        Valid outputs are one `stride` apart: 180 and 196 in plane, 4 and 8 along z for the paper's network.
        """
        lost = np.zeros(3, dtype=int)  # an output of the top level is stride × (a size of the deepest level) - lost
        for pooling, margin in zip(reversed(self.pooling), reversed(self.lost[:-1]), strict=True):
            lost = lost * pooling + 2 * np.array(margin)
        stride = np.array(self.stride)
        return axes(-(-(np.maximum(at_least, 1) + lost) // stride) * stride - lost)

    def level_sizes(self, output: Axes) -> list[tuple[Axes, Axes]]:
        """Return the sizes of each level's feature maps on the way down and up, for an output size of the network."""
        sizes: list[tuple[Axes, Axes]] = []
        encoder, decoder = np.add(output, 2 * np.array(self.margin)), np.array(output)
        for level in range(self.levels):
            encoder = encoder - 2 * np.array(self.lost[level])
            sizes.append((axes(encoder), axes(decoder)))
            if level < self.levels - 1:
                encoder = encoder // self.pooling[level]
                decoder = (decoder + 2 * np.array(self.lost[level])) // self.pooling[level]
        return sizes
