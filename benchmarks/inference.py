"""Monte Carlo dropout of one volume: this engine against full passes, and against what MONAI's users would write.

The engine is timed whole. What takes many times longer is timed on some of its samples or tiles, and scaled; the table
says so.
"""

import argparse
import json

import common
import numpy as np
import torch
from slicesampling.learning.compute import Compute
from slicesampling.learning.geometry import Axes, axes
from slicesampling.learning.inference import sample
from slicesampling.learning.patches import extract, scale_intensities
from slicesampling.learning.tiling import plan_tiles, tile_cost, tile_starts
from slicesampling.learning.unet import AnisotropicUNet, parameter_count

SHAPE = (64, 356, 356)
"""Voxels of 1.5×1×1 mm of an abdominal CT, cut to 64 slices; in plane a size that the tiles of all variants divide."""
WINDOW = (-1000.0, 1000.0)
PAPER_TILE = (4, 180, 180)
CHANNELS = (22, 44, 88, 176, 336)
STRIDED_CHANNELS = (16, 32, 64, 128, 256)
"""Of MONAI's UNet as in its tutorials and MONAI Label's apps: its first convolution halves the resolution."""
BASIC_CHANNELS = (32, 32, 64, 128, 256, 32)
"""The default of MONAI's BasicUNet, which like the anisotropic u-net works at full resolution at the top."""
MONAI_ROI = (128, 128, 64)
"""The default of MONAI Label's EpistemicScoring, whose 20 samples are stacked here as it does."""
MONAI_OVERLAP = 0.25
"""The default of `sliding_window_inference`."""


def multiply_accumulates(network: torch.nn.Module, image: torch.Tensor) -> float:
    """Count the work of the network's convolutions on `image`."""
    counts = [0]

    def count(module: torch.nn.Module, given: tuple, output: torch.Tensor) -> None:
        taps = module.in_channels * int(np.prod(module.kernel_size))
        if isinstance(module, torch.nn.ConvTranspose3d):  # each input value goes to as many outputs
            counts[0] += given[0].numel() * module.out_channels * int(np.prod(module.kernel_size))
        else:
            counts[0] += output.numel() * taps

    for module in network.modules():
        if isinstance(module, torch.nn.Conv3d | torch.nn.ConvTranspose3d):
            module.register_forward_hook(count)
    with torch.inference_mode():
        network(image)
    return counts[0]


def anisotropic(filters: tuple[int, ...], compute: Compute) -> AnisotropicUNet:
    network = AnisotropicUNet(filters)
    network.initialise(torch.Generator().manual_seed(1))
    return network.to(compute.device).eval()


def engine(image: np.ndarray, filters: tuple[int, ...], compute: Compute, samples: int) -> dict:
    network = anisotropic(filters, compute)
    base = common.peak_gib(compute.device)
    time = common.seconds(lambda: sample(network, image, WINDOW, compute, samples, ("key",)), 3, compute.device)
    memory = common.peak_gib(compute.device) - base
    plan = plan_tiles(image.shape, network.architecture, compute.memory_for_tiles(), samples, compute.dtype.itemsize)
    cost, tiles = tile_cost(network.architecture, plan.shape), len(tile_starts(plan))
    macs = (cost.encode / samples + cost.decode) * tiles / image.size
    parameters = parameter_count(network)
    return {"seconds": time, "memory": memory, "timed": "all, 3 times", "macs": macs, "parameters": parameters}


def full_passes(
    image: np.ndarray,
    filters: tuple[int, ...],
    compute: Compute,
    samples: int,
    large: bool,
    tile: Axes = PAPER_TILE,
) -> dict:
    """20 passes through the network as it was trained, over `tile`s or, `large`, those that the engine plans."""
    network = anisotropic(filters, compute)
    plan = plan_tiles(image.shape, network.architecture, compute.memory_for_tiles(), samples, compute.dtype.itemsize)
    if large:
        tile, starts, passes = plan.shape, tile_starts(plan), 2
    else:
        passes = 1
        grid = [range(0, size, side) for size, side in zip(image.shape, tile, strict=True)]
        starts = [axes((z, y, x)) for z in grid[0] for y in grid[1] for x in grid[2]]
    timed = starts if large else starts[:8]
    shape = [size + 2 * side for size, side in zip(tile, network.margin, strict=True)]
    volume = torch.from_numpy(image).to(compute.device)
    generator = torch.Generator(device=compute.device).manual_seed(1)
    base = common.peak_gib(compute.device)

    @torch.inference_mode()
    def work() -> None:
        for start in timed:
            first = [voxel - side for voxel, side in zip(start, network.margin, strict=True)]
            total = torch.zeros((2, *tile), device=compute.device)
            for _ in range(passes):
                block = scale_intensities(extract(volume, first, shape, compute.device), WINDOW)[None, None]
                with torch.autocast(compute.device.type, compute.dtype, enabled=compute.dtype != torch.float32):
                    total += network(block, generator).float().softmax(dim=1)[0]

    time = common.seconds(work, 1 if large else 3, compute.device) * samples / passes * len(starts) / len(timed)
    memory = common.peak_gib(compute.device) - base
    note = f"{passes} of {samples} samples, {len(timed)} of {len(starts)} tiles"
    cost, parameters = tile_cost(network.architecture, axes(tile)), parameter_count(network)
    macs = (cost.encode + cost.decode) * len(starts) / image.size
    return {"seconds": time, "memory": memory, "timed": note, "macs": macs, "parameters": parameters}


