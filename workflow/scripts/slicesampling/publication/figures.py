"""The figures that show images, drawn from plain arrays.

Each function returns a matplotlib Figure of a column's or a page's width of the journal; `save_figure` writes it.
Images, spacing and masks are as in `style`.
"""

import itertools
import math
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from ..domain.metrics import METRICS
from ..query.strategies import by_strategies, is_upper_bound, strategies_in
from .layout import BOUND, printed
from .style import (
    CHARACTER,
    COLUMN,
    FONT,
    PAGE,
    REFERENCE,
    Array,
    Look,
    aspect_of,
    canvas,
    draw_outline,
    looks,
    show_slice,
    styled,
    wrapped,
)

ENTROPY_LIMIT = math.log(2)  # of two classes (equation 1)
CANDIDATE = "#D4001A"  # the paper's red dots
LEADS, MANY_LEADS = 4, 2  # strategies whose largest lead figure 6 shows; and of more than so many, as tables get long


@styled
def uncertainty_profile_figure(
    profile: npt.ArrayLike,
    candidates: Sequence[int],
    annotated: Sequence[int],
    picked: Sequence[int],
    slices: Sequence[tuple[int, Array, Array | None, tuple[float, float]]],
) -> Figure:
    """Draw the slice-level uncertainty of one volume with the candidates of slice sampling (Fig. 2).

    profile: slice-level uncertainty (nats) by slice index; candidates, annotated and picked: slice indices.
    slices: up to three or so of them to show: (index, image, liver mask or None, spacing).
    """
    values = np.asarray(profile, dtype=float)
    figure = Figure(figsize=(COLUMN, 3.15 if slices else 2.1), layout="constrained")
    grid = figure.add_gridspec(2 if slices else 1, max(1, len(slices)), height_ratios=[2.1, 1] if slices else None)
    axes = figure.add_subplot(grid[0, :])
    axes.plot(values, color="0.35", label="uncertainty", zorder=2)
    chosen, taken, known = (np.asarray(sorted(indices), dtype=int) for indices in (candidates, picked, annotated))
    top = float(values.max()) * 1.2 or 1.0
    axes.plot(chosen, values[chosen], "o", color=CANDIDATE, ms=3.5, label="candidate", zorder=4)
    if len(taken):
        ring: dict[str, Any] = {"mfc": "none", "mec": "black", "mew": 0.9, "ms": 6.5}
        axes.plot(taken, values[taken], "o", ls="none", label="picked", zorder=5, **ring)
    if len(known):
        axes.plot(
            known, np.zeros(len(known)), "|", color="#882255", mew=1.2, ms=6, label="annotated", zorder=3, clip_on=False
        )
    for letter, (index, *_) in zip(_letters(), slices, strict=False):
        axes.annotate(
            letter, (index, values[index]), (0, 5), textcoords="offset points", ha="center", va="bottom", weight="bold"
        )
    axes.set(xlim=(-0.5, len(values) - 0.5), ylim=(0, top), xlabel="slice index (feet → head)")
    axes.set_ylabel("slice-level uncertainty (nats)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(
        loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, handlelength=1.2, columnspacing=1.0, borderpad=0
    )
    for column, (letter, (index, image, mask, spacing)) in enumerate(zip(_letters(), slices, strict=False)):
        panel = figure.add_subplot(grid[1, column])
        show_slice(panel, image, spacing)
        if mask is not None:
            draw_outline(panel, mask, REFERENCE, width=0.7)
        panel.set_xlabel(f"({letter}) slice {index}", fontsize=FONT)
    return figure


