"""The anisotropic u-net (section II-A)."""

import copy
import itertools
import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .geometry import CONVOLUTIONS, Axes
from .processes import BatchNorm, group
from .tiling import Architecture


class ConvolutionBlock(nn.Module):
    """Convolution → batch norm → ReLU without padding; separable (3×3×1, then 1×1×3) unless the level is in-plane.

    The convolutions have no bias, because the batch norm that follows has one; a separable pair shares one batch norm.
    """

    def __init__(self, channels_in: int, channels_out: int, in_plane: bool) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList([nn.Conv3d(channels_in, channels_out, (1, 3, 3), bias=False)])
        if not in_plane:
            self.convolutions.append(nn.Conv3d(channels_out, channels_out, (3, 1, 1), bias=False))
        self.norm: nn.Module = BatchNorm(channels_out)

    def forward(self, features: Tensor) -> Tensor:
        for convolution in self.convolutions:
            features = convolution(features)
        return functional.relu(self.norm(features), inplace=True)

    def fold_norm(self) -> None:
        """Fold the batch norm in inference mode into the last convolution, in place."""
        convolution = self.convolutions[-1]
        assert isinstance(convolution, nn.Conv3d)
        assert isinstance(self.norm, nn.BatchNorm3d)
        self.convolutions[-1] = fuse_conv_bn_eval(convolution, self.norm)
        self.norm = nn.Identity()


def level_blocks(channels_in: int, channels_out: int, in_plane: bool) -> nn.ModuleList:
    """Return the convolution blocks that one level applies on its way down or up."""
    widths = [channels_in, *[channels_out] * CONVOLUTIONS]
    return nn.ModuleList(ConvolutionBlock(a, b, in_plane) for a, b in itertools.pairwise(widths))


