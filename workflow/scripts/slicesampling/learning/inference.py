"""Prediction of whole volumes in tiles, with and without Monte Carlo dropout (eq. 1)."""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from .. import UserError
from ..jobs.randomness import seed_of
from .compute import Compute
from .geometry import Axes, axes
from .memory import ran_out_of_memory
from .patches import extract, scale_intensities
from .tiling import TilePlan, plan_tiles, tile_starts
from .uncertainty import MEASURES, Moments, moments
from .unet import AnisotropicUNet, Encoded, keep_mask

logger = logging.getLogger(__name__)

LIVER = 0.5
"""The threshold of the probability of liver."""

DROPOUT_BLOCK = 4
"""The least number of slices per dropout seed: with fewer, seeding takes longer than drawing."""

Result = TypeVar("Result")


class Predictor:
    """Predicts volumes without dropout, in `compute.prediction_dtype`; weights are folded once for all volumes."""

    def __init__(self, network: AnisotropicUNet, window: tuple[float, float], compute: Compute) -> None:
        """Use the current weights of `network`; `window` (HU) is scaled to [-1, 1]."""
        self.network, self.window, self.compute = network, window, compute
        self.dtype = compute.prediction_dtype
        self.deployed = network.deployed(self.dtype, sampling=False)

    @torch.inference_mode()
    def __call__(self, image: np.ndarray | Tensor) -> Tensor:
        """Return the probability of liver, float32 (z, y, x) on the device, for a volume of HU (z, y, x).

        When the scores of a volume are not finite in float16, it and all later ones are computed in float32. Raise
        UserError if the device's memory does not suffice.
        """
        probability = self._probability(image)
        if probability is None:
            logger.warning("scores are not finite in float16: predicting in float32 from now on")
            self.dtype = torch.float32
            self.deployed = self.network.deployed(self.dtype, sampling=False)
            probability = self._probability(image)
        assert probability is not None
        return probability

    def _probability(self, image: np.ndarray | Tensor) -> Tensor | None:
        """Return the probability, or None if the feature maps overflow float16.

        An overflow reaches the scores: each of the many products of the value is infinite or NaN, and ReLU would have
        to remove all of them to hide it.
        """
        volume = torch.as_tensor(image).to(self.compute.device)

        def attempt(memory: float) -> Tensor | None:
            plan = plan_tiles(volume.shape, self.network.architecture, memory, 1, self.dtype.itemsize)
            probability = torch.empty(volume.shape, dtype=torch.float32, device=volume.device)
            for start in tile_starts(plan):
                encoded = _encode(self.deployed, volume, self.window, self.dtype, plan, start)
                scores = self.deployed.decode(encoded, None)
                if self.dtype == torch.float16 and not scores.isfinite().all():
                    return None
                _put(scores.float().softmax(dim=1)[0, 1], probability, start)
            return probability

        return _with_smaller_tiles(attempt, self.compute)


class Sampled(NamedTuple):
    """The result of Monte Carlo sampling of a volume.

    measures: each measure, float32 (z, y, x); liver: the segmentation by the mean probability (eq. 1), bool (z, y, x);
    mean_probability: the mean itself, float32 (class, z, y, x), if requested.
    """

    measures: dict[str, Tensor]
    liver: Tensor
    mean_probability: Tensor | None


