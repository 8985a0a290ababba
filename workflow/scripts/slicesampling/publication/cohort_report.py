"""Two pages of the cohort: one with each volume's planes, mask, measurements and warnings, and one with its faults."""

import io
from collections.abc import Callable, Iterable
from typing import Any

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .. import STRUCTURE
from ..cohort.plausibility import warnings_of
from ..cohort.table import FAULTY, Fault
from ..cohort.volumes import Preprocessed
from .layout import number
from .pages import filled
from .style import REFERENCE, STYLE, draw_outline, show_slice
from .tables import cohort_table
from .wording import count

THUMBNAIL = (3.6, 1.0)  # inches
RESOLUTION = 80  # dots per inch


def cohort_page(cohort: pd.DataFrame, volumes: pd.DataFrame, load: Callable[[str], Preprocessed]) -> str:
    """Return the page of the cohort: table 1 and all volumes, those with most warnings first.

    cohort: the table of volumes; volumes: their measurements; load: returns a preprocessed volume by its name. The page
    shows only voxels and grids of files, no other content.
    """
    warnings = warnings_of(volumes, cohort).groupby("volume")["warning"].agg(list).to_dict()
    order = sorted(volumes.to_dict("records"), key=lambda row: -len(warnings.get(row["volume"], [])))
    rows = cohort.set_index("volume")
    told = sum(map(len, warnings.values()))
    warned = f"{count(told, 'warning')} on {len(warnings)} of them; those with most warnings first"
    faulty = int(rows["exclude"].str.startswith(FAULTY).sum())
    name = STRUCTURE.capitalize()
    return filled(
        "cohort.html",
        title="The cohort",
        found=f"{count(len(order), 'volume')}, {warned if told else 'no warning'}.",
        faulty=count(faulty, "faulty volume") if faulty else "",
        table=cohort_table(cohort, volumes),
        excluded=rows.loc[rows["exclude"] != "", "exclude"].to_dict(),
        columns=["Site", "Split", "Grid", f"{name} [ml]", f"{name} [HU]", "Air [HU]"],
        volumes=[
            {
                "name": row["volume"],
                "picture": thumbnail(load(row["volume"])),
                "warnings": warnings.get(row["volume"], []),
                "cells": [*rows.loc[row["volume"], ["site", "split"]], *_measured(row)],
            }
            for row in order
        ],
    )


def fault_page(faults: Iterable[Fault], cohort: pd.DataFrame) -> str:
    """Return the page of the faults of the cohort, sorted by the rows of its table."""
    listed = sorted(faults, key=lambda fault: fault.row)
    faulty = len({fault.row for fault in listed})
    return filled(
        "faults.html",
        title="Faults of the cohort",
        volumes=count(len(cohort), "volume"),
        found=faulty,
        faults=listed,
        names=cohort["volume"].to_dict(),
    )


def _measured(row: dict[str, Any]) -> list[str]:
    """Return grid, organ volume and HU of a measured volume as text."""
    size = "×".join(str(row[axis]) for axis in ("columns", "rows", "slices"))
    spacing = "×".join(f"{row[f'spacing_{axis}']:.3g}" for axis in "xyz")
    change = row["resampled_ml"] / row["structure_ml"] - 1
    volume = number(row["structure_ml"], 0) + (f"\n{100 * change:+.1f} % resampled" if np.isfinite(change) else "")
    return [f"{size}\n{spacing} mm", volume, *(number(row[name], 0) for name in ("structure_hu", "air_hu"))]


def thumbnail(volume: Preprocessed) -> bytes:
    """Return the sagittal, coronal and axial plane with most of the outlined mask, or the middle ones, as PNG."""
    structure = volume.mask == 1
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=THUMBNAIL)
        for axes, axis in zip(figure.subplots(1, 3), (2, 1, 0), strict=True):
            areas = np.count_nonzero(structure, axis=tuple(other for other in range(3) if other != axis))
            index = int(areas.argmax()) if areas.any() else len(areas) // 2
            image, mask = (np.take(array, index, axis=axis) for array in (volume.image, structure))
            spacing = [size for other, size in enumerate(volume.grid.spacing) if other != axis]
            if axis:  # the head is up
                image, mask = image[::-1], mask[::-1]
            show_slice(axes, image, spacing, ratio=0.85, region=np.ones(image.shape, dtype=bool))
            draw_outline(axes, mask, REFERENCE)
        figure.subplots_adjust(0, 0, 1, 1, 0.02, 0)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=RESOLUTION, metadata={"Software": None})
    return buffer.getvalue()