@styled
def excluded_cases_figure(cases: Sequence[Mapping[str, Any]]) -> Figure:
    """Show a slice of each excluded volume with its reference mask and the reason (Fig. 3).

    cases: mappings of `volume`, `reason`, `image`, `mask`, `spacing`. Without any, the figure says so.
    """
    if not cases:
        figure, axes = canvas(COLUMN, 0.6)
        axes.text(COLUMN / 2, 0.3, "No case was excluded from the cohort.", ha="center", va="center")
        return figure
    columns = min(len(cases), 4)
    rows = math.ceil(len(cases) / columns)
    width = COLUMN if columns <= 2 else PAGE
    panel = width / columns if columns > 1 else 2.4
    captions = [
        wrapped(f"({letter}) {case['volume']}: {case['reason']}", panel - 0.15)
        for letter, case in zip(_letters(), cases, strict=False)
    ]
    lines = _most_lines(captions)
    figure = Figure(figsize=(width, rows * (0.75 * panel + lines * 0.135 + 0.1)), layout="compressed")
    for number, (case, caption) in enumerate(zip(cases, captions, strict=True)):
        axes = figure.add_subplot(rows, columns, number + 1)
        show_slice(axes, case["image"], case["spacing"])
        draw_outline(axes, case["mask"], REFERENCE)
        axes.set_xlabel(caption, fontsize=FONT)
    return figure


@styled
def probability_figure(slices: Sequence[Mapping[str, Any]]) -> Figure:
    """Show CT, mean liver probability and predictive entropy of slices of falling uncertainty (Fig. 5).

    slices: mappings of `volume`, `index`, `uncertainty` (slice level, nats), `image`, `probability` (0 to 1), `entropy`
    (0 to ln 2), all (y, x), and `spacing`; one column each.
    """
    columns = len(slices)
    width = PAGE if columns > 2 else COLUMN
    panel = (width - 0.7) / columns
    titles = [
        "\n".join(
            [
                wrapped(f"({letter}) {shown['volume']}, slice {shown['index']}", panel),
                wrapped(f"uncertainty {shown['uncertainty']:.3f} nats", panel),
            ]
        )
        for letter, shown in zip(_letters(), slices, strict=False)
    ]
    lines = _most_lines(titles)
    figure = Figure(figsize=(width, 3 * (0.75 * panel + 0.06) + lines * 0.13 + 0.1), layout="compressed")
    grid = figure.subplots(3, columns, squeeze=False)
    for (upper, centre, lower), shown, title in zip(grid.T, slices, titles, strict=True):
        for axes in (upper, centre, lower):
            show_slice(axes, shown["image"], shown["spacing"])
        aspect = aspect_of(shown["spacing"])
        seen = np.ma.masked_less(shown["probability"], 0.01)  # leaves the CT bare where there is surely no liver
        centre.imshow(seen, aspect=aspect, cmap="viridis", vmin=0, vmax=1, alpha=0.65, interpolation="nearest")
        lower.imshow(shown["entropy"], aspect=aspect, cmap="inferno", vmin=0, vmax=ENTROPY_LIMIT)
        for axes in (centre, lower):  # another image resets the view
            axes.set(xlim=upper.get_xlim(), ylim=upper.get_ylim())
        upper.set_title(title, fontsize=FONT)
    for axes, name in zip(grid[:, 0], ("CT", "mean probability", "entropy (nats)"), strict=True):
        axes.set_ylabel(name)
    scales = [("viridis", 1.0, ["0", "0.5", "1"]), ("inferno", ENTROPY_LIMIT, ["0", "½ ln 2", "ln 2"])]
    for row, (colours, limit, ticks) in zip(grid[1:], scales, strict=True):
        scale = ScalarMappable(Normalize(0, limit), colours)
        bar = figure.colorbar(scale, ax=list(row), fraction=0.05, pad=0.02, shrink=0.95)
        bar.set_ticks([0, limit / 2, limit], labels=ticks)
    return figure


