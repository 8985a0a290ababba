"""The figure of the anisotropic u-net (Fig. 1), drawn from the network's own description.

Feature maps stand as slabs in a row a level, the way down on the left, the way up on the right.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from ..learning.geometry import CONVOLUTIONS
from .style import PAGE, canvas, spaced, styled

SIDE = 0.4  # inches that the network leaves of the page's width, at least
WIDEST_PITCH = 0.5  # inches
SLAB_HEIGHT, SHRINK = 0.58, 0.84  # inches, of the first level; and from level to level
LEVEL_GAP = 0.4  # inches between two levels
BOTTOM_GAP = 1.0  # positions by which the deepest level is longer: there its size is written between the ways
TOP = 0.42  # inches above the slabs
BELOW = 0.3  # inches between slabs and legend
THINNEST, THICKER = 0.1, 0.42  # thickness of a slab in pitches: without channels, and what the most channels add
LABEL_GAP, ARROW_GAP, TEXT_GAP = 0.03, 0.02, 0.06  # inches: above a slab; between slab and arrow; beside an arrow
SIZE_BELOW, SIZE_BESIDE = 0.04, 0.05  # inches between a slab and the size of its map
CORNER = (0.08, 0.06)  # inches from the upper corners to their titles
ARROW_END = 0.15  # inches above a level's slabs at which the arrows between levels leave room for the channels
LEGEND_CORNER = (0.1, 0.03)  # inches, lower left
LEGEND_LINE, LEGEND_ARROW, LEGEND_TEXT = 0.17, 0.28, 0.36  # inches: height; length; where the text begins
LEGEND_BOX = (0.2, 0.1)  # inches

KERNEL_COLOURS = ("#332288", "#CC79A7", "#DDCC77", "#88CCEE", "#882255")
POOLING, UPSAMPLING, SKIP, LAST_CONVOLUTION = "#A50026", "#117733", "0.55", "0.15"
FEATURE_MAP, COPIED, EDGE = "#C9DAEA", "white", "0.2"
DROPOUT = "/////"  # the hatch of maps with dropout

CLASSES = 2
"""Of the output: background and structure."""

Level = Mapping[str, Any]


class Diagram(NamedTuple):
    """Where the network stands on the page, in inches from its lower left corner.

    colours: of the arrows, by the text of a convolution block. last: the position of the output, that of the input is
    0; pitch: from a position to the next; left: the place of position 0. tall, middle: height of each level's slabs and
    the place of their centres, (level,). height: of the page.
    """

    levels: Sequence[Level]
    colours: Mapping[str, str]
    last: float
    pitch: float
    left: float
    tall: npt.NDArray[np.floating]
    middle: npt.NDArray[np.floating]
    height: float

    @property
    def deepest(self) -> int:
        return len(self.levels) - 1

    def x(self, position: float) -> float:
        return self.left + position * self.pitch

    def low(self, level: int) -> float:
        """Return the lower edge of a level's slabs."""
        return float(self.middle[level] - self.tall[level] / 2)

    def thickness(self, channels: int) -> float:
        """Return the thickness of the slab of so many channels."""
        most = max(level["channels"] for level in self.levels)
        return self.pitch * (THINNEST + THICKER * math.sqrt(channels / most))


@styled
def network_figure(levels: Sequence[Level], parameters: int, input_size: str = "") -> Figure:
    """Draw the anisotropic u-net from its own description (Fig. 1).

    levels: from the top down, with `channels`; `kernel`, the text of one convolution block; `pool`, the text of the
    pooling to the next level (None at the bottom); `encoder_size` and `decoder_size`, texts of the sizes (x×y×z) of the
    feature maps that leave the level on the way down and up (decoder None at the bottom); and `dropout` (None: none).
    parameters: the number of trainable ones. input_size: the text of the size of the input patch.
    """
    colours = _kernel_colours(levels)
    legend = _legend_entries(levels, colours, parameters)
    lines = math.ceil(len(legend) / 2)
    diagram = _lay_out(levels, colours, lines * LEGEND_LINE)
    figure, axes = canvas(PAGE, diagram.height)
    copied_from = _draw_encoder(axes, diagram)
    half = _draw_decoder(axes, diagram, copied_from)
    _draw_output(axes, diagram, half)
    _draw_titles(axes, diagram, input_size)
    _draw_legend(axes, legend, lines)
    return figure


