"""The figures of results, each drawn from finished tables: box plots, curves, selections, calibration."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from .. import STRUCTURE
from ..domain.metrics import LOWER_PERCENTILE, METRICS, UPPER_PERCENTILE, Metric
from ..evaluation.calibration import calibration_errors, pooled
from ..evaluation.efficiency import COSTS
from ..evaluation.seeds import LEVEL, beaten, penalties, penalty_matrix
from ..query.strategies import by_strategies, strategies_in
from .layout import BOUND, INITIAL, MANY, MISSING, POOL, printed, printed_iteration
from .notes import about_seed
from .style import (
    COLUMN,
    FONT,
    MARKED,
    PAGE,
    RIM,
    Look,
    about_bound,
    footnote,
    in_rows,
    is_dark,
    legend_columns,
    line_entry,
    looks,
    spaced,
    styled,
    wrapped,
)

LARGE_MATRIX = 12  # strategies; with more, numbers of three digits need a smaller font
DARK = 65  # %: above it a cell of a matrix is too dark for black numbers

IDEAL: dict[str, Any] = {"color": "0.6", "lw": 0.6}
"""The line on which the share of liver is the probability."""

TAIL = "5th (Dice), 95th percentile"
MOST_HEIGHT = 8.8
"""Inches: what a page holds beside its margins and a caption."""
MOST_BOXES = 50
"""Boxes side by side in half the width of a page: more are too narrow to tell their colours."""


@styled
def iterations_figure(metrics: pd.DataFrame) -> Figure:
    """Draw box plots of the four metrics over the iterations, with initial and data pool model (Fig. 4).

    metrics: one row a model and test volume, with `strategy`, `iteration`, `converged` and the metrics. Boxes span the
    quartiles, caps the 5th to 95th percentile; the line is the median, the marker the mean; outliers are not drawn.
    """
    limited = metrics[~metrics["converged"]]
    iterations = _iterations(limited)
    groups: list[tuple[str, pd.DataFrame]] = [(INITIAL, metrics[metrics["strategy"] == "initial"])]
    groups += [(str(number), limited[limited["iteration"] == number]) for number in iterations]
    groups.append((POOL, metrics[metrics["strategy"] == "pool"]))
    figure, panels = _box_panels(groups, 4.8)
    for axes, about in zip(panels, METRICS.values(), strict=True):
        _grouped_boxes(axes, groups, about)
        axes.set_xlabel("iteration")
    _strategy_legend(figure, metrics)
    figure.align_ylabels()
    return figure


@styled
def converged_figure(metrics: pd.DataFrame) -> Figure:
    """Draw box plots of the last iteration's models beside the converged ones, with the data pool (Fig. 7).

    metrics, boxes and caps are those of `iterations_figure`.
    """
    last = max(_iterations(metrics), default=0)
    final = metrics[by_strategies(metrics) & (metrics["iteration"] == last)]
    groups = [
        ("limited epochs", final[~final["converged"]]),
        ("converged", final[final["converged"]]),
        (POOL, metrics[metrics["strategy"] == "pool"]),
    ]
    figure, panels = _box_panels(groups, 4.2)
    for axes, about in zip(panels, METRICS.values(), strict=True):
        _grouped_boxes(axes, groups, about)
    _strategy_legend(figure, metrics[metrics["strategy"] != "initial"])
    figure.align_ylabels()
    return figure


@styled
def performance_figure(curves: pd.DataFrame, metrics: pd.DataFrame, cost: str) -> Figure:
    """Draw the mean of each metric against what was spent on annotation, with its 95 % bootstrap interval.

    curves: the frame of supplement 3, `strategy iteration structure_slices minutes metric mean mean_lower mean_upper
    tail`. cost: its column on the abscissa. Dotted is the tail: the 5th percentile of the Dice, the 95th of the errors.
    Many strategies have no intervals, and their tails are panels of their own, on the right. metrics: one row a model
    and test volume; the data pool model, whose cost lies far to the right, is a line.
    """
    strategies = strategies_in(curves)
    drawn, apart = looks(strategies), len(strategies) > MANY
    pool = metrics[metrics["strategy"] == "pool"]
    figure = Figure(figsize=(PAGE, 8.4 if apart else 4.6), layout="constrained")
    panels = _performance_panels(figure, apart)
    for (means, tails), about in zip(panels, METRICS.values(), strict=True):
        if len(pool):
            _draw_pool(means, tails, pool[about.column], about)
        for strategy in strategies:
            rows = curves[(curves["strategy"] == strategy) & (curves["metric"] == about.column)].sort_values(cost)
            _draw_learning_curve(means, tails, rows, cost, drawn[strategy])
        for axes in dict.fromkeys((means, tails)):
            axes.set(ylabel=about.label, xlabel=COSTS[cost])
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
            _limit(axes, about)
    shown = [*strategies, *(["initial"] if (curves["iteration"] == 0).any() else []), *(["pool"] if len(pool) else [])]
    entries: list[Any] = _line_entries(drawn, shown, **MARKED)
    if not apart:
        entries += [
            Line2D([], [], color="0.3", label="mean"),
            Patch(facecolor="0.3", alpha=0.15, label="its 95 % interval"),
            Line2D([], [], color="0.3", ls=":", label=TAIL),
        ]
    _legend(figure, entries, handlelength=3 if apart else 2)
    footnote(figure, about_seed(metrics, "the curves"))
    figure.align_ylabels()
    return figure


def _performance_panels(figure: Figure, apart: bool) -> list[tuple[Axes, Axes]]:
    """Return for each metric the axes of the means and those of the tails: the same ones unless they stand apart."""
    if not apart:
        return [(axes, axes) for axes in figure.subplots(2, 2).flat]
    panels = figure.subplots(len(METRICS), 2)
    for axes, title in zip(panels[0], ("mean", TAIL), strict=True):
        axes.set_title(title)
    return [(means, tails) for means, tails in panels]


def _draw_pool(means: Axes, tails: Axes, values: pd.Series, about: Metric) -> None:
    """Draw mean and tail of the data pool model's `values` as lines across."""
    line: dict[str, Any] = {"color": looks()["pool"].colour, "zorder": 1.5}
    means.axhline(values.mean(), ls="--", **line)
    tails.axhline(about.tail(values), ls="--" if tails is not means else ":", **line)


