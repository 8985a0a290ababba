"""Laws of the network: its geometry follows from its layers, and only dropout is stochastic."""

import pytest
import torch
from conftest import at_most
from hypothesis import given
from hypothesis import strategies as st
from slicesampling.learning.geometry import Geometry
from slicesampling.learning.unet import AnisotropicUNet, joined, keep_mask, parameter_count, pooled


def test_defaults_are_the_papers() -> None:
    network = AnisotropicUNet()
    assert network.margin == (20, 92, 92)
    assert network.geometry.output_size((4, 180, 180)) == (4, 180, 180)
    assert network.geometry.stride == (4, 16, 16)
    # The paper states 4 975 346; its filter counts are not available.
    assert parameter_count(network) == 4_975_206


def test_papers_patch_gives_the_papers_output() -> None:
    """Shapes alone (the meta device computes none of the values): 364×364×44 in, 180×180×4 out."""
    network = AnisotropicUNet().to("meta")
    assert network(torch.empty(2, 1, 44, 364, 364, device="meta")).shape == (2, 2, 4, 180, 180)


@at_most(15)
@given(
    levels=st.integers(2, 5),
    in_plane=st.integers(0, 5),
    at_least=st.tuples(st.integers(1, 9), st.integers(1, 40), st.integers(1, 40)),
)
def test_geometry_predicts_what_the_layers_do(levels: int, in_plane: int, at_least: tuple[int, int, int]) -> None:
    network = AnisotropicUNet([2] * levels, min(in_plane, levels)).to("meta")
    size = network.geometry.output_size(at_least)
    assert all(a >= b and a - b < s for a, b, s in zip(size, at_least, network.geometry.stride, strict=True))
    with_margin = [a + 2 * b for a, b in zip(size, network.margin, strict=True)]
    assert network(torch.empty(1, 1, *with_margin, device="meta")).shape[2:] == size
    encoder, decoder = network.geometry.level_sizes(size)[0]
    assert decoder == size
    assert encoder == tuple(a - 2 * b for a, b in zip(with_margin, network.geometry.lost[0], strict=True))


def test_output_depends_on_exactly_the_margin() -> None:
    """The gradient of one output voxel reaches as far as the margin says, and no further."""
    network = AnisotropicUNet((2, 3, 4), 1).double().eval()
    network.initialise(torch.Generator().manual_seed(0))
    for module in network.modules():  # without ReLU dead ends: all weights positive
        if isinstance(module, torch.nn.Conv3d | torch.nn.ConvTranspose3d):
            module.weight.data.abs_()
    size = network.geometry.output_size((4, 12, 12))
    image = torch.rand(1, 1, *[a + 2 * b for a, b in zip(size, network.margin, strict=True)], dtype=torch.double)
    image.requires_grad_()
    network(image)[0, 1].sum().backward()
    assert image.grad is not None
    reached = image.grad[0, 0] != 0
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        profile = reached.any(dim=others[1]).any(dim=others[0])
        assert profile[0]  # no voxel of the context is superfluous
        assert profile[-1]


def test_deterministic_without_generator_and_reproducible_with() -> None:
    network = AnisotropicUNet((4, 8), 1).eval()
    image = torch.rand(1, 1, 12, 28, 28)
    assert torch.equal(network(image), network(image))
    samples = [network(image, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(samples[0], samples[1])
    assert not torch.equal(samples[0], samples[2])


def test_initialisation_depends_on_the_generator_alone() -> None:
    states = []
    for global_seed, seed in ((1, 5), (2, 5), (1, 6)):
        torch.manual_seed(global_seed)
        network = AnisotropicUNet((4, 8), 1)
        network.initialise(torch.Generator().manual_seed(seed))
        states.append(torch.cat([value.flatten().float() for value in network.state_dict().values()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


@pytest.mark.parametrize("probability", [0.1, 0.25, 0.5])
def test_dropout_drops_its_share_each_element_alone(probability: float) -> None:
    keep = keep_mask((1, 3, 1, 1, 333_335), probability, torch.Generator().manual_seed(3)).flatten().double()
    standard_error = (probability * (1 - probability) / len(keep)) ** 0.5
    assert abs(1 - keep.mean().item() - probability) < 5 * standard_error
    for distance in (1, 2, 3, 8):
        neighbours = torch.corrcoef(torch.stack([keep[:-distance], keep[distance:]]))[0, 1]
        assert abs(neighbours.item()) < 5 / len(keep) ** 0.5


@pytest.mark.parametrize("grad", [True, False])
def test_what_dropout_keeps_is_scaled_to_keep_the_expectation(grad: bool) -> None:
    """Skip connection and features from below are dropped alike, in training and in inference."""
    skip, below = torch.rand(2, 3, 2, 5, 7), torch.rand(2, 4, 2, 5, 7)
    keep = keep_mask((2, 7, 2, 5, 7), 0.25, torch.Generator().manual_seed(1))
    with torch.set_grad_enabled(grad):
        result = joined(skip, below, keep, 1 / 0.75)
    expected = torch.cat([skip, below], dim=1) * keep / 0.75
    assert torch.allclose(result, expected)
    assert torch.equal(joined(skip, below, None, 1 / 0.75), torch.cat([skip, below], dim=1))


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("factors", [(1, 2, 2), (2, 2, 2), (1, 1, 1)])
def test_pooling_takes_the_maximum_of_each_block(factors: tuple[int, int, int], grad: bool) -> None:
    features = torch.rand(2, 3, 6, 8, 10).contiguous(memory_format=torch.channels_last_3d)
    with torch.set_grad_enabled(grad):
        result = pooled(features, factors)
    assert torch.equal(result, torch.nn.functional.max_pool3d(features, factors))
    assert result.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("sampling", [True, False])
def test_the_deployed_network_computes_the_same(sampling: bool) -> None:
    """Batch norm and the scaling of dropout are folded into the weights; the trained network is not touched."""
    network = AnisotropicUNet((4, 8, 6), 1).double()
    network.initialise(torch.Generator().manual_seed(0))
    size = [a + 2 * b for a, b in zip(network.geometry.output_size((4, 16, 16)), network.margin, strict=True)]
    network(torch.rand(2, 1, *size, dtype=torch.double))  # moves the statistics of the batch norms
    before = {name: value.clone() for name, value in network.eval().state_dict().items()}
    image = torch.rand(1, 1, *size, dtype=torch.double)

    def keep(level: int, shape: torch.Size) -> torch.Tensor:
        return keep_mask(shape, 0.25, torch.Generator().manual_seed(level))

    deployed = network.deployed(torch.double, sampling)
    with torch.inference_mode():
        expected, result = (n.decode(n.encode(image), keep if sampling else None) for n in (network, deployed))
    assert not any(isinstance(module, torch.nn.BatchNorm3d) for module in deployed.modules())
    assert torch.allclose(result, expected, rtol=1e-9, atol=1e-12)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"filters": ()}, "filters"),
        ({"in_plane_levels": 6}, "in_plane_levels"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnisotropicUNet(**arguments)


def test_levels_without_kernels_along_z_need_no_context_along_z() -> None:
    assert Geometry(3, 3).margin[0] == 0
    assert Geometry(3, 3).stride[0] == 1
