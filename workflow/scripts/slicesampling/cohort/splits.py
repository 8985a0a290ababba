"""Conversion of imported cases to rows of the cohort table, with a split for each patient."""

import csv
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from .. import UserError
from ..jobs import randomness
from ..jobs.files import write_text
from .cases import Case
from .table import (
    CT,
    FURTHER_COLUMNS,
    LABEL_COLUMNS,
    MODALITY,
    OPTIONAL_COLUMNS,
    REQUIRED_COLUMNS,
    SPLITS,
    label_cells,
    read_cohort,
)


def assign_splits(patients: pd.DataFrame, validation_volumes: int, test_share: float, seed: int) -> dict[str, str]:
    """Return the split of each patient: within each site validation volumes first, then the test share, then the pool.

    patients: one row per volume, `patient site split`; an empty split is drawn. A site gets at least
    `validation_volumes` volumes for validation and at least `test_share` of the others for testing, including those
    with a given split, and always whole patients. A single volume goes to the pool. The draw depends only on the seed,
    the site and its patients.
    """
    result: dict[str, str] = {}
    for site, rows in patients.groupby("site"):
        counts = rows.groupby("patient").size()
        given = rows[rows["split"] != ""].groupby("patient")["split"].agg(set)
        for patient, splits in given.items():
            if len(splits) > 1:
                raise UserError(f"patient {patient}: volumes in the splits {', '.join(sorted(splits))}; accepted: one")
            result[str(patient)] = next(iter(splits))
        held = {split: int(counts[[p for p in given.index if result[p] == split]].sum()) for split in SPLITS}
        wanted, share = (validation_volumes, test_share) if len(rows) > 1 else (0, 0)
        for_testing = share * (len(rows) - max(wanted, held["val"]))
        left = sorted(set(counts.index) - set(given.index))
        for patient in randomness.generator(seed, "import", str(site)).permutation(left).tolist():
            split = "val" if held["val"] < wanted else "test" if held["test"] < for_testing else "pool"
            held[split] += int(counts[patient])
            result[patient] = split
    return result


def cohort_rows(
    cases: Iterable[Case],
    site: str,
    excluded: Mapping[str, str],
    validation_volumes: int,
    test_share: float,
    seed: int,
    force_ct: bool = False,
) -> pd.DataFrame:
    """Return rows of the cohort table for `cases`, names prefixed with the site, with their splits.

    excluded: volume → reason. force_ct: mark all as CT, even if their values do not look like it. Raise UserError if an
    excluded volume does not exist.
    """
    rows = pd.DataFrame(
        [
            {
                "volume": f"{case.site or site}-{case.name}",
                "patient": f"{case.site or site}-{case.patient or case.name}",
                "site": case.site or site,
                "split": case.split,
                "image": str(case.image),
                **label_cells(case.label),
            }
            for case in cases
        ],
        columns=["volume", "patient", "site", "split", "image", *LABEL_COLUMNS],
        dtype=str,
    )
    unknown = sorted(set(excluded) - set(rows["volume"]))
    if unknown:
        raise UserError(f"excluded volume {unknown[0]}: not found; found are {', '.join(rows['volume'][:5])}, …")
    rows["exclude"] = rows["volume"].map(lambda volume: excluded.get(volume, ""))
    used = rows[rows["exclude"] == ""]
    splits = assign_splits(used, validation_volumes, test_share, seed)
    rows["split"] = [
        splits.get(patient, given or "pool") for patient, given in zip(rows["patient"], rows["split"], strict=True)
    ]
    further = [column for column in FURTHER_COLUMNS if column in rows and rows[column].any()]
    table = rows.reindex(columns=[*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS, *further], fill_value="")
    return table.assign(**{MODALITY: CT}) if force_ct else table


def add_to_table(path: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """Add `rows`, all or none, to the cohort table at `path`, which is created if needed, and return the whole table.

    Raise UserError if the table already has one of the volumes.
    """
    table = read_cohort(path) if path.exists() else pd.DataFrame(columns=rows.columns, dtype=str)
    again = sorted(set(table["volume"]) & set(rows["volume"]))
    if again:
        raise UserError(f"{path}: volume {again[0]} is there already ({len(again)} such); remove these rows first")
    whole = pd.concat([table, rows], ignore_index=True).fillna("")  # if only one of them has a further column
    cells = [list(whole.columns), *whole.to_numpy().tolist()]
    for row in cells[1:]:
        for cell in row:
            if re.search(r"[\t\r\n]", cell):
                raise UserError(f"{path}: {cell!r} holds a tab or a line break, which the table cannot")
    write_text(path, "".join("\t".join(row) + "\n" for row in cells))
    return whole


def read_exclusions(path: Path) -> dict[str, str]:
    """Read a list of excluded volumes, tab-separated with a header: return volume → reason."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    if rows and not {"volume", "reason"} <= set(rows[0]):
        raise UserError(f"{path}: columns are {', '.join(map(str, rows[0]))}; accepted: volume, reason")
    empty = [row["volume"] for row in rows if not (row["reason"] or "").strip()]
    if empty:
        raise UserError(f"{path}: volume {empty[0]} has no reason; figure 3 shows the reason")
    return {row["volume"].strip(): row["reason"].strip() for row in rows}