@styled
def cases_figure(cases: Sequence[Mapping[str, Any]]) -> Figure:
    """Show the outlines of all models on a slice of each case, with their metrics over the whole volume (Fig. 6).

    cases: mappings of `title`, `volume`, `image`, `spacing`, `reference` (mask), `outlines` (model → mask) and
    `metrics` (model → mapping of dice, rve, msd, hd). A model's name begins with its strategy. The best of each metric
    is bold. Outlines lie over each other in the order of the table, the first on top and thinnest.
    """
    columns = min(2 if len(cases) <= 4 else 3, len(cases))
    rows = math.ceil(len(cases) / columns)
    line, gap, ratio = 0.14, 0.12, 0.7  # inches, inches, height to width of the images
    width = COLUMN if columns == 1 else PAGE
    panel = width / columns - gap
    captions = [
        wrapped(f"({letter}) {case['title']}: {case['volume']}", panel)
        for letter, case in zip(_letters(), cases, strict=False)
    ]
    heading_lines = 1 if columns < 3 else 2
    table = line * (max(len(case["outlines"]) for case in cases) + 1 + heading_lines) + 0.08
    headings = [line * _most_lines(captions[row * columns : (row + 1) * columns]) + 0.04 for row in range(rows)]
    footnote = line * any(is_upper_bound(_strategy(model)) for case in cases for model in case["outlines"])
    height = sum(headings) + rows * (ratio * panel + table + gap) - gap + 0.06 + footnote
    figure, background = canvas(width, height)
    if footnote:
        background.text(gap / 2, 0.02, BOUND, ha="left", va="bottom")
    for number, (case, text) in enumerate(zip(cases, captions, strict=True)):
        row, column = divmod(number, columns)
        left = gap / 2 + column * (panel + gap)
        top = height - 0.03 - sum(headings[: row + 1]) - row * (ratio * panel + table + gap)
        background.text(left, top + 0.04, text, ha="left", va="bottom", weight="bold")
        axes = figure.add_axes((left / width, (top - ratio * panel) / height, panel / width, ratio * panel / height))
        union = np.any([case["reference"], *case["outlines"].values()], axis=0)
        show_slice(axes, case["image"], case["spacing"], ratio, union)
        draw_outline(axes, case["reference"], REFERENCE, width=2.2)
        drawn = _looks(case["outlines"])
        models = sorted(case["outlines"], key=lambda model: list(drawn).index(_strategy(model)))
        # Later outlines are thinner, so that an earlier one still shows where they run together.
        widths = np.linspace(1.5, 0.7, max(2, len(models)))
        for model, thin in zip(reversed(models), widths, strict=False):
            draw_outline(axes, case["outlines"][model], drawn[_strategy(model)].colour, width=thin)
        _metrics_table(
            background, left, top - ratio * panel - 0.05, panel, line, heading_lines, models, case["metrics"]
        )
    return figure


def _metrics_table(
    axes: Axes,
    left: float,
    top: float,
    width: float,
    line: float,
    heading_lines: int,
    models: Sequence[str],
    metrics: Mapping[str, Mapping[str, float]],
) -> None:
    """Write the metrics of `models` as a table whose first column is the legend of their outlines; in inches.

    A heading of two lines, with the unit below the name, is for narrow tables.
    """
    narrow = heading_lines > 1
    swatch = 0.2 if narrow else 0.26  # inches
    drawn = _looks(models)
    shown = [drawn[_strategy(model)] for model in models]
    longest = max(len("reference"), *(len(look.label) for look in shown))
    named = swatch + 0.07 + longest * CHARACTER
    ends = left + np.linspace(named, width, len(METRICS) + 1)[1:]
    centres = top - line * (np.arange(len(models) + 1) + heading_lines + 0.5)
    rule = top - line * heading_lines
    for end, about in zip(ends, METRICS.values(), strict=True):
        heading = about.label.replace(" ", "\n") if narrow else about.label
        axes.text(end, rule + 0.02, heading, ha="right", va="bottom", linespacing=1.0)
        texts = [_short(metrics[model][about.column], about.decimals) for model in models]
        judged = [not is_upper_bound(_strategy(model)) for model in models]
        best = (max if about.larger_is_better else min)(itertools.compress(texts, judged), key=float, default="")
        for centre, text, may_win in zip(centres, texts, judged, strict=False):
            weight = "bold" if text == best and may_win else "normal"
            axes.text(end, centre, text, ha="right", va="center", weight=weight)
    axes.plot([left, left + width], [rule] * 2, color="0.4", lw=0.5)
    names = [*((look.label, look.colour, "-") for look in shown), ("reference", REFERENCE, "-")]
    for centre, (label, colour, dash) in zip(centres, names, strict=True):
        # The yellow of the reference needs a dark ground on white paper.
        axes.add_patch(Rectangle((left, centre - 0.4 * line), swatch, 0.8 * line, facecolor="0.45", edgecolor="none"))
        axes.plot(
            [left + 0.03, left + swatch - 0.03], [centre] * 2, color=colour, ls=dash, lw=1.6, solid_capstyle="butt"
        )
        axes.text(left + swatch + 0.07, centre, label, ha="left", va="center")


