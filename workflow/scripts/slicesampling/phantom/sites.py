"""The sites of the synthetic cohort with their acquisition and storage (Table 1 of the paper), settings, and table."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import pandas as pd

from .. import UserError
from ..jobs.randomness import generator
from .anatomy import HARD_CASES

Row: TypeAlias = Mapping[str, Any] | pd.Series  # of the table from `plan_cohort`

FULL_MATRIX = 512  # pixels per side of a clinical CT slice
SPLIT_LETTERS = {"pool": "p", "val": "v", "test": "t"}
EXCLUSIONS = ("inferior vena cava included in the reference mask", "poor quality of the reference mask")
EXCLUDED_LETTER = "x"


class Site(NamedTuple):
    """Acquisition and storage of a site's CT; lengths in mm.

    `field_of_view` (pixel size × 512), `slice_thickness`, `slices` and `pool`, `val`, `test` follow Table 1 of the
    paper; the field of view is fitted to the patient within its range. `scan` names the range in `SCAN_RANGES`, `phase`
    the contrast phase in `PHASES`. `noise` is the standard deviation in HU in a soft-tissue organ, `kernel` that of the
    noise's blur in mm. `orientation` is the direction of the stored axes. `padding` is the value in HU outside the
    scanner's circle. `stoutness` is the range of the patients' size, `tumours` the most lesions of an ordinary liver.
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

# The extent of a scan in mm of the reference patient: range of the upper end, range of the lower end.
SCAN_RANGES = {"abdomen": ((22.0, 50.0), (-310.0, -190.0)), "trunk": ((170.0, 215.0), (-455.0, -430.0))}


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise UserError with the first setting of the phantom that is out of range."""
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


def plan_cohort(settings: dict[str, Any], folder: str) -> pd.DataFrame:
    """Return the cohort table of the phantom, one row per volume, without rendering.

    `settings`: `seed`; `matrix`, in-plane pixels per side; `sites`, a dict of site → `pool`, `val`, `test` (numbers of
    volumes); `hard_cases`, the share of pool and test volumes that are hard; `excluded`, the number of additional pool
    volumes with a deliberately wrong reference mask (Fig. 3 of the paper). Columns: volume, patient, site, split,
    image, label, exclude, hard_case, liver_values; paths are under `folder`. Adding volumes to a split does not change
    other rows. Raise UserError for an unknown site or a number out of range.
    """
    check_settings(settings)
    rows = []
    for site, counts in settings["sites"].items():
        for split, letter in SPLIT_LETTERS.items():
            share = 0.0 if split == "val" else settings.get("hard_cases", 0.0)
            draw = generator(settings["seed"], site, split, "hard cases")
            offset, kind = draw.random(), int(draw.integers(len(HARD_CASES)))
            for index in range(counts.get(split, 0)):
                # Hard cases are where share × volumes passes a whole number: evenly spread for any total.
                passed, now = int(offset + share * index), int(offset + share * (index + 1))
                hard_case = HARD_CASES[(kind + passed) % len(HARD_CASES)] if now > passed else ""
                rows.append(_row(folder, site, split, f"{site}-{letter}{index + 1:03d}", "", hard_case))
    wrong_site = "lits" if "lits" in settings["sites"] else next(iter(settings["sites"]), "lits")
    for index in range(settings.get("excluded", 0)):
        reason = EXCLUSIONS[index % len(EXCLUSIONS)]
        rows.append(_row(folder, wrong_site, "pool", f"{wrong_site}-{EXCLUDED_LETTER}{index + 1:03d}", reason, ""))
    columns = ["volume", "patient", "site", "split", "image", "label", "exclude", "hard_case", "liver_values"]
    return pd.DataFrame(rows, columns=columns)


def _row(folder: str, site: str, split: str, volume: str, exclude: str, hard_case: str) -> dict[str, str]:
    file_format = SITES[site].file_format
    dicom = file_format == "dicom"
    return {
        "volume": volume,
        "patient": volume,
        "site": site,
        "split": split,
        "image": f"{folder}/{volume}/" + ("dicom" if dicom else f"ct{file_format}"),
        "label": f"{folder}/{volume}/" + ("masks" if dicom else f"liver{file_format}"),
        "exclude": exclude,
        "hard_case": hard_case,
        "liver_values": "1,2" if site == "lits" else "",  # liver and tumour
    }