def _kernel_colours(levels: Sequence[Level]) -> dict[str, str]:
    """Return a colour for each kind of convolution block."""
    return dict(zip(dict.fromkeys(level["kernel"] for level in levels), KERNEL_COLOURS, strict=False))


def _legend_entries(
    levels: Sequence[Level], kernel_colours: Mapping[str, str], parameters: int
) -> list[tuple[str, str]]:
    """Return symbol and text of each entry; a symbol is an arrow's colour, the hatch of a box, or empty."""
    dropouts = sorted({level["dropout"] for level in levels if level["dropout"]})
    dropped = f"concatenated maps with dropout, p = {', '.join(f'{p:g}' for p in dropouts)}"
    return [
        *((colour, f"convolution {kernel}, batch norm, ReLU") for kernel, colour in kernel_colours.items()),
        (POOLING, "max pooling"),
        (UPSAMPLING, "transposed convolution"),
        (SKIP, "skip connection: crop and concatenate"),
        (LAST_CONVOLUTION, "convolution 1×1×1, softmax"),
        *([(DROPOUT, dropped)] if dropouts else []),
        ("", f"{spaced(parameters)} trainable parameters; number above a map: its channels"),
    ]


def _lay_out(levels: Sequence[Level], colours: Mapping[str, str], legend_height: float) -> Diagram:
    """Return where the network stands above a legend of that height (inches)."""
    depth = len(levels)
    last = CONVOLUTIONS * (2 * depth - 1) + BOTTOM_GAP + 1
    pitch = min(WIDEST_PITCH, (PAGE - SIDE) / last)
    tall = SLAB_HEIGHT * SHRINK ** np.arange(depth)
    middle = -TOP - np.cumsum(tall + LEVEL_GAP) + LEVEL_GAP + tall / 2  # from the upper edge
    height = float(tall[-1] / 2 - middle[-1] + BELOW + legend_height)
    return Diagram(levels, colours, last, pitch, (PAGE - pitch * last) / 2, tall, middle + height, height)


def _draw_encoder(axes: Axes, diagram: Diagram) -> list[float]:
    """Draw the way down; return the right edge of each level's last map, where its skip connection begins."""
    edges = []
    for level, here in enumerate(diagram.levels):
        position = float(CONVOLUTIONS * level)
        before = diagram.levels[level - 1]["channels"] if level else 1
        half = _draw_map(axes, diagram, level, position, before)
        deepest = level == diagram.deepest
        half = _draw_convolutions(axes, diagram, level, position, half, BOTTOM_GAP if deepest else 0)
        x, low = diagram.x(position + CONVOLUTIONS), diagram.low(level)
        edges.append(x + half)
        if deepest:
            x += (BOTTOM_GAP / 2 - 1) * diagram.pitch
            axes.text(x, low - SIZE_BELOW, here["encoder_size"], ha="center", va="top")
        else:
            _draw_arrow(axes, (x, low - ARROW_GAP), (x, low - LEVEL_GAP + ARROW_END), POOLING)
            y = low - LEVEL_GAP / 2 + TEXT_GAP
            axes.text(x - TEXT_GAP, y, here["pool"], ha="right", va="center", color=POOLING)
    return edges


def _draw_decoder(axes: Axes, diagram: Diagram, copied_from: Sequence[float]) -> float:
    """Draw the way up and the skip connections from the edges `copied_from`; return half the last map's width."""
    half = 0.0
    for level in reversed(range(diagram.deepest)):
        here, y, low = diagram.levels[level], diagram.middle[level], diagram.low(level)
        position = CONVOLUTIONS * (2 * diagram.deepest - level) + BOTTOM_GAP
        x, channels = diagram.x(position), here["channels"]
        _draw_arrow(axes, (x, low - LEVEL_GAP + ARROW_END), (x, low - ARROW_GAP), UPSAMPLING)
        between = low - LEVEL_GAP / 2 + TEXT_GAP
        axes.text(x + TEXT_GAP, between, here["pool"], ha="left", va="center", color=UPSAMPLING)
        half = _draw_map(axes, diagram, level, position, channels, copied=channels, dropped=bool(here["dropout"]))
        start = copied_from[level]
        _draw_arrow(axes, (start + ARROW_GAP, y), (x - half - ARROW_GAP, y), SKIP)
        axes.text((start + x - half) / 2, y + LABEL_GAP, here["encoder_size"], ha="center", va="bottom")
        half = _draw_convolutions(axes, diagram, level, position, half)
        if level:
            x += CONVOLUTIONS * diagram.pitch + half + SIZE_BESIDE
            axes.text(x, y, here["decoder_size"], ha="left", va="center")
    return half


