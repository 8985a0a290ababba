"""Laws of inference: neither tiles nor sharing nor batching change the result; samples follow their key and place."""

import itertools
from typing import ClassVar

import numpy as np
import pytest
import torch
from conftest import peak_bytes
from slicesampling import UserError
from slicesampling.jobs.randomness import seed_of
from slicesampling.learning.compute import PRECISIONS, Compute
from slicesampling.learning.inference import LIVER, Predictor, Sampled, sample, slice_features
from slicesampling.learning.patches import extract, scale_intensities
from slicesampling.learning.tiling import plan_tiles, tile_cost
from slicesampling.learning.uncertainty import MEASURES, moments, predictive_entropy
from slicesampling.learning.unet import AnisotropicUNet, keep_mask

WINDOW = (-1000.0, 1000.0)
CPU = Compute(torch.device("cpu"), "float32", 2.0**30)


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


def whole_tile(network: AnisotropicUNet, image: np.ndarray) -> torch.Tensor:
    """The reflected image (1, 1, z, y, x) that gives all of the volume as one tile."""
    size = network.geometry.output_size(image.shape)
    start = [-side for side in network.margin]
    shape = [a + 2 * b for a, b in zip(size, network.margin, strict=True)]
    block = extract(torch.from_numpy(image), start, shape, CPU.device)
    return scale_intensities(block, WINDOW)[None, None]


@pytest.mark.parametrize("memory", [pytest.param(4e5, marks=pytest.mark.slow), 2e6, 4e6])
def test_neither_tiles_nor_batches_of_samples_change_the_samples(
    network: AnisotropicUNet, image: np.ndarray, memory: float
) -> None:
    one, many = (plan_tiles(image.shape, network.architecture, budget, 6) for budget in (CPU.tile_memory, memory))
    assert np.prod([len(starts) for starts in many.starts]) > np.prod([len(starts) for starts in one.starts]) == 1
    whole, tiled = (
        sample(network, image, WINDOW, CPU._replace(tile_memory=budget), 6, (1, "volume"), keep_mean=True)
        for budget in (CPU.tile_memory, memory)
    )
    assert (whole.mean_probability - tiled.mean_probability).abs().max() < 2e-6
    for name in MEASURES:
        assert (whole.measures[name] - tiled.measures[name]).abs().max() < 1e-5
    assert (whole.liver != tiled.liver).float().mean() < 1e-3
    without = [Predictor(network, WINDOW, CPU._replace(tile_memory=budget))(image) for budget in (2.0**30, memory)]
    assert (without[0] - without[1]).abs().max() < 2e-6


def test_prediction_is_the_network_on_the_reflected_image(network: AnisotropicUNet, image: np.ndarray) -> None:
    with torch.inference_mode():
        probability = network(whole_tile(network, image)).softmax(dim=1)[0, 1]
    z, y, x = image.shape
    predicted = Predictor(network, WINDOW, CPU)(image)
    expected = probability[:z, :y, :x]
    assert 0 < (predicted > LIVER).float().mean() < 1
    assert (predicted - expected).abs().max() < 1e-5


