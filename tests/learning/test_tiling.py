"""Laws of the tiles: work and memory are those of the layers, and no other tiles would cost less."""

import itertools

import numpy as np
import pytest
import torch
from conftest import at_most, peak_bytes
from hypothesis import given
from hypothesis import strategies as st
from slicesampling.learning.tiling import Architecture, plan_tiles, tile_cost
from slicesampling.learning.unet import AnisotropicUNet

PAPER = Architecture((22, 44, 88, 176, 336), 2)


def multiply_accumulates(network: AnisotropicUNet, image: torch.Tensor) -> tuple[int, int]:
    """Count the work of encode and decode as the convolutions do it: output values × inputs of each."""
    counts = [0]

    def count(module: torch.nn.Module, _: tuple, output: torch.Tensor) -> None:
        if isinstance(module, torch.nn.ConvTranspose3d):  # stride = kernel: one tap for each output voxel
            counts[0] += output.numel() * module.in_channels
        else:
            counts[0] += output.numel() * module.in_channels * int(np.prod(module.kernel_size))

    for module in network.modules():
        if isinstance(module, torch.nn.Conv3d | torch.nn.ConvTranspose3d):
            module.register_forward_hook(count)
    encoded = network.encode(image)
    encode = counts[0]
    network.decode(encoded, None)
    return encode, counts[0] - encode


@at_most(10)
@given(
    levels=st.integers(2, 5),
    in_plane=st.integers(0, 5),
    at_least=st.tuples(st.integers(1, 9), st.integers(1, 40), st.integers(1, 40)),
)
def test_work_is_that_of_the_layers(levels: int, in_plane: int, at_least: tuple[int, int, int]) -> None:
    network = AnisotropicUNet([3, 4, 6, 5, 2][:levels], min(in_plane, levels)).to("meta")
    tile = network.geometry.output_size(at_least)
    image = torch.empty(1, 1, *[a + 2 * b for a, b in zip(tile, network.margin, strict=True)], device="meta")
    cost = tile_cost(network.architecture, tile)
    assert (cost.encode, cost.decode) == multiply_accumulates(network, image)


def test_work_of_the_papers_tiles() -> None:
    """20 passes over the paper's tiles, over tiles of the whole plane, and with the deterministic part shared."""
    paper, plane = tile_cost(PAPER, (4, 180, 180)), tile_cost(PAPER, (128, 356, 356))
    per_voxel = np.array([4 * 180 * 180, 128 * 356 * 356, 128 * 356 * 356])
    work = [20 * (paper.encode + paper.decode), 20 * (plane.encode + plane.decode), plane.encode + 20 * plane.decode]
    assert np.round(work / per_voxel / 1e6, 2).tolist() == [21.89, 2.64, 1.24]


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize(("filters", "in_plane"), [((4, 6, 8), 1), ((6, 4), 0), ((3, 4, 5, 6), 3)])
def test_memory_is_what_is_held_at_the_worst(filters: tuple[int, ...], in_plane: int, samples: int) -> None:
    network = AnisotropicUNet(filters, in_plane).deployed(torch.float32, sampling=True)
    tile = network.geometry.output_size((12, 30, 30))
    image = torch.zeros(1, 1, *[a + 2 * b for a, b in zip(tile, network.margin, strict=True)])

    @torch.inference_mode()
    def passes() -> torch.Tensor:
        encoded = network.encode(image.clone())
        return network.decode(encoded, lambda _, shape: torch.ones((samples, *shape[1:])))

    held = tile_cost(network.architecture, tile, samples_at_once=samples).memory
    assert held == pytest.approx(peak_bytes(passes), rel=0.01)


@at_most(20)
@given(shape=st.tuples(*[st.integers(1, 36)] * 3), memory=st.floats(1e5, 3e7), samples=st.integers(1, 30))
def test_no_other_tile_that_fits_costs_less(shape: tuple[int, int, int], memory: float, samples: int) -> None:
    architecture = Architecture((3, 4, 6), 1)
    geometry = architecture.geometry
    plan = plan_tiles(shape, architecture, memory, samples)
    chosen = tile_cost(architecture, plan.shape)
    count = np.prod([len(starts) for starts in plan.starts])
    sizes = [sorted({geometry.output_size([k] * 3)[axis] for k in range(1, shape[axis] + 1)}) for axis in range(3)]
    for tile in itertools.product(*sizes):
        cost = tile_cost(architecture, tile)
        steps = np.array(tile) // geometry.stride * geometry.stride
        needed = np.where(np.array(tile) >= shape, 1, 1 - (np.array(tile) - shape) // np.maximum(steps, 1))
        if cost.memory <= memory and (steps > 0).all():
            total = (cost.encode + samples * cost.decode) * np.prod(needed)
            assert (chosen.encode + samples * chosen.decode) * count <= total * (1 + 1e-9)
            assert tile_cost(architecture, plan.shape, samples_at_once=plan.samples_at_once).memory <= memory


@at_most(20)
@given(
    shape=st.tuples(st.integers(1, 1200), st.integers(100, 700), st.integers(100, 700)),
    gib=st.sampled_from([0.1, 3, 48, 1e6]),
    samples=st.integers(1, 20),
    itemsize=st.sampled_from([2, 4]),
)
def test_no_feature_map_is_too_large_for_32_bit_indices(
    shape: tuple[int, int, int], gib: float, samples: int, itemsize: int
) -> None:
    """Whatever the memory: a whole volume in one tile would have 2^31 elements and more, and CUDA kernels overflow."""
    network = AnisotropicUNet().eval().to("meta")
    plan = plan_tiles(shape, network.architecture, gib * 2**30, samples, itemsize)
    assert all(starts[-1] + size >= n for starts, size, n in zip(plan.starts, plan.shape, shape, strict=True))
    largest = 0

    def note(module: torch.nn.Module, given: tuple, output: torch.Tensor) -> None:
        nonlocal largest
        largest = max(largest, output.numel(), *(tensor.numel() for tensor in given))

    for module in network.modules():
        if isinstance(module, torch.nn.Conv3d | torch.nn.ConvTranspose3d):
            module.register_forward_hook(note)
    size = [a + 2 * b for a, b in zip(plan.shape, network.margin, strict=True)]
    with torch.inference_mode():
        encoded = network.encode(torch.empty(1, 1, *size, device="meta"))
        network.decode(
            encoded, lambda _, joined: torch.ones((plan.samples_at_once, *joined[1:]), dtype=torch.bool, device="meta")
        )
    assert largest < 2**31
    cost = tile_cost(network.architecture, plan.shape, itemsize, plan.samples_at_once)
    assert cost.elements >= largest


def test_large_memory_is_used_up_to_that_bound() -> None:
    """Of volumes that would pass the bound as one tile, the largest tile below it is taken, not a small one."""
    plan = plan_tiles((400, 420, 420), PAPER, 1e15)
    assert tile_cost(PAPER, plan.shape).elements > 2**31 / 3
