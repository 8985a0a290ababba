"""Draw the architecture of the network, as its class describes it."""

from pathlib import Path

import numpy as np
from slicesampling.jobs.job import start
from slicesampling.learning.unet import AnisotropicUNet, parameter_count
from slicesampling.publication.network_figure import network_figure
from slicesampling.publication.style import save_figure

start(snakemake)
settings = snakemake.params.network
patch = settings["training"]["patch"]
network = AnisotropicUNet(settings["filters"], settings["in_plane_levels"], settings["dropout"])
geometry = network.geometry


def text(sizes):
    """Return sizes (z, y, x) as the paper writes them: x×y×z."""
    return "×".join(str(size) for size in reversed(list(sizes)))


levels = [
    {
        "channels": channels,
        "kernel": "3×3×1" if level < network.in_plane_levels else "3×3×1 + 1×1×3",
        "pool": text(geometry.pooling[level]) if level < geometry.levels - 1 else None,
        "encoder_size": text(encoder),
        "decoder_size": text(decoder) if level < geometry.levels - 1 else None,
        "dropout": network.dropout if level < geometry.levels - 1 else None,
    }
    for level, (channels, (encoder, decoder)) in enumerate(
        zip(network.filters, geometry.level_sizes(patch), strict=True)
    )
]
input_size = text(np.add(patch, 2 * np.array(network.margin)))
figure = network_figure(levels, parameter_count(network), input_size)
save_figure(figure, Path(snakemake.output[0]).with_suffix(""))