def _draw_learning_curve(means: Axes, tails: Axes, rows: pd.DataFrame, cost: str, look: Look) -> None:
    """Draw mean and tail of one strategy against a cost, from the initial model on.

    rows: of one strategy and metric in the curves of `performance_figure`, sorted by the cost.
    """
    points: dict[str, Any] = {"color": look.colour, "marker": look.marker} | MARKED
    if tails is not means:
        tails.plot(rows[cost], rows["tail"], ls=look.line, **points)
    else:
        bounds = rows["mean_lower"], rows["mean_upper"]
        means.fill_between(rows[cost], *bounds, color=look.colour, alpha=0.15, lw=0)
        tails.plot(rows[cost], rows["tail"], ls=":", lw=0.8, **points | {"mew": 0.3, "ms": 3.5})
    means.plot(rows[cost], rows["mean"], ls=look.line, zorder=3, **points)
    start = rows[rows["iteration"] == 0]
    _draw_initial(means, start[cost], start["mean"])
    if tails is not means:
        _draw_initial(tails, start[cost], start["tail"])


def _draw_initial(axes: Axes, places: npt.ArrayLike, values: npt.ArrayLike) -> None:
    """Mark the initial model, over the curves that begin there."""
    look = looks()["initial"]
    axes.plot(places, values, ls="none", marker=look.marker, color=look.colour, zorder=4, **MARKED)


