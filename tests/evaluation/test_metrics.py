"""Laws of the segmentation metrics, and their agreement with brute force, MedPy, MONAI and SimpleITK."""

import warnings
from itertools import product

import numpy as np
import pytest
from conftest import at_most
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from scipy.spatial.distance import cdist
from slicesampling.evaluation import metrics
from slicesampling.evaluation.metrics import TOLERANCES, segmentation_metrics

with warnings.catch_warnings():  # of what they import
    warnings.simplefilter("ignore")
    import medpy.metric.binary
    import monai.metrics
    import SimpleITK
    import torch

LAW = at_most(50)
SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6)
SPACINGS = st.tuples(*[st.floats(0.3, 5.0)] * 3)


@st.composite
def cases(draw):
    """Draw two non-empty masks of one shape, and a spacing."""
    shape = draw(SHAPES)
    masks = [draw(hnp.arrays(bool, shape, fill=st.booleans())) for _ in range(2)]
    for mask in masks:
        mask[tuple(draw(st.integers(0, side - 1)) for side in shape)] = True
    return (*masks, draw(SPACINGS))


def symmetric(result):
    """Return what does not depend on which of the masks is the reference."""
    return (result.dice, *result[2:9])


def brute_force(prediction, reference, spacing):
    """Compute Dice, RVE, MSD and HD from lists of points, voxel by voxel as the equations read."""

    def points(mask):
        return {tuple(int(i) for i in point) for point in np.argwhere(mask)}

    def surface(voxels):
        steps = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
        return [v for v in voxels if any(tuple(np.add(v, step).tolist()) not in voxels for step in steps)]

    x, y = points(prediction), points(reference)
    between = cdist(np.array(surface(x)) * spacing, np.array(surface(y)) * spacing)
    nearest = [*between.min(axis=1), *between.min(axis=0)]
    dice = 2 * len(x & y) / (len(x) + len(y))
    return dice, abs(len(x) - len(y)) / len(y) * 100, sum(nearest) / len(nearest), max(nearest)


@pytest.mark.parametrize("dense", [0.0, 1.0])
@given(case=cases())
@LAW
def test_agrees_with_brute_force_by_either_way_to_distances(dense, case):
    before = metrics.DENSE_SURFACE
    metrics.DENSE_SURFACE = dense
    try:
        result = segmentation_metrics(*case)
    finally:
        metrics.DENSE_SURFACE = before
    np.testing.assert_allclose(result[:4], brute_force(*case), rtol=1e-9, atol=1e-9)
    assert result.degenerate is False


def test_both_ways_to_distances_agree_on_smooth_objects(monkeypatch):
    smooth = [ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(20, 40, 40)), 3) > 0 for seed in (1, 2)]
    results = []
    for dense in (0.0, 1.0):  # by the distance transform, and by the search tree
        monkeypatch.setattr(metrics, "DENSE_SURFACE", dense)
        results.append(segmentation_metrics(*smooth, (2.5, 0.7, 0.8)))
    np.testing.assert_allclose(*results)


def surface_points(mask, spacing):
    """Return the surface by SimpleITK: the voxels that an erosion takes."""
    padded = SimpleITK.ConstantPad(SimpleITK.GetImageFromArray(mask.astype(np.uint8)), [1] * 3, [1] * 3)
    inner = SimpleITK.BinaryErode(padded, [1] * 3, SimpleITK.sitkCross)
    return np.argwhere(SimpleITK.GetArrayFromImage(padded - inner)) * spacing


