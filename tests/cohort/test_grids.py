"""Laws of grids and of interpolation between them."""

import numpy as np
import pytest
from conftest import at_most
from hypothesis import given
from hypothesis import strategies as st
from nibabel.orientations import apply_orientation, inv_ornt_aff
from scans import CANONICAL, ball, dice, grid_of, rotated, world
from slicesampling.cohort import grids
from slicesampling.cohort.grids import Grid
from slicesampling.cohort.scans import AIR

# Grids and resampling -------------------------------------------------------------------------------------------------

lengths = st.tuples(st.integers(2, 12), st.integers(2, 12), st.integers(2, 12))
spacings = st.tuples(*[st.floats(0.4, 5.0) for _ in range(3)])
origins = st.tuples(*[st.floats(-300, 300) for _ in range(3)])
angles = st.floats(-40, 40)
planes = st.sampled_from([(0, 1), (0, 2), (1, 2)])


@given(lengths, spacings, origins, angles, planes)
@at_most(50)
def test_a_grid_survives_json(shape, spacing, origin, angle, axes):
    grid = rotated(grid_of(shape, spacing, origin), angle, axes)
    again = Grid.from_json(grid.to_json())
    assert again.shape == grid.shape
    assert np.array_equal(again.affine, grid.affine)
    assert again.spacing == pytest.approx(spacing)


@given(lengths, spacings, origins)
@at_most(50)
def test_the_canonical_grid_covers_the_extent(shape, spacing, origin):
    grid = grid_of(shape, spacing, origin)
    canonical = grids.canonical_grid(grid, CANONICAL)
    assert canonical.spacing == pytest.approx(CANONICAL)
    # Lower edges coincide; the upper ones are half a voxel apart at most, unless the volume is thinner than a voxel.
    low = canonical.affine[:3, 3] - np.array(CANONICAL) / 2
    assert low == pytest.approx(np.array(origin) - np.array(spacing) / 2)
    extent, covered = np.array(shape) * spacing, np.array(canonical.shape) * CANONICAL
    assert (np.abs(extent - covered) <= np.array(CANONICAL) / 2 + 1e-5).all()


@given(lengths, spacings, origins, angles, planes)
@at_most(50)
def test_the_canonical_grid_of_an_oblique_volume_holds_all_its_voxels(shape, spacing, origin, angle, axes):
    grid = rotated(grid_of(shape, spacing, origin), angle, axes)
    canonical = grids.canonical_grid(grid, CANONICAL)
    centres = world(grid).reshape(3, -1)
    index = (centres - canonical.affine[:3, 3:]) / np.reshape(CANONICAL, (3, 1))
    assert (index >= -0.5 - 1e-9).all()
    assert (index <= np.reshape(canonical.shape, (3, 1)) - 0.5 + 0.5 + 1e-4).all()


@given(lengths, spacings, origins)
@at_most(50)
def test_the_grid_of_a_canonical_volume_is_its_own_canonical_grid(shape, spacing, origin):
    grid = grid_of(shape, spacing, origin)
    canonical = grids.canonical_grid(grid, spacing)
    assert canonical.matches(grid)
    array = np.random.default_rng(0).integers(-1000, 1000, shape).astype(np.int16)
    assert grids.resample(array, grid, canonical, fill=AIR) == pytest.approx(array, abs=1e-2)


@given(lengths, spacings, st.tuples(*[st.floats(-2, 2) for _ in range(4)]), angles, planes)
@at_most(50)
def test_linear_interpolation_reproduces_linear_functions(shape, spacing, slopes, angle, axes):
    """A function linear in the world's mm is the same on either grid between the outermost voxel centres."""
    for grid in (grid_of(shape, spacing, (5, -8, 3)), rotated(grid_of(shape, spacing, (5, -8, 3)), angle, axes)):
        canonical = grids.canonical_grid(grid, CANONICAL)
        on_grid, on_canonical = (slopes[3] + np.tensordot(slopes[:3], world(g), axes=1) for g in (grid, canonical))
        resampled = grids.resample(on_grid, grid, canonical, fill=AIR)
        points = world(canonical).reshape(3, -1)
        index = np.linalg.inv(grid.affine) @ np.vstack([points, np.ones(points.shape[1])])
        inner = ((index[:3] >= 0) & (index[:3] <= np.reshape(shape, (3, 1)) - 1)).all(axis=0).reshape(canonical.shape)
        # Grids count as aligned up to a thousandth of a voxel.
        accuracy = grids.ALIGNED * (1 + np.abs(slopes[:3]) @ np.array(spacing))
        assert resampled[inner] == pytest.approx(on_canonical[inner], abs=accuracy)
        outer = ((index[:3] < -1.02) | (index[:3] > np.reshape(shape, (3, 1)) + 0.02)).any(axis=0)
        assert (resampled[outer.reshape(canonical.shape)] == AIR).all()