@styled
def selection_figure(ledgers: Mapping[str, pd.DataFrame], reference: pd.DataFrame, sites: Mapping[str, str]) -> Figure:
    """Draw which slices each strategy has had annotated: volumes × position, coloured by the iteration.

    ledgers: strategy → `volume slice iteration`; reference: `volume slice structure` of all pool volumes; sites: volume
    → site. Volumes are grouped by site; a position is the slice's place between feet (0) and head (100 %) of the
    volume, and shows the first iteration in which a slice there was annotated.
    """
    volumes = sorted(reference["volume"].unique(), key=lambda volume: (sites[volume], volume))
    rows = {volume: row for row, volume in enumerate(volumes)}
    lengths = reference.groupby("volume")["slice"].max() + 1
    last = max(int(ledger["iteration"].max()) for ledger in ledgers.values())
    colours = matplotlib.colormaps["viridis_r"].resampled(last + 1)
    livers = _positions(reference[reference["structure"] == 1].assign(iteration=0), rows, lengths)
    height = min(8.0, max(2.2, 0.9 + 0.022 * len(volumes)))
    lines, columns = in_rows(len(ledgers), MANY)
    figure = Figure(figsize=(PAGE, min(MOST_HEIGHT, height * lines)), layout="constrained")
    grid_of_axes = figure.subplots(lines, columns, sharey=True, squeeze=False)
    panels = grid_of_axes.flat[: len(ledgers)]
    ordered = strategies_in(pd.DataFrame({"strategy": list(ledgers)}))
    for axes in grid_of_axes.flat[len(ledgers) :]:
        axes.set_axis_off()
    borders = [row for row in range(1, len(volumes)) if sites[volumes[row]] != sites[volumes[row - 1]]]
    for axes, strategy in zip(panels, ordered, strict=True):
        picked = _positions(ledgers[strategy], rows, lengths)
        grid: dict[str, Any] = {"aspect": "auto", "origin": "lower", "interpolation": "nearest"}
        grid["extent"] = (0, 100, -0.5, len(volumes) - 0.5)
        axes.imshow(np.where(np.isnan(livers), np.nan, 0.5), cmap="Greys", vmin=0, vmax=3, **grid)
        axes.imshow(picked, cmap=colours, vmin=-0.5, vmax=last + 0.5, **grid)
        axes.hlines([border - 0.5 for border in borders], 0, 100, color="0.4", lw=0.4)
        axes.set(title=printed(strategy), xticks=[0, 50, 100])
        axes.grid(visible=False)
        axes.spines[:].set_visible(True)
    edges = [0, *borders, len(volumes)]
    centres = [(low + high - 1) / 2 for low, high in itertools.pairwise(edges)]
    panels[0].set_yticks(centres, [sites[volumes[low]] for low in edges[:-1]])
    for axes in panels:
        axes.tick_params(axis="y", length=0)
    figure.supxlabel("position (% feet → head)", fontsize=FONT + 1)
    figure.supylabel("volumes of the data pool, by site", fontsize=FONT + 1)
    handles: list[Any] = [
        Patch(facecolor=colours(iteration), label=printed_iteration(iteration)) for iteration in range(last + 1)
    ]
    handles.append(Patch(facecolor=matplotlib.colormaps["Greys"](0.5 / 3), label=f"{STRUCTURE}, not annotated"))
    handles += about_bound(map(printed, ledgers))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), handlelength=1.2)
    return figure


def _positions(slices: pd.DataFrame, rows: Mapping[str, int], lengths: pd.Series) -> npt.NDArray[np.float64]:
    """Return the earliest iteration of the slices at each (volume, position in %), NaN without any."""
    grid = np.full((len(rows), 100), np.inf)
    for volume, index, iteration in slices[["volume", "slice", "iteration"]].itertuples(index=False):
        # A slice covers its share of the way, so that short volumes have no gaps.
        first, beyond = (int(100 * place / lengths[volume]) for place in (index, index + 1))
        covered = grid[rows[volume], first : max(beyond, first + 1)]
        np.minimum(covered, iteration, out=covered)
    return np.where(np.isinf(grid), np.nan, grid)


@styled
def calibration_figure(calibration: pd.DataFrame) -> Figure:
    """Draw reliability diagrams of all models, and their expected calibration errors.

    calibration: counts `model bin voxels probability structure` (see `calibration.pooled`), with `strategy`,
    `iteration` and `converged`. A panel a strategy: its iterations from light to dark, dashed the converged model.
    """
    models = calibration[["model", "strategy", "iteration", "converged"]].drop_duplicates("model").set_index("model")
    strategies = strategies_in(models)
    drawn = looks(strategies)
    figure, diagrams, errors = _calibration_panels(strategies or ["pool"])
    for strategy, axes in diagrams.items():
        _draw_reliability(axes, pooled(calibration), models, strategy)
        axes.set_title(drawn[strategy].label)
    _draw_calibration_errors(errors, models, calibration_errors(calibration).set_index("model")["ece"])
    shown = [name for name in drawn if (models["strategy"] == name).any()]
    entries = _line_entries(drawn, shown)
    entries += [
        Line2D([], [], color="0.3", ls="--", label="converged"),
        Line2D([], [], label="ideal", **IDEAL),
    ]
    _legend(figure, entries, handlelength=3)
    return figure