@given(case=cases())
@LAW
def test_agrees_with_medpy(case):
    prediction, reference, spacing = case
    result = segmentation_metrics(*case)
    other = medpy.metric.binary
    there, back = other.asd(*case[:2], spacing), other.asd(reference, prediction, spacing)
    counts = [len(surface_points(mask, 1)) for mask in case[:2]]
    # MedPy's assd is the mean of both directions; the paper pools the surfaces.
    msd = np.average([there, back], weights=counts)
    expected = (other.dc(*case[:2]), msd, other.hd(*case), other.jc(*case[:2]))
    np.testing.assert_allclose((result.dice, result.msd, result.hd, result.jaccard), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore::FutureWarning:monai")  # one of its functions calls another in an old way
@given(case=cases())
@LAW
def test_agrees_with_monai(case):
    result, other = segmentation_metrics(*case), monai.metrics
    one, two = (torch.as_tensor(mask)[None, None] for mask in case[:2])
    settings = {"include_background": True, "spacing": list(case[2])}
    expected = [
        other.compute_dice(one, two),
        other.compute_iou(one, two),
        other.compute_average_surface_distance(one, two, symmetric=True, **settings),
        other.compute_hausdorff_distance(one, two, **settings),
        other.compute_hausdorff_distance(one, two, percentile=95, **settings),
        *(other.compute_surface_dice(one, two, class_thresholds=[tolerance], **settings) for tolerance in TOLERANCES),
    ]
    ours = (result.dice, result.jaccard, *result[2:8])
    np.testing.assert_allclose(ours, [float(value) for value in expected], rtol=1e-5, atol=1e-5)  # MONAI: float32


@given(case=cases())
@LAW
def test_agrees_with_simpleitk(case):
    prediction, reference, spacing = case
    result = segmentation_metrics(*case)
    images = [SimpleITK.GetImageFromArray(mask.astype(np.uint8)) for mask in case[:2]]
    for image in images:
        image.SetSpacing(spacing[::-1])
    overlap = SimpleITK.LabelOverlapMeasuresImageFilter()
    overlap.Execute(images[1], images[0])
    assert result.dice == pytest.approx(overlap.GetDiceCoefficient())
    assert result.jaccard == pytest.approx(overlap.GetJaccardCoefficient())
    shape = SimpleITK.LabelShapeStatisticsImageFilter()
    for image, volume in zip(images, (result.volume_ml, result.reference_ml), strict=True):
        shape.Execute(image)
        assert volume == pytest.approx(shape.GetPhysicalSize(1) / 1000)
    parts = SimpleITK.ConnectedComponentImageFilter()
    parts.Execute(images[0])
    assert result.components == parts.GetObjectCount()
    nearest = cdist(surface_points(prediction, spacing), surface_points(reference, spacing))
    there, back = nearest.min(axis=1), nearest.min(axis=0)
    assert result.hd == pytest.approx(max(there.max(), back.max()))
    assert result.msd == pytest.approx(np.concatenate([there, back]).mean())


@given(case=cases())
@LAW
def test_symmetry(case):
    prediction, reference, spacing = case
    there, back = segmentation_metrics(*case), segmentation_metrics(reference, prediction, spacing)
    np.testing.assert_allclose(symmetric(there), symmetric(back))
    assert (there.volume_ml, there.reference_ml) == (back.reference_ml, back.volume_ml)
    assert there.rve * reference.sum() == pytest.approx(back.rve * prediction.sum())


@given(case=cases())
@LAW
def test_identity_and_bounds(case):
    prediction, reference, spacing = case
    same = segmentation_metrics(reference, reference, spacing)
    assert symmetric(same) == (1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0)
    assert (same.rve, same.degenerate) == (0.0, False)
    result = segmentation_metrics(*case)
    assert 0 <= result.jaccard <= result.dice <= 1
    assert result.jaccard == pytest.approx(result.dice / (2 - result.dice))
    assert 0 <= result.surface_dice_1mm <= result.surface_dice_2mm <= result.surface_dice_3mm <= 1
    assert result.hd95 <= result.hd
    assert 0 <= result.msd <= result.hd < segmentation_metrics(np.zeros_like(prediction), reference, spacing).hd
    if (prediction != reference).any():
        assert result.dice < 1


@given(case=cases(), order=st.permutations(range(3)), flips=st.tuples(*[st.booleans()] * 3))
@LAW
def test_invariant_under_flips_and_axis_permutations(case, order, flips):
    *masks, spacing = case
    flipped = [np.flip(mask, [axis for axis in range(3) if flips[axis]]).transpose(order) for mask in masks]
    moved = segmentation_metrics(*flipped, [spacing[axis] for axis in order])
    np.testing.assert_allclose(moved, segmentation_metrics(*case))


@given(case=cases(), margins=st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 3))
@LAW
def test_invariant_in_a_larger_array(case, margins):
    *masks, spacing = case
    embedded = segmentation_metrics(*[np.pad(mask, margins) for mask in masks], spacing)
    np.testing.assert_allclose(embedded, segmentation_metrics(*case))


