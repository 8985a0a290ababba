"""The table of volumes, checked as a whole: every fault is reported at once, before the first job (section III-A)."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from .. import UserError
from ..domain.labels import Label
from ..jobs import randomness
from .kinds import IMAGE_SUFFIXES, is_dicom

REQUIRED_COLUMNS = ("volume", "patient", "site", "split", "image", "label")
VALUES = "liver_values"
"""The column with the values of the liver in the mask; empty: all but zero."""
OPTIONAL_COLUMNS = ("exclude", "hard_case", VALUES)
IGNORE = "ignore_value"
"""A further column, only with people who annotate: the value of voxels in the mask that are not annotated."""
MODALITY = "modality"
"""A further column: the modality of a file without one, if its values do not show it."""
CT = "CT"
TUMOURS = "tumour_values"
"""A further column: values of tumours in the mask, of any organ, that belong to the liver if they touch it."""
FURTHER_COLUMNS = (IGNORE, MODALITY, TUMOURS)
LABEL_COLUMNS = ("label", VALUES, TUMOURS, IGNORE)
"""The columns of a label, see `label_of`."""
SPLITS = ("pool", "val", "test")

VOLUME_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""Volume names are used for files and folders: no slash, no blank, no leading dot."""

PATIENT_NAME = re.compile(r"[^\W_][\w .-]{0,63}")

WHOLE_NUMBER = re.compile(r"[1-9][0-9]{0,8}")

WHOLE_NUMBERS = re.compile(rf"{WHOLE_NUMBER.pattern}(, ?{WHOLE_NUMBER.pattern})*")
"""Values of a mask in a cell, separated by commas."""

FAULTY = "faulty "
"""The prefix of the reason for which a faulty volume is excluded (on_fault)."""

HEADER_ROW = 1


@dataclass(frozen=True)
class Fault:
    """One fault of the cohort table: the row in an editor (the header is row 1), the column, the cell, and advice.

    Row `HEADER_ROW` refers to the table as a whole.
    """

    row: int
    column: str
    value: str
    advice: str

    def __str__(self) -> str:
        """Return the fault as one line."""
        return f"row {self.row}, column {self.column}, '{self.value}': {self.advice}"


def read_cohort(path: str | Path) -> pd.DataFrame:
    """Read the cohort table: tab-separated UTF-8 text, one row per volume; all cells are text without outer blanks.

    The columns are `REQUIRED_COLUMNS` and `OPTIONAL_COLUMNS` in this order, where missing optional ones are empty, and
    those of `FURTHER_COLUMNS` that the table has. The index, "row", is the row in an editor. Raise `UserError` if the
    file is not such a table.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; it is the table of volumes, see config/README.md") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text; save the table as tab-separated UTF-8 text") from error
    if not lines:
        raise UserError(f"{path}: is empty; the first row must name the columns {', '.join(REQUIRED_COLUMNS)}")
    header, *rows = [[cell.strip() for cell in line.split("\t")] for line in lines]
    fail_on(_header_faults(header), path)

    numbered = {number: cells for number, cells in enumerate(rows, start=HEADER_ROW + 1) if any(cells)}
    if not numbered:
        raise UserError(f"{path}: has no row below the header; it needs one row per volume")
    fail_on(
        (
            Fault(number, header[-1], cells[-1], f"{len(cells)} cells under {len(header)} columns; remove the surplus")
            for number, cells in numbered.items()
            if any(cells[len(header) :])
        ),
        path,
    )
    # Editors drop or add empty cells at the end of a row.
    padded = [(cells + [""] * len(header))[: len(header)] for cells in numbered.values()]
    table = pd.DataFrame(padded, columns=header, index=pd.Index(numbered, name="row"), dtype=str)
    further = [column for column in FURTHER_COLUMNS if column in header]
    return table.reindex(columns=[*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS, *further], fill_value="")


def used(cohort: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that are not excluded."""
    return cohort[cohort["exclude"] == ""]


def values_of(cell: str) -> frozenset[int]:
    """Return the values of a mask in a cell such as "1,2"; none for an empty cell."""
    return frozenset(int(value) for value in cell.split(",")) if cell else frozenset()


