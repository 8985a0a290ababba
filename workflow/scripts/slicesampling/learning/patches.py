"""Training patches with reflected context, and their selection in an epoch (section II-E)."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .geometry import Axes


def scale_intensities(hounsfield: Tensor, window: tuple[float, float] = (-1000, 1000)) -> Tensor:
    """Return float32 intensities with `window` (HU) mapped to [-1, 1] and values outside clipped."""
    low, high = window
    return hounsfield.float().clamp_(low, high).mul_(2 / (high - low)).sub_((high + low) / (high - low))


def reflected(start: int, length: int, size: int) -> np.ndarray | None:
    """Return `length` indices from `start`, (length,), of an axis of `size` voxels, reflected at both ends.

    As in numpy's "reflect" padding, the end voxel is not repeated, and a context longer than the axis is reflected
    several times. Return None if nothing is reflected.
    """
    if start >= 0 and start + length <= size:
        return None
    period = 2 * max(size - 1, 1)
    indices = np.arange(start, start + length) % period
    return np.minimum(np.minimum(indices, period - indices), size - 1)  # a single voxel is its own reflection


def extract(volume: Tensor, start: Sequence[int], shape: Sequence[int], device: torch.device) -> Tensor:
    """Return the block (z, y, x) of `shape` at `start` on `device`, reflected where it leaves the volume.

    volume: (z, y, x), may be memory-mapped: only the voxels of the block are read. For a GPU, they are copied from
    pinned memory in their stored type, and reflected there.
    """
    indices = [reflected(*along) for along in zip(start, shape, volume.shape, strict=True)]
    read = tuple(
        slice(first, first + length) if index is None else slice(int(index.min()), int(index.max()) + 1)
        for first, length, index in zip(start, shape, indices, strict=True)
    )
    block = volume[read]
    if block.device != device:
        pinned = torch.empty(block.shape, dtype=block.dtype, pin_memory=device.type == "cuda")
        block = pinned.copy_(block).to(device, non_blocking=True)
    for axis, (index, part) in enumerate(zip(indices, read, strict=True)):
        if index is not None:
            block = block.index_select(axis, torch.from_numpy(index - part.start).to(device))
    return block


class AnnotatedVolume(NamedTuple):
    """A volume of the training set: HU and liver mask (z, y, x), and its annotated slices in ascending order."""

    name: str
    image: np.ndarray | Tensor
    mask: np.ndarray | Tensor
    slices: np.ndarray


class Tile(NamedTuple):
    """A training patch: index of its volume, first output voxel (z, y, x), and whether it holds annotated liver."""

    volume: int
    start: Axes
    liver: bool


class TrainingSet:
    """The annotated slices, divided into tiles.

    In plane, a fixed, centred grid of tiles covers each slice. Along z, a volume is divided into blocks of the patch's
    depth, with a random phase in each epoch, and only blocks with an annotated slice are used. So a fully annotated
    volume is covered once, and a single annotated slice is in one block, at a random position within it.
    """

    def __init__(self, volumes: Iterable[AnnotatedVolume], patch: Axes) -> None:
        """Use the volumes without a copy; they may be memory-mapped."""
        self.volumes = list(volumes)
        self.images = [torch.as_tensor(volume.image) for volume in self.volumes]
        self.masks = [torch.as_tensor(volume.mask) for volume in self.volumes]
        self.patch = patch
        # For each volume, whether liver is annotated: (annotated slice, tile along y, tile along x).
        self._liver = [self._liver_tiles(index) for index in range(len(self.volumes))]
        if not any(liver.any() for liver in self._liver):
            raise ValueError("no annotated slice holds liver; the loss needs at least one")

    @property
    def nbytes(self) -> int:
        """The size of all images and masks in bytes."""
        return sum(tensor.nbytes for tensor in [*self.images, *self.masks])

    def move_to(self, device: torch.device) -> None:
        """Copy all volumes to `device`; patches are extracted there from then on."""
        self.images, self.masks = ([tensor.to(device) for tensor in each] for each in (self.images, self.masks))

    def _grid(self, volume: int, axis: int) -> tuple[int, int]:
        """Return the first start and the number of the centred tiles that cover an in-plane axis."""
        size, side = self.masks[volume].shape[axis], self.patch[axis]
        count = -(-size // side)
        return -((count * side - size) // 2), count

    def _liver_tiles(self, index: int) -> np.ndarray:
        mask, slices = self.masks[index], self.volumes[index].slices
        (y, rows), (x, columns) = self._grid(index, 1), self._grid(index, 2)
        _, depth_y, depth_x = self.patch
        liver = np.zeros((len(slices), rows, columns), dtype=bool)
        for position, z in enumerate(slices):
            size_y, size_x = mask.shape[1:]
            beyond = (-x, columns * depth_x + x - size_x, -y, rows * depth_y + y - size_y)
            plane = functional.pad(mask[z], beyond)
            liver[position] = plane.view(rows, depth_y, columns, depth_x).amax(dim=(1, 3)).cpu().numpy()
        return liver

    def tiles(self, generator: np.random.Generator) -> list[Tile]:
        """Return the tiles of one epoch, volume by volume; `generator` draws each volume's phase along z."""
        depth = self.patch[0]
        tiles = []
        for index, (volume, liver) in enumerate(zip(self.volumes, self._liver, strict=True)):
            phase = int(generator.integers(depth))
            blocks, inverse = np.unique((volume.slices + phase) // depth, return_inverse=True)
            (y, rows), (x, columns) = self._grid(index, 1), self._grid(index, 2)
            holds_liver = np.zeros((len(blocks), rows, columns), dtype=bool)
            np.logical_or.at(holds_liver, inverse, liver)
            for (block, row, column), holds in np.ndenumerate(holds_liver):
                start = (
                    int(blocks[block]) * depth - phase,
                    y + row * self.patch[1],
                    x + column * self.patch[2],
                )
                tiles.append(Tile(index, start, bool(holds)))
        return tiles

    def epoch(self, generator: np.random.Generator, batch_size: int) -> Iterator[list[Tile]]:
        """Yield the mini-batches of one epoch; their number is the one needed to hold all tiles once.

        The first patch of each mini-batch holds annotated liver (stratified sampling): it cycles through the liver
        tiles in random order. The others are drawn from all tiles, without replacement as far as these suffice, so
        that several patches of a mini-batch may hold liver.
        """
        tiles = self.tiles(generator)
        liver = [tile for tile in tiles if tile.liver]
        steps = -(-len(tiles) // batch_size)
        first = np.resize(generator.permutation(len(liver)), steps)  # resize repeats them if there are too few
        others = np.resize(generator.permutation(len(tiles)), (steps, batch_size - 1))
        for one, more in zip(first, others, strict=True):
            yield [liver[one], *(tiles[other] for other in more)]

    def batch(
        self, tiles: list[Tile], margin: Axes, window: tuple[float, float], device: torch.device
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return image (batch, 1, z, y, x) with its margin, label and weight (batch, z, y, x), all float32 on `device`.

        The context is that of the image, reflected at its borders. The weight is 1 on annotated slices within the
        volume and 0 elsewhere (w of eq. 2).
        """
        shape = [size + 2 * side for size, side in zip(self.patch, margin, strict=True)]
        images, labels, weights = [], [], []
        for tile in tiles:
            image, mask = self.images[tile.volume], self.masks[tile.volume]
            start = [first - side for first, side in zip(tile.start, margin, strict=True)]
            images.append(scale_intensities(extract(image, start, shape, device), window)[None])
            label = extract(mask, tile.start, self.patch, device).float()
            weight = torch.zeros_like(label)
            slices = self.volumes[tile.volume].slices - tile.start[0]
            y, x = (
                slice(max(-first, 0), size - first) for first, size in zip(tile.start[1:], mask.shape[1:], strict=True)
            )
            for z in slices[(slices >= 0) & (slices < self.patch[0])].tolist():
                weight[z, y, x] = 1
            labels.append(label)
            weights.append(weight)
        return torch.stack(images), torch.stack(labels), torch.stack(weights)
