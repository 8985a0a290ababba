"""The common style of all figures: sizes, colours, markers, and the display of CT slices.

Images are axial slices (y, x) in HU in the library's frame, spacing is (y, x) in mm, and masks are boolean (y, x).
Shown in the stored orientation, they give the radiological view, with the patient's right on the image's left.
"""

import functools
import itertools
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, ParamSpec

import matplotlib.style
import numpy as np
import numpy.typing as npt
from contourpy import contour_generator
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import ndimage

from ..jobs.files import replacing
from ..query.strategies import STRATEGIES
from .layout import BOUND, DAGGER, INITIAL, POOL, printed

Parameters = ParamSpec("Parameters")
Array = npt.NDArray[Any]
Marker = str | tuple[int, Literal[0, 1, 2], int]

COLUMN, PAGE = 3.5, 7.16  # inches: widths of one and of two columns of an IEEE journal
FONT = 7  # points, the smallest that the journal accepts
CHARACTER = 0.062  # inches: width of a character of that size, a little above the mean of DejaVu Sans
RESOLUTION = 300  # dots per inch of the PNG, and of the images inside the PDF
WINDOW = (50, 400)  # HU: centre and width of the usual soft-tissue window
AIR_LIMIT = -300  # HU: threshold between air and the body
MARGIN = 8.0  # mm around the region shown

STYLE = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelsize": FONT + 1,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": FONT + 1,
    "font.family": "DejaVu Sans",  # part of matplotlib: the same on every machine
    "font.size": FONT,
    "grid.color": "0.9",
    "grid.linewidth": 0.5,
    "hatch.linewidth": 0.5,
    "legend.fontsize": FONT,
    "legend.frameon": False,
    "lines.linewidth": 1.0,
    "lines.markersize": 3.5,
    "pdf.fonttype": 42,  # TrueType: text stays text
    "xtick.labelsize": FONT,
    "xtick.major.width": 0.6,
    "ytick.labelsize": FONT,
    "ytick.major.width": 0.6,
}


class Look(NamedTuple):
    """The label and the style of a model, the same in every figure."""

    label: str
    colour: str
    marker: Marker
    line: str | tuple[int, tuple[int, ...]] = "-"


# Okabe and Ito's colours first: cold ones sample volumes, warm ones slices; the darker of a pair uses uncertainty.
# Sixteen hues are too many to distinguish, so that those that colour-blind readers confuse differ in lightness or line
# style, and all differ in markers.
STRATEGY_COLOURS = (
    *("#0072B2", "#56B4E9", "#D55E00", "#E69F00"),
    *("#CC79A7", "#332288", "#882255", "#117733", "#999933", "#6E4B1F", "#AA4499", "#000000"),
    *("#DDCC77", "#44AA99", "#EE99AA", "#5B6C8C"),
)
STRATEGY_MARKERS: tuple[Marker, ...] = (
    *("s", "D", "o", "^", "v", "p", "<", ">", "h", "*", "d", "8"),
    *((4, 1, 0), (3, 1, 0), (6, 1, 0), (4, 1, 45)),  # stars: number of points, style, rotation in degrees
)
STRATEGY_LINES = ("-", "-", "-", "-", (0, (6, 1)), (0, (3, 1)), (0, (6, 1, 1, 1)), (0, (3, 1, 1, 1, 1, 1)))


def looks(strategies: Iterable[str] = ()) -> dict[str, Look]:
    """Return the styles of the initial model, the paper's strategies, further `strategies` in their order, and the data
    pool model. Up to twelve further strategies have distinct styles."""
    names = dict.fromkeys([*STRATEGIES, *strategies])
    lines = itertools.chain(STRATEGY_LINES, itertools.cycle(STRATEGY_LINES[len(STRATEGIES) :]))
    drawn = zip(names, itertools.cycle(STRATEGY_COLOURS), itertools.cycle(STRATEGY_MARKERS), lines, strict=False)
    return {
        "initial": Look(INITIAL, "#7F7F7F", "X"),
        **{name: Look(printed(name), colour, marker, line) for name, colour, marker, line in drawn},
        "pool": Look(POOL, "#009E73", "P", "--"),
    }


