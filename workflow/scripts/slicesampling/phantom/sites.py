"""The sites of the synthetic cohort, how they scan and store (Table 1 of the paper), and its settings."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import pandas as pd

from .. import UserError

Row: TypeAlias = Mapping[str, Any] | pd.Series  # of the table that `plan_cohort` makes

FULL_MATRIX = 512  # pixels a side of a clinical CT slice
SPLIT_LETTERS = {"pool": "p", "val": "v", "test": "t"}


class Site(NamedTuple):
    """How a site acquires and stores its CT; lengths in mm.

    `field_of_view` (pixel size × 512), `slice_thickness`, `slices` and `pool`, `val`, `test` follow Table 1 of the
    paper; the field of view is fitted to the patient within its range. `scan` names the range in `SCAN_RANGES`, `phase`
    the contrast phase in `PHASES`. `noise` is the standard deviation in HU in a soft-tissue organ, `kernel` that
    of the noise's blur in mm. `orientation` is the direction in which the stored axes grow. `padding` is
    the value in HU outside the scanner's circle. `stoutness` is the range of the patients' size, `tumours` the most
    lesions of an ordinary liver.
    """

    pool: int
    val: int
    test: int
    field_of_view: tuple[float, float]
    slice_thickness: tuple[float, ...]
    slices: tuple[int, int]
    scan: tuple[str, ...]
    phase: tuple[str, ...]
    noise: tuple[float, float]
    kernel: float
    file_format: str
    slope: float
    intercept: float
    orientation: str
    padding: int
    stoutness: tuple[float, float]
    tumours: int


SITES: dict[str, Site] = {
    "yokohama": Site(
        119, 2, 97, (290.0, 410.0), (0.8, 1.0, 1.25, 1.6), (170, 376), ("abdomen",), ("arterial", "portal venous"),
        (9.0, 16.0), 0.8, ".nii.gz", 1.0, -1024.0, "LPS", -1024, (0.88, 1.02), 2,
    ),
    "rumc": Site(
        46, 2, 52, (307.0, 512.0), (0.7, 1.0, 1.5), (378, 1057), ("trunk",), ("portal venous",),
        (10.0, 18.0), 0.9, ".nii.gz", 1.0, 0.0, "RAS", -1024, (0.95, 1.18), 1,
    ),
    "dresden": Site(
        36, 2, 42, (307.0, 461.0), (0.5, 1.0, 2.0, 5.0), (71, 1160), ("abdomen", "trunk"), ("native", "portal venous"),
        (8.0, 20.0), 0.7, ".nii.gz", 0.5, -1024.0, "LAS", -2048, (0.95, 1.18), 1,
    ),
    "lits": Site(
        31, 2, 33, (307.0, 512.0), (0.7, 1.0, 2.0, 5.0), (74, 987), ("abdomen", "trunk"),
        ("arterial", "portal venous", "native"), (8.0, 20.0), 1.0, ".nii", 1.0, 0.0, "RAI", -1024, (0.9, 1.15), 4,
    ),
    "chaos": Site(
        8, 2, 10, (307.0, 410.0), (1.0, 1.5, 2.0), (81, 266), ("abdomen",), ("portal venous",),
        (9.0, 15.0), 0.7, "dicom", 1.0, -1000.0, "LPS", -1000, (0.88, 1.02), 0,
    ),
}  # fmt: skip

# From where to where a scan reaches, in mm of the reference patient: range of the upper end, range of the lower end.
SCAN_RANGES = {"abdomen": ((22.0, 50.0), (-310.0, -190.0)), "trunk": ((170.0, 215.0), (-455.0, -430.0))}


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise UserError naming the first setting of the phantom that is out of range."""
    if not 16 <= settings["matrix"] <= 1024:
        raise UserError(f"phantom: matrix must be from 16 to 1024 pixels, got {settings['matrix']}")
    if not 0 <= settings.get("hard_cases", 0.0) <= 1:
        raise UserError(f"phantom: hard_cases must be a share from 0 to 1, got {settings['hard_cases']}")
    if settings.get("excluded", 0) < 0:
        raise UserError(f"phantom: excluded must not be negative, got {settings['excluded']}")
    for site, counts in settings["sites"].items():
        if site not in SITES:
            raise UserError(f"phantom: unknown site {site!r} in sites; there are {', '.join(SITES)}")
        for split, count in counts.items():
            if split not in SPLIT_LETTERS or not 0 <= count <= 999:
                raise UserError(
                    f"phantom: sites: {site}: {split}: {count}; accepted are pool, val and test, each from 0 to 999"
                )
