"""`slicesampling import`: rows of the cohort table from a folder in one of the known layouts."""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import UserError
from ..cohort.cases import Case, numbered
from ..cohort.datasets import PUBLISHED
from ..cohort.folders import files_under, is_zip, unpack, what_is_there
from ..cohort.importers import LAYOUTS
from ..cohort.png import FEET, HEAD, Stacking
from ..cohort.splits import add_to_table, cohort_rows, read_exclusions
from ..cohort.table import PATIENT_NAME, SPLITS, VOLUME_NAME, WHOLE_NUMBERS, read_cohort, values_of
from ..domain.records import read_cells, write_table

EPILOG = """example: slicesampling import lits /data/LiTS"""

AUTO = "auto"
BY_PATTERN = ("pairs", "png")
WITH_STRUCTURE = ("decathlon", "nnunet", "totalsegmentator", "dicom")
"""Layouts with named labels, from which --structure selects."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_data_set(parser)
    add_masks(parser)
    add_geometry(parser)
    add_names(parser)
    add_rows(parser)


def add_data_set(parser: argparse.ArgumentParser) -> None:
    """Add the options for the data set and the table."""
    parser.add_argument("layout", choices=[*LAYOUTS, AUTO], help=f"{AUTO}: recognise the layout, and print it")
    parser.add_argument("root", type=Path, help="the folder with the data set")
    parser.add_argument(
        "--unpack", type=Path, metavar="FOLDER", help="unpack its zip files into FOLDER, and import from there"
    )
    parser.add_argument("--to", type=Path, default=Path("config/cohort.tsv"), help="the table to which rows are added")
    parser.add_argument("--site", help="its name in the table, and the prefix of volume names (default: the layout)")


def add_masks(parser: argparse.ArgumentParser) -> None:
    """Add the options for the paths of images and masks, and for labels."""
    parser.add_argument(
        "--structure",
        default="liver",
        help="decathlon, nnunet, totalsegmentator, dicom: the label of the structure, including its tumours; several "
        "names, separated by commas, are joined (not totalsegmentator)",
    )
    parser.add_argument(
        "--image",
        help='pairs: pattern of images, such as "{patient}/{volume}_ct.nrrd"; png: of folders with slices, such as '
        '"{volume}/ct"',
    )
    parser.add_argument(
        "--label",
        default="",
        help='pairs, png: pattern of masks, such as "{patient}/{volume}_liver.nrrd"; without it all volumes go to the '
        "pool, for people to annotate",
    )
    parser.add_argument(
        "--liver-values",
        default="",
        help="dicom, pairs, png: the values of the liver in mask files with several labels, such as 1,2",
    )


def add_geometry(parser: argparse.ArgumentParser) -> None:
    """Add the options for the geometry and window of PNG files."""
    geometry = parser.add_argument_group("png, whose files do not contain these")
    geometry.add_argument(
        "--spacing", type=float, nargs=3, metavar=("Z", "Y", "X"), help="of slices, rows, columns; mm"
    )
    geometry.add_argument("--window", type=float, nargs=2, metavar=("LOW", "HIGH"), help="HU of black and of white")
    geometry.add_argument("--first", choices=(HEAD, FEET), help="the end of the patient at the first slice")
    geometry.add_argument("--white", type=int, help="the value of white in PNG of 16 bits, such as 4095")
    geometry.add_argument(
        "--volumes", type=Path, help="the folder for the converted volumes (default: ROOT_volumes beside it)"
    )


def add_names(parser: argparse.ArgumentParser) -> None:
    """Add the options for the names of volumes."""
    parser.add_argument(
        "--anonymous",
        action=argparse.BooleanOptionalAction,
        help="pairs: replace names of volumes and patients by numbers (default: only if a name is not accepted)",
    )
    parser.add_argument(
        "--key", type=Path, help="with --anonymous: the table of numbers and names (default: ROOT_names.tsv beside it)"
    )


def add_rows(parser: argparse.ArgumentParser) -> None:
    """Add the options for modality, exclusions and splits."""
    parser.add_argument(
        "--force-ct",
        action="store_true",
        help="mark all images as CT, even if clipped values look like MR",
    )
    parser.add_argument("--exclude", type=Path, help="a tab-separated list of excluded volumes: volume, reason")
    parser.add_argument("--validation-volumes", type=int, default=2, help="at least this many of the site (paper: 2)")
    parser.add_argument(
        "--test-share", type=float, default=0.49, help="at least this share of the others (paper: 234 of 474)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the random splits")


def run(options: argparse.Namespace) -> None:
    """Find the volumes of a data set, name them, and add their rows to the table."""
    check(options)
    root = unpacked(options)
    layout = chosen_layout(root, options)
    cases = found_cases(root, layout, options)
    write_rows(named(cases, layout, options), layout, options)


def check(options: argparse.Namespace) -> None:
    """Raise UserError for a missing root, or numbers out of range."""
    if not options.root.is_dir():
        raise UserError(f"{options.root}: there is no such folder")
    if not 0 <= options.test_share <= 1 or options.validation_volumes < 0:
        raise UserError(
            f"--test-share {options.test_share:g}, --validation-volumes {options.validation_volumes}: accepted are a "
            "share from 0 to 1 and a number from 0"
        )


def unpacked(options: argparse.Namespace) -> Path:
    """Return the folder to import: the root, or that of its unpacked zip files."""
    root = options.root.resolve()
    if options.unpack:
        count = unpack(root, options.unpack.resolve())
        root = options.unpack.resolve() if count else root
        print(f"{count} zip files of {options.root} are unpacked in {options.unpack}")
    return root


def chosen_layout(root: Path, options: argparse.Namespace) -> str:
    """Return the given layout, after a check of its options, or the recognised one."""
    layout = options.layout
    if layout == "pairs" and not options.image:
        raise UserError("pairs: --image is needed, such as --image '{volume}_ct.nrrd'")
    if layout == "png":
        check_stacking(options)
    if layout == AUTO:
        layout = recognised(root, options)
        print(f"layout: {layout}")
    return layout


def found_cases(root: Path, layout: str, options: argparse.Namespace) -> list[Case]:
    """Return the cases in a layout, and print omissions and decisions; raise UserError if there are no cases."""
    found = LAYOUTS[layout](root, **arguments_of(layout, options))
    for line in found.left_out:
        print(f"left out: {line}", file=sys.stderr)
    for line in found.decided:
        print(line)
    if not found.cases:
        what = "" if layout in BY_PATTERN and not options.label else " with a mask"
        others = [name for name in fitting(root, options) if name != layout]
        hint = f"; looks like {' or '.join(others)}: try that" if others else advice(root)
        raise UserError(f"{options.root}: no volume{what} in the layout {layout}; it holds {what_is_there(root)}{hint}")
    if options.liver_values and not WHOLE_NUMBERS.fullmatch(options.liver_values):
        raise UserError(f"--liver-values {options.liver_values}: accepted are positive whole numbers such as 1,2")
    values = values_of(options.liver_values)
    return [case._replace(label=case.label and case.label.with_values(values)) for case in found.cases]


def named(cases: list[Case], layout: str, options: argparse.Namespace) -> list[Case]:
    """Return the cases with their names for the table: their own, or numbers that follow those in the table."""
    site = options.site or layout
    odd = [name for case in cases for name in unfit(case, site)]
    if odd and options.anonymous is False:
        raise UserError(f"{odd[0]!r} is not accepted as a name; without --no-anonymous, all are numbered")
    first = first_free(options.to, cases, site)
    if options.anonymous or odd:
        beside = options.root.resolve()
        return with_numbers(cases, first, options.key or beside.with_name(f"{beside.name}_names.tsv"), odd)
    if layout == "dicom":  # already numbered, but from 1
        return numbered(cases, first)
    return cases


def write_rows(cases: list[Case], layout: str, options: argparse.Namespace) -> None:
    """Add the rows of the cases to the table, and print their number."""
    excluded = read_exclusions(options.exclude) if options.exclude else {}
    rows = cohort_rows(
        cases,
        options.site or layout,
        excluded,
        options.validation_volumes,
        options.test_share,
        options.seed,
        options.force_ct or layout == "png",  # the window of PNG files clips air
    )
    whole = add_to_table(options.to, rows)
    counts = rows[rows["exclude"] == ""]["split"].value_counts()
    splits = ", ".join(f"{counts.get(split, 0)} {split}" for split in SPLITS)
    print(f"{options.to}: {len(rows)} volumes added ({splits}, {len(excluded)} excluded), {len(whole)} in all")


def check_stacking(options: argparse.Namespace) -> None:
    """Raise UserError for missing or invalid options of a stack of PNG files."""
    missing = [f"--{name}" for name in ("image", "spacing", "window", "first") if not getattr(options, name)]
    if missing:
        raise UserError(f"png: {', '.join(missing)} missing; PNG files do not contain these")
    (low, high), spacing = options.window, options.spacing
    limits = np.iinfo(np.int16)
    if not limits.min <= low < high <= limits.max or not (np.isfinite(spacing).all() and min(spacing) > 0):
        raise UserError(
            f"--window {low:g} {high:g}, --spacing {' '.join(f'{step:g}' for step in spacing)}: accepted are two HU, "
            "the lower one first, and three lengths above 0 mm"
        )
    if options.white is not None and not 0 < options.white <= np.iinfo(np.uint16).max:
        raise UserError(f"--white {options.white}: accepted are 1 to {np.iinfo(np.uint16).max}")


def arguments_of(layout: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments for the importer of a layout from the options."""
    if layout == "png":
        beside = options.root.resolve()
        return {
            "image": options.image,
            "label": options.label,
            "volumes": options.volumes or beside.with_name(f"{beside.name}_volumes"),
            "stacking": Stacking(tuple(options.spacing), tuple(options.window), options.first, options.white),
        }
    if layout == "pairs":
        return {"image": options.image, "label": options.label}
    return {"structure": options.structure} if layout in WITH_STRUCTURE else {}


