"""Whether uncertainty points at errors: the figure of it, beyond the paper."""

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
from .style import FONT, PAGE, Look, about_bound, legend_columns, looks, styled

LEGEND_ROW = 0.16  # inches


@styled
def error_detection_figure(found: pd.DataFrame, measure: str = MEASURES[0]) -> Figure:
    """Draw how many of the errors each choice found, against a random choice, and the rank correlations of a measure.

    found: as for `detection.error_detection_table`; means over seeds are drawn, against the iteration of the choice.
    The model of iteration 1 is the initial one, the same for all strategies.
    """
    frame = shares(found)
    strategies = dict(judged(frame))
    drawn = looks(strategies)
    figure = Figure(figsize=(PAGE, 5), layout="constrained")
    grid = figure.add_gridspec(3, 2, height_ratios=[1.35, 1, 1])
    above = figure.add_subplot(grid[0, :])
    panels = [
        (figure.add_subplot(grid[row, column]), f"{measure}{suffix}_{scope}")
        for row, scope in enumerate(SCOPES, start=1)
        for column, suffix in enumerate(("", SELECTIVE))
    ]
    if not strategies:
        for axes in (above, *(axes for axes, _ in panels)):
            axes.text(0.5, 0.5, NO_REFERENCE, transform=axes.transAxes, ha="center", va="center")
    above.axhline(1, color="0.3", ls="--", lw=0.8, zorder=1)
    for place, (strategy, rows) in enumerate(strategies.items()):
        # Side by side, so that no marker hides another.
        beside = 0.5 * ((place + 0.5) / len(strategies) - 0.5)
        means = rows.groupby("iteration")["times_random"].mean()
        _draw(above, means.index + beside, means, drawn[strategy])
        for axes, column in panels:
            values = rows.groupby("iteration")[column].mean()
            if len(values) > 1:  # one alone is the initial model's
                _draw(axes, values.index + np.where(values.index > 1, beside, 0), values, drawn[strategy])
    first = frame[frame["iteration"] == 1].drop_duplicates("seed")
    for axes, column in panels:
        _draw(axes, [1], pd.Series([first[column].mean()]), drawn["initial"])
    above.set(ylabel="wrong voxels in the picked\nslices, times random choice")
    for axes, column in panels:
        score, scope = column.rsplit("_", 1)
        axes.set_title(f"{SCORES[score]}: {SCOPES[scope]}")
        axes.axhline(0, color="0.6", lw=0.6, zorder=1)
        axes.set_ylim(min(0, axes.get_ylim()[0]), 1)
        axes.set_ylabel("rank correlation")
    ticks = sorted(frame["iteration"].unique())
    for axes in (above, *(axes for axes, _ in panels)):
        axes.set_xticks(ticks)
        axes.set_xlim(ticks[0] - 0.35, ticks[-1] + 0.35)
    above.set_ylim(bottom=0)
    for axes in (above, panels[-2][0], panels[-1][0]):
        axes.set_xlabel("iteration in which the slices are picked")
    shown = [*strategies, *(["initial"] if (frame["iteration"] == 1).any() and strategies else [])]
    handles = [
        Line2D([], [], color=look.colour, marker=look.marker, ls=look.line, label=look.label)
        for look in (drawn[name] for name in shown)
    ]
    handles.append(Line2D([], [], color="0.3", ls="--", lw=0.8, label="random choice"))
    handles += about_bound(str(handle.get_label()) for handle in handles)
    columns = legend_columns([str(handle.get_label()) for handle in handles])
    figure.set_figheight(4.8 + LEGEND_ROW * -(-len(handles) // columns))
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, columnspacing=1.0)
    figure.supxlabel(about_seed(found, "the curves"), fontsize=FONT, x=0.01, ha="left")
    figure.align_ylabels()
    return figure


def _draw(axes: Axes, places: object, values: pd.Series, look: Look) -> None:
    size = 5 if isinstance(look.marker, str) else 7  # stars of few points look smaller
    points: dict[str, Any] = {
        "color": look.colour,
        "marker": look.marker,
        "mec": "white",
        "mew": 0.4,
        "ms": size,
        "ls": look.line,
    }
    axes.plot(np.asarray(places), values.to_numpy(), **points)