def label_of(row: Mapping[Any, Any]) -> Label | None:
    """Return the label of a row of the cohort; None if the volume has no mask."""
    if not row["label"]:
        return None
    ignore = int(row[IGNORE]) if row.get(IGNORE) else None
    return Label.single(Path(row["label"]), values_of(row[VALUES]), values_of(row.get(TUMOURS) or ""), ignore)


def label_cells(label: Label | None) -> dict[str, str]:
    """Return the cells of a label in a row of the cohort, which `label_of` reads; empty cells without a label."""
    if label is None:
        return dict.fromkeys(LABEL_COLUMNS, "")
    (only,) = label.structures
    ignore = "" if label.ignore is None else str(label.ignore)
    cells = (str(only.path), _cell_of(only.values), _cell_of(only.touching), ignore)
    return dict(zip(LABEL_COLUMNS, cells, strict=True))


def _cell_of(values: Iterable[int]) -> str:
    return ",".join(map(str, sorted(values)))


def split_volumes(cohort: pd.DataFrame, split: str) -> list[str]:
    """Return the used volumes of `split` (pool, val or test) in the order of the table."""
    rows = used(cohort)
    return rows.loc[rows["split"] == split, "volume"].tolist()


def shard_of(volumes: Sequence[str], index: int, count: int) -> list[str]:
    """Return shard `index` of `count`: every `count`-th volume from `index`.

    A volume that is added at the end of the table does not move any other volume to another shard.
    """
    if not 0 <= index < count:
        raise ValueError(f"index must be from 0 to {count - 1}, got {index}")
    return list(volumes[index::count])


def initial_set(pool: Iterable[str], seed: int, size: int) -> list[str]:
    """Draw the initial set from the pool volumes, shared by all strategies of a seed (section III-D); sorted.

    It depends on the seed and the set of pool volumes, not on their order.
    """
    pool = sorted(set(pool))
    if size > len(pool):
        raise UserError(f"the initial set needs {size} volumes, but the pool has {len(pool)}; add pool volumes")
    return sorted(randomness.generator(seed, "initial set").choice(pool, size, replace=False).tolist())


def table_faults(
    cohort: pd.DataFrame, files: bool = True, data_root: str | Path | None = None, people: bool = False
) -> list[Fault]:
    """Return all faults of the table that can be found without opening a volume, except those of `size_faults`.

    Without `files`, the existence of files is not checked, because the synthetic cohort writes them later. Files must
    be in `data_root`, if given. Excluded rows need only a name, patient, site and split. If `people` annotate, only
    validation volumes need a mask, and masks of the pool and validation volumes may be partly annotated.
    """
    return [
        *_cell_faults(cohort, people),
        *_repetition_faults(cohort),
        *(fault for row in _rows(used(cohort)) if files for fault in _file_faults(row, data_root)),
    ]


def without_faulty(
    cohort: pd.DataFrame, faults: Iterable[Fault], initial_volumes: int, people: bool = False
) -> pd.DataFrame:
    """Return the cohort with faulty volumes excluded, with the fault as the reason.

    Raise `UserError`, which also lists the faults, if too few volumes are left for the experiment.
    """
    found = {fault.row: fault for fault in faults}
    left = cohort.copy()
    for row, fault in found.items():
        left.loc[row, "exclude"] = f"{FAULTY}{fault.column}: {fault.advice}"
    too_small = list(size_faults(left, initial_volumes, 0, people))
    if too_small:
        fail_on([*too_small, *found.values()], "the cohort without its faulty volumes")
    return left


def fail_on(faults: Iterable[Fault], source: str | Path) -> None:
    """Raise one `UserError` that lists all `faults` of the table `source`, if any, a line each, sorted by row."""
    found = sorted(faults, key=lambda fault: fault.row)
    if found:
        count = "1 fault" if len(found) == 1 else f"{len(found)} faults"
        raise UserError("\n".join([f"{source}: {count}", *(f"  {fault}" for fault in found)]))