@torch.inference_mode()
def sample(
    network: AnisotropicUNet,
    image: np.ndarray | Tensor,
    window: tuple[float, float],
    compute: Compute,
    samples: int,
    key: Sequence[str | int],
    keep_mean: bool = False,
) -> Sampled:
    """Return the measures of `samples` Monte Carlo dropout samples of a volume of HU (z, y, x), on the device.

    Only dropout is stochastic: batch norm stays in inference mode. The layers before the first dropout are computed
    once per tile, and the samples' moments are running sums, so that memory does not grow with the number of samples.
    The dropped features depend only on `key`, the sample and the position in the volume, so that another tiling gives
    the same result up to rounding. Raise UserError if the device's memory does not suffice.
    """
    deployed = network.deployed(compute.dtype, sampling=True)
    volume = torch.as_tensor(image).to(compute.device)
    dropout = _Dropout(network, axes(volume.shape), key, compute)

    def moments_of_tile(plan: TilePlan, start: Axes) -> Moments:
        encoded = _encode(deployed, volume, window, compute.dtype, plan, start)

        def drawn() -> Iterator[Tensor]:
            for first in range(0, samples, plan.samples_at_once):
                numbers = range(first, min(first + plan.samples_at_once, samples))
                yield from deployed.decode(encoded, dropout.of(numbers, start))

        return moments(drawn())

    def attempt(memory: float) -> Sampled:
        plan = plan_tiles(volume.shape, network.architecture, memory, samples, compute.dtype.itemsize)
        whole = partial(torch.empty, dtype=torch.float32, device=compute.device)
        measures = {name: whole(volume.shape) for name in MEASURES}
        liver = torch.empty(volume.shape, dtype=torch.bool, device=compute.device)
        mean_probability = whole((network.classes, *volume.shape)) if keep_mean else None
        for start in tile_starts(plan):
            known = moments_of_tile(plan, start)
            for name, measure in MEASURES.items():
                _put(measure(known), measures[name], start)
            _put(known.probability[1] > LIVER, liver, start)
            if mean_probability is not None:
                _put(known.probability, mean_probability, start)
        return Sampled(measures, liver, mean_probability)

    return _with_smaller_tiles(attempt, compute)


