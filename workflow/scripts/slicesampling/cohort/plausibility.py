"""Implausible properties of usable volumes: warnings of the cohort report, which never stop a run."""

import hashlib
import json
from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage

NOT_TISSUE = -500
"""HU; lower values are air, lung or gas."""

AIR_HU = (-1024, -800)
"""Accepted median of voxels below `NOT_TISSUE`: air is -1000, lung about -850."""

LIVER_HU = (-20, 220)
"""Accepted median of the liver in HU, from severe steatosis without contrast to the strongest clinical contrast."""

LIVER_ML = (400, 4000)
"""Accepted volume in ml, from remnants after the largest resections to polycystic livers."""

SOFT_TISSUE_HU = (-100, 300)
SOFT_TISSUE_SHARE = 0.9
"""The least share of a liver mask on soft tissue; the rest may be calcifications, clips or gas in bile ducts."""

SECOND_COMPONENT = 0.01
"""The least share of a second part of the mask for a warning; many references have smaller specks."""

VOLUME_CHANGE = 0.02
"""The largest relative change of a mask's volume by resampling to the common grid without a warning."""

SPACING_FACTOR = 3
"""The factor between a spacing and the cohort's median from which there is a warning."""

MEASURED = ("air_hu", "structure_hu", "soft_tissue", "second_component", "touches", "digest")
"""The measurements of `measure`."""


def soft_tissue_share(image: np.ndarray, mask: np.ndarray) -> float:
    """Return the share of a mask on soft tissue of a CT in HU, both (z, y, x); NaN for an empty mask."""
    values = image[mask]
    low, high = SOFT_TISSUE_HU
    return float(((values >= low) & (values <= high)).mean()) if values.size else float("nan")


def measure(image: np.ndarray, mask: np.ndarray | None) -> dict[str, Any]:
    """Return the measurements behind the warnings, `MEASURED`, of a CT in HU and its non-empty mask, both (z, y, x).

    touches: the ends of the stack that the mask reaches, "feet", "head", both, or an empty text. digest: of the voxels.
    Without a mask, its measurements are missing.
    """
    air = image[image < NOT_TISSUE]
    whole = {
        "air_hu": float(np.median(air)) if air.size else np.nan,
        "digest": hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).data).hexdigest(),
    }
    if mask is None:
        return whole
    liver = image[mask]
    parts, count = ndimage.label(mask[ndimage.find_objects(mask.astype(np.uint8))[0]])
    sizes = np.sort(np.bincount(parts.ravel())[1:])
    ends = [name for name, index in (("feet", 0), ("head", -1)) if mask[index].any()]
    return whole | {
        "structure_hu": float(np.median(liver)),
        "soft_tissue": soft_tissue_share(image, mask),
        "second_component": float(sizes[-2] / sizes.sum()) if count > 1 else 0.0,
        "touches": " and ".join(ends),
    }


def warnings_of(volumes: pd.DataFrame, cohort: pd.DataFrame) -> pd.DataFrame:
    """Return the warnings on the measured volumes of a cohort: rows of `volume warning` in the order of the cohort.

    volumes: one row per volume, with the columns `contents.MEASUREMENTS`, spacing in mm; cohort: `volume patient`.
    """
    medians = {axis: volumes[f"spacing_{axis}"].median() for axis in "zyx"}
    first: dict[str, str] = {}
    patients = cohort.set_index("volume")["patient"].to_dict()
    in_files: dict[int, str] = {}  # the first volume with each patient
    in_table: dict[str, str] = {}
    named = volumes.set_index("volume")["file_patient"].to_dict()
    rows = []
    for row in volumes.to_dict("records"):
        found = [*_odd_values(row), *_odd_mask(row)]
        for axis, median in medians.items():
            spacing = row[f"spacing_{axis}"]
            if not median / SPACING_FACTOR < spacing < median * SPACING_FACTOR:
                found.append(f"the spacing along {axis} is {spacing:.4g} mm, {median:.4g} in half of the cohort")
        twin = first.setdefault(str(row["digest"]), str(row["volume"]))
        if twin != row["volume"]:
            found.append(f"the image is, voxel by voxel, that of {twin}")
        found += json.loads(row["remarks"])
        number = int(row["file_patient"])
        if number:
            volume, patient = str(row["volume"]), patients[row["volume"]]
            twin = in_files.setdefault(number, volume)
            if patients[twin] != patient:
                found.append(f"its file names the patient that {twin} names; the table says that they are two")
            twin = in_table.setdefault(patient, volume)
            if named[twin] != number:
                found.append(f"its file names another patient than {twin}; the table says that they are one")
        rows += [{"volume": row["volume"], "warning": warning} for warning in found]
    return pd.DataFrame(rows, columns=["volume", "warning"], dtype=str)


def _odd_values(row: dict[str, Any]) -> list[str]:
    """Return warnings of implausible intensities."""
    found = []
    if np.isnan(row["air_hu"]):
        found.append(f"no voxel is below {NOT_TISSUE} HU: the values are clipped, or are not Hounsfield units")
    elif not AIR_HU[0] <= row["air_hu"] <= AIR_HU[1]:
        found.append(f"air and lung have {row['air_hu']:.0f} HU (median); expected {AIR_HU[0]} to {AIR_HU[1]}")
    if row["structure_hu"] < LIVER_HU[0] or row["structure_hu"] > LIVER_HU[1]:  # both False for NaN, without a mask
        found.append(f"the liver has {row['structure_hu']:.0f} HU (median); expected {LIVER_HU[0]} to {LIVER_HU[1]}")
    if row["soft_tissue"] < SOFT_TISSUE_SHARE:
        found.append(
            f"only {100 * row['soft_tissue']:.0f} % of the mask lies on soft tissue ({SOFT_TISSUE_HU[0]} to "
            f"{SOFT_TISSUE_HU[1]} HU): is it the mask of this image, and the right way round?"
        )
    return found


def _odd_mask(row: dict[str, Any]) -> list[str]:
    """Return warnings of masks that are not a whole liver."""
    found = []
    if (
        row["structure_ml"] < LIVER_ML[0] or row["structure_ml"] > LIVER_ML[1]
    ):  # both False for NaN, without the mask of a whole liver
        found.append(f"the liver has {row['structure_ml']:.0f} ml; expected {LIVER_ML[0]} to {LIVER_ML[1]}")
    change = row["resampled_ml"] / row["structure_ml"] - 1  # NaN as well
    if abs(change) > VOLUME_CHANGE:
        found.append(f"the liver has {100 * change:+.1f} % of volume on the common grid; its voxels are coarse for it")
    if row["touches"]:
        found.append(f"the mask reaches the end of the stack at the {row['touches']}: the liver is cut off")
    if row["second_component"] >= SECOND_COMPONENT:
        found.append(f"the mask has several parts; the second holds {100 * row['second_component']:.1f} % of it")
    return found
