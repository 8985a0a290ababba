"""The composition of annotated sets and of the data pool: patients, sites, hard cases, and the ends of the organ."""

import numpy as np
import pandas as pd

from .. import STRUCTURE

END_SHARE = 0.1
"""The share of a volume's slices with the structure that counts as an end of the organ, on either side."""

ALL = "all"
ENDS = f"ends of the {STRUCTURE}"
ALL_HARD = "all hard cases"
COLUMNS = ["seed", "strategy", "part", "slices", "structure_slices", "patients", "share"]


def at_an_end(reference: pd.DataFrame) -> pd.Series:
    """Return for each row of `reference` (`volume slice structure`) whether the slice is at an end of the organ.

    These are the first and the last tenth (`END_SHARE`, rounded, at least one slice) of a volume's slices with liver.
    """
    found = reference[reference["structure"].astype(bool)]
    place = found.groupby("volume")["slice"].rank(method="first") - 1
    number = found.groupby("volume")["slice"].transform("size")
    ends = np.maximum(1, (END_SHARE * number).round())
    return ((place < ends) | (place >= number - ends)).reindex(reference.index, fill_value=False).astype(bool)


def composition(annotated: pd.DataFrame, reference: pd.DataFrame, cohort: pd.DataFrame) -> pd.DataFrame:
    """Return the composition of each annotated set, and of the data pool for each seed: `COLUMNS`, a row per part.

    annotated: `seed strategy volume slice`, a row per slice of the training set after the last iteration; reference:
    `volume slice structure` of all slices of the data pool; cohort: `volume patient site` and, if it names hard cases,
    `hard_case` (empty: none). Parts are all slices, each site, all and each kind of hard cases, and the ends of the
    organ. `share` is the share of the set's slices with liver, because only these take time; NaN in a set without any.
    """
    traits = ["volume", "patient", "site", *(["hard_case"] if "hard_case" in cohort else [])]
    slices = reference.assign(end=at_an_end(reference)).merge(cohort[traits], on="volume", validate="m:1")
    hard = slices["hard_case"].fillna("") if "hard_case" in slices else pd.Series("", index=slices.index)
    slices = slices.assign(hard=hard)
    sets = annotated[["seed", "strategy", "volume", "slice"]].merge(slices, on=["volume", "slice"], validate="m:1")
    whole = [slices.assign(seed=seed, strategy="pool") for seed in annotated["seed"].unique()]
    kinds = sorted(set(hard) - {""})
    rows = []
    for (seed, strategy), held in pd.concat([sets, *whole]).groupby(["seed", "strategy"], sort=False):
        parts = {ALL: held}
        parts |= {f"site {site}": held[held["site"] == site] for site in sorted(slices["site"].unique())}
        parts |= {ALL_HARD: held[held["hard"] != ""]} if kinds else {}
        parts |= {f"hard case: {kind}": held[held["hard"] == kind] for kind in kinds}
        parts |= {ENDS: held[held["end"]]}
        total = int(held["structure"].sum())
        for part, own in parts.items():
            liver = int(own["structure"].sum())
            counts = (len(own), liver, own["patient"].nunique(), liver / total if total else np.nan)
            rows.append(dict(zip(COLUMNS, (seed, strategy, part, *counts), strict=True)))
    return pd.DataFrame(rows, columns=COLUMNS)