def _calibration_panels(strategies: Sequence[str]) -> tuple[Figure, dict[str, Axes], Axes]:
    """Return a figure, the axes of each strategy's reliability diagram, and those of the errors below."""
    lines, columns = in_rows(len(strategies), MANY)
    figure = Figure(figsize=(PAGE, 4.3 + 1.5 * (lines - 1)), layout="constrained")
    grid = figure.add_gridspec(lines + 1, columns, height_ratios=[1.25 if lines == 1 else 1] * lines + [1.2])
    diagrams: dict[str, Axes] = {}
    for place, strategy in enumerate(strategies):
        row, column = divmod(place, columns)
        axes = figure.add_subplot(grid[row, column], sharey=next(iter(diagrams.values()), None))
        if place + columns >= len(strategies):
            axes.set_xlabel(f"probability of {STRUCTURE}" if columns < MANY else "probability")
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
        if column:
            axes.tick_params(labelleft=False)
        else:
            axes.set_ylabel(f"share that is {STRUCTURE}")
        diagrams[strategy] = axes
    return figure, diagrams, figure.add_subplot(grid[-1, :])


def _draw_reliability(axes: Axes, bins: pd.DataFrame, models: pd.DataFrame, strategy: str) -> None:
    """Draw a strategy's share of liver against the probability, with the initial and the data pool model.

    bins: see `calibration.pooled`; models: `strategy iteration converged` by model.
    """
    axes.plot([0, 1], [0, 1], zorder=1, **IDEAL)
    drawn, last = looks(strategies_in(models)), max(_iterations(models), default=1)
    for model, about in models[models["strategy"].isin([strategy, "initial", "pool"])].iterrows():
        rows = bins[bins["model"] == model]
        limited = about["strategy"] == strategy and not about["converged"]
        axes.plot(
            rows["probability"],
            rows["structure"],
            color=drawn[about["strategy"]].colour,
            alpha=0.25 + 0.75 * about["iteration"] / last if limited else 1.0,
            ls="-" if limited or about["strategy"] == "initial" else "--",
        )


def _draw_calibration_errors(axes: Axes, models: pd.DataFrame, errors: pd.Series) -> None:
    """Draw the error of each model against the iteration, the converged ones on the right, the data pool's as a line.

    models: `strategy iteration converged` by model; errors: the expected calibration error by model.
    """
    strategies, last = strategies_in(models), max(_iterations(models), default=1)
    drawn = looks(strategies)
    of = {name: models[models["strategy"] == name] for name in drawn}
    step = min(0.05, 0.5 / max(len(strategies), 1))
    for number, strategy in enumerate(strategies):
        look, converged = drawn[strategy], of[strategy]["converged"]
        path = pd.concat([of["initial"], of[strategy][~converged].sort_values("iteration")])
        points: dict[str, Any] = {"color": look.colour, "marker": look.marker}
        axes.plot(path["iteration"], errors[path.index], ls=look.line, **points, **RIM)
        beside = last + 0.5 + step * (number - (len(strategies) - 1) / 2)  # so that no marker hides another
        for model in of[strategy].index[converged]:
            axes.plot([beside], errors[model], **points, **MARKED)
    for model in of["initial"].index:
        _draw_initial(axes, [0], errors[model])
    for model in of["pool"].index:
        axes.axhline(errors[model], color=drawn["pool"].colour, ls="--")
    ticks = list(range(last + 1))
    axes.set_xticks([*ticks, last + 0.5], [INITIAL, *map(str, ticks[1:]), "converged"])
    axes.set(ylabel="expected calibration error", xlabel="iteration", xlim=(-0.2, last + 0.8))
    axes.set_ylim(bottom=0)


