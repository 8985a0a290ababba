"""The figures: they show the numbers they were given, legibly, and images true to their voxels."""

import itertools
import re
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.text import Text
from slicesampling.evaluation.calibration import BINS
from slicesampling.publication import figures, plots, style
from slicesampling.publication.network_figure import network_figure
from slicesampling.publication.style import looks
from slicesampling.publication.supplement import learning_curves_table
from slicesampling.query.strategies import STRATEGIES as ALL_STRATEGIES

STRATEGIES = tuple(ALL_STRATEGIES)

MANY = ("aware", "batches", "by_error", "clasp", "core", "name_of_12_l", "shuffled", "strided", "third")
"""Strategies of the user's own, as many as make a dozen and one with the paper's."""

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
        {"seed": seed, "strategy": name, "iteration": k, "structure_slices": 300 + (200 + 90 * place + seed) * k}
        for seed in range(1, seeds + 1)
        for place, name in enumerate(strategies)
        for k in range(iterations + 1)
    ]
    pool = [
        {"seed": seed, "strategy": "pool", "iteration": 0, "structure_slices": 26400} for seed in range(1, seeds + 1)
    ]
    return pd.DataFrame(rows + pool)


def performance(
    metrics: pd.DataFrame | None = None, annotations: pd.DataFrame | None = None, cost: str = "structure_slices"
) -> Figure:
    metrics = some_metrics() if metrics is None else metrics
    annotations = some_annotations() if annotations is None else annotations
    curves = learning_curves_table(metrics, annotations, minutes_per_slice=2, ratio=3).frame
    return plots.performance_figure(curves, metrics, cost)


def selection(volumes: int, strategies: tuple[str, ...] = STRATEGIES) -> Figure:
    names = [f"v{number:03}" for number in range(volumes)]
    reference = pd.DataFrame(
        [(name, index, int(10 <= index < 25)) for name in names for index in range(30 + 5 * (len(name) % 3))],
        columns=["volume", "slice", "structure"],
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
                structure=(voxels * middle ** (1 + place / 10)).round().astype(int),
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
    chosen = np.arange(steps) == np.argmax(jaccard)
    history = pd.DataFrame({"step": step, "loss": np.exp(-step / 9000), **scores, "chosen": chosen})
    return plots.learning_curve_figure(history, "USS, iteration 3, trained until convergence, seed 1")


DRAWINGS: dict[str, Callable[[], Figure]] = {
    **{f"network {n}": lambda n=n: network_figure(some_levels(n), 4975206, "364×364×44") for n in (1, 5)},
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
    "iterations, many": lambda: plots.iterations_figure(some_metrics(8, 5, (*STRATEGIES, *MANY))),
    "converged, many": lambda: plots.converged_figure(some_metrics(8, 1, (*STRATEGIES, *MANY))),
    "performance, many": lambda: performance(
        some_metrics(8, 2, (*STRATEGIES, *MANY)), some_annotations(2, (*STRATEGIES, *MANY))
    ),
    "selection, many": lambda: selection(60, (*STRATEGIES, *MANY)),
    "calibration, many": lambda: plots.calibration_figure(some_calibration((*STRATEGIES, *MANY), 2)),
    "cases, many": lambda: figures.cases_figure(some_cases(5, tuple(f"{name}-5" for name in (*MANY, *STRATEGIES)))),
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


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name.endswith("many") else name for name in DRAWINGS]
)
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
    assert figure.get_figwidth() in (style.COLUMN, style.PAGE)


@pytest.mark.parametrize("depth", [2, 5])
def test_network_is_drawn_from_its_description(depth: int) -> None:
    levels = some_levels(depth)
    figure = network_figure(levels, 4975206, "364×364×44")
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


def test_cases_show_each_models_own_mask_and_hide_none_of_it() -> None:
    (case,) = some_cases(1)
    (axes,) = images(figures.cases_figure([case]))
    expected = {looks()[name.split("-")[0]].colour: mask for name, mask in case["outlines"].items()}
    expected[style.REFERENCE] = case["reference"]
    collections = [drawn for drawn in axes.collections if isinstance(drawn, LineCollection)]
    assert len(collections) == len(expected)
    for collection in collections:
        (mask,) = (mask for colour, mask in expected.items() if same_color(colour, collection.get_color()[0]))
        lines = [np.asarray(line) for line in collection.get_segments()]
        assert all(map(np.array_equal, lines, style.outline(mask)))
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
    assert weights["0.900"] == weights["0.910"] == weights["100.0"] == "normal"
    assert [text.get_text() for text in texts].count("41.25") == 3
    assert {"UVS", "USS", "data pool", "reference"} <= set(weights)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_numbers_of_the_cases_table_stand_apart_however_large(count: int) -> None:
    cases = some_cases(count)
    for case in cases:
        values = {"dice": 1.0, "rve": 1058.46, "msd": 138.6, "hd": 1234.5}
        case["metrics"] = dict.fromkeys(case["metrics"], values)
    texts = [text for text in drawn_texts(figures.cases_figure(cases)) if re.fullmatch(r"[\d.]+", text.get_text())]
    assert {text.get_text() for text in texts} == {"1.000", "1058", "138.6", "1234"}
    boxes = [text.get_window_extent() for text in texts]
    for one, other in itertools.permutations(boxes, 2):
        assert abs(one.y0 - other.y0) > 3 or one.x0 > other.x1 + 3 or other.x0 > one.x1 + 3


def test_profile_marks_candidates_picked_and_annotated_slices() -> None:
    axes = profile(3).axes[0]
    curve, candidates, picked, annotated = axes.lines
    values = np.asarray(curve.get_ydata())
    assert list(candidates.get_xdata()) == [9, 47, 85]
    np.testing.assert_array_equal(candidates.get_ydata(), values[[9, 47, 85]])
    assert list(picked.get_xdata()) == [47]
    assert list(annotated.get_xdata()) == [3, 60]
    assert [text.get_text() for text in axes.texts] == ["a", "b", "c"]


def test_no_excluded_case_is_said() -> None:
    (text,) = drawn_texts(figures.excluded_cases_figure([]))
    assert text.get_text().startswith("No case was excluded")


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