@given(case=cases(), factor=st.floats(0.1, 10))
@LAW
def test_distances_scale_with_the_spacing_and_overlap_does_not(case, factor):
    *masks, spacing = case
    one, other = segmentation_metrics(*case), segmentation_metrics(*masks, factor * np.array(spacing))
    np.testing.assert_allclose((one.dice, one.rve), (other.dice, other.rve))
    np.testing.assert_allclose(factor * np.array(one[2:5]), other[2:5])
    assert factor**3 * one.volume_ml == pytest.approx(other.volume_ml)


@given(
    box=st.tuples(*[st.integers(1, 5)] * 3),
    axis=st.integers(0, 2),
    shift=st.integers(0, 6),
    spacing=SPACINGS,
)
@LAW
def test_hausdorff_distance_of_a_moved_box_is_the_way_it_moved(box, axis, shift, spacing):
    reference = np.zeros((12, 12, 12), dtype=bool)
    reference[tuple(slice(side) for side in box)] = True
    prediction = np.roll(reference, shift, axis)
    result = segmentation_metrics(prediction, reference, spacing)
    assert result.hd == pytest.approx(shift * spacing[axis])
    assert result.components == 1
    assert result.dice == pytest.approx(max(0, box[axis] - shift) / box[axis])
    assert result.rve == 0


def test_a_case_by_hand():
    """A 3×3×3 cube with and without its centre: the hollow cube's surface is all of it, the full cube's likewise."""
    full = np.zeros((5, 5, 5), dtype=bool)
    full[1:4, 1:4, 1:4] = True
    larger = np.ones((5, 5, 5), dtype=bool)
    result = segmentation_metrics(larger, full, (2.0, 1.0, 1.0))
    assert result.dice == pytest.approx(2 * 27 / (27 + 125))
    assert result.rve == pytest.approx(100 * (125 - 27) / 27)
    # From the 98 voxels of the shell to the cube: a step along each axis on which the voxel lies outside the cube.
    outside = [
        np.linalg.norm([2 * (abs(z) == 2), abs(y) == 2, abs(x) == 2]) for z, y, x in product(range(-2, 3), repeat=3)
    ]
    # From the 26 surface voxels of the cube to the shell: one step outwards, 1 mm in plane, 2 mm at the two poles.
    inside = [1.0] * 24 + [2.0] * 2
    assert result.msd == pytest.approx((sum(outside) + sum(inside)) / (98 + 26))
    assert result.hd == pytest.approx(np.sqrt(6))


def test_a_hole_is_surface():
    solid = np.ones((5, 5, 5), dtype=bool)
    hollow = solid.copy()
    hollow[2, 2, 2] = False
    result = segmentation_metrics(hollow, solid, (1, 1, 1))
    assert result.hd == pytest.approx(1.0), "the six voxels around the hole lie one voxel under the solid's surface"
    assert result.msd == pytest.approx(6 / (98 + 6 + 98))


def test_two_voxels_by_hand():
    prediction, reference = np.zeros((2, 4, 4)), np.zeros((2, 4, 4))
    prediction[0, 0, 0], reference[1, 3, 0] = 7, 2
    result = segmentation_metrics(prediction, reference, (4.0, 1.0, 9.0))
    assert symmetric(result) == (0.0, 5.0, 5.0, 5.0, 0.0, 0.0, 0.0, 0.0)
    assert result.volume_ml == 0.036