@styled
def penalties_figure(metrics: pd.DataFrame, metric: str) -> Figure:
    """Draw in what share of the iterations each strategy beats each other one, without and with Holm's correction.

    metrics: one row a model and test volume, of several seeds. Below each matrix the mean of its columns: how often a
    strategy is beaten.
    """
    tests = penalties(metrics)
    strategies = strategies_in(pd.concat([tests["first"], tests["second"]]).to_frame("strategy"))
    figure = Figure(figsize=(PAGE, 1.3 + 0.24 * max(4, len(strategies))), layout="constrained")
    if not strategies:
        figure.text(0.5, 0.5, "Several seeds and strategies are needed.", ha="center", va="center")
        return figure
    labels = [looks(strategies)[name].label for name in strategies]
    panels = figure.subplots(1, 2, sharey=True)
    titles = (f"p < {LEVEL:g}", f"p < {LEVEL:g} after Holm's correction")
    for axes, column, title in zip(panels, ("p_value", "p_holm"), titles, strict=True):
        matrix = 100 * penalty_matrix(tests, metric, strategies, column)
        shown = np.vstack([matrix, np.full(len(matrix), np.nan), beaten(matrix)])  # a gap above the means
        axes.pcolormesh(np.ma.masked_invalid(shown), cmap="Blues", vmin=0, vmax=100, edgecolors="white", linewidth=0.5)
        for (row, place), share in np.ndenumerate(shown):
            look: dict[str, Any] = {"color": "white" if share > DARK else "black", "ha": "center", "va": "center"}
            look |= {"fontsize": FONT if len(matrix) <= LARGE_MATRIX else FONT - 1}
            if row != len(matrix):
                axes.text(place + 0.5, row + 0.5, MISSING if np.isnan(share) else f"{share:.0f}", **look)
        axes.set_xticks(np.arange(len(labels)) + 0.5, labels, rotation=90)
        axes.set_yticks(np.array([*range(len(labels)), len(labels) + 1]) + 0.5, [*labels, "mean"])
        axes.set(title=f"{METRICS[metric].name}, {title}", xlabel="is beaten")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    panels[0].invert_yaxis()
    panels[0].set_ylabel("beats, in % of iterations")
    if about_bound(labels):
        footnote(figure, BOUND)
    return figure


