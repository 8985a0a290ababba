"""Laws of the patches: reflection as numpy's, each annotated voxel once an epoch, liver in each mini-batch."""

from collections import Counter

import numpy as np
import pytest
import torch
from conftest import at_most
from hypothesis import given
from hypothesis import strategies as st
from slicesampling.learning.patches import AnnotatedVolume, TrainingSet, extract, scale_intensities

WINDOW = (-1000.0, 1000.0)
CPU = torch.device("cpu")


@given(
    shape=st.tuples(*[st.integers(2, 7)] * 3),
    margin=st.tuples(*[st.integers(0, 20)] * 3),
    seed=st.integers(0, 99),
)
def test_extract_agrees_with_numpy_reflection(shape: tuple, margin: tuple, seed: int) -> None:
    volume = np.random.default_rng(seed).integers(0, 99, shape)
    padded = np.pad(volume, [(side, side) for side in margin], mode="reflect")
    start = [-side for side in margin]
    assert np.array_equal(extract(torch.from_numpy(volume), start, padded.shape, CPU), padded)


def test_a_single_slice_is_its_own_reflection() -> None:
    volume = torch.arange(4).view(1, 2, 2)
    assert torch.equal(extract(volume, (-3, 0, 0), (7, 2, 2), CPU), volume.repeat(7, 1, 1))


def test_intensities_are_clipped_and_scaled() -> None:
    assert scale_intensities(torch.tensor([-3000, -1000, 0, 500, 3000], dtype=torch.int16), WINDOW).tolist() == [
        -1.0,
        -1.0,
        0.0,
        0.5,
        1.0,
    ]


def volumes(seed: int, alone: bool) -> list[AnnotatedVolume]:
    """Two volumes, one annotated fully or in single slices, with liver somewhere in the middle."""
    random = np.random.default_rng(seed)
    result = []
    for name, shape in (("a", (13, 30, 25)), ("b", (9, 17, 40))):
        mask = np.zeros(shape, dtype=np.uint8)
        mask[3:7, 5:12, 8:20] = 1
        slices = np.arange(shape[0]) if not alone else np.sort(random.choice(shape[0], 5, replace=False))
        if alone and not mask[slices].any():
            slices[0] = 3
            slices = np.unique(slices)
        result.append(AnnotatedVolume(name, random.integers(-1000, 1000, shape).astype(np.int16), mask, slices))
    return result


@at_most(25)
@given(
    seed=st.integers(0, 999),
    alone=st.booleans(),
    patch=st.tuples(st.integers(1, 14), st.integers(7, 31), st.integers(7, 41)),
)
def test_an_epoch_covers_each_annotated_voxel_once(seed: int, alone: bool, patch: tuple) -> None:
    training_set = TrainingSet(volumes(seed, alone), patch)
    covered = [np.zeros(volume.mask.shape) for volume in training_set.volumes]
    for tile in training_set.tiles(np.random.default_rng(seed)):
        image, label, weight = (part.numpy() for part in training_set.batch([tile], (1, 2, 3), WINDOW, CPU))
        volume = training_set.volumes[tile.volume]
        z, y, x = (
            np.arange(first, first + size)[(np.arange(first, first + size) >= 0)
                                           & (np.arange(first, first + size) < limit)]
            for first, size, limit in zip(tile.start, patch, volume.mask.shape, strict=True)
        )  # fmt: skip
        within = np.ix_(z - tile.start[0], y - tile.start[1], x - tile.start[2])
        covered[tile.volume][np.ix_(z, y, x)] += weight[0][within]
        assert weight.sum() == weight[0][within].sum()  # nothing outside of the volume counts
        assert np.array_equal(label[0][within], volume.mask[np.ix_(z, y, x)])
        inner = image[0, 0, 1 : 1 + patch[0], 2 : 2 + patch[1], 3 : 3 + patch[2]]
        assert np.array_equal(inner[within], scale_intensities(torch.from_numpy(volume.image[np.ix_(z, y, x)]), WINDOW))
        assert tile.liver == bool((label * weight).any())
    for volume, count in zip(training_set.volumes, covered, strict=True):
        expected = np.zeros(volume.mask.shape)
        expected[volume.slices] = 1
        assert np.array_equal(count, expected)


@at_most(25)
@given(seed=st.integers(0, 999), alone=st.booleans(), batch_size=st.integers(2, 4))
def test_the_first_of_each_mini_batch_holds_annotated_liver_and_the_others_are_distinct_tiles(
    seed: int, alone: bool, batch_size: int
) -> None:
    training_set = TrainingSet(volumes(seed, alone), (4, 10, 10))
    tiles = training_set.tiles(np.random.default_rng(seed))
    batches = list(training_set.epoch(np.random.default_rng(seed), batch_size))
    assert len(batches) == -(-len(tiles) // batch_size)
    assert all(len(batch) == batch_size for batch in batches)
    first = Counter(batch[0] for batch in batches)
    times = [first[tile] for tile in tiles if tile.liver]
    assert sum(times) == len(batches)
    assert max(times) - min(times) <= 1
    others = [tile for batch in batches for tile in batch[1:]]
    assert len(set(others)) == min(len(others), len(tiles))
    assert set(others) <= set(tiles)


@pytest.mark.parametrize("batch_size", [2, 3])
def test_each_tile_has_the_same_chance_to_be_among_the_others(batch_size: int) -> None:
    """Liver or not. Blocks of one slice, so that each epoch has the same tiles."""
    training_set = TrainingSet(volumes(0, alone=True), (1, 10, 10))
    tiles, epochs = training_set.tiles(np.random.default_rng(0)), 2000
    steps = -(-len(tiles) // batch_size)
    others = Counter(
        tile
        for epoch in range(epochs)
        for batch in training_set.epoch(np.random.default_rng(epoch), batch_size)
        for tile in batch[1:]
    )
    chance = steps * (batch_size - 1) / len(tiles)
    deviation = np.array([others[tile] for tile in tiles]) - epochs * chance
    assert np.abs(deviation).max() < 4 * np.sqrt(epochs * chance * (1 - chance))


def test_a_single_annotated_slice_lies_at_every_position_of_its_block() -> None:
    volume = volumes(0, alone=False)[0]._replace(slices=np.array([5]))
    training_set = TrainingSet([volume], (4, 40, 40))
    starts = {training_set.tiles(np.random.default_rng(seed))[0].start[0] for seed in range(40)}
    assert starts == {2, 3, 4, 5}


def test_the_same_generator_gives_the_same_epoch() -> None:
    training_set = TrainingSet(volumes(1, alone=True), (4, 10, 10))
    first, again, other = (list(training_set.epoch(np.random.default_rng(seed), 2)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_training_set_without_liver_is_refused() -> None:
    volume = volumes(0, alone=False)[0]._replace(slices=np.array([0]))
    with pytest.raises(ValueError, match="liver"):
        TrainingSet([volume], (4, 10, 10))
