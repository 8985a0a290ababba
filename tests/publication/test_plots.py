"""Laws of the figures of results: what is drawn is what the tables say."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import same_color, to_rgb
from matplotlib.patches import PathPatch
from slicesampling.domain.metrics import METRICS
from slicesampling.publication import plots
from slicesampling.publication.style import looks
from test_figures import MANY, STRATEGIES, learning_curve, performance, some_annotations, some_calibration, some_metrics


def caps(axes: Axes) -> list[float]:
    """Return the heights of all short horizontal lines: caps and medians of the boxes."""
    lines = [line for line in axes.lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 2]
    return [float(line.get_ydata()[0]) for line in lines if line.get_ydata()[0] == line.get_ydata()[1]]


def test_boxes_show_the_percentiles_of_the_data() -> None:
    metrics = some_metrics(volumes=23, seeds=2)
    panels = plots.iterations_figure(metrics).axes
    limited = metrics[~metrics["converged"] | (metrics["strategy"] == "pool")]
    for axes, metric in zip(panels, METRICS, strict=True):
        groups = limited.groupby(["strategy", "iteration"])[metric]
        expected = [value for _, sample in groups for value in np.percentile(sample, [5, 50, 95])]
        np.testing.assert_allclose(sorted(caps(axes)), sorted(expected))
        boxes = [patch for patch in axes.patches if isinstance(patch, PathPatch)]
        edges = sorted((float(y.min()), float(y.max())) for y in (box.get_path().vertices[:, 1] for box in boxes))
        np.testing.assert_allclose(edges, sorted(tuple(np.percentile(sample, [25, 75])) for _, sample in groups))
        assert axes.get_ylim()[0] <= min(caps(axes))
        assert axes.get_ylim()[1] >= max(caps(axes))


def test_converged_figure_sets_limited_beside_converged() -> None:
    metrics = some_metrics()
    panels = plots.converged_figure(metrics).axes
    last = metrics[(metrics["iteration"] == 3)]
    for axes, metric in zip(panels, METRICS, strict=True):
        expected = []
        for _, sample in last.groupby(["strategy", "converged"])[metric]:
            expected += list(np.percentile(sample, [5, 50, 95]))
        np.testing.assert_allclose(sorted(caps(axes)), sorted(expected))
    assert [label.get_text() for label in panels[0].get_xticklabels()] == ["limited epochs", "converged", "data pool"]


def test_a_strategy_has_one_colour_and_marker_everywhere() -> None:
    metrics, annotations = some_metrics(), some_annotations()
    for name in STRATEGIES:
        alone = metrics[metrics["strategy"] == name]
        last = alone[alone["iteration"] == 3]
        (box, *_) = (p for p in plots.converged_figure(last).axes[0].patches if isinstance(p, PathPatch))
        assert same_color(box.get_facecolor(), looks()[name].colour)
        for line in performance(alone, annotations).axes[0].lines[:2]:
            assert same_color(line.get_color(), looks()[name].colour)
            assert line.get_marker() == looks()[name].marker


def test_many_strategies_have_a_panel_for_the_means_and_one_for_the_bad_end() -> None:
    """The same numbers as with few, in the same colours."""
    names = (*STRATEGIES, *MANY[:4])
    metrics, annotations = some_metrics(8, strategies=names), some_annotations(strategies=names)
    panels = performance(metrics, annotations).axes
    limited = metrics[~metrics["converged"]]
    drawn = looks(names)
    for (means, tails), (metric, bad) in zip(
        zip(panels[::2], panels[1::2], strict=True), {"dice": 5, "rve": 95, "msd": 95, "hd": 95}.items(), strict=True
    ):
        for name in names:
            samples = limited[limited["strategy"].isin(["initial", name])].groupby("iteration")[metric]
            for axes, expected in ((means, samples.mean()), (tails, samples.quantile(bad / 100))):
                (line,) = (line for line in axes.lines if line.get_marker() == drawn[name].marker)
                np.testing.assert_allclose(line.get_ydata(), expected)
                assert same_color(line.get_color(), drawn[name].colour)


def seen_by(colour: str, matrix: list[list[float]]) -> np.ndarray:
    """How a dichromat sees a colour: a projection in linear RGB (Viénot et al. 1999), in CIE L*a*b*."""
    linear = np.array([c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)])
    x, y, z = np.array([[0.412, 0.358, 0.180], [0.213, 0.715, 0.072], [0.019, 0.119, 0.950]]) @ (matrix @ linear)
    f, g, h = np.cbrt([x / 0.951, y, z / 1.089])
    return np.array([116 * g - 16, 500 * (f - g), 200 * (g - h)])


def test_sixteen_strategies_have_looks_of_their_own() -> None:
    """All differ in colour and marker; what a red- or green-blind reader confuses, also in the line."""
    own = [f"strategy{number:02}" for number in range(12)]
    drawn = looks([*own, "uss"])
    assert list(drawn) == ["initial", *STRATEGIES, *own, "pool"]
    assert len({look.colour for look in drawn.values()}) == len({look.marker for look in drawn.values()}) == 18
    assert all(drawn[name] == looks()[name] for name in ("initial", *STRATEGIES, "pool"))
    assert looks(["by_error"])["by_error"].label == "BY_ERROR†"
    assert all(drawn[name].label == name.upper() for name in (*STRATEGIES, *own))
    red_blind = [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]
    green_blind = [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]
    for eye, least in ((np.eye(3).tolist(), 10), (red_blind, 10), (green_blind, 10)):
        for a, b in itertools.combinations(drawn.values(), 2):
            apart = np.linalg.norm(seen_by(a.colour, eye) - seen_by(b.colour, eye))
            assert apart > least or a.line != b.line, (a, b, apart)


@pytest.mark.parametrize("seeds", [1, 2])
def test_performance_says_what_one_seed_cannot_show(seeds: int) -> None:
    texts = [text.get_text() for text in performance(some_metrics(8, seeds=seeds), some_annotations(seeds=seeds)).texts]
    assert ("One seed: the curves compare trainings, not strategies." in texts) == (seeds == 1)


def test_performance_shows_mean_and_bad_end_over_the_annotated_liver_slices() -> None:
    metrics, annotations = some_metrics(strategies=("uss",), seeds=2), some_annotations(strategies=("uss",), seeds=2)
    panels = performance(metrics, annotations).axes
    limited = metrics[~metrics["converged"]]
    for axes, (metric, bad) in zip(panels, {"dice": 5, "rve": 95, "msd": 95, "hd": 95}.items(), strict=True):
        ends, means = (line for line in axes.lines if line.get_marker() == looks()["uss"].marker)
        samples = limited.groupby("iteration")[metric]
        np.testing.assert_allclose(means.get_ydata(), samples.mean())
        np.testing.assert_allclose(ends.get_ydata(), samples.agg(lambda sample, bad=bad: np.percentile(sample, bad)))
        np.testing.assert_allclose(means.get_xdata(), 300 + 201.5 * np.arange(4))
        pool = metrics.loc[metrics["strategy"] == "pool", metric]
        heights = [line.get_ydata()[0] for line in axes.lines if same_color(line.get_color(), looks()["pool"].colour)]
        np.testing.assert_allclose(heights, [pool.mean(), np.percentile(pool, bad)])


def test_learning_curve_marks_the_earliest_best_step() -> None:
    (star,) = (line for line in learning_curve(300).axes[1].lines if line.get_marker() == "*")
    assert list(star.get_xdata()) == [151_000]


def test_selection_shows_the_first_iteration_at_each_place() -> None:
    reference = pd.DataFrame({"volume": ["a"] * 4 + ["b"] * 200, "slice": [*range(4), *range(200)], "structure": 1})
    ledger = pd.DataFrame({"volume": ["a", "a", "b", "b"], "slice": [1, 2, 10, 11], "iteration": [2, 1, 1, 3]})
    _, picked = plots.selection_figure({"uss": ledger}, reference, {"a": "here", "b": "there"}).axes[0].images
    expected = np.full((2, 100), np.nan)
    expected[0, 25:50], expected[0, 50:75] = 2, 1
    expected[1, 5] = 1  # slices 10 and 11 of 200 share a place
    np.testing.assert_array_equal(picked.get_array().filled(np.nan), expected)


def test_calibration_shows_each_models_bins_and_error() -> None:
    counts = some_calibration(("uss", "rss"), 2)
    *panels, errors = plots.calibration_figure(counts).axes
    for axes, strategy in zip(panels, ("uss", "rss"), strict=True):
        shown = [np.asarray(line.get_ydata()) for line in axes.lines[1:]]
        own = counts[counts["strategy"].isin([strategy, "initial", "pool"])]
        expected = [(rows["structure"] / rows["voxels"]).to_numpy() for _, rows in own.groupby("model")]
        assert sorted(map(tuple, shown)) == sorted(map(tuple, expected))
    gap = np.abs(counts["probability"] - counts["structure"])
    expected = (gap.groupby(counts["model"]).sum() / counts.groupby("model")["voxels"].sum()).to_dict()
    heights = {round(float(value), 9) for line in errors.lines for value in line.get_ydata()}
    assert heights == {round(value, 9) for value in expected.values()}
