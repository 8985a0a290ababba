"""The figures: they show the numbers they were given, legibly, and the same data always give the same files."""

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import matplotlib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, PathPatch, Rectangle
from matplotlib.text import Text
from slicesampling import figures, plots
from slicesampling.calibration import BINS
from slicesampling.figures import LOOKS
from slicesampling.statistics import METRICS
from slicesampling.strategies import STRATEGIES as ALL_STRATEGIES
from slicesampling.supplement import learning_curves_table

STRATEGIES = tuple(ALL_STRATEGIES)

SPACING = (1.6, 0.8)
SHAPE = (60, 110)
ERRORS = {"rve": (6.0, 60.0), "msd": (2.0, 20.0), "hd": (30.0, 700.0)}  # a typical and a dreadful value


def a_slice(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return a body with a liver in it, (y, x) in HU, and the liver's mask."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] * np.reshape(SPACING, (2, 1, 1))
    inside = ((y - 48) / 42) ** 2 + ((x - 44) / 38) ** 2 < 1
    liver = ((y - 44) / 18) ** 2 + ((x - 28 - seed) / 14) ** 2 < 1
    return np.where(inside, np.where(liver, 110, 40), -1000).astype(np.int16), liver


def some_metrics(
    volumes: int = 20, iterations: int = 3, strategies: tuple[str, ...] = STRATEGIES, seeds: int = 1
) -> pd.DataFrame:
    random = np.random.default_rng(volumes)
    models = [("initial", 0, False), ("pool", iterations, True)]
    models += [(name, k, False) for name in strategies for k in range(1, iterations + 1)]
    models += [(name, iterations, True) for name in strategies]
    rows = []
    for seed, (strategy, iteration, converged), volume in itertools.product(
        range(1, seeds + 1), models, range(volumes)
    ):
        values = {name: random.gamma(2, typical / 2) for name, (typical, _) in ERRORS.items()}
        degenerate = random.random() < 0.05
        if degenerate:
            values = {name: dreadful for name, (_, dreadful) in ERRORS.items()}
        rows.append(
            {
                "seed": seed,
                "strategy": strategy,
                "iteration": iteration,
                "converged": converged,
                "volume": f"v{volume:02}",
                "patient": f"p{volume:02}",
                "degenerate": degenerate,
                "device": "CPU",
                "precision": "float32",
                "dice": 0.0 if degenerate else random.beta(30, 2),
                **values,
            }
        )
    return pd.DataFrame(rows)


def some_annotations(iterations: int = 3, strategies: tuple[str, ...] = STRATEGIES, seeds: int = 1) -> pd.DataFrame:
    """The table as a run writes it: the data pool stands in it too, all of it annotated from the start."""
    rows = [
        {"seed": seed, "strategy": name, "iteration": k, "liver_slices": 300 + (200 + 90 * place + seed) * k}
        for seed in range(1, seeds + 1)
        for place, name in enumerate(strategies)
        for k in range(iterations + 1)
    ]
    pool = [{"seed": seed, "strategy": "pool", "iteration": 0, "liver_slices": 26400} for seed in range(1, seeds + 1)]
    return pd.DataFrame(rows + pool)


def performance(
    metrics: pd.DataFrame | None = None, annotations: pd.DataFrame | None = None, cost: str = "liver_slices"
) -> Figure:
    metrics = some_metrics() if metrics is None else metrics
    annotations = some_annotations() if annotations is None else annotations
    curves = learning_curves_table(metrics, annotations, minutes_per_slice=2, ratio=3).frame
    return plots.performance_figure(curves, metrics, cost)


def selection(volumes: int, strategies: tuple[str, ...] = STRATEGIES) -> Figure:
    names = [f"v{number:03}" for number in range(volumes)]
    reference = pd.DataFrame(
        [(name, index, int(10 <= index < 25)) for name in names for index in range(30 + 5 * (len(name) % 3))],
        columns=["volume", "slice", "liver"],
    )
    first = reference[reference["volume"] == names[0]].assign(iteration=0)
    random = np.random.default_rng(volumes)
    ledgers = {
        name: pd.concat([first, reference.sample(6, random_state=random).assign(iteration=1 + place % 2)])
        for place, name in enumerate(strategies)
    }
    sites = {name: ("Yokohama", "Rumc", "Dresden")[3 * number // volumes] for number, name in enumerate(names)}
    return plots.selection_figure(ledgers, reference, sites)


def some_calibration(strategies: tuple[str, ...] = STRATEGIES, iterations: int = 3) -> pd.DataFrame:
    models = some_metrics(1, iterations, strategies)[["strategy", "iteration", "converged"]].drop_duplicates()
    tables = []
    for place, (strategy, iteration, converged) in enumerate(models.itertuples(index=False)):
        middle = (np.arange(BINS) + 0.5) / BINS
        voxels = np.full(BINS, 1000)
        tables.append(
            pd.DataFrame({"bin": range(BINS), "voxels": voxels, "probability": voxels * middle}).assign(
                liver=(voxels * middle ** (1 + place / 10)).round().astype(int),
                model=f"{strategy}-{iteration}{'-converged' if converged else ''}",
                strategy=strategy,
                iteration=iteration,
                converged=converged,
                seed=1,
            )
        )
    return pd.concat(tables)


def some_levels(depth: int) -> list[dict[str, Any]]:
    kernels = ["3×3×1", "3×3×1", *["3×3×1 + 1×1×3"] * 3]
    return [
        {
            "channels": (22, 44, 88, 176, 336)[level],
            "kernel": kernels[level],
            "pool": None if level == depth - 1 else "2×2×2",
            "encoder_size": f"{1440 // 2**level}×{1440 // 2**level}×44",
            "decoder_size": None if level == depth - 1 else f"{180 // 2**level}×{180 // 2**level}×4",
            "dropout": None if level == depth - 1 else 0.25,
        }
        for level in range(depth)
    ]


def some_cases(count: int, models: tuple[str, ...] = ("uvs-3-converged", "uss-3-converged", "pool-converged")) -> list:
    cases = []
    for number in range(count):
        image, reference = a_slice(number)
        cases.append(
            {
                "title": "largest disagreement of the strategies",
                "volume": ("site-03", "a_rather_long_name_of_a_volume_0123456789")[number % 2],
                "image": image,
                "spacing": SPACING,
                "reference": reference,
                "outlines": {model: np.roll(reference, 2 * place + 1, 1) for place, model in enumerate(models)},
                "metrics": {
                    model: {"dice": 0.9 + 0.01 * place, "rve": 100.0 - place, "msd": 41.25, "hd": 612.0}
                    for place, model in enumerate(models)
                },
            }
        )
    return cases


def some_maps(count: int) -> list[dict[str, Any]]:
    image, liver = a_slice()
    shown = {"image": image, "probability": 0.8 * liver, "entropy": 0.5 * liver, "spacing": SPACING}
    names = ("site-03", "a_rather_long_name_of_a_volume")
    return [
        {"volume": names[number % 2], "index": 100 + number, "uncertainty": 0.1 / (number + 1), **shown}
        for number in range(count)
    ]


def excluded(count: int) -> list[dict[str, Any]]:
    image, liver = a_slice()
    reasons = ("poor quality", "inferior vena cava included in the reference mask")
    return [
        {"volume": f"lits-{number}", "reason": reasons[number % 2], "image": image, "mask": liver, "spacing": SPACING}
        for number in range(count)
    ]


def profile(shown: int) -> Figure:
    image, liver = a_slice()
    values = 0.05 + 0.04 * np.sin(np.arange(120) / 6)
    slices = [(index, image, liver if index > 20 else None, SPACING) for index in (9, 47, 85)[:shown]]
    return figures.uncertainty_profile_figure(values, [9, 47, 85], [3, 60], [47], slices)


def learning_curve(steps: int) -> Figure:
    step = 1000 * np.arange(1, steps + 1)
    jaccard = 0.9 - 0.6 * np.exp(-step / 9000)
    jaccard[steps // 2 :] = jaccard[steps // 2]  # all equal from here on: the first of them is the best
    scores = {"validation_jaccard": jaccard, "validation_dice": 2 * jaccard / (1 + jaccard)}
    history = pd.DataFrame({"step": step, "loss": np.exp(-step / 9000), **scores})
    return plots.learning_curve_figure(history, "USS, iteration 3, trained until convergence, seed 1")


DRAWINGS: dict[str, Callable[[], Figure]] = {
    **{f"network {n}": lambda n=n: figures.network_figure(some_levels(n), 4975206, "364×364×44") for n in (1, 5)},
    **{f"profile {n}": lambda n=n: profile(n) for n in (0, 1, 3)},
    **{f"excluded {n}": lambda n=n: figures.excluded_cases_figure(excluded(n)) for n in (0, 1, 6)},
    **{f"maps {n}": lambda n=n: figures.probability_figure(some_maps(n)) for n in (2, 4)},
    **{f"cases {n}": lambda n=n: figures.cases_figure(some_cases(n)) for n in (1, 3, 7)},
    "iterations": lambda: plots.iterations_figure(some_metrics(iterations=5)),
    "iterations, few": lambda: plots.iterations_figure(some_metrics(3, 2, ("uss",), 2)),
    "converged": lambda: plots.converged_figure(some_metrics()),
    "converged, few": lambda: plots.converged_figure(some_metrics(1, 1, ("rss",))),
    "performance": performance,
    "performance, minutes": lambda: performance(cost="minutes"),
    "performance, few": lambda: performance(some_metrics(3, 1, ("uss",), 2), some_annotations(1, ("uss",), 2)),
    **{f"selection {n}": lambda n=n: selection(n) for n in (3, 12, 240)},
    "selection, one": lambda: selection(5, ("rss",)),
    "calibration": lambda: plots.calibration_figure(some_calibration(iterations=5)),
    "calibration, few": lambda: plots.calibration_figure(some_calibration(("uss",), 1)),
    "learning": lambda: learning_curve(300),
    "learning, short": lambda: learning_curve(2),
}


def drawn_texts(figure: Figure) -> list[Text]:
    """Return the texts that drawing the figure really draws: no tick labels outside an axis, say."""
    texts: list[Text] = []
    draw = Text.draw

    def record(self: Text, renderer: Any) -> None:
        texts.append(self)
        draw(self, renderer)

    canvas = FigureCanvasAgg(figure)
    with mock.patch.object(Text, "draw", record):
        canvas.draw()
    return [text for text in texts if text.get_visible() and text.get_text().strip()]


@pytest.mark.parametrize("name", DRAWINGS)
def test_every_text_is_legible(name: str) -> None:
    """Inside the canvas, not over another text, large enough, and no number that is none."""
    figure = DRAWINGS[name]()
    texts = drawn_texts(figure)
    assert texts
    boxes = [text.get_window_extent() for text in texts]
    for text, box in zip(texts, boxes, strict=True):
        assert "nan" not in text.get_text().lower()
        assert "inf" not in text.get_text().lower().replace("inferior", "")
        assert text.get_fontsize() >= 7
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= figure.bbox.x1, text
        assert box.y1 <= figure.bbox.y1, text
    for (one, box), (other, another) in itertools.combinations(zip(texts, boxes, strict=True), 2):
        assert not box.padded(-0.5).overlaps(another.padded(-0.5)), (one, other)
    assert figure.get_figwidth() in (figures.COLUMN, figures.PAGE)


@pytest.mark.parametrize("depth", [2, 5])
def test_network_is_drawn_from_its_description(depth: int) -> None:
    levels = some_levels(depth)
    figure = figures.network_figure(levels, 4975206, "364×364×44")
    texts = drawn_texts(figure)
    words = [text.get_text() for text in texts]
    for level in levels:
        assert level["encoder_size"] in words
        assert any((level["decoder_size"] or "") in word for word in words)
        assert any(level["kernel"] in word for word in words)
    assert any("364×364×44" in word for word in words)
    assert any(re.sub(r"\s", "", word).startswith("4975206trainable") for word in words)
    assert words.count("2×2×2") == 2 * (depth - 1)
    (axes,) = figure.axes
    arrows = sum(isinstance(patch, FancyArrowPatch) for patch in axes.patches)
    kernels = len({level["kernel"] for level in levels})
    # two convolutions a level and way, three arrows between levels and one at the end; the rest is the legend
    assert arrows == 2 * (2 * depth - 1) + 3 * (depth - 1) + 1 + kernels + 4
    slabs = [patch.get_window_extent() for patch in axes.patches if isinstance(patch, Rectangle)]
    for text in texts:
        assert not any(text.get_window_extent().padded(-0.5).overlaps(slab) for slab in slabs), text


def images(figure: Figure) -> list[Axes]:
    FigureCanvasAgg(figure).draw()
    return [axes for axes in figure.axes if axes.images]


@pytest.mark.parametrize("name", ["profile 3", "excluded 6", "maps 2", "cases 3"])
def test_images_are_radiological_and_true_to_the_voxels_shape(name: str) -> None:
    panels = images(DRAWINGS[name]())
    assert panels
    sizes = []
    for axes in panels:
        assert axes.images[0].get_clim() == (-150, 250)
        assert axes.images[0].origin == "upper"
        (right, left), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        assert right < left  # the first column, the patient's right, on the image's left
        assert top < bottom
        extent = axes.get_window_extent()
        ratio = (extent.height / (bottom - top)) / (extent.width / (left - right))
        assert ratio == pytest.approx(SPACING[0] / SPACING[1], rel=1e-3)
        sizes.append((extent.width, extent.height))
    np.testing.assert_allclose(sizes, [sizes[0]] * len(sizes), rtol=2e-2)  # panels of one figure are of one size


@given(arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7))))
@settings(max_examples=50, deadline=None)
def test_outline_runs_between_the_mask_and_what_is_outside(mask: np.ndarray) -> None:
    padded = np.pad(mask, 1)
    expected = set()
    for y, x in np.argwhere(padded):
        for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            if not padded[y + dy, x + dx]:
                expected.add((float(x + dx / 2 - 1), float(y + dy / 2 - 1)))
    lines = figures.outline(mask)
    assert {(float(x), float(y)) for line in lines for x, y in line} == expected
    assert all(np.array_equal(line[0], line[-1]) for line in lines)


def test_cases_show_each_models_own_mask_and_hide_none_of_it() -> None:
    (case,) = some_cases(1)
    (axes,) = images(figures.cases_figure([case]))
    expected = {LOOKS[name.split("-")[0]].colour: mask for name, mask in case["outlines"].items()}
    expected[figures.REFERENCE] = case["reference"]
    collections = [drawn for drawn in axes.collections if isinstance(drawn, LineCollection)]
    assert len(collections) == len(expected)
    for collection in collections:
        (mask,) = (mask for colour, mask in expected.items() if same_color(colour, collection.get_color()[0]))
        lines = [np.asarray(line) for line in collection.get_segments()]
        assert all(map(np.array_equal, lines, figures.outline(mask)))
        points = np.concatenate(lines)
        assert axes.get_xlim()[0] < points[:, 0].min()
        assert points[:, 0].max() < axes.get_xlim()[1]
        assert axes.get_ylim()[1] < points[:, 1].min()
        assert points[:, 1].max() < axes.get_ylim()[0]


def test_cases_table_holds_the_metrics_and_marks_the_best() -> None:
    (case,) = some_cases(1)
    texts = drawn_texts(figures.cases_figure([case]))
    weights = {text.get_text(): text.get_weight() for text in texts}
    assert weights["0.920"] == weights["98.00"] == "bold"
    assert weights["0.900"] == weights["0.910"] == weights["100.00"] == "normal"
    assert [text.get_text() for text in texts].count("41.25") == 3
    assert {"UVS", "USS", "data pool", "reference"} <= set(weights)


def test_body_is_what_is_shown_not_the_table() -> None:
    image, _ = a_slice()
    expected = image > -1000
    image[-2:] = 300  # the table
    np.testing.assert_array_equal(figures.body(image), expected)
    assert figures.body(np.full((4, 5), -1000)).all()


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
        assert same_color(box.get_facecolor(), LOOKS[name].colour)
        for line in performance(alone, annotations).axes[0].lines[:2]:
            assert same_color(line.get_color(), LOOKS[name].colour)
            assert line.get_marker() == LOOKS[name].marker
    assert len({look.colour for look in LOOKS.values()}) == len({look.marker for look in LOOKS.values()}) == len(LOOKS)


def test_performance_shows_mean_and_bad_end_over_the_annotated_liver_slices() -> None:
    metrics, annotations = some_metrics(strategies=("uss",), seeds=2), some_annotations(strategies=("uss",), seeds=2)
    panels = performance(metrics, annotations).axes
    limited = metrics[~metrics["converged"]]
    for axes, (metric, bad) in zip(panels, {"dice": 5, "rve": 95, "msd": 95, "hd": 95}.items(), strict=True):
        ends, means = (line for line in axes.lines if line.get_marker() == LOOKS["uss"].marker)
        samples = limited.groupby("iteration")[metric]
        np.testing.assert_allclose(means.get_ydata(), samples.mean())
        np.testing.assert_allclose(ends.get_ydata(), samples.agg(lambda sample, bad=bad: np.percentile(sample, bad)))
        np.testing.assert_allclose(means.get_xdata(), 300 + 201.5 * np.arange(4))
        pool = metrics.loc[metrics["strategy"] == "pool", metric]
        heights = [line.get_ydata()[0] for line in axes.lines if same_color(line.get_color(), LOOKS["pool"].colour)]
        np.testing.assert_allclose(heights, [pool.mean(), np.percentile(pool, bad)])


def test_profile_marks_candidates_picked_and_annotated_slices() -> None:
    axes = profile(3).axes[0]
    curve, candidates, picked, annotated = axes.lines
    values = np.asarray(curve.get_ydata())
    assert list(candidates.get_xdata()) == [9, 47, 85]
    np.testing.assert_array_equal(candidates.get_ydata(), values[[9, 47, 85]])
    assert list(picked.get_xdata()) == [47]
    assert list(annotated.get_xdata()) == [3, 60]
    assert [text.get_text() for text in axes.texts] == ["a", "b", "c"]


def test_learning_curve_marks_the_earliest_best_step() -> None:
    (star,) = (line for line in learning_curve(300).axes[1].lines if line.get_marker() == "*")
    assert list(star.get_xdata()) == [151_000]


def test_no_excluded_case_is_said() -> None:
    (text,) = drawn_texts(figures.excluded_cases_figure([]))
    assert text.get_text().startswith("No case was excluded")


def test_same_data_give_the_same_files(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    figures.save_figure(profile(1), tmp_path / "one.stem")
    assert dict(matplotlib.rcParams) == before
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "savefig.bbox": "tight", "pdf.fonttype": 3}):
        figures.save_figure(profile(1), tmp_path / "two")
    assert {path.name for path in tmp_path.iterdir()} == {"one.stem.png", "one.stem.pdf", "two.png", "two.pdf"}
    for suffix in ("png", "pdf"):
        assert (tmp_path / f"one.stem.{suffix}").read_bytes() == (tmp_path / f"two.{suffix}").read_bytes()
    pdf = (tmp_path / "two.pdf").read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/CIDFontType2" in pdf
    assert b"/Type3" not in pdf
    assert b"Date" not in pdf


