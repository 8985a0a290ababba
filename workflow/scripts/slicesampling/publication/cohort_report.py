"""The page that shows the cohort: each volume in three planes with its mask, what was measured, and what is odd."""

import base64
import html
import io
from collections.abc import Callable, Iterable

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..cohort.plausibility import warnings_of
from ..cohort.table import FAULTY
from ..cohort.volumes import Preprocessed
from .layout import count, document, page_table
from .style import REFERENCE, STYLE, draw_outline, show_slice
from .tables import cohort_table

THUMBNAIL = (3.6, 1.0)  # inches
RESOLUTION = 80  # dots per inch


def cohort_page(cohort: pd.DataFrame, volumes: pd.DataFrame, load: Callable[[str], Preprocessed]) -> str:
    """Return the page: table 1, and the volumes, those with most warnings first.

    cohort: the table of volumes; volumes: their measurements; load: gives a preprocessed volume by its name. Nothing
    of a file but its voxels and grid is on the page.
    """
    warnings = warnings_of(volumes, cohort).groupby("volume")["warning"].agg(list).to_dict()
    measured = volumes.set_index("volume", drop=False)
    rows = cohort.set_index("volume")
    order = sorted(measured.index, key=lambda name: -len(warnings.get(name, [])))
    cards = "\n".join(_card(measured.loc[name], rows.loc[name], warnings.get(name, []), load(name)) for name in order)
    left_out = "".join(
        f"<li>{html.escape(str(name))}: {html.escape(row['exclude'])}</li>"
        for name, row in rows.iterrows()
        if row["exclude"]
    )
    faulty = int(rows["exclude"].str.startswith(FAULTY).sum())
    told = sum(map(len, warnings.values()))
    body = (
        f"<h1>The cohort</h1><p>{count(len(order), 'volume')}, "
        + (
            f"{count(told, 'warning')} on {len(warnings)} of them; those with most warnings first"
            if told
            else "no warning"
        )
        + ". A warning stops nothing."
        + (f" <strong>{count(faulty, 'faulty volume')} left out</strong>, see below." if faulty else "")
        + "</p>"
        f"{page_table(cohort_table(cohort, volumes))}"
        + (f"<h2>Excluded</h2><ul>{left_out}</ul>" if left_out else "")
        + "<h2>Volumes</h2><div class='wide'><table><thead><tr><th>Volume</th><th>Sagittal, coronal, axial</th>"
        "<th>Warnings</th><th>Site</th><th>Split</th><th>Grid</th><th>Liver [ml]</th>"
        f"<th>Liver [HU]</th><th>Air [HU]</th></tr></thead><tbody>{cards}</tbody></table></div>"
    )
    return document("The cohort", body)


def _card(measured: pd.Series, row: pd.Series, warnings: Iterable[str], volume: Preprocessed) -> str:
    """Return the table row of one volume."""
    size = "×".join(str(measured[name]) for name in ("columns", "rows", "slices"))
    spacing = "×".join(f"{measured[f'spacing_{axis}']:.3g}" for axis in "xyz")
    cells = (
        f"<img alt='{html.escape(str(measured['volume']))}' src='data:image/png;base64,{thumbnail(volume)}'>",
        "<br>".join(map(html.escape, warnings)) or "–",
        html.escape(row["site"]),
        html.escape(row["split"]),
        f"{size}<br>{spacing} mm",
        f"{measured['liver_ml']:.0f}",
        f"{measured['liver_hu']:.0f}",
        "–" if np.isnan(measured["air_hu"]) else f"{measured['air_hu']:.0f}",
    )
    return (
        f"<tr><th scope='row'>{html.escape(str(measured['volume']))}</th>"
        + "".join(f"<td{' class=words' * (number == 1)}>{cell}</td>" for number, cell in enumerate(cells))
        + "</tr>"
    )


def thumbnail(volume: Preprocessed) -> str:
    """Return the sagittal, coronal and axial plane with most of the mask, outlined: a PNG in base64."""
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=THUMBNAIL)
        for axes, axis in zip(figure.subplots(1, 3), (2, 1, 0), strict=True):
            areas = np.count_nonzero(volume.mask, axis=tuple(other for other in range(3) if other != axis))
            image, mask = (np.take(array, int(areas.argmax()), axis=axis) for array in (volume.image, volume.mask != 0))
            spacing = [size for other, size in enumerate(volume.grid.spacing) if other != axis]
            if axis:  # the head is up
                image, mask = image[::-1], mask[::-1]
            show_slice(axes, image, spacing, ratio=0.85, region=np.ones(image.shape, dtype=bool))
            draw_outline(axes, mask, REFERENCE)
        figure.subplots_adjust(0, 0, 1, 1, 0.02, 0)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=RESOLUTION, metadata={"Software": None})
    return base64.b64encode(buffer.getvalue()).decode()
