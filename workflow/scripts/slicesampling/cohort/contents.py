"""What the files of the cohort hold: opened, checked and measured, a row of the table each."""

import json
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from .. import UserError
from . import plausibility, scans
from .dicom import LARGEST_SLICE_GAP
from .grids import PAPER_SPACING, resample_mask
from .kinds import IMAGE_SUFFIXES
from .table import CT, MODALITY, Fault, ignore_value, liver_values, tumour_values, used
from .volumes import Preprocessed

MEASUREMENTS = (
    "volume",
    "slices",
    "rows",
    "columns",
    "spacing_z",
    "spacing_y",
    "spacing_x",
    "structure_slices",
    "structure_ml",
    "resampled_ml",
    *plausibility.MEASURED,
    "file_patient",
    "remarks",
)
"""Columns of the table of measured volumes; spacing in mm, all on the native grid but resampled_ml: the liver on the
common grid.

file_patient: volumes whose files name the same patient have the same number, 0 where the file names none. remarks: what
was decided when the files were read, a list in JSON."""

LARGEST_CHANGE = 0.2
"""Of a mask's volume, on the way to the common grid; more is a fault: voxels too coarse, or a geometry misread."""

logger = logging.getLogger(__name__)


def content_faults(
    row: pd.Series, largest_slice_gap: float, spacing: tuple[float, float, float]
) -> tuple[list[Fault], dict[str, Any]]:
    """Open the image and mask of one row of the cohort; return its faults, and its measurements if it has none.

    The measurements are those of `MEASUREMENTS`, but for file_patient, which is the identifier in the file.
    """
    number = int(row.name)  # type: ignore[call-overload]
    values, tumours = liver_values(row["liver_values"]), tumour_values(row)
    read = (row["image"], row["label"] or None, values, largest_slice_gap, ignore_value(row), tumours)
    try:
        scan = scans.read_scan(*read)
        common = scans.common_grid(row["image"], scan.grid, spacing)
    except scans.LabelError as error:
        return [Fault(number, "label", row["label"], _without_path(error, row["label"]))], {}
    except UserError as error:
        return [Fault(number, "image", row["image"], _without_path(error, row["image"]))], {}
    image, mask, grid = scan.image, scan.mask, scan.grid
    silent = row["image"].endswith(IMAGE_SUFFIXES)  # DICOM says itself that it is CT
    if silent and row.get(MODALITY) != CT and not (image < plausibility.NOT_TISSUE).any():
        advice = (
            f"no voxel is below {plausibility.NOT_TISSUE} HU, as lung, gas and the air around a body are: is it MR? If "
            f"it is CT whose values are clipped, write {CT} into the row's column {MODALITY} (importers: --force-ct)"
        )
        return [Fault(number, "image", row["image"], advice)], {}
    if mask is not None and not mask.any():
        advice = "the liver mask is empty; give a mask with liver, or exclude the volume"
        return [Fault(number, "label", row["label"], advice)], {}
    liver_slices = np.nan if mask is None else int(mask.any(axis=(1, 2)).sum())
    millilitres = np.nan if mask is None else float(mask.sum() * np.prod(grid.spacing) / 1000)
    partly = scan.ignored is not None and scan.ignored.any()  # what only a whole liver shows is not known of it
    resampled = np.nan
    if mask is not None and not partly:
        resampled = float(resample_mask(mask, grid, common).sum() * np.prod(spacing) / 1000)
        if abs(resampled - millilitres) > LARGEST_CHANGE * millilitres:
            text = (
                f"the liver has {millilitres:.4g} ml, but {resampled:.4g} ml when resampled to voxels of "
                f"{'x'.join(f'{step:g}' for step in spacing)} mm; accepted is a change of {LARGEST_CHANGE:.0%} "
                "(preprocessing: spacing)"
            )
            return [Fault(number, "label", row["label"], text)], {}
    measured = (row["volume"], *grid.shape, *grid.spacing, liver_slices, millilitres, resampled)
    seen = plausibility.measure(image, mask)
    if partly:
        measured = (*measured[:-2], np.nan, np.nan)
        seen |= {"touches": "", "second_component": np.nan}
    return [], {
        **dict(zip(MEASUREMENTS, measured, strict=False)),
        **seen,
        "file_patient": scan.patient,
        "remarks": json.dumps(scan.remarks),
    }


def preprocess_row(row: Mapping[str, str], settings: Mapping[str, Any]) -> Preprocessed:
    """Read and resample the volume of a row of the cohort; settings: the configuration's `preprocessing`."""
    return scans.preprocess(
        row["image"],
        row["label"] or None,
        settings["spacing"],
        liver_values(row["liver_values"]),
        settings["largest_slice_gap"],
        ignore_value(row),
        tumour_values(row),
    )


def check_contents(
    cohort: pd.DataFrame,
    workers: int,
    largest_slice_gap: float = LARGEST_SLICE_GAP,
    spacing: tuple[float, float, float] = PAPER_SPACING,
) -> tuple[list[Fault], pd.DataFrame]:
    """Open every used volume, `workers` at a time.

    Returns the faults, and a table with the columns `MEASUREMENTS`, one row a sound volume in the cohort's order.
    """
    rows = [row for _, row in used(cohort).iterrows()]
    faults: list[Fault] = []
    measured: list[dict[str, Any]] = []
    images: dict[str, pd.Series] = {}
    check = partial(content_faults, largest_slice_gap=largest_slice_gap, spacing=spacing)
    # Threads: unpacking and arithmetic, which take the time, run outside the interpreter's lock.
    with ThreadPoolExecutor(workers) as executor:
        for done, (row, (found, measurements)) in enumerate(zip(rows, executor.map(check, rows), strict=True), start=1):
            if measurements:
                twin = images.setdefault(measurements["digest"], row)
                found = [_twin_fault(row, twin)] if twin["split"] != row["split"] else []
            faults += found
            measured += [] if found else [measurements]
            logger.info("checked %d of %d volumes: %s", done, len(rows), row["volume"])
    table = pd.DataFrame(measured, columns=list(MEASUREMENTS)).fillna({"touches": ""})
    # Numbers in place of identifiers, which must not get into results.
    numbers = {patient: k for k, patient in enumerate(dict.fromkeys(["", *table["file_patient"]]))}
    table["file_patient"] = table["file_patient"].map(numbers)
    return faults, table


def _twin_fault(row: pd.Series, twin: pd.Series) -> Fault:
    """Say that two volumes of different splits are one: data sets share scans, and a model would see its test."""
    advice = (
        f"is, voxel by voxel, the image of {twin['volume']} (row {twin.name}), which stands in split {twin['split']}, "
        f"this one in {row['split']}; exclude one, or put both into one split"
    )
    return Fault(int(row.name), "image", row["image"], advice)  # type: ignore[call-overload]


def _without_path(error: UserError, path: str) -> str:
    return str(error).removeprefix(f"{path}: ")