def fitting(root: Path, options: argparse.Namespace) -> dict[str, int]:
    """Return the number of volumes with a mask in each layout that has any, except layouts that need patterns."""
    found: dict[str, int] = {}
    for layout in LAYOUTS:
        try:
            count = 0 if layout in BY_PATTERN else len(LAYOUTS[layout](root, **arguments_of(layout, options)).cases)
        except UserError:
            continue
        found |= {layout: count} if count else {}
    return found


def recognised(root: Path, options: argparse.Namespace) -> str:
    """Return the only layout that fits; raise UserError if there are none or several."""
    found = fitting(root, options)
    own = [layout for layout in found if layout in PUBLISHED]
    if len(own) == 1:
        return own[0]  # a data set's own layout is more specific than that of a tool which also fits
    if len(found) > 1:
        fits = " and ".join(f"{layout} ({count} volumes)" for layout, count in found.items())
        raise UserError(f"{options.root}: fits {fits}; name one of them")
    if not found:
        raise UserError(f"{options.root}: no layout fits; it holds {what_is_there(root)}{advice(root)}")
    return next(iter(found))


def advice(root: Path) -> str:
    """Return advice on a folder in which no layout fits."""
    if any(map(is_zip, files_under(root))):
        return "; --unpack FOLDER unpacks the zip files"
    return "; pairs, with --image and --label, imports images and masks of any names, png imports stacks of PNG slices"