@given(lengths, spacings)
@at_most(50)
def test_a_constant_volume_gets_no_rim(shape, spacing):
    grid = grid_of(shape, spacing)
    canonical = grids.canonical_grid(grid, CANONICAL)
    assert (grids.resample(np.full(shape, 100, np.int16), grid, canonical, fill=AIR) == 100).all()
    assert grids.resample_mask(np.ones(canonical.shape, bool), canonical, grid).all()


@given(st.floats(8, 40), planes, st.sampled_from([(5.0, 1.0, 1.0), (2.5, 0.8, 0.8), (1.5, 1.1, 0.9)]))
@at_most(25)
def test_a_mask_that_fills_an_oblique_volume_keeps_its_volume(angle, axes, spacing):
    """Outside of the voxels of the file nothing is known, so nothing is added there; and all of it comes back."""
    shape = (round(15 / spacing[0]), *(round(40 / s) for s in spacing[1:]))
    grid = rotated(grid_of(shape, spacing, (5, -8, 3)), angle, axes)
    canonical = grids.canonical_grid(grid, CANONICAL)
    there = grids.resample_mask(np.ones(shape, bool), grid, canonical)
    assert there.sum() * np.prod(CANONICAL) == pytest.approx(np.prod(shape) * np.prod(spacing), rel=0.06)
    assert (grids.resample(np.ones(shape), grid, canonical, fill=0) > 0.5).sum() == there.sum()
    back = grids.resample_mask(there, canonical, grid)
    assert back.mean() > 0.8  # corners become round


