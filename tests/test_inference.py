"""Laws of inference: the tiling and the sharing of the deterministic part change nothing; samples follow their key."""

import itertools

import numpy as np
import pytest
import torch
from slicesampling.inference import plan_tiles, predict, sample_mean_probability
from slicesampling.network import AnisotropicUNet
from slicesampling.patches import extract, scale_intensities
from slicesampling.randomness import seed_of
from slicesampling.uncertainty import predictive_entropy

WINDOW = (-1000.0, 1000.0)
PLENTY = 2.0**30


@pytest.fixture
def network() -> AnisotropicUNet:
    """A small network with weights and batch norm statistics that are not trivial."""
    network = AnisotropicUNet((3, 4, 6), 1)
    network.initialise(torch.Generator().manual_seed(1))
    random = torch.Generator().manual_seed(2)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_(generator=random)
            module.running_var.uniform_(0.5, 2, generator=random)
    return network.eval()


@pytest.fixture
def image() -> np.ndarray:
    """HU, smaller than the network's margin along z."""
    return np.random.default_rng(0).integers(-1000, 1000, (7, 45, 38)).astype(np.int16)


@pytest.mark.parametrize("memory", [2e6, 5e6])
def test_the_tiling_does_not_change_the_prediction(network: AnisotropicUNet, image: np.ndarray, memory: float) -> None:
    one, many = plan_tiles(image.shape, network, PLENTY), plan_tiles(image.shape, network, memory)
    assert np.prod([len(starts) for starts in many.starts]) > np.prod([len(starts) for starts in one.starts]) == 1
    whole, tiled = (predict(network, image, WINDOW, budget) for budget in (PLENTY, memory))
    assert np.abs(whole - tiled).max() < 1e-6


def test_prediction_is_the_network_on_the_reflected_image(network: AnisotropicUNet, image: np.ndarray) -> None:
    size = network.geometry.output_size(image.shape)
    start = [-side for side in network.margin]
    block = extract(image, start, [a + 2 * b for a, b in zip(size, network.margin, strict=True)])
    with torch.inference_mode():
        expected = network(torch.from_numpy(scale_intensities(block))[None, None]).softmax(dim=1)
    z, y, x = image.shape
    assert np.allclose(predict(network, image, WINDOW, PLENTY), expected[0, :, :z, :y, :x], atol=1e-6)


def test_shared_deterministic_part_equals_full_passes(network: AnisotropicUNet, image: np.ndarray) -> None:
    """Given the same dropout masks, the mean equals that of n full passes, in double precision."""
    key, samples = (3, "model", "volume"), 6
    mean = sample_mean_probability(network, image, WINDOW, PLENTY, samples, key)
    size = network.geometry.output_size(image.shape)
    start = [-side for side in network.margin]
    block = extract(image, start, [a + 2 * b for a, b in zip(size, network.margin, strict=True)])
    batch = torch.from_numpy(scale_intensities(block))[None, None].double()
    passes = []
    with torch.inference_mode():
        for sample in range(samples):
            generator = torch.Generator().manual_seed(seed_of(*key, 0, sample))
            passes.append(network.double()(batch, generator).softmax(dim=1))
    expected = torch.stack(passes).mean(dim=0)[0].numpy()
    z, y, x = image.shape
    assert np.abs(mean - expected[:, :z, :y, :x]).max() < 1e-5
    difference = predictive_entropy(mean) - predictive_entropy(expected[:, :z, :y, :x])
    assert np.abs(difference).max() < 1e-4


def test_samples_depend_on_the_key_alone(network: AnisotropicUNet, image: np.ndarray) -> None:
    first = sample_mean_probability(network, image, WINDOW, PLENTY, 3, (1, "volume"))
    torch.manual_seed(99)
    again = sample_mean_probability(network, image, WINDOW, PLENTY, 3, (1, "volume"))
    other = sample_mean_probability(network, image, WINDOW, PLENTY, 3, (2, "volume"))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_sampling_leaves_batch_norm_alone(network: AnisotropicUNet, image: np.ndarray) -> None:
    before = {name: value.clone() for name, value in network.train().state_dict().items()}
    sample_mean_probability(network, image, WINDOW, PLENTY, 2, (1,))
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_more_samples_converge_to_the_mean(network: AnisotropicUNet, image: np.ndarray) -> None:
    """The spread of the mean over keys falls as one over the square root of the number of samples."""
    spread = []
    for samples in (1, 9):
        means = [sample_mean_probability(network, image, WINDOW, PLENTY, samples, (seed,)) for seed in range(8)]
        spread.append(np.std(means, axis=0).mean())
    assert spread[0] / spread[1] == pytest.approx(3, rel=0.3)


def test_tile_starts_are_in_phase_and_cover_the_volume() -> None:
    network = AnisotropicUNet((2, 2, 2, 2, 2), 2)
    for shape, memory in itertools.product([(168, 356, 356), (3, 500, 20), (1160, 420, 420)], [2**20, 2**28, 2**33]):
        plan = plan_tiles(shape, network, memory)
        assert network.geometry.output_size(plan.shape) == plan.shape
        for size, tile, starts, stride in zip(shape, plan.shape, plan.starts, network.geometry.stride, strict=True):
            assert all(start % stride == 0 for start in starts)
            assert all(b - a <= tile for a, b in itertools.pairwise(starts))
            assert starts[0] == 0
            assert starts[-1] < size <= starts[-1] + tile