@styled
def learning_curve_figure(history: pd.DataFrame, title: str) -> Figure:
    """Draw loss and validation scores of one training against the step, and mark the model.

    history: rows of `step`, `loss`, `validation_jaccard`, `validation_dice`; `chosen` is true in the model's row.
    """
    figure = Figure(figsize=(COLUMN, 2.9), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    marker = "." if len(history) <= 40 else None
    upper.plot(history["step"], history["loss"], color="0.25", marker=marker)
    upper.set(ylabel="training loss")
    upper.set_title(wrapped(title, COLUMN - 0.6))
    lower.plot(history["step"], history["validation_dice"], color="#CC79A7", marker=marker, label="Dice")
    lower.plot(history["step"], history["validation_jaccard"], color="#332288", marker=marker, label="Jaccard index")
    model = history[history["chosen"]].iloc[0]
    for axes in (upper, lower):
        axes.axvline(model["step"], color="0.5", lw=0.8, ls=":", zorder=1)
    found = f"model: step {spaced(model['step'])}"
    lower.plot(model["step"], model["validation_jaccard"], "*", color="black", ms=7, label=found, zorder=4)
    lower.set(ylabel="validation score", xlabel="training step")
    lower.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    lower.xaxis.set_major_formatter(lambda step, _: spaced(step))
    figure.legend(handles=lower.get_legend_handles_labels()[0], loc="outside lower center", ncols=3)
    figure.align_ylabels()
    return figure


def box_statistics(values: npt.ArrayLike) -> dict[str, Any]:
    """Return what a box shows: quartiles, median, mean, and the 5th and 95th percentile as its caps."""
    sample = np.asarray(values, dtype=float)
    low, first, median, third, high = np.percentile(sample, [LOWER_PERCENTILE, 25, 50, 75, UPPER_PERCENTILE])
    return {"whislo": low, "q1": first, "med": median, "q3": third, "whishi": high, "mean": sample.mean()}


def _grouped_boxes(axes: Axes, groups: Sequence[tuple[str, pd.DataFrame]], about: Metric) -> None:
    """Draw a box for each strategy of each group of rows, side by side, the groups at 0, 1, 2, …"""
    present = strategies_in(pd.concat([rows for _, rows in groups]))
    drawn = looks(present)
    step = 0.8 / max(len(present), 2)
    for position, (_, rows) in enumerate(groups):
        named = [name for name in drawn if (rows["strategy"] == name).any()]
        for name in named:
            # A strategy keeps its place in the group, even where another one has no result.
            offset = (present.index(name) - (len(present) - 1) / 2) * step if name in present else 0
            look = drawn[name]
            axes.bxp(
                [box_statistics(rows.loc[rows["strategy"] == name, about.column])],
                positions=[position + offset],
                widths=0.85 * step,
                showfliers=False,
                showmeans=True,
                patch_artist=True,
                manage_ticks=False,
                boxprops={"facecolor": look.colour, "edgecolor": "0.15", "linewidth": 0.5},
                medianprops={"color": "white" if is_dark(look.colour) else "black", "linewidth": 0.9},
                whiskerprops={"color": "0.15", "linewidth": 0.5},
                capprops={"color": "0.15", "linewidth": 0.5},
                meanprops={
                    "marker": look.marker,
                    "markerfacecolor": "white",
                    "markeredgecolor": "black",
                    "markeredgewidth": 0.4,
                    "markersize": 2.6,
                },
            )
    for border in range(len(groups) - 1):
        axes.axvline(border + 0.5, color="0.9", lw=0.5, zorder=0)
    axes.set_xticks(range(len(groups)), [label for label, _ in groups])
    axes.set(xlim=(-0.5, len(groups) - 0.5), ylabel=about.label)
    axes.tick_params(axis="x", length=0)
    _limit(axes, about)


def _limit(axes: Axes, about: Metric) -> None:
    """Keep an axis inside what the metric can be: a Dice of at most 1, no negative errors."""
    if about.larger_is_better:
        axes.set_ylim(max(0, axes.get_ylim()[0]), min(1, axes.get_ylim()[1]))
    else:
        axes.set_ylim(bottom=0)


def _strategy_legend(figure: Figure, metrics: pd.DataFrame) -> None:
    """Name the colours and markers of the strategies above the panels."""
    drawn = looks(strategies_in(metrics))
    handles = [
        Patch(facecolor=drawn[name].colour, edgecolor="0.15", linewidth=0.5, label=drawn[name].label)
        for name in drawn
        if (metrics["strategy"] == name).any()
    ]
    _legend(figure, handles, handlelength=1.2)


def _line_entries(drawn: Mapping[str, Look], names: Iterable[str], **marker: Any) -> list[Line2D]:
    """Return the entries of models that are drawn as lines; the data pool's has no marker, as it runs across."""
    return [line_entry(drawn[name]._replace(marker="") if name == "pool" else drawn[name], **marker) for name in names]


def _legend(figure: Figure, handles: Sequence[Any], handlelength: float) -> None:
    """Lay a legend above the panels, in as many lines as it takes; handlelength: in units of the font size."""
    handles = [*handles, *about_bound(handle.get_label() for handle in handles)]
    gaps = 2.8  # of the font size: matplotlib's between handle and label, and between two columns
    ncols = legend_columns([handle.get_label() for handle in handles], (handlelength + gaps) * FONT / 72)
    figure.legend(handles=handles, loc="outside upper center", ncols=ncols, handlelength=handlelength)


def _box_panels(groups: Sequence[tuple[str, pd.DataFrame]], height: float) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure of that height (inches), and an axis for each metric; with many boxes, each as wide as a page."""
    boxes = len(groups) * len(strategies_in(pd.concat([rows for _, rows in groups])))
    wide = boxes > MOST_BOXES
    figure = Figure(figsize=(PAGE, 7.6 if wide else height), layout="constrained")
    return figure, list(figure.subplots(*((4, 1) if wide else (2, 2))).flat)


def _iterations(metrics: pd.DataFrame) -> list[int]:
    return sorted({int(number) for number in metrics.loc[by_strategies(metrics), "iteration"]})