@torch.inference_mode()
def slice_features(
    network: AnisotropicUNet, image: np.ndarray | Tensor, window: tuple[float, float], compute: Compute
) -> np.ndarray:
    """Return the network's deepest features, averaged over each axial slice of HU (z, y, x): float32 (z, channel).

    There is no dropout before them, so that no samples are needed. They are computed in float32. The deepest level has
    fewer voxels along z than the volume has slices, so that features are interpolated linearly between the centres of
    its voxels. Raise UserError if the device's memory does not suffice.
    """
    deployed = network.deployed(torch.float32, sampling=False)
    volume = torch.as_tensor(image).to(compute.device)
    stride = np.array(network.geometry.stride)

    def attempt(memory: float) -> np.ndarray:
        plan = plan_tiles(volume.shape, network.architecture, memory, samples=0)
        depth = np.array(network.geometry.level_sizes(plan.shape)[-1][0])  # of a tile at the deepest level
        beyond = (depth * stride - plan.shape) // 2  # voxels of context on either side of the tile
        size = [starts[-1] // step + deep for starts, step, deep in zip(plan.starts, stride, depth, strict=True)]
        whole = torch.empty((network.filters[-1], *size), device=compute.device)
        for start in tile_starts(plan):
            features = deployed.deepest(_block(deployed, volume, window, torch.float32, plan, start))
            _put(features[0], whole, axes(np.array(start) // stride))
        (_, top, left), (_, bottom, right) = beyond // stride, (np.array(volume.shape) - 1 + beyond) // stride
        profile = whole[:, :, top : bottom + 1, left : right + 1].mean(dim=(2, 3)).T.cpu().numpy()
        place = (np.arange(len(volume)) + beyond[0] - (stride[0] - 1) / 2) / stride[0]
        place = place.clip(0, len(profile) - 1)
        below = np.floor(place).astype(int)
        above = np.minimum(below + 1, len(profile) - 1)
        share = (place - below)[:, None].astype(np.float32)
        return (1 - share) * profile[below] + share * profile[above]

    return _with_smaller_tiles(attempt, compute)


def _encode(
    network: AnisotropicUNet,
    volume: Tensor,
    window: tuple[float, float],
    dtype: torch.dtype,
    plan: TilePlan,
    start: Axes,
) -> Encoded:
    """Return the deterministic part of the tile whose first voxel (z, y, x) is `start`."""
    # Only the call holds the block, so that it is freed before samples are drawn.
    return network.encode(_block(network, volume, window, dtype, plan, start))


def _block(
    network: AnisotropicUNet,
    volume: Tensor,
    window: tuple[float, float],
    dtype: torch.dtype,
    plan: TilePlan,
    start: Axes,
) -> Tensor:
    """Return the network's input for a tile, including its context: scaled intensities (1, 1, z, y, x)."""
    first = [voxel - side for voxel, side in zip(start, network.margin, strict=True)]
    shape = [size + 2 * side for size, side in zip(plan.shape, network.margin, strict=True)]
    return scale_intensities(extract(volume, first, shape, volume.device), window)[None, None].to(dtype)


def _put(tile: Tensor, volume: Tensor, start: Axes) -> None:
    """Write a tile (..., z, y, x) into the volume, cropped to it.

    Valid convolutions need no blending: each voxel has been computed with its full context.
    """
    sizes = zip(start, tile.shape[-3:], volume.shape[-3:], strict=True)
    depth, height, width = (min(size, end - first) for first, size, end in sizes)
    z, y, x = start
    volume[..., z : z + depth, y : y + height, x : x + width] = tile[..., :depth, :height, :width]


class _Dropout:
    """Dropout masks of samples, drawn for whole planes of the volume in blocks along z, independent of the tiling."""

    def __init__(self, network: AnisotropicUNet, shape: Axes, key: Sequence[str | int], compute: Compute) -> None:
        geometry = network.geometry
        self.probability, self.key = network.dropout, key
        self.dtype, self.generator = compute.dtype, torch.Generator(device=compute.device)
        self.scales = np.cumprod([(1, 1, 1), *geometry.pooling], axis=0).tolist()
        sizes = geometry.level_sizes(geometry.output_size(shape))
        # The size of a level's joined features for the whole volume in one tile; the rest does not affect the volume.
        self.whole = [axes(np.add(up, 2 * np.array(lost))) for (_, up), lost in zip(sizes, geometry.lost, strict=True)]
        self.block = -(-DROPOUT_BLOCK // geometry.stride[0]) * geometry.stride[0]

    def of(self, samples: range, start: Axes) -> Callable[[int, torch.Size], Tensor]:
        """Return the function that gives the dropout masks of these samples in the tile with first voxel `start`."""

        def keep(level: int, shape: torch.Size) -> Tensor:
            _, channels, depth, height, width = shape
            whole_z, whole_y, whole_x = self.whole[level]
            z, y, x = (first // scale for first, scale in zip(start, self.scales[level], strict=True))
            rows, columns = min(height, whole_y - y), min(width, whole_x - x)
            beyond = z + depth > whole_z or y + height > whole_y or x + width > whole_x
            make = torch.ones if beyond else torch.empty
            result = make(
                (len(samples), depth, height, width, channels), dtype=self.dtype, device=self.generator.device
            ).permute(0, 4, 1, 2, 3)
            thickness = self.block // self.scales[level][0]
            last = min(z + depth, whole_z)
            for number, sample_number in enumerate(samples):
                for block in range(z // thickness, -(-last // thickness)):
                    self.generator.manual_seed(seed_of(*self.key, sample_number, level, block))
                    drawn = keep_mask((1, channels, thickness, whole_y, whole_x), self.probability, self.generator)
                    low, high = max(block * thickness, z), min((block + 1) * thickness, last)
                    result[number, :, low - z : high - z, :rows, :columns] = drawn[
                        0, :, low - block * thickness : high - block * thickness, y : y + rows, x : x + columns
                    ]
            return result

        return keep


def _with_smaller_tiles(attempt: Callable[[float], Result], compute: Compute) -> Result:
    """Return the result of `attempt` with the memory for tiles, or with half of it if that was too much."""
    whole = compute.memory_for_tiles()
    for memory in (whole, whole / 2):
        try:
            return attempt(memory)
        except RuntimeError as error:  # the base class of OutOfMemoryError
            if not ran_out_of_memory(error):
                raise
            logger.warning("%s ran out of memory with tiles of %.1f GiB", compute.device, memory / 2**30)
        if compute.device.type == "cuda":
            torch.cuda.empty_cache()
    raise UserError(
        f"compute.tile_gib: {compute.device} has no memory for tiles of {whole / 2**30:.1f} GiB, nor for half of it; "
        "accepted: less"
    )