def _draw_output(axes: Axes, diagram: Diagram, half: float) -> None:
    """Draw the last convolution, from the first level's last map, of `half` that width, to the scores."""
    y, start = diagram.middle[0], diagram.x(diagram.last - 1) + half
    end = diagram.x(diagram.last) - _draw_map(axes, diagram, 0, diagram.last, CLASSES)
    _draw_arrow(axes, (start, y), (end, y), LAST_CONVOLUTION)


def _draw_titles(axes: Axes, diagram: Diagram, input_size: str) -> None:
    """Write in the upper corners what goes in and what comes out."""
    beside, y = CORNER[0], diagram.height - CORNER[1]
    axes.text(beside, y, f"CT patch {input_size}", ha="left", va="top", weight="bold")
    output = f"class probabilities {diagram.levels[0]['decoder_size'] or ''}"
    axes.text(PAGE - beside, y, output, ha="right", va="top", weight="bold")


def _draw_legend(axes: Axes, entries: Sequence[tuple[str, str]], lines: int) -> None:
    """Draw the legend's entries (symbol, text) in two columns of so many lines."""
    left, bottom = LEGEND_CORNER
    for place, (symbol, text) in enumerate(entries):
        column, line = divmod(place, lines)
        x, y = left + (PAGE / 2) * column, (lines - line - 0.5) * LEGEND_LINE + bottom
        if symbol == DROPOUT:
            width, height = LEGEND_BOX
            _draw_edge(axes, x + height / 2, y - height / 2, width, height, DROPOUT)
        elif symbol:
            _draw_arrow(axes, (x, y), (x + LEGEND_ARROW, y), symbol)
        axes.text(x + LEGEND_TEXT if symbol else x, y, text, ha="left", va="center")


def _draw_map(
    axes: Axes, diagram: Diagram, level: int, position: float, channels: int, *, copied: int = 0, dropped: bool = False
) -> float:
    """Draw one feature map, on its left the channels `copied` by the skip connection; return half its width."""
    total = channels + copied
    width, high = diagram.thickness(total), diagram.tall[level]
    x, y = diagram.x(position) - width / 2, diagram.low(level)
    axes.add_patch(Rectangle((x, y), width, high, facecolor=FEATURE_MAP, edgecolor="none"))
    axes.add_patch(Rectangle((x, y), width * (copied / total), high, facecolor=COPIED, edgecolor="none"))
    _draw_edge(axes, x, y, width, high, DROPOUT if dropped else None)
    axes.text(x + width / 2, y + high + LABEL_GAP, str(total), ha="center", va="bottom")
    return width / 2


def _draw_convolutions(
    axes: Axes, diagram: Diagram, level: int, position: float, half: float, stretch: float = 0.0
) -> float:
    """Draw a level's convolution blocks, from the map at `position`; take and return half the map's width.

    stretch: positions by which all of them together are longer.
    """
    here, y = diagram.levels[level], diagram.middle[level]
    for _ in range(CONVOLUTIONS):
        start, position = diagram.x(position) + half, position + 1 + stretch / CONVOLUTIONS
        half = _draw_map(axes, diagram, level, position, here["channels"])
        _draw_arrow(axes, (start, y), (diagram.x(position) - half, y), diagram.colours[here["kernel"]])
    return half


def _draw_edge(axes: Axes, x: float, y: float, width: float, height: float, hatch: str | None) -> None:
    axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=EDGE, lw=0.6, hatch=hatch))


def _draw_arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=5.5, lw=0.9, color=colour, shrinkA=0, shrinkB=0)
    )