def unfit(case: Case, site: str) -> list[str]:
    """Return those of a case's names, of volume and patient, that the cohort table does not accept."""
    named = ((case.name, VOLUME_NAME), (case.patient or case.name, PATIENT_NAME))
    return [name for name, pattern in named if not pattern.fullmatch(f"{case.site or site}-{name}")]


def first_free(table: Path, cases: list[Case], site: str) -> int:
    """Return the first number that is unused by volumes and patients of the same sites in the table.

    Raise UserError if one of the images is in the table already, because a second number would hide the duplicate.
    """
    if not table.exists():
        return 1
    there = read_cohort(table)
    volumes = there.set_index("image")["volume"].to_dict()
    twice = [str(case.image) for case in cases if str(case.image) in volumes]
    if twice:
        raise UserError(
            f"{table}: {twice[0]} is there already, as volume {volumes[twice[0]]} ({len(twice)} such); remove "
            "these rows first"
        )
    sites = "|".join(re.escape(name) for name in {case.site or site for case in cases})
    names = there[["volume", "patient"]].to_numpy().ravel()
    numbers = [re.fullmatch(rf"(?:{sites})-(?:patient)?([0-9]+)", name) for name in names]
    return 1 + max((int(match[1]) for match in numbers if match), default=0)


def with_numbers(cases: list[Case], first: int, key: Path, odd: list[str]) -> list[Case]:
    """Return the cases with numbers as names, and add the numbers and names to the file `key`."""
    renamed = numbered(cases, first)
    names = pd.DataFrame(
        [(new.name, new.patient, old.name, old.patient, old.image) for new, old in zip(renamed, cases, strict=True)],
        columns=["volume", "patient", "name", "named patient", "image"],
    )
    try:
        if key.exists():  # of an earlier import
            names = pd.concat([read_cells(key), names])
        write_table(key, names)
    except OSError as error:
        raise UserError(f"{key}: {error.strerror}; --key names a file that can be written") from error
    why = f"{odd[0]!r} is not accepted as a name: " if odd else ""
    print(f"{why}volumes and patients are numbered; {key} lists numbers and names, keep it with the data")
    return renamed