@given(lengths, spacings, st.floats(0.5, 3), st.sampled_from([(0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]))
@at_most(50)
def test_the_order_of_the_targets_axes_makes_no_difference(shape, spacing, factor, order):
    """In the order of the source there is a fast path, in any other the general one."""
    grid = grid_of(shape, spacing, (5, -8, 3))
    target = grid_of((7, 9, 8), [s * factor for s in spacing], (-1, -9, 2))
    turned = Grid(tuple(target.shape[axis] for axis in order), target.affine[:, [*order, 3]])
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    same, other = (grids.resample(array, grid, to, fill=-9.0) for to in (target, turned))
    assert other == pytest.approx(same.transpose(order), abs=1e-4)


HALVING = [(0.75, 0.5, 0.5), (1.5, 0.5, 0.5), (3.0, 0.5, 0.5), (1.0, 0.75, 0.75), (2.5, 0.8, 0.8)]
"""Spacings between which and the canonical one many centres lie exactly half-way."""


@pytest.mark.parametrize("spacing", HALVING)
def test_halves_neither_grow_nor_shrink_nor_move_a_structure(spacing):
    """Ellipsoids of 65 mm at random places, to the canonical grid and back; halves to one side cost 1 % of volume."""
    random, volume, moved = np.random.default_rng(0), [], []
    shape = tuple(round(72 / s) for s in spacing)
    grid = grid_of(shape, spacing)
    canonical = grids.canonical_grid(grid, CANONICAL)
    for _ in range(6):
        axes = np.array([26.0, 32.5, 32.5])[:, None, None, None]
        centre = (np.array(shape) * spacing / 2 + random.uniform(-2, 2, 3))[:, None, None, None]
        mask = (((world(grid) - centre) / axes) ** 2).sum(axis=0) <= 1
        back = grids.resample_mask(grids.resample_mask(mask, grid, canonical), canonical, grid)
        volume.append(back.sum() / mask.sum() - 1)
        moved.append(world(grid)[:, back].mean(axis=1) - world(grid)[:, mask].mean(axis=1))
    assert np.abs(np.mean(volume)) < 2.5e-3  # what a curved surface loses by interpolation
    assert np.abs(np.mean(moved, axis=0)).max() < 0.01  # mm


@given(lengths, st.sampled_from(HALVING), angles, planes, st.integers(0, 99))
@at_most(50)
def test_the_complement_of_a_mask_becomes_the_complement(shape, spacing, angle, axes, seed):
    """Liver and background are treated alike, also where a voxel lies half-way."""
    mask = np.random.default_rng(seed).random(shape) < 0.5
    for grid in (grid_of(shape, spacing), rotated(grid_of(shape, spacing), angle, axes)):
        target = grids.canonical_grid(grid, CANONICAL)
        inside = grids.resample(np.ones(shape, np.float32), grid, target, fill=0) > 0
        liver, other = (grids.resample_mask(each, grid, target) for each in (mask, ~mask))
        assert (liver[inside] ^ other[inside]).all()
        assert not (liver | other)[~inside].any()


@given(lengths, st.sampled_from(HALVING), st.permutations(range(3)), st.tuples(*[st.booleans()] * 3), st.booleans())
@at_most(30)
def test_halves_do_not_depend_on_how_a_file_stores_its_axes(shape, spacing, order, flips, back):
    """So a prediction on the file of its image is the one that was evaluated."""
    source, target = grid_of(shape, spacing), grids.canonical_grid(grid_of(shape, spacing), CANONICAL)
    if back:
        source, target = target, source
    mask = np.random.default_rng(0).random(source.shape) < 0.5
    stored = np.column_stack([np.argsort(order), np.where(flips, -1, 1)])

    def turned(grid):
        return Grid(tuple(np.array(grid.shape)[list(order)]), grid.affine @ inv_ornt_aff(stored, grid.shape))

    found = grids.resample_mask(apply_orientation(mask, stored), turned(source), turned(target))
    assert np.array_equal(found, apply_orientation(grids.resample_mask(mask, source, target), stored))


def test_halves_are_found_on_a_grid_that_a_header_has_rounded():
    """A stored canonical grid is rounded to float32, by up to 3e-5 mm: a mask becomes the same on either."""
    grid = grid_of((50, 90, 90), (0.75, 0.5, 0.5), (-311.3, -180.7, -190.1))
    canonical = grids.canonical_grid(grid, CANONICAL)
    stored = Grid(canonical.shape, canonical.affine.astype(np.float32).astype(float))
    assert not np.array_equal(stored.affine, canonical.affine)
    mask = ball(grid, world(grid).mean(axis=(1, 2, 3)), 15)
    assert np.array_equal(grids.resample_mask(mask, grid, stored), grids.resample_mask(mask, grid, canonical))


@given(
    st.tuples(st.floats(0.8, 2.5), st.floats(0.6, 1.2), st.floats(0.6, 1.2)), st.floats(-25, 25), planes, st.booleans()
)
@at_most(25)
def test_a_ball_is_a_ball_on_every_grid(spacing, angle, axes, oblique):
    """A ball goes to the canonical grid and back; there and here it agrees with the ball that geometry gives."""
    shape = tuple(round(44 / s) for s in spacing)
    grid = grid_of(shape, spacing, (-20, 30, 5))
    grid = rotated(grid, angle, axes) if oblique else grid
    centre = grid.affine[:3, :3] @ (np.array(shape) / 2) + grid.affine[:3, 3]
    native = ball(grid, centre, 17)
    canonical = grids.canonical_grid(grid, CANONICAL)
    moved = grids.resample_mask(native, grid, canonical)
    assert dice(moved, ball(canonical, centre, 17)) > 0.96
    assert dice(grids.resample_mask(moved, canonical, grid), native) > 0.96
    millilitres = moved.sum() * np.prod(CANONICAL) / 1000
    assert millilitres == pytest.approx(4 / 3 * np.pi * 17**3 / 1000, rel=0.04)