def test_what_surfaces_share_is_within_each_tolerance_and_the_tolerance_itself_counts():
    prediction, reference = np.zeros((1, 1, 9)), np.zeros((1, 1, 9))
    prediction[..., :2], reference[..., 3:7] = 1, 1
    result = segmentation_metrics(prediction, reference, (1.0, 1.0, 1.0))
    # Three and two voxels to the reference; two, three, four and five back: 2 of 6 within 2 mm, 4 of 6 within 3 mm.
    assert result[5:8] == pytest.approx((0, 2 / 6, 4 / 6))
    assert result.hd95 == pytest.approx(np.percentile([2, 3, 4, 5], 95))


def test_a_distance_that_is_the_tolerance_but_for_rounding_is_within_it():
    for first in range(40):
        prediction, reference = np.zeros((2, 1, 60)), np.zeros((2, 1, 60))
        prediction[0, 0, 0] = reference[0, 0, 0] = 1  # far away, so that the box begins at zero
        prediction[1, 0, first], reference[1, 0, first + 10] = 1, 1
        assert segmentation_metrics(prediction, reference, (50.0, 1.0, 0.1)).surface_dice_1mm == 1, first


def test_components_are_joined_by_faces():
    prediction = np.zeros((3, 3, 3))
    prediction[0, 0, 0] = prediction[1, 1, 0] = prediction[1, 2, 0] = prediction[2, 2, 2] = 1
    assert segmentation_metrics(prediction, np.ones((3, 3, 3)), (1, 1, 1)).components == 3


def test_an_empty_prediction_gets_the_worst_of_each_and_a_flag():
    reference = np.zeros((3, 4, 12), dtype=np.uint8)
    reference[1, 1, 1] = 1
    result = segmentation_metrics(np.zeros_like(reference), reference, (1.0, 1.0, 1.0))
    assert result._asdict() == {
        **{"dice": 0.0, "rve": 100.0, "msd": 13.0, "hd": 13.0, "hd95": 13.0},
        **{"surface_dice_1mm": 0.0, "surface_dice_2mm": 0.0, "surface_dice_3mm": 0.0, "jaccard": 0.0},
        **{"volume_ml": 0.0, "reference_ml": 0.001, "components": 0, "degenerate": True},
    }


def test_inputs_stay_as_they_are():
    masks = [np.random.default_rng(seed).random((4, 4, 4)) > 0.5 for seed in (1, 2)]
    before = [mask.copy() for mask in masks]
    segmentation_metrics(*masks, (1, 1, 1))
    np.testing.assert_array_equal(masks, before)


def test_values_are_plain_numbers():
    mask = np.ones((1, 1, 1), dtype=bool)
    for prediction in (mask, ~mask):
        result = segmentation_metrics(prediction, mask, np.ones(3))
        assert [type(value) for value in result] == [float] * 11 + [int, bool]


@pytest.mark.parametrize(
    ("prediction", "reference", "spacing", "message"),
    [
        (np.ones((2, 2, 2)), np.zeros((2, 2, 2)), (1, 1, 1), "reference must hold at least one voxel"),
        (np.zeros((2, 2, 2)), np.zeros((2, 2, 2)), (1, 1, 1), "reference must hold at least one voxel"),
        (np.ones((2, 2, 2)), np.ones((2, 2, 3)), (1, 1, 1), r"\(2, 2, 2\) and \(2, 2, 3\)"),
        (np.ones((2, 2)), np.ones((2, 2)), (1, 1, 1), r"\(z, y, x\), got \(2, 2\)"),
        (np.ones((2, 2, 2)), np.ones((2, 2, 2)), (1, 0, 1), r"three positive numbers .* got \(1, 0, 1\)"),
        (np.ones((2, 2, 2)), np.ones((2, 2, 2)), (1, -1, 1), "three positive numbers"),
        (np.ones((2, 2, 2)), np.ones((2, 2, 2)), (1, np.nan, 1), "three positive numbers"),
        (np.ones((2, 2, 2)), np.ones((2, 2, 2)), (1, 1), "three positive numbers"),
    ],
)
def test_unusable_inputs_are_named(prediction, reference, spacing, message):
    with pytest.raises(ValueError, match=message):
        segmentation_metrics(prediction, reference, spacing)