def _rows(cohort: pd.DataFrame) -> Iterator[pd.Series]:
    return (row for _, row in cohort.iterrows())


def _number(row: pd.Series) -> int:
    return int(row.name)  # type: ignore[call-overload]


def _header_faults(header: list[str]) -> Iterator[Fault]:
    known = (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS, *FURTHER_COLUMNS)
    if len(header) == 1:
        yield Fault(HEADER_ROW, "-", header[0][:80], "the header is one cell; separate the columns by tabs")
        return
    for column in header:
        if column not in known:
            yield Fault(HEADER_ROW, column, column, f"unknown column; accepted are {', '.join(known)}")
    for column in known:
        if header.count(column) > 1:
            yield Fault(HEADER_ROW, column, column, "the column exists more than once; keep one")
    for column in REQUIRED_COLUMNS:
        if column not in header:
            yield Fault(HEADER_ROW, column, "", "the column is missing; add it")


def _cell_faults(cohort: pd.DataFrame, people: bool) -> Iterator[Fault]:
    """Yield the faults of empty and invalid cells."""
    for row in _rows(cohort):
        needed = ("volume", "patient", "site", "split") if row["exclude"] else REQUIRED_COLUMNS
        for column in needed:
            unlabelled = people and column == "label" and row["split"] != "val"
            if not row[column] and not unlabelled:
                yield Fault(_number(row), column, "", "the cell is empty; fill it in")
        if row.get(IGNORE):
            yield from _ignore_faults(row, people)
        if row.get(MODALITY) not in (None, "", CT):
            yield Fault(_number(row), MODALITY, row[MODALITY], f"accepted is {CT}, or nothing")
        if row["volume"] and not VOLUME_NAME.fullmatch(row["volume"]):
            advice = "names files, so only letters, digits, '.', '_' and '-' are accepted, first a letter or digit"
            yield Fault(_number(row), "volume", row["volume"], advice)
        if row["patient"] and not PATIENT_NAME.fullmatch(row["patient"]):
            advice = "accepted are up to 64 letters, digits, blanks, '.', '_', '-', first a letter or digit"
            yield Fault(_number(row), "patient", row["patient"][:64], advice)
        if row["split"] and row["split"] not in SPLITS:
            yield Fault(_number(row), "split", row["split"], f"unknown split; accepted are {', '.join(SPLITS)}")
        if row[VALUES] and not WHOLE_NUMBERS.fullmatch(row[VALUES]):
            advice = "accepted are positive whole numbers with commas between them, such as 1,2, or nothing"
            yield Fault(_number(row), VALUES, row[VALUES], advice)
        if row.get(TUMOURS):
            yield from _tumour_faults(row)


def _tumour_faults(row: pd.Series) -> Iterator[Fault]:
    """Yield the fault of a cell with values of tumours, if any."""
    advice = ""
    if not WHOLE_NUMBERS.fullmatch(row[TUMOURS]):
        advice = "accepted are positive whole numbers with commas between them, such as 2,3, or nothing"
    elif not row[VALUES]:
        advice = "liver_values must say which values are the liver itself; fill it in"
    elif WHOLE_NUMBERS.fullmatch(row[VALUES]) and values_of(row[TUMOURS]) & values_of(row[VALUES]):
        advice = "stands among the liver_values as well; a value of the mask means one thing"
    if advice:
        yield Fault(_number(row), TUMOURS, row[TUMOURS], advice)


def _ignore_faults(row: pd.Series, people: bool) -> Iterator[Fault]:
    """Yield the fault of a cell with the value of voxels that are not annotated, if any."""
    value, advice = row[IGNORE], ""
    if not people:
        advice = "masks may be partly annotated only with annotator: people; set it, or empty the column"
    elif not WHOLE_NUMBER.fullmatch(value):
        advice = "accepted is a positive whole number, such as 255, or nothing"
    elif WHOLE_NUMBERS.fullmatch(row[VALUES]) and int(value) in values_of(row[VALUES]):
        advice = "stands among the liver_values as well; a value of the mask means one thing"
    elif row["split"] == "test" or not row["label"].endswith(IMAGE_SUFFIXES):
        formats = ", ".join(IMAGE_SUFFIXES)
        advice = f"goes with a mask file ({formats}) of a pool or validation volume; empty the cell"
    if advice:
        yield Fault(_number(row), IGNORE, value, advice)


