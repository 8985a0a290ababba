"""`slicesampling import`: rows of the cohort table from a folder in one of the published layouts."""

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
"""Layouts that name what a mask holds, so that --structure chooses."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_data_set(parser)
    add_masks(parser)
    add_geometry(parser)
    add_names(parser)
    add_rows(parser)


def add_data_set(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the data set is and where its rows go."""
    parser.add_argument("layout", choices=[*LAYOUTS, AUTO], help=f"{AUTO}: find out, and say which it is")
    parser.add_argument("root", type=Path, help="the folder with the data set")
    parser.add_argument(
        "--unpack", type=Path, metavar="FOLDER", help="unpack its zip files into FOLDER, and look there"
    )
    parser.add_argument("--to", type=Path, default=Path("config/cohort.tsv"), help="the table that rows are added to")
    parser.add_argument("--site", help="its name in the table, and the beginning of volume names; default: the layout")


def add_masks(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where images and masks lie, and what counts in a mask."""
    parser.add_argument(
        "--structure",
        default="liver",
        help="decathlon, nnunet, totalsegmentator, dicom: which label. Tumours in it count as well; several "
        "names, with commas between them, count together (not totalsegmentator)",
    )
    parser.add_argument(
        "--image",
        help='pairs: where images lie, such as "{patient}/{volume}_ct.nrrd"; png: folders of slices, such as '
        '"{volume}/ct"',
    )
    parser.add_argument(
        "--label",
        default="",
        help='pairs, png: where masks lie, such as "{patient}/{volume}_liver.nrrd"; without it all volumes go to the '
        "pool, for people to annotate",
    )
    parser.add_argument(
        "--liver-values",
        default="",
        help="dicom, pairs, png: what is liver in mask files with several labels, such as 1,2",
    )


def add_geometry(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what PNG files do not."""
    geometry = parser.add_argument_group("png, whose files say nothing of it")
    geometry.add_argument(
        "--spacing", type=float, nargs=3, metavar=("Z", "Y", "X"), help="of slices, rows, columns; mm"
    )
    geometry.add_argument("--window", type=float, nargs=2, metavar=("LOW", "HIGH"), help="HU of black and of white")
    geometry.add_argument("--first", choices=(HEAD, FEET), help="where in the patient the first slice is")
    geometry.add_argument("--white", type=int, help="the value of white in PNG of 16 bits, such as 4095")
    geometry.add_argument(
        "--volumes", type=Path, help="the folder in which the volumes are written (default: ROOT_volumes beside it)"
    )


def add_names(parser: argparse.ArgumentParser) -> None:
    """Add the options that say whether volumes keep their names."""
    parser.add_argument(
        "--anonymous",
        action=argparse.BooleanOptionalAction,
        help="pairs: number volumes and patients, whose names may be those of people (default: where one does not fit)",
    )
    parser.add_argument(
        "--key", type=Path, help="with --anonymous: the table of numbers and names (default: ROOT_names.tsv beside it)"
    )


def add_rows(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what else the rows hold: the modality, exclusions and splits."""
    parser.add_argument(
        "--force-ct",
        action="store_true",
        help="all images are CT, also those whose values are clipped, so that they look like MR",
    )
    parser.add_argument("--exclude", type=Path, help="a tab-separated list of excluded volumes: volume, reason")
    parser.add_argument("--validation-volumes", type=int, default=2, help="of the site, at least (the paper: 2)")
    parser.add_argument(
        "--test-share", type=float, default=0.49, help="of the others, at least (the paper: 234 of 474)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the draw of splits")


def run(options: argparse.Namespace) -> None:
    """Find the volumes of a data set, name them, and add their rows to the table."""
    check(options)
    root = unpacked(options)
    layout = chosen_layout(root, options)
    cases = found_cases(root, layout, options)
    write_rows(named(cases, layout, options), layout, options)


def check(options: argparse.Namespace) -> None:
    """Refuse a root that is not there, and numbers that cannot be."""
    if not options.root.is_dir():
        raise UserError(f"{options.root}: there is no such folder")
    if not 0 <= options.test_share <= 1 or options.validation_volumes < 0:
        raise UserError(
            f"--test-share {options.test_share:g}, --validation-volumes {options.validation_volumes}: accepted are a "
            "share from 0 to 1 and a number from 0"
        )


def unpacked(options: argparse.Namespace) -> Path:
    """Return the folder to look in: the root, or what its zip files are unpacked into."""
    root = options.root.resolve()
    if options.unpack:
        count = unpack(root, options.unpack.resolve())
        root = options.unpack.resolve() if count else root
        print(f"{count} zip files of {options.root} are unpacked in {options.unpack}")
    return root


def chosen_layout(root: Path, options: argparse.Namespace) -> str:
    """Return the layout that is named, once its options are there, or the one that fits."""
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
    """Return the cases in a layout, and print what was left out and decided; raises UserError where there are none."""
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
    """Return the cases with the names that they have in the table: their own, or numbers after those in the table."""
    site = options.site or layout
    odd = [name for case in cases for name in unfit(case, site)]
    if odd and options.anonymous is False:
        raise UserError(f"{odd[0]!r} is no name for the table; leave out --no-anonymous, and all are numbered")
    first = first_free(options.to, cases, site)
    if options.anonymous or odd:
        beside = options.root.resolve()
        return with_numbers(cases, first, options.key or beside.with_name(f"{beside.name}_names.tsv"), odd)
    if layout == "dicom":  # numbered already, as if it were the first archive
        return numbered(cases, first)
    return cases


def write_rows(cases: list[Case], layout: str, options: argparse.Namespace) -> None:
    """Add the rows of the cases to the table, and print how many there are."""
    excluded = read_exclusions(options.exclude) if options.exclude else {}
    rows = cohort_rows(
        cases,
        options.site or layout,
        excluded,
        options.validation_volumes,
        options.test_share,
        options.seed,
        options.force_ct or layout == "png",  # whose window clips the air
    )
    whole = add_to_table(options.to, rows)
    counts = rows[rows["exclude"] == ""]["split"].value_counts()
    splits = ", ".join(f"{counts.get(split, 0)} {split}" for split in SPLITS)
    print(f"{options.to}: {len(rows)} volumes added ({splits}, {len(excluded)} excluded), {len(whole)} in all")


def check_stacking(options: argparse.Namespace) -> None:
    """Refuse what says too little of a stack of PNG, or what cannot be."""
    missing = [f"--{name}" for name in ("image", "spacing", "window", "first") if not getattr(options, name)]
    if missing:
        raise UserError(f"png: {', '.join(missing)} missing; PNG files do not say how they are stacked")
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
    """Return what the importer of a layout takes of the options."""
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
    """Return the layouts in which there are volumes with a mask, with their number; not those that need patterns."""
    found: dict[str, int] = {}
    for layout in LAYOUTS:
        try:
            count = 0 if layout in BY_PATTERN else len(LAYOUTS[layout](root, **arguments_of(layout, options)).cases)
        except UserError:
            continue
        found |= {layout: count} if count else {}
    return found


def recognised(root: Path, options: argparse.Namespace) -> str:
    """Return the one layout that fits."""
    found = fitting(root, options)
    own = [layout for layout in found if layout in PUBLISHED]
    if len(own) == 1:
        return own[0]  # a data set's own layout says more than that of the tool for which it is laid out as well
    if len(found) > 1:
        fits = " and ".join(f"{layout} ({count} volumes)" for layout, count in found.items())
        raise UserError(f"{options.root}: fits {fits}; name one of them")
    if not found:
        raise UserError(f"{options.root}: no layout fits; it holds {what_is_there(root)}{advice(root)}")
    return next(iter(found))


def advice(root: Path) -> str:
    """Return what a folder may need in which no layout has found anything."""
    if any(map(is_zip, files_under(root))):
        return "; --unpack FOLDER unpacks the zip files"
    return "; pairs, with --image and --label, takes images and masks under any names, png stacks of PNG slices"


def unfit(case: Case, site: str) -> list[str]:
    """Return those of a case's name and patient that the cohort table refuses."""
    named = ((case.name, VOLUME_NAME), (case.patient or case.name, PATIENT_NAME))
    return [name for name, pattern in named if not pattern.fullmatch(f"{case.site or site}-{name}")]


def first_free(table: Path, cases: list[Case], site: str) -> int:
    """Return the first number that no volume or patient of the same sites has in the table.

    Raises UserError where one of the images stands there already: under another number nobody would see it.
    """
    if not table.exists():
        return 1
    there = read_cohort(table)
    volumes = there.set_index("image")["volume"].to_dict()
    twice = [str(case.image) for case in cases if str(case.image) in volumes]
    if twice:
        raise UserError(
            f"{table}: {twice[0]} stands there already, as volume {volumes[twice[0]]} ({len(twice)} such); remove "
            "these rows first"
        )
    sites = "|".join(re.escape(name) for name in {case.site or site for case in cases})
    names = there[["volume", "patient"]].to_numpy().ravel()
    numbers = [re.fullmatch(rf"(?:{sites})-(?:patient)?([0-9]+)", name) for name in names]
    return 1 + max((int(match[1]) for match in numbers if match), default=0)


def with_numbers(cases: list[Case], first: int, key: Path, odd: list[str]) -> list[Case]:
    """Return the cases numbered, and add which number is which name to the file `key`."""
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
    why = f"{odd[0]!r} is no name for the table: " if odd else ""
    print(f"{why}volumes and patients are numbered; {key} says which is which, keep it where the data are")
    return renamed