RIM: dict[str, Any] = {"mec": "white", "mew": 0.4}
"""What parts a marker from its line and from other markers."""
MARKED = RIM | {"ms": 5}


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure with invisible axes over all of it, whose unit is the inch."""
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    return figure, axes


def spaced(value: float) -> str:
    """Return `value` as a whole number with a thin space before each three digits."""
    return f"{value:,.0f}".replace(",", "\u2009")


def legend_columns(labels: Sequence[str], handle: float = 0.45) -> int:
    """Return the number of legend columns on a page, each as wide as the longest label and a `handle` in inches."""
    return max(1, min(len(labels), int(PAGE / (handle + CHARACTER * max(map(len, labels), default=0)))))


def about_bound(labels: Iterable[str]) -> list[Line2D]:
    """Return the legend entry that explains the dagger, as a list; empty if no label has one."""
    return [Line2D([], [], ls="", label=BOUND)] if any(DAGGER in label for label in labels) else []


def line_entry(look: Look, **line: Any) -> Line2D:
    """Return the entry of a legend for a look; line: further properties of the line."""
    return Line2D([], [], color=look.colour, marker=look.marker, ls=look.line, label=look.label, **line)


def footnote(figure: Figure, text: str) -> None:
    """Write a text below the panels, at the left edge."""
    figure.supxlabel(text, fontsize=FONT, x=0.01, ha="left")


def is_dark(colour: str) -> bool:
    """Return whether a black line on this colour is hard to see."""
    return float(np.dot(to_rgb(colour), (0.299, 0.587, 0.114))) < 0.3


def in_rows(count: int, most: int) -> tuple[int, int]:
    """Return the rows and columns of `count` panels, at most `most` in a row, as evenly as possible."""
    rows = -(-count // most)
    return rows, -(-count // rows)


REFERENCE = "#F0E442"  # the reference mask's outline


def styled(draw: Callable[Parameters, Figure]) -> Callable[Parameters, Figure]:
    """Decorate a function to draw in the common style, independently of the user's settings, which do not change."""

    @functools.wraps(draw)
    def drawn(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Figure:
        with matplotlib.style.context(["default", STYLE]):
            return draw(*args, **kwargs)

    return drawn


def save_figure(figure: Figure, stem: str | Path) -> None:
    """Write `figure` to `stem`.png and `stem`.pdf by rename; the same figure always gives the same bytes."""
    undated = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Producer": None, "Creator": None}}
    for suffix, metadata in undated.items():
        with matplotlib.style.context(["default", STYLE]), replacing(f"{stem}.{suffix}") as temporary:
            figure.savefig(temporary, format=suffix, dpi=RESOLUTION, metadata=metadata)


def show_slice(
    axes: Axes, image: npt.ArrayLike, spacing: Sequence[float], ratio: float = 0.75, region: Array | None = None
) -> None:
    """Show a CT slice (y, x) in HU in the soft-tissue window, with pixels scaled by spacing (y, x) in mm.

    The view covers `region`, bool (y, x), by default the patient's body. Its height is `ratio` times its width in mm,
    so that all panels of a figure have the same shape.
    """
    centre, width = WINDOW
    axes.imshow(
        np.asarray(image),
        cmap="gray",
        vmin=centre - width / 2,
        vmax=centre + width / 2,
        aspect=aspect_of(spacing),
        interpolation="bilinear",
    )
    axes.grid(visible=False)
    axes.set(xticks=[], yticks=[], facecolor="black")
    axes.spines[:].set_visible(False)
    _view(axes, body(image) if region is None else region, spacing, ratio)


def body(image: npt.ArrayLike) -> Array:
    """Return the largest connected region above air in a slice (y, x) in HU: the body without the table."""
    regions, count = ndimage.label(np.asarray(image) > AIR_LIMIT)
    if not count:
        return np.ones(np.shape(image), dtype=bool)
    return regions == 1 + np.argmax(np.bincount(regions.ravel())[1:])


def outline(mask: npt.ArrayLike) -> list[Array]:
    """Return the closed lines (points x, y in pixels) around a mask (y, x), half a pixel outside its pixel centres."""
    padded = np.pad(np.asarray(mask, dtype=float), 1)
    return [np.asarray(line) - 1 for line in contour_generator(z=padded).lines(0.5)]


def draw_outline(axes: Axes, mask: npt.ArrayLike, colour: str, *, width: float = 0.9) -> None:
    """Draw the outline of a mask (y, x) over a slice, with a line width in points, without changing the view."""
    axes.add_collection(
        LineCollection(outline(mask), colors=colour, linewidths=width, joinstyle="round"), autolim=False
    )


def aspect_of(spacing: Sequence[float]) -> float:
    return float(spacing[0]) / float(spacing[1])


def wrapped(text: str, inches: float) -> str:
    """Break `text` into lines that fit a width at the common font size."""
    return textwrap.fill(text, max(8, int(inches / CHARACTER)))


def _view(axes: Axes, region: Array, spacing: Sequence[float], ratio: float) -> None:
    """Set the view to a region (y, x) and a margin, with a height of `ratio` times its width in mm."""
    size = np.asarray(spacing, dtype=float)
    places = np.argwhere(region if region.any() else np.ones_like(region))
    centre = (places.min(axis=0) + places.max(axis=0)) / 2
    high, wide = (np.ptp(places, axis=0) + 1) * size + 2 * MARGIN
    high, wide = max(high, wide * ratio), max(wide, high / ratio)
    y, x = np.array([high, wide]) / size / 2
    axes.set(xlim=(centre[1] - x, centre[1] + x), ylim=(centre[0] + y, centre[0] - y))
