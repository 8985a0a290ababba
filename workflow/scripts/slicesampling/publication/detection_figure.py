"""The figure of error detection by uncertainty, beyond the paper."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .. import SELECTIVE
from ..evaluation.error_detection import SCOPES, SCORES, shares
from ..query.strategies import MEASURES
from .detection import NO_REFERENCE, judged
from .notes import about_seed
from .style import PAGE, RIM, Look, about_bound, footnote, legend_columns, line_entry, looks, styled

HEIGHT, LEGEND_ROW = 4.8, 0.16  # inches: of the panels, and of a line of the legend
SPREAD = 0.5  # iterations over which the strategies stand side by side
SIDE = 0.35  # iterations beside the first and the last
RANDOM_CHOICE: dict[str, Any] = {"color": "0.3", "ls": "--", "lw": 0.8}


@styled
def error_detection_figure(found: pd.DataFrame, measure: str = MEASURES[0]) -> Figure:
    """Draw the share of errors in each selection, relative to a random one, and the rank correlations of a measure.

    found: see `detection.error_detection_table`. Means over seeds are drawn over the iteration of the selection. In
    iteration 1 all strategies use the initial model.
    """
    frame = shares(found)
    strategies = dict(judged(frame))
    drawn = looks(strategies)
    figure, above, panels = _detection_panels(measure)
    if not strategies:
        for axes in (above, *panels.values()):
            axes.text(0.5, 0.5, NO_REFERENCE, transform=axes.transAxes, ha="center", va="center")
    above.axhline(1, zorder=1, **RANDOM_CHOICE)
    for place, (strategy, rows) in enumerate(strategies.items()):
        beside = SPREAD * ((place + 0.5) / len(strategies) - 0.5)  # so that no marker hides another
        _draw_choices(above, panels, rows, beside, drawn[strategy])
    first = frame[frame["iteration"] == 1].drop_duplicates("seed")
    for column, axes in panels.items():
        _draw(axes, [1], pd.Series([first[column].mean()]), drawn["initial"])
    _label(above, panels, sorted(frame["iteration"].unique()))
    shown = [*strategies, *(["initial"] if len(first) and strategies else [])]
    lines = _draw_legend(figure, [drawn[name] for name in shown])
    figure.set_figheight(HEIGHT + LEGEND_ROW * lines)
    footnote(figure, about_seed(found, "the curves"))
    figure.align_ylabels()
    return figure


def _detection_panels(measure: str) -> tuple[Figure, Axes, dict[str, Axes]]:
    """Return a figure, the axes of the errors found, and those of each correlation of the measure, by its column."""
    figure = Figure(figsize=(PAGE, HEIGHT), layout="constrained")
    grid = figure.add_gridspec(1 + len(SCOPES), 2, height_ratios=[1.35, *[1] * len(SCOPES)])
    above = figure.add_subplot(grid[0, :])
    panels = {
        f"{measure}{suffix}_{scope}": figure.add_subplot(grid[row, column])
        for row, scope in enumerate(SCOPES, start=1)
        for column, suffix in enumerate(("", SELECTIVE))
    }
    return figure, above, panels


def _draw_choices(above: Axes, panels: Mapping[str, Axes], rows: pd.DataFrame, beside: float, look: Look) -> None:
    """Draw the errors found by one strategy, and the correlations before each selection, shifted by `beside`.

    rows: the strategy's in `error_detection.shares`.
    """
    found = rows.groupby("iteration")["times_random"].mean()
    _draw(above, found.index + beside, found, look)
    for column, axes in panels.items():
        values = rows.groupby("iteration")[column].mean()
        if len(values) > 1:  # one alone is the initial model's
            _draw(axes, values.index + np.where(values.index > 1, beside, 0), values, look)


def _label(above: Axes, panels: Mapping[str, Axes], iterations: Sequence[int]) -> None:
    """Label the axes, and limit them to possible values: no negative ratio, a correlation of at most 1."""
    above.set(ylabel="wrong voxels in the picked\nslices, times random choice")
    above.set_ylim(bottom=0)
    for column, axes in panels.items():
        score, scope = column.rsplit("_", 1)
        axes.set_title(f"{SCORES[score]}: {SCOPES[scope]}")
        axes.axhline(0, color="0.6", lw=0.6, zorder=1)
        axes.set_ylim(min(0, axes.get_ylim()[0]), 1)
        axes.set_ylabel("rank correlation")
    for axes in (above, *panels.values()):
        axes.set_xticks(iterations)
        axes.set_xlim(iterations[0] - SIDE, iterations[-1] + SIDE)
    for axes in (above, *list(panels.values())[-2:]):
        axes.set_xlabel("iteration in which the slices are picked")


def _draw_legend(figure: Figure, drawn: Sequence[Look]) -> int:
    """Lay the legend above the panels; return how many lines it takes."""
    entries = [line_entry(look) for look in drawn]
    entries.append(Line2D([], [], label="random choice", **RANDOM_CHOICE))
    entries += about_bound(str(entry.get_label()) for entry in entries)
    columns = legend_columns([str(entry.get_label()) for entry in entries])
    figure.legend(handles=entries, loc="outside upper center", ncols=columns, columnspacing=1.0)
    return -(-len(entries) // columns)


def _draw(axes: Axes, places: object, values: pd.Series, look: Look) -> None:
    size = 5 if isinstance(look.marker, str) else 7  # stars with few points look smaller
    points: dict[str, Any] = {"color": look.colour, "marker": look.marker, "ms": size, "ls": look.line} | RIM
    axes.plot(np.asarray(places), values.to_numpy(), **points)