def test_another_process_writes_the_same_files(tmp_path: Path) -> None:
    figures.save_figure(learning_curve(5), tmp_path / "here")
    code = "import sys, test_figures as t; t.figures.save_figure(t.learning_curve(5), sys.argv[1])"
    folders = os.pathsep.join([str(Path(__file__).parent), str(Path(figures.__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": folders, "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "there")], env=environment, check=True)
    for suffix in ("png", "pdf"):
        assert (tmp_path / f"here.{suffix}").read_bytes() == (tmp_path / f"there.{suffix}").read_bytes()


PLANTED = pd.DataFrame(
    {
        #          uvs   rvs   uss   rss   pool
        "typical": [0.95, 0.95, 0.95, 0.95, 0.95],
        "ordinary": [0.96, 0.96, 0.96, 0.96, 0.96],
        "hard": [0.30, 0.30, 0.30, 0.30, 0.30],
        "disputed": [0.97, 0.60, 0.97, 0.97, 0.97],
        "led": [0.85, 0.85, 0.94, 0.85, 0.94],
        "led a little": [0.94, 0.94, 0.96, 0.94, 0.96],
        "lost by the pool": [0.96, 0.96, 0.96, 0.96, 0.80],
    },
    index=[*STRATEGIES, "pool"],
)


def planted(models: list[str], volumes: list[str]) -> pd.DataFrame:
    long = PLANTED.loc[models, volumes].rename_axis("strategy").reset_index().melt("strategy", None, "volume", "dice")
    return pd.concat([long.assign(converged=True), long.assign(converged=False, dice=1 - long["dice"])])


def test_representative_cases_follow_the_rules() -> None:
    everything = planted(list(PLANTED.index), list(PLANTED.columns))
    chosen = figures.representative_cases(everything)
    assert chosen == [
        ("hardest case", "hard"),
        ("largest disagreement of the strategies", "disputed"),
        ("largest lead of USS", "led"),
        ("largest lag of the data pool model", "lost by the pool"),
        ("typical case", "led a little"),  # nearest to the median of those that are left
    ]
    assert figures.representative_cases(everything.sample(frac=1, random_state=0)) == chosen
    without_pool = figures.representative_cases(planted(list(STRATEGIES), list(PLANTED.columns)))
    assert [volume for _, volume in without_pool][:3] == ["hard", "disputed", "led"]
    assert without_pool[3][0] == "typical case"


@pytest.mark.parametrize("models", [["uss"], ["pool"], ["rvs", "pool"], ["uss", "rss"], [*STRATEGIES, "pool"]])
@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_representative_cases_of_little(models: list[str], count: int) -> None:
    chosen = figures.representative_cases(planted(models, list(PLANTED.columns)[:count]))
    volumes = [volume for _, volume in chosen]
    assert len(volumes) == len(set(volumes)) <= min(8, count)
    assert bool(volumes) == bool(count)
    if models == [*STRATEGIES, "pool"]:
        assert set(volumes) == set(PLANTED.columns[:count]) or count > 4 or len(volumes) < count


def test_disagreement_slice() -> None:
    one, other = np.zeros((2, 6, 5, 5), dtype=bool)
    one[4, :3] = other[4, :3] = True
    one[2, 0, 0] = other[2, 0, 0] = True
    assert figures.disagreement_slice([one], other) == 4  # agreement: the largest area
    one[1, :2, :2] = True
    other[3, 0, :3] = True
    assert figures.disagreement_slice([one], other) == 3, "slices without reference are not shown"
    assert figures.disagreement_slice([other], one) == 1
    assert figures.disagreement_slice([other, one, one], one) == 1


def test_selection_shows_the_first_iteration_at_each_place() -> None:
    reference = pd.DataFrame({"volume": ["a"] * 4 + ["b"] * 200, "slice": [*range(4), *range(200)], "liver": 1})
    ledger = pd.DataFrame({"volume": ["a", "a", "b", "b"], "slice": [1, 2, 10, 11], "iteration": [2, 1, 1, 3]})
    picked = plots._positions(ledger, {"a": 0, "b": 1}, reference.groupby("volume")["slice"].max() + 1)
    expected = np.full((2, 100), np.nan)
    expected[0, 25:50], expected[0, 50:75] = 2, 1
    expected[1, 5] = 1  # slices 10 and 11 of 200 share a place
    np.testing.assert_array_equal(picked, expected)


def test_calibration_shows_each_models_bins_and_error() -> None:
    counts = some_calibration(("uss", "rss"), 2)
    *panels, errors = plots.calibration_figure(counts).axes
    for axes, strategy in zip(panels, ("uss", "rss"), strict=True):
        shown = [np.asarray(line.get_ydata()) for line in axes.lines[1:]]
        own = counts[counts["strategy"].isin([strategy, "initial", "pool"])]
        expected = [(rows["liver"] / rows["voxels"]).to_numpy() for _, rows in own.groupby("model")]
        assert sorted(map(tuple, shown)) == sorted(map(tuple, expected))
    gap = np.abs(counts["probability"] - counts["liver"])
    expected = (gap.groupby(counts["model"]).sum() / counts.groupby("model")["voxels"].sum()).to_dict()
    heights = {round(float(value), 9) for line in errors.lines for value in line.get_ydata()}
    assert heights == {round(value, 9) for value in expected.values()}