def test_prediction_in_float16_falls_back_to_float32_where_it_overflows(
    network: AnisotropicUNet, image: np.ndarray, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    exact = Predictor(network, WINDOW, CPU)(image)
    monkeypatch.setattr(Compute, "prediction_dtype", torch.float16)  # as on a GPU
    narrow = Predictor(network, WINDOW, CPU)
    assert 0 < (narrow(image) - exact).abs().max() < 0.01
    assert narrow.dtype == torch.float16
    block = network.encoder[0][0]
    block.norm.weight.data *= 2e5  # the largest number of float16 is 65 504
    loud = Predictor(network, WINDOW, CPU)
    assert caplog.text == ""
    result = loud(image)
    assert "not finite in float16" in caplog.text
    monkeypatch.setattr(Compute, "prediction_dtype", torch.float32)
    assert torch.equal(result, Predictor(network, WINDOW, CPU)(image))


def test_shared_deterministic_part_equals_full_passes_in_double_precision(
    network: AnisotropicUNet, image: np.ndarray
) -> None:
    """Given the same dropout masks, all measures equal those of n full passes of the trained network, all kept."""
    key, samples = (3, "model", "volume"), 6
    sampled = sample(network, image, WINDOW, CPU, samples, key, keep_mean=True)
    generator, block = torch.Generator(), 4  # slices of the volume that share a seed

    def masks_of(number: int):
        def keep(level: int, shape: torch.Size) -> torch.Tensor:
            thickness = block // int(np.prod([pooling[0] for pooling in network.geometry.pooling[:level]]))
            parts = []
            for first in range(0, shape[2], thickness):
                generator.manual_seed(seed_of(*key, number, level, first // thickness))
                parts.append(keep_mask((1, shape[1], thickness, *shape[3:]), network.dropout, generator))
            return torch.cat(parts, dim=2)[:, :, : shape[2]]

        return keep

    double = network.double()
    with torch.inference_mode():
        passes = [
            double.decode(double.encode(whole_tile(network, image).double()), masks_of(number)).softmax(dim=1)[0]
            for number in range(samples)
        ]
    z, y, x = image.shape
    expected = torch.stack(passes).mean(dim=0)[:, :z, :y, :x]
    assert (sampled.mean_probability - expected).abs().max() < 1e-5
    assert (sampled.measures["predictive_entropy"] - predictive_entropy(expected)).abs().max() < 1e-4
    kept = torch.stack(passes)[..., :z, :y, :x]
    information = predictive_entropy(expected) - torch.stack([predictive_entropy(one) for one in kept]).mean(dim=0)
    assert (sampled.measures["mutual_information"] - information).abs().max() < 1e-4
    assert (sampled.measures["variance"] - kept[:, 1].var(dim=0, correction=0)).abs().max() < 1e-5
    assert torch.stack(passes).std(dim=0).max() > 0.01  # or else there was nothing to compare


@pytest.mark.parametrize(("precision", "bound"), [("float32", 1e-5), ("bfloat16", 0.06), ("float16", 0.01)])
def test_precision_is_bounded_against_double(
    network: AnisotropicUNet, image: np.ndarray, monkeypatch: pytest.MonkeyPatch, precision: str, bound: float
) -> None:
    """The type of the feature maps changes the mean probability by a few roundings of that type, and no more."""
    monkeypatch.setitem(PRECISIONS, "float64", torch.float64)
    reference, rounded = (
        sample(network, image, WINDOW, CPU._replace(precision=kind), 4, (1,), keep_mean=True).mean_probability
        for kind in ("float64", precision)
    )
    difference = (reference - rounded).abs().max().item()
    assert difference < bound
    assert rounded.dtype == torch.float32


def test_samples_depend_on_the_key_alone(network: AnisotropicUNet, image: np.ndarray) -> None:
    first = sample(network, image, WINDOW, CPU, 3, (1, "volume"))
    torch.manual_seed(99)
    again = sample(network, image, WINDOW, CPU, 3, (1, "volume"))
    other = sample(network, image, WINDOW, CPU, 3, (2, "volume"))
    assert torch.equal(first.measures["predictive_entropy"], again.measures["predictive_entropy"])
    assert not torch.equal(first.measures["predictive_entropy"], other.measures["predictive_entropy"])
    assert first.mean_probability is None


def test_each_sample_drops_the_configured_share_anew(network: AnisotropicUNet, image: np.ndarray) -> None:
    """Masks of two samples, of two levels and of two blocks of slices are as different as chance has it."""
    from slicesampling.learning.inference import _Dropout

    dropout = _Dropout(network, image.shape, (1,), CPU)
    size = network.geometry.level_sizes(network.geometry.output_size(image.shape))[0][1]
    depth, height, width = (a + 2 * b for a, b in zip(size, network.geometry.lost[0], strict=True))
    keep = dropout.of(range(2), (0, 0, 0))(0, torch.Size((2, 6, depth, height, width))).double()
    share = 1 - network.dropout
    assert keep.mean().item() == pytest.approx(share, abs=0.005)
    pairs = [(keep[0], keep[1]), (keep[0, :, :4], keep[0, :, 4:8]), (keep[0, :, 0], keep[0, :, 1])]
    for first, second in pairs:
        count = min(first.numel(), second.numel())
        agreement = torch.corrcoef(torch.stack([first.flatten()[:count], second.flatten()[:count]]))[0, 1]
        assert abs(agreement.item()) < 5 / count**0.5


def test_without_dropout_the_samples_agree(network: AnisotropicUNet, image: np.ndarray) -> None:
    network.dropout = 0.0
    measures = sample(network, image, WINDOW, CPU, 5, (1,)).measures
    assert measures["predictive_entropy"].max() > 0.1
    assert measures["mutual_information"].max() < 1e-6
    assert measures["variance"].max() < 1e-6


def test_sampling_leaves_the_network_alone(network: AnisotropicUNet, image: np.ndarray) -> None:
    before = {name: value.clone() for name, value in network.train().state_dict().items()}
    sample(network, image, WINDOW, CPU, 2, (1,))
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert network.training


def test_more_samples_converge_to_the_mean(network: AnisotropicUNet, image: np.ndarray) -> None:
    """The spread of the mean over keys falls as one over the square root of the number of samples."""
    spread = []
    for samples in (1, 9):
        means = [
            sample(network, image, WINDOW, CPU, samples, (seed,), keep_mean=True).mean_probability for seed in range(8)
        ]
        spread.append(torch.stack(means).std(dim=0).mean().item())
    assert spread[0] / spread[1] == pytest.approx(3, rel=0.3)


@pytest.mark.parametrize("memory", [pytest.param(4e5, marks=pytest.mark.slow), 4e6, CPU.tile_memory])
def test_memory_is_that_of_one_tile_and_of_the_result(
    network: AnisotropicUNet, image: np.ndarray, memory: float
) -> None:
    """Nothing of a tile is left when the next one is computed."""
    plan = plan_tiles(image.shape, network.architecture, memory, 6)
    tile = tile_cost(network.architecture, plan.shape, samples_at_once=plan.samples_at_once)
    # Of the tile itself, what is known of its samples.
    known = moments([torch.zeros(network.classes, *plan.shape)]).probability.untyped_storage().nbytes()
    weights = sum(parameter.nbytes for parameter in network.parameters())
    results: list[Sampled] = []
    peak = peak_bytes(lambda: results.append(sample(network, image, WINDOW, CPU._replace(tile_memory=memory), 6, (1,))))
    (result,) = results
    held = image.nbytes + sum(tensor.nbytes for tensor in (*result.measures.values(), result.liver))
    assert tile.memory < peak < 1.05 * tile.memory + known + held + 2 * weights + 5e4


class SmallDevice(AnisotropicUNet):
    """A network whose device holds tiles up to `limit` voxels with their margin; `seen` are those that it was given."""

    error: ClassVar[Exception] = torch.OutOfMemoryError()
    limit = 10**9
    seen: ClassVar[list[int]] = []  # of the class, because inference works on a copy

    def encode(self, image: torch.Tensor):
        SmallDevice.seen.append(image.numel())
        if image.numel() > SmallDevice.limit:
            raise SmallDevice.error
        return super().encode(image)


# What torch raises where a convolution finds no workspace is no OutOfMemoryError.
NO_WORKSPACE = [
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("FIND was unable to find an engine to execute this computation"),
    RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), *NO_WORKSPACE], ids=str)
def test_out_of_memory_is_tried_once_more_with_smaller_tiles(
    image: np.ndarray, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(SmallDevice, "error", error)
    SmallDevice.seen.clear()
    network = SmallDevice((3, 4, 6), 1).eval()
    network.initialise(torch.Generator().manual_seed(1))
    expected = sample(network, image, WINDOW, CPU._replace(tile_memory=3e6), 2, (1,))
    monkeypatch.setattr(SmallDevice, "limit", SmallDevice.seen[0] - 1)
    SmallDevice.seen.clear()
    again = sample(network, image, WINDOW, CPU._replace(tile_memory=3e6), 2, (1,))
    assert SmallDevice.seen[0] > SmallDevice.limit >= max(SmallDevice.seen[1:])
    assert (again.measures["predictive_entropy"] - expected.measures["predictive_entropy"]).abs().max() < 1e-5
    monkeypatch.setattr(SmallDevice, "limit", 0)
    with pytest.raises(UserError, match=r"compute\.tile_gib: cpu has no memory for tiles of 0\.0 GiB"):
        Predictor(network, WINDOW, CPU._replace(tile_memory=3e6))(image)


def test_another_error_is_not_taken_for_too_little_memory(image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SmallDevice, "limit", 0)
    monkeypatch.setattr(SmallDevice, "error", RuntimeError("CUDA error: device-side assert triggered"))
    with pytest.raises(RuntimeError, match="device-side assert"):
        sample(SmallDevice((3, 4, 6), 1).eval(), image, WINDOW, CPU, 1, (1,))


def test_memory_grows_neither_with_samples_nor_with_volumes(network: AnisotropicUNet, image: np.ndarray) -> None:
    """What is allocated and still held, at the worst, is the same for 4 and for 40 samples, and for two volumes."""

    def several(samples: int, volumes: int) -> None:
        for _ in range(volumes):
            sample(network, image, WINDOW, CPU, samples, (1,))

    peak = peak_bytes(lambda: several(4, 1))
    assert peak > image.size * 100  # something was counted
    assert peak_bytes(lambda: several(40, 1)) == pytest.approx(peak, rel=0.01)
    assert peak_bytes(lambda: several(4, 3)) == pytest.approx(peak, rel=0.01)


def test_tile_starts_are_in_phase_and_cover_the_volume() -> None:
    network = AnisotropicUNet((2, 2, 2, 2, 2), 2)
    for shape, memory in itertools.product([(168, 356, 356), (3, 500, 20), (1160, 420, 420)], [2**20, 2**28, 2**33]):
        plan = plan_tiles(shape, network.architecture, memory)
        assert network.geometry.output_size(plan.shape) == plan.shape
        for size, tile, starts, stride in zip(shape, plan.shape, plan.starts, network.geometry.stride, strict=True):
            assert all(start % stride == 0 for start in starts)
            assert all(b - a <= tile for a, b in itertools.pairwise(starts))
            assert starts[0] == 0
            assert starts[-1] < size <= starts[-1] + tile


def test_slice_features_are_means_of_the_deepest_level_at_the_place_of_the_slice(
    network: AnisotropicUNet, image: np.ndarray
) -> None:
    """Every voxel of that level lies where the upsampling would lay it: between its neighbours along z."""
    geometry, depth = network.geometry, len(image)
    with torch.inference_mode():
        deepest = network.deepest(whole_tile(network, image))[0]
    repeated = deepest
    for axis, step in enumerate(geometry.stride, start=1):
        repeated = repeated.repeat_interleave(step, dim=axis)
    cut = [(have - want) // 2 for have, want in zip(repeated.shape[1:], geometry.output_size(image.shape), strict=True)]
    step, ahead = geometry.stride[0], cut[0]
    found = slice_features(network, image, WINDOW, CPU)
    for position in range(depth):
        centre = (position + ahead - (step - 1) / 2) / step
        share, below = np.modf(centre)
        plane = (1 - share) * deepest[:, int(below)] + share * deepest[:, int(below) + 1]
        rows = {(y + cut[1]) // geometry.stride[1] for y in range(image.shape[1])}
        columns = {(x + cut[2]) // geometry.stride[2] for x in range(image.shape[2])}
        expected = plane[:, sorted(rows)][:, :, sorted(columns)].mean(dim=(1, 2))
        np.testing.assert_allclose(found[position], expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("filters", [(3, 4, 6), (3, 4), (3,)])
def test_slice_features_follow_the_image_and_not_the_tiles(filters: tuple[int, ...]) -> None:
    network = AnisotropicUNet(filters, 0).eval()
    network.initialise(torch.Generator().manual_seed(3))
    step, margin = network.geometry.stride[0], network.margin[0]
    random = np.random.default_rng(1)
    image = random.integers(-1000, 1000, (2 * margin + 3 * step + 4, 12, 15)).astype(np.int16)
    features = slice_features(network, image, WINDOW, CPU)
    assert features.shape == (len(image), filters[-1])
    tiled = slice_features(network, image, WINDOW, CPU._replace(tile_memory=4e5))
    np.testing.assert_allclose(tiled, features, atol=1e-5)
    moved = slice_features(network, image[step:], WINDOW, CPU)
    inner = slice(margin + step, -margin - step)
    np.testing.assert_allclose(moved[inner], features[step:][inner], atol=1e-5)
    assert np.abs(features[step:][inner] - features[:-step][inner]).max() > 1e-3