def _short(value: float, decimals: int) -> str:
    """Return `value` with as many of its decimals as leave it five characters."""
    return f"{value:.{max(0, min(decimals, 4 - len(f'{value:.0f}')))}f}"


def disagreement_slice(masks: Sequence[npt.ArrayLike], reference: npt.ArrayLike) -> int:
    """Return the index of the slice with reference on which most voxels are in some, not all, of the masks (z, y, x).

    masks: of the models; reference: counts as one more of them. Where all agree everywhere, it is the slice with their
    largest area; the lower slice wins a tie.
    """
    liver = np.asarray(reference, dtype=bool)
    votes = np.sum([liver, *(np.asarray(mask, dtype=bool) for mask in masks)], axis=0)
    votes[~liver.any(axis=(1, 2))] = 0
    disputed = ((votes > 0) & (votes <= len(masks))).sum(axis=(1, 2))
    return int(np.argmax(disputed if disputed.any() else (votes > 0).sum(axis=(1, 2))))


def representative_cases(metrics: pd.DataFrame) -> list[tuple[str, str]]:
    """Choose volumes to show, by the Dice of the converged models and the data pool: (title, volume).

    In this order, each volume once, the alphabetically first of equals: the hardest for all models; the largest spread
    between strategies; where each strategy leads the other ones most, of many only the two with the largest lead; where
    the data pool model falls farthest behind the best strategy; and a typical one, nearest to the median. A rule that
    nothing fulfils is passed over. Upper bounds neither lead nor disagree.
    """
    used = metrics[metrics["converged"] & (by_strategies(metrics) | (metrics["strategy"] == "pool"))]
    dice = used.pivot_table(index="volume", columns="strategy", values="dice", aggfunc="mean")
    strategies = dice[[name for name in strategies_in(used) if not is_upper_bound(name)]]
    mean = dice.mean(axis="columns")
    rules = {"hardest case": -mean}
    if strategies.shape[1] > 1:
        spread = strategies.max(axis="columns") - strategies.min(axis="columns")
        rules["largest disagreement of the strategies"] = spread[spread > 0]
        leads = {name: strategies[name] - strategies.drop(columns=name).max(axis="columns") for name in strategies}
        shown = LEADS if len(leads) <= LEADS else MANY_LEADS
        largest = sorted(leads, key=lambda name: -leads[name].max())[:shown]
        for name, lead in leads.items():
            if name in largest:
                rules[f"largest lead of {printed(name)}"] = lead[lead > 0]
    if "pool" in dice and strategies.shape[1]:
        lag = strategies.max(axis="columns") - dice["pool"]
        rules["largest lag of the data pool model"] = lag[lag > 0]
    rules["typical case"] = -(mean - mean.median()).abs()

    chosen: dict[str, str] = {}
    for title, score in rules.items():
        left = score.dropna().drop(list(chosen), errors="ignore").sort_index()
        if len(left):
            chosen[str(left.idxmax())] = title
    return [(title, volume) for volume, title in chosen.items()]


def _looks(models: Iterable[str]) -> dict[str, Look]:
    return looks(strategies_in(pd.DataFrame({"strategy": list(map(_strategy, models))})))


def _strategy(model: str) -> str:
    return model.split("-", maxsplit=1)[0]


def _most_lines(texts: Iterable[str]) -> int:
    return max(text.count("\n") + 1 for text in texts)


def _letters() -> Iterator[str]:
    """Yield a, b, …, z, aa, ab, …"""
    for length in itertools.count(1):
        yield from map("".join, itertools.product(string.ascii_lowercase, repeat=length))
