"""The anisotropic u-net (section II-A)."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .geometry import CONVOLUTIONS, Geometry


class ConvolutionBlock(nn.Module):
    """Convolution → batch norm → ReLU without padding; separable (3×3×1, then 1×1×3) unless the level is in-plane.

    The convolutions have no bias, because the batch norm that follows has one; a separable pair shares one batch norm.
    """

    def __init__(self, channels_in: int, channels_out: int, in_plane: bool) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList([nn.Conv3d(channels_in, channels_out, (1, 3, 3), bias=False)])
        if not in_plane:
            self.convolutions.append(nn.Conv3d(channels_out, channels_out, (3, 1, 1), bias=False))
        self.norm = nn.BatchNorm3d(channels_out)

    def forward(self, features: Tensor) -> Tensor:
        for convolution in self.convolutions:
            features = convolution(features)
        return functional.relu(self.norm(features), inplace=True)


def level_blocks(channels_in: int, channels_out: int, in_plane: bool) -> nn.Sequential:
    """Return the convolution blocks that one level applies on its way down or up."""
    widths = [channels_in, *[channels_out] * CONVOLUTIONS]
    return nn.Sequential(*(ConvolutionBlock(a, b, in_plane) for a, b in itertools.pairwise(widths)))


class AnisotropicUNet(nn.Module):
    """The au-net: valid convolutions, in-plane kernels in the upper levels, separable 3D kernels below (Fig. 1).

    `filters` holds the channels of each level from the top down; the first `in_plane_levels` levels convolve along y
    and x only and are followed by a pooling that leaves z alone. The defaults have 4 975 206 trainable parameters; the
    paper's figure with the filter counts is not available, and it states 4 975 346.

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

        self.geometry = Geometry(len(filters), in_plane_levels)
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
        """Draw all weights anew from `generator` (He et al. 2015 for the ReLU layers), so that a seed gives a model."""
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm3d):
                module.reset_running_stats()
                module.reset_parameters()

    def encode(self, image: Tensor) -> list[Tensor]:
        """Compute all that lies before the first dropout, the same in every Monte Carlo sample.

        image: (batch, 1, z, y, x), scaled intensities. Returns the cropped skip connections from the top level down,
        the last of them joined with what came up from the deepest level.
        """
        features = image.contiguous(memory_format=torch.channels_last_3d)  # a fifth faster than channels first
        skips = []
        for level, blocks in enumerate(self.encoder):
            features = blocks(features)
            if level < len(self.decoder):
                (z, y, x), (dz, dy, dx) = features.shape[2:], self.geometry.crops[level]
                skips.append(features[:, :, dz : z - dz, dy : y - dy, dx : x - dx])
                features = functional.max_pool3d(features, self.geometry.pooling[level])
        if not skips:
            return [features]
        skips[-1] = torch.cat([skips[-1], self.upsampling[-1](features)], dim=1)
        return skips

    def decode(self, skips: list[Tensor], generator: torch.Generator | None) -> Tensor:
        """Compute the class scores (logits) from what `encode` returned: (batch, class, z, y, x).

        With a generator each decoder level drops its joined features with probability `dropout`; without one, none.
        """
        features = skips[-1]
        for level in reversed(range(len(self.decoder))):
            if level < len(self.decoder) - 1:
                features = torch.cat([skips[level], self.upsampling[level](features)], dim=1)
            features = self.decoder[level](dropped(features, self.dropout, generator))
        return self.classifier(features)

    def forward(self, image: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the class scores (batch, class, z, y, x) of an image (batch, 1, z, y, x) that holds the margin too."""
        return self.decode(self.encode(image), generator)


def dropped(features: Tensor, probability: float, generator: torch.Generator | None) -> Tensor:
    """Return `features` with each element zeroed with `probability`, the others scaled to keep the expectation.

    The decision takes 16 random bits an element, four elements to one 64-bit draw: five times as fast as Bernoulli
    draws in float, and exact for probabilities that are multiples of 2^-16, such as the paper's 0.25.
    """
    if generator is None or probability == 0:
        return features
    draws = torch.empty(-(-features.numel() // 4), dtype=torch.int64, device=features.device)
    bits = draws.random_(-(2**63), None, generator=generator).view(torch.int16)[: features.numel()]
    keep = bits >= round(probability * 2**16) - 2**15
    batch, channels, *sizes = features.shape  # laid out as the features are in memory, channels last
    keep = keep.view(batch, *sizes, channels).permute(0, 4, 1, 2, 3)
    return torch.where(keep, features * (1 / (1 - probability)), 0)


def parameter_count(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