class AnisotropicUNet(nn.Module):
    """The au-net: valid convolutions, in-plane kernels in the upper levels, separable 3D kernels below (Fig. 1).

    `filters` holds the channels of each level from the top down. The first `in_plane_levels` levels convolve and pool
    along y and x only. The defaults have 4 975 206 trainable parameters; the paper states 4 975 346, but its figure
    with the filter counts is not available.

    Attributes: `margin`, the voxels (z, y, x) lost on each side, and `geometry`, from which it follows.
    """

    def __init__(
        self,
        filters: Sequence[int] = (22, 44, 88, 176, 336),
        in_plane_levels: int = 2,
        dropout: float = 0.25,
        classes: int = 2,
    ) -> None:
        super().__init__()
        if not filters or min(filters) < 1:
            raise ValueError(f"filters must hold one positive number a level, got {list(filters)}")
        if not 0 <= in_plane_levels <= len(filters):
            raise ValueError(f"in_plane_levels must lie in 0 … {len(filters)} (the levels), got {in_plane_levels}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
        self.filters = tuple(filters)
        self.in_plane_levels = in_plane_levels
        self.dropout = dropout
        self.classes = classes
        self.scale = 1 / (1 - dropout)  # of kept features, so that dropout preserves the expectation

        self.architecture = Architecture(self.filters, in_plane_levels, classes)
        self.geometry = self.architecture.geometry
        self.margin = self.geometry.margin
        in_plane = [level < in_plane_levels for level in range(len(filters))]
        self.encoder = nn.ModuleList(
            level_blocks(channels_in, channels_out, flat)
            for channels_in, channels_out, flat in zip([1, *filters], filters, in_plane, strict=False)
        )
        self.upsampling = nn.ModuleList(
            nn.ConvTranspose3d(below, here, pooling, pooling)
            for here, below, pooling in zip(filters, filters[1:], self.geometry.pooling, strict=False)
        )
        self.decoder = nn.ModuleList(
            level_blocks(2 * channels, channels, flat) for channels, flat in zip(filters[:-1], in_plane, strict=False)
        )
        self.classifier = nn.Conv3d(filters[0], classes, 1)
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def initialise(self, generator: torch.Generator) -> None:
        """Draw all weights from `generator` (He et al. 2015 for the ReLU layers), so that a seed determines them.

        generator: of the CPU for any device of the network, so that all devices start from the same weights.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                weight = torch.empty_like(module.weight, device="cpu")
                nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)
                module.weight.data.copy_(weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm3d):
                module.reset_running_stats()
                module.reset_parameters()

    def encode(self, image: Tensor) -> "Encoded":
        """Compute the layers before the first dropout, which all Monte Carlo samples share.

        image: (batch, 1, z, y, x), scaled intensities.
        """
        skips: list[Tensor] = []

        def keep(level: int, features: Tensor) -> None:
            (z, y, x), (dz, dy, dx) = features.shape[2:], self.geometry.crops[level]
            crop = features[:, :, dz : z - dz, dy : y - dy, dx : x - dx]
            # A copy, so that the cropped voxels are freed, and every sample reads it fast.
            skips.append(crop.contiguous(memory_format=torch.channels_last_3d))

        features = self.deepest(image, keep)
        return Encoded(skips, self.upsampling[-1](features) if skips else features)

    def deepest(self, image: Tensor, keep: Callable[[int, Tensor], None] | None = None) -> Tensor:
        """Compute the features of the deepest level (batch, channel, z, y, x) of an image, see `encode`.

        keep: called with each other level and its features before pooling.
        """
        features = image.contiguous(memory_format=torch.channels_last_3d)  # a fifth faster than channels first
        for level, blocks in enumerate(self.encoder[:-1]):
            for block in blocks.children():
                features = block(features)
            if keep:
                keep(level, features)
            features = pooled(features, self.geometry.pooling[level])
        for block in self.encoder[-1].children():
            features = block(features)
        return features

    def decode(self, encoded: "Encoded", keep: Callable[[int, torch.Size], Tensor] | None) -> Tensor:
        """Compute the class scores (logits) from what `encode` returned: (batch, class, z, y, x).

        keep: returns the dropout mask for a decoder level and the shape (batch, channel, z, y, x) of its joined
        features. A batch larger than the image's gives as many samples. None: no dropout. The mask is bool or, in
        inference, of the type of the features; it is then overwritten.
        """
        features = encoded.below
        for level in reversed(range(len(self.decoder))):
            skip = encoded.skips[level]
            shape = torch.Size([len(features), skip.shape[1] + features.shape[1], *skip.shape[2:]])
            features = joined(skip, features, keep and keep(level, shape), self.scale)
            for block in self.decoder[level].children():
                features = block(features)
            if level:
                features = self.upsampling[level - 1](features)
        return self.classifier(features)

    def forward(self, image: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the class scores (batch, class, z, y, x) of an image (batch, 1, z, y, x), which includes the margin.

        With a generator, each decoder level drops its joined features with probability `dropout`, and scales up the
        others to preserve the expectation; without one, there is no dropout. If several processes share a mini-batch,
        each draws masks for all of it and uses its part.
        """
        rank, size = group()

        def keep(_: int, shape: torch.Size) -> Tensor:
            assert generator is not None
            return keep_mask((shape[0] * size, *shape[1:]), self.dropout, generator)[rank::size]

        return self.decode(self.encode(image), keep if generator is not None else None)

    def deployed(self, dtype: torch.dtype, sampling: bool) -> "AnisotropicUNet":
        """Return a copy for inference, with batch norms and, if `sampling`, the scaling of dropout folded into weights.

        Results are the same up to rounding, with fewer passes over memory.
        """
        network = copy.deepcopy(self).eval()
        for block in network.modules():
            if isinstance(block, ConvolutionBlock):
                block.fold_norm()
        if sampling:
            for name, weight in network.named_parameters():
                if re.fullmatch(r"decoder\.\d+\.0\.convolutions\.0\.weight", name):  # the first after a dropout
                    weight.data *= network.scale
            network.scale = 1.0
        return network.to(dtype=dtype, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]


class Encoded(NamedTuple):
    """The deterministic part of a tile: cropped skip connections from the top down, and the features to join last."""

    skips: list[Tensor]
    below: Tensor


def joined(skip: Tensor, below: Tensor, keep: Tensor | None, scale: float) -> Tensor:
    """Return skip connection and features from below, joined along the channels, with the dropout mask `keep`."""
    if keep is None:
        return torch.cat([skip, below], dim=1)
    if torch.is_grad_enabled():
        return torch.where(keep, torch.cat([skip, below], dim=1) * scale, 0)
    # In inference the mask itself becomes the result: a quarter of the time of joining and then dropping.
    result = keep.to(skip.dtype)
    for part, channels in ((skip, slice(skip.shape[1])), (below, slice(skip.shape[1], None))):
        torch.mul(part, result[:, channels], out=result[:, channels])
    return result if scale == 1 else result.mul_(scale)


def pooled(features: Tensor, factors: Axes) -> Tensor:
    """Return the maximum of each block of `factors` (z, y, x), 1 or 2 each, of (batch, channel, z, y, x).

    In inference it is the maximum of two strided views per axis, because `max_pool3d` also computes 64-bit indices, and
    counts elements in 32 bits on CUDA. With gradients, `max_pool3d` takes half the time of the views.
    """
    if torch.is_grad_enabled():
        return functional.max_pool3d(features, factors)
    for axis in (4, 3, 2):
        if factors[axis - 2] == 2:
            even, odd = (features[(slice(None),) * axis + (slice(first, None, 2),)] for first in (0, 1))
            features = torch.maximum(even, odd)
    return features


def keep_mask(shape: Sequence[int], probability: float, generator: torch.Generator) -> Tensor:
    """Return a mask, bool (batch, channel, z, y, x), channels last in memory; each element is False with `probability`.

    Each element uses 8 or 16 bits of 64-bit draws, five to ten times as fast as Bernoulli draws in float. 8 bits are
    used if they are exact, as for the paper's 0.25; other probabilities are rounded to 2^-16.
    """
    batch, channels, *sizes = shape
    kind, width = (torch.int8, 8) if (probability * 2**8).is_integer() else (torch.int16, 16)
    count = math.prod(shape)
    draws = torch.empty(-(-count * width // 64), dtype=torch.int64, device=generator.device)
    bits = draws.random_(-(2**63), None, generator=generator).view(kind)[:count]
    keep = bits >= round(probability * 2**width) - 2 ** (width - 1)
    return keep.view(batch, *sizes, channels).permute(0, 4, 1, 2, 3)


def parameter_count(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
