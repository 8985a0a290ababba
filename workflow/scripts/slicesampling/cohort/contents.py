"""Checks and measurements of the files of the cohort, row by row."""

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
from .grids import PAPER_SPACING, Grid, resample_mask
from .kinds import IMAGE_SUFFIXES
from .table import CT, MODALITY, Fault, label_of, used
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
"""Columns of the table of measured volumes; spacing in mm, all on the native grid except resampled_ml, the liver's
volume on the common grid.

file_patient: a number for the patient named in the file, the same for all volumes of that patient, 0 if no patient is
named. remarks: the decisions when the files were read, a list in JSON."""

LARGEST_CHANGE = 0.2
"""The largest relative change of a mask's volume by resampling to the common grid; more is a fault: too coarse voxels,
or a misread geometry."""

MM3_PER_ML = 1000

logger = logging.getLogger(__name__)


def content_faults(
    row: pd.Series, largest_slice_gap: float, spacing: tuple[float, float, float]
) -> tuple[list[Fault], dict[str, Any]]:
    """Open the image and mask of a row of the cohort; return its faults, and its measurements if it has none.

    The measurements are `MEASUREMENTS`, except that file_patient is the identifier in the file.
    """
    try:
        scan = scans.read_scan(row["image"], label_of(row), largest_slice_gap)
        common = scans.common_grid(row["image"], scan.grid, spacing)
    except scans.LabelError as error:
        return [_fault(row, "label", _without_path(error, row["label"]))], {}
    except UserError as error:
        return [_fault(row, "image", _without_path(error, row["image"]))], {}
    fault = _not_ct(row, scan.image) or _empty(row, scan.mask)
    if fault is not None:
        return [fault], {}
    measured = _measured(row, scan, common)
    held, resampled = measured["structure_ml"], measured["resampled_ml"]
    if abs(resampled - held) > LARGEST_CHANGE * held:  # both NaN without a completely annotated mask
        advice = (
            f"the liver has {held:.4g} ml, but {resampled:.4g} ml when resampled to voxels of "
            f"{'x'.join(f'{step:g}' for step in spacing)} mm; accepted is a change of {LARGEST_CHANGE:.0%} "
            "(preprocessing: spacing)"
        )
        return [_fault(row, "label", advice)], {}
    return [], measured


def preprocess_row(row: Mapping[str, str], settings: Mapping[str, Any]) -> Preprocessed:
    """Read and resample the volume of a row of the cohort; settings: the configuration's `preprocessing`."""
    return scans.preprocess(row["image"], label_of(row), settings["spacing"], settings["largest_slice_gap"])


def check_contents(
    cohort: pd.DataFrame,
    workers: int,
    largest_slice_gap: float = LARGEST_SLICE_GAP,
    spacing: tuple[float, float, float] = PAPER_SPACING,
) -> tuple[list[Fault], pd.DataFrame]:
    """Open every used volume, `workers` at a time.

    Return the faults, and a table with the columns `MEASUREMENTS`: one row per volume without faults, in the cohort's
    order.
    """
    rows = [row for _, row in used(cohort).iterrows()]
    faults: list[Fault] = []
    measured: list[dict[str, Any]] = []
    images: dict[str, pd.Series] = {}
    check = partial(content_faults, largest_slice_gap=largest_slice_gap, spacing=spacing)
    # Threads, because unpacking and arithmetic, which take most of the time, release the interpreter's lock.
    with ThreadPoolExecutor(workers) as executor:
        for done, (row, (found, measurements)) in enumerate(zip(rows, executor.map(check, rows), strict=True), start=1):
            if measurements:
                twin = images.setdefault(measurements["digest"], row)
                found = [_twin_fault(row, twin)] if twin["split"] != row["split"] else []
            faults += found
            measured += [] if found else [measurements]
            logger.info("checked %d of %d volumes: %s", done, len(rows), row["volume"])
    table = pd.DataFrame(measured, columns=list(MEASUREMENTS)).fillna({"touches": ""})
    # Numbers instead of identifiers, which must not get into results.
    numbers = {patient: k for k, patient in enumerate(dict.fromkeys(["", *table["file_patient"]]))}
    table["file_patient"] = table["file_patient"].map(numbers)
    return faults, table


def _not_ct(row: pd.Series, image: np.ndarray) -> Fault | None:
    """Return a fault if a file's image in HU (z, y, x) looks like MR, unless the row says that it is CT."""
    silent = row["image"].endswith(IMAGE_SUFFIXES)  # DICOM files state that they are CT
    if not silent or row.get(MODALITY) == CT or (image < plausibility.NOT_TISSUE).any():
        return None
    advice = (
        f"no voxel is below {plausibility.NOT_TISSUE} HU, as lung, gas and the air around a body are: is it MR? If "
        f"it is CT with clipped values, write {CT} into the row's column {MODALITY} (importers: --force-ct)"
    )
    return _fault(row, "image", advice)


def _empty(row: pd.Series, mask: np.ndarray | None) -> Fault | None:
    """Return a fault if a mask (z, y, x) is empty."""
    if mask is None or mask.any():
        return None
    advice = "the liver mask is empty; give a mask with liver, or exclude the volume"
    return _fault(row, "label", advice)


def _measured(row: pd.Series, scan: scans.Scan, common: Grid) -> dict[str, Any]:
    """Return the `MEASUREMENTS` of a volume; those that need a whole mask are missing for a partly annotated one."""
    mask = scan.mask
    partly = scan.ignored is not None and bool(scan.ignored.any())
    liver_slices = np.nan if mask is None else int(mask.any(axis=(1, 2)).sum())
    millilitres = resampled = np.nan
    seen = plausibility.measure(scan.image, mask)
    if partly:
        seen |= {"touches": "", "second_component": np.nan}
    elif mask is not None:
        millilitres = float(mask.sum() * np.prod(scan.grid.spacing) / MM3_PER_ML)
        resampled = float(resample_mask(mask, scan.grid, common).sum() * np.prod(common.spacing) / MM3_PER_ML)
    measured = (row["volume"], *scan.grid.shape, *scan.grid.spacing, liver_slices, millilitres, resampled)
    return {
        **dict(zip(MEASUREMENTS, measured, strict=False)),
        **seen,
        "file_patient": scan.patient,
        "remarks": json.dumps(scan.remarks),
    }


def _twin_fault(row: pd.Series, twin: pd.Series) -> Fault:
    """Return the fault of two equal volumes in different splits: data sets share scans, and a model would train on its
    test set."""
    advice = (
        f"is, voxel by voxel, the image of {twin['volume']} (row {twin.name}), which is in split {twin['split']}, "
        f"this one in {row['split']}; exclude one, or put both into one split"
    )
    return _fault(row, "image", advice)


def _fault(row: pd.Series, column: str, advice: str) -> Fault:
    return Fault(int(row.name), column, row[column], advice)  # type: ignore[call-overload]


def _without_path(error: UserError, path: str) -> str:
    return str(error).removeprefix(f"{path}: ")