def monai(
    image: np.ndarray,
    width: float,
    compute: Compute,
    samples: int,
    timed: int,
    basic: bool,
    windows: Axes = MONAI_ROI,
) -> dict:
    """Sliding windows over a MONAI network with dropout, each sample a pass of its own, all stacked: mean, entropy."""
    from monai.inferers import sliding_window_inference
    from monai.networks.nets import BasicUNet, UNet

    if basic:
        channels = [int(width * n) for n in BASIC_CHANNELS]
        network = BasicUNet(3, 1, 2, channels, norm="BATCH", dropout=0.25)
    else:
        channels = [int(width * n) for n in STRIDED_CHANNELS]
        network = UNet(3, 1, 2, channels, (2, 2, 2, 2), num_res_units=2, norm="BATCH", dropout=0.25)
    network = network.to(compute.device).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout | torch.nn.Dropout3d):
            module.train()
    base = common.peak_gib(compute.device)
    volume = scale_intensities(torch.from_numpy(image), WINDOW).permute(1, 2, 0)[None, None].to(compute.device)

    def work() -> None:
        outputs = []
        for _ in range(timed):
            with (
                torch.inference_mode(),
                torch.autocast(compute.device.type, compute.dtype, enabled=compute.dtype != torch.float32),
            ):
                scores = sliding_window_inference(volume, windows, 1, network, overlap=MONAI_OVERLAP)
            outputs.append(torch.softmax(scores.float(), dim=1).cpu().numpy())
        outputs += outputs[-1:] * (samples - timed)  # as much to stack, whatever was timed
        mean = np.stack(outputs).mean(axis=0)[0]
        mean[mean <= 0] = 5e-5
        (-mean * np.log(mean)).sum(axis=0)

    time = common.seconds(work, 1, compute.device) * samples / timed
    memory = common.peak_gib(compute.device) - base
    work_of_window = multiply_accumulates(network, torch.zeros(1, 1, *windows, device=compute.device))
    number = np.prod(
        [1 + -(-max(n - m, 0) // int(m * (1 - MONAI_OVERLAP))) for n, m in zip(volume.shape[2:], windows, strict=True)]
    )
    note = f"{timed} of {samples} samples"
    macs = float(work_of_window * number / image.size)
    return {"seconds": time, "memory": memory, "timed": note, "macs": macs, "parameters": parameter_count(network)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=float, default=0.5, help="of the default network's channels")
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    given = parser.parse_args()
    compute = common.compute_of(given.device, given.precision, given.threads)
    filters = tuple(int(given.width * n) for n in CHANNELS)
    image = np.random.default_rng(1).integers(-1000, 1000, SHAPE).astype(np.int16)
    n = given.samples
    variants = {
        "this engine": lambda: engine(image, filters, compute, n),
        "full passes, the paper's tiles": lambda: full_passes(image, filters, compute, n, large=False),
        "full passes, this engine's tiles": lambda: full_passes(image, filters, compute, n, large=True),
        "MONAI UNet, sliding windows": lambda: monai(image, given.width, compute, n, n, basic=False),
        "MONAI BasicUNet, sliding windows": lambda: monai(image, given.width, compute, n, 2, basic=True),
    }
    if given.variant:
        print(json.dumps(variants[given.variant]()))
        return
    options = ["--width", str(given.width), "--samples", str(n), "--threads", str(given.threads)]
    options += ["--device", given.device, "--precision", given.precision]
    results = {name: common.in_a_process([*options, "--variant", name]) for name in variants}
    first = results["this engine"]["seconds"]
    voxels = " × ".join(map(str, SHAPE))
    print(
        f"{common.machine(compute)}; {n} samples of {voxels} voxels; filters {filters}; MONAI's windows {MONAI_ROI}, ",
        end="",
    )
    print(f"overlap {MONAI_OVERLAP}\n")
    print("| | parameters | work of a sample | seconds | times this engine | memory (GiB) | timed on |")
    print("|:---|---:|---:|---:|---:|---:|:---|")
    for name, result in results.items():
        parameters, work = f"{result['parameters'] / 1e6:.2f} M", f"{result['macs'] / 1e3:.0f} k"
        cells = [
            f"{result['seconds']:.1f}",
            f"{result['seconds'] / first:.1f}",
            f"{result['memory']:.2f}",
            result["timed"],
        ]
        print("|", " | ".join([name, parameters, work, *cells]), "|")
    print(
        "\nThe work of a sample is in multiply-accumulates a voxel, the deterministic part of this engine dealt to all."
    )


if __name__ == "__main__":
    main()