def _repetition_faults(cohort: pd.DataFrame) -> Iterator[Fault]:
    """Yield faults of values that may be in one row, or in one split, only; the later row is the fault."""
    # Some file systems ignore upper and lower case.
    yield from _repeated(cohort, "volume", str.lower, "is also the volume of row {row}; give each its own name")
    for column in ("image", "label"):
        advice = "is also the " + column + " of row {row}; each volume needs its own"
        yield from _repeated(used(cohort), column, os.path.realpath, advice)

    home: dict[str, pd.Series] = {}
    for row in _rows(used(cohort)):
        other = home.setdefault(row["patient"], row)
        if row["patient"] and row["split"] != other["split"]:
            advice = (
                f"the patient is in split {other['split']} (row {other.name}) and in split {row['split']}; "
                "put all volumes of a patient into one split"
            )
            yield Fault(_number(row), "patient", row["patient"], advice)


def _repeated(cohort: pd.DataFrame, column: str, key: Any, advice: str) -> Iterator[Fault]:
    first: dict[str, int] = {}
    for row in _rows(cohort[cohort[column] != ""]):
        earlier = first.setdefault(key(row[column]), _number(row))
        if earlier != row.name:
            yield Fault(_number(row), column, row[column], advice.format(row=earlier))


def _file_faults(row: pd.Series, data_root: str | Path | None) -> Iterator[Fault]:
    """Yield faults of files that are missing, of unknown kind, or, with links resolved, outside of `data_root`."""
    for column, contents in (("image", "DICOM slices"), ("label", "PNG masks")):
        path = Path(row[column])
        advice = ""
        if not row[column]:
            continue
        if data_root is not None and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(data_root)):
            advice = f"lies outside of {data_root}; accepted are files within it (data_root)"
        elif path.is_dir():
            names = [p.name for p in path.iterdir() if not p.name.startswith(".")]
            if column == "label" and not any(name.lower().endswith(".png") or is_dicom(path / name) for name in names):
                advice = "the folder holds no mask; give a folder with one PNG or DICOM image per slice, or a file"
            elif column == "label" and row["image"].endswith(IMAGE_SUFFIXES):
                advice = "masks of single slices go with a DICOM image; give the mask as NIfTI file"
            elif not names:
                advice = "the folder is empty; give a folder with the slices of one DICOM series"
        elif not path.exists():
            advice = f"there is no such file or folder; relative paths start at {Path.cwd()}"
        elif not path.name.endswith(IMAGE_SUFFIXES) and not is_dicom(path):
            formats = ", ".join(IMAGE_SUFFIXES)
            advice = f"unknown format; accepted are {formats}, DICOM or a folder of {contents}"
        if advice:
            yield Fault(_number(row), column, row[column], advice)


def size_faults(cohort: pd.DataFrame, initial_volumes: int, queried_volumes: int, people: bool) -> Iterator[Fault]:
    """Yield faults of splits that are too small for the experiment."""
    pool, needed = len(split_volumes(cohort, "pool")), initial_volumes + queried_volumes
    if people and not pool:
        yield Fault(HEADER_ROW, "split", "pool", "no volume is in this split; add those that are to be annotated")
    elif pool < needed and not people:
        advice = (
            f"{pool} pool volumes are too few: {initial_volumes} for the initial set and {queried_volumes} for the "
            "iterations are needed; add pool volumes, or lower these numbers in the configuration"
        )
        yield Fault(HEADER_ROW, "split", "pool", advice)
    for split, purpose in (("val", "choose the best model"), ("test", "evaluate"))[: 1 if people else 2]:
        if not split_volumes(cohort, split):
            yield Fault(HEADER_ROW, "split", split, f"no volume is in this split; add one or more to {purpose}")
