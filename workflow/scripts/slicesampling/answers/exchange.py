"""Export of the open round to a folder for other tools, and import of the answers.

    README.txt                what to do, in plain words
    work_list.tsv             the slices to draw, see `COLUMNS`; annotators enter their answers there
    VOLUME/image.nii.gz       HU
    VOLUME/mask.nii.gz        to draw on: requested slices start empty or with the proposal, all others are 2
    VOLUME/proposal.nii.gz    the model's mask on the slices that start with it, if the volume has any

A slice counts as answered only if the table says so. The mask alone does not show whether an unchanged slice was
accepted or never opened. The table also has room for inconclusive slices and for comments.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from .. import NOT_ANNOTATED, UserError
from .. import STRUCTURE as NAME_OF_STRUCTURE
from ..cohort.formats import gridded, read_file, scaled
from ..cohort.grids import Grid, upright
from ..cohort.volumes import all_volume_folders, load_preprocessed
from ..domain.records import read_cells, read_table, write_table
from ..jobs.files import replacing, require_new, write_text
from .pictures import Pictures
from .rounds import open_round, unanswered, waiting
from .store import (
    ANNOTATOR,
    BACKGROUND,
    CANNOT_TELL,
    MASK,
    NO_STRUCTURE,
    STRUCTURE,
    Answer,
    Answers,
    from_runs,
    to_runs,
)

COLUMNS = ["volume", "slice", "itk_snap", "slicer_mm", "rank", "start", "round", "answer", "comment"]
"""Columns of work_list.tsv. slice: from 0 at the feet; itk_snap: the same from 1; slicer_mm: its position in mm towards
the head; start: as in the work list; answer: one of `ACCEPTED`, or empty; comment: free text."""

ACCEPTED = (MASK, NO_STRUCTURE, CANNOT_TELL)

README = f"""\
Slices to annotate: {NAME_OF_STRUCTURE}

1. work_list.tsv names the slices to draw, the most important first. The column slice counts from 0 at the feet.
   itk_snap is the same slice counted from 1, as ITK-SNAP does. slicer_mm is its position in mm, as 3D Slicer shows it.
2. Open VOLUME/image.nii.gz, and VOLUME/mask.nii.gz as its segmentation. The mask has these values:
   0  no {NAME_OF_STRUCTURE}
   1  {NAME_OF_STRUCTURE}
   2  not requested: leave these slices as they are
   Draw on the slices without 2. If start is "proposal", the slice starts with the mask of the model, which is also in
   VOLUME/proposal.nii.gz. If start is "empty", it starts empty.
3. Draw with 1, erase with 0, and save the mask under the same name with the same values. The grid must stay the same.
4. When a slice is done, write into its column answer in work_list.tsv:
   {MASK:13}  the mask of this slice is correct, whether you drew it or left it unchanged
   {NO_STRUCTURE:13}  there is no {NAME_OF_STRUCTURE} on this slice; its mask is empty
   {CANNOT_TELL:13}  the slice is inconclusive; give the reason in the column comment
   A slice without an answer is not imported, whatever its mask holds. Save the table as tab-separated text.
5. In the folder of the run: slicesampling answers import THIS_FOLDER --annotator YOUR_NAME

You may import as often as you like: only new answers are imported. If there is any fault, all faults are listed and
nothing is imported. Each annotator needs a folder of their own.
"""

Slices = dict[tuple[str, int], np.ndarray]
"""Masks, bool (y, x), by volume and slice."""


def export_round(folder: str | Path, results: str | Path, answers: Answers) -> str:
    """Export the waiting slices of the open round to `folder`, see the module, and return a line that reports it.

    All images have the preprocessed grid. No file shows a proposal for slices that start empty. Raise UserError if no
    slice waits, or if `folder` is not empty.
    """
    folder, results = Path(folder), Path(results)
    require_new(folder, ", so that no drawing is lost")
    answers.refresh()
    name = open_round(results / "work_lists", answers)
    if name is None:
        raise UserError(f"{results}/work_lists: no round is open; run Snakemake for the next work list")
    asked = unanswered(read_table(results / f"work_lists/{name}.tsv"), answers).sort_values(["rank", "slice"])
    if asked.empty:
        raise UserError(f"{results}/work_lists/{name}.tsv: all slices are annotated; close the round")
    folders = all_volume_folders(results)
    starts = _starts(Pictures(results), name, asked)
    positions = {}
    with replacing(folder) as temporary:
        for volume, rows in asked.groupby("volume"):
            preprocessed = load_preprocessed(folders[str(volume)])
            grid, target = preprocessed.grid, temporary / str(volume)
            target.mkdir(parents=True)
            mask, proposal = np.full(grid.shape, NOT_ANNOTATED, np.uint8), np.zeros(grid.shape, np.uint8)
            for index in rows["slice"]:
                mask[index] = proposal[index] = starts[volume, index]
                positions[volume, index] = round(float((grid.affine @ [index, 0, 0, 1])[0]), 2)
            gridded(np.asarray(preprocessed.image), grid).to_filename(target / "image.nii.gz")
            gridded(mask, grid).to_filename(target / "mask.nii.gz")
            if (rows["start"] == "proposal").any():
                gridded(proposal, grid).to_filename(target / "proposal.nii.gz")
        places = [positions[key] for key in zip(asked["volume"], asked["slice"], strict=True)]
        table = asked.assign(itk_snap=asked["slice"] + 1, slicer_mm=places, round=name, answer="", comment="")
        write_table(temporary / "work_list.tsv", table[COLUMNS])
        write_text(temporary / "README.txt", README)
    return f"{folder}: {len(asked)} slices of round {name}, in {asked['volume'].nunique()} volumes; see README.txt"


def import_round(folder: str | Path, results: str | Path, answers: Answers, annotator: str) -> str:
    """Import the answers of a folder that `export_round` wrote, close the round if it is complete, and report both.

    Answers that this annotator has given before are not imported again. Their seconds are unknown. Raise UserError with
    a line for each fault, and import nothing, if the table or a mask has a fault, or if a new answer belongs to a
    closed round.
    """
    folder, results = Path(folder), Path(results)
    if not re.fullmatch(ANNOTATOR, annotator):
        raise UserError(f"--annotator {annotator!r}: accepted are 1 to 40 characters, the first not a blank")
    table = _read_work_list(folder / "work_list.tsv")
    lists = {path.stem: path for path in (results / "work_lists").glob("*.tsv")}
    name = " and ".join(sorted(set(table["round"])))
    if name not in lists:
        raise UserError(f"{folder}/work_list.tsv: round is {name or 'empty'}; accepted: one of {', '.join(lists)}")
    asked = read_table(lists[name])
    answers.refresh()
    _refuse(folder, _table_faults(folder / "work_list.tsv", table, asked))
    table = table.assign(slice=table["slice"].astype(int))[["volume", "slice", "answer", "comment"]]
    table = table.merge(asked[["volume", "slice", "start", "people"]], on=["volume", "slice"])

    pictures, faults, drawn = Pictures(results), [], Slices()
    folders = all_volume_folders(results)
    for volume, rows in table.groupby("volume", sort=False):
        path = folder / str(volume) / "mask.nii.gz"
        if not path.exists() and not rows["answer"].any():
            continue  # this annotator has left the volume to others
        try:
            mask = _read_mask(path, load_preprocessed(folders[str(volume)]).grid)
        except UserError as error:
            faults.append(str(error))
            continue
        faults += _mask_faults(path, mask, rows)
        drawn |= {(str(volume), index): mask[index] == STRUCTURE for index in rows["slice"]}
    _refuse(folder, faults)

    table = table[[key in drawn for key in zip(table["volume"], table["slice"], strict=True)]]
    starts = _starts(pictures, name, table)
    answered = table["answer"] != ""
    new = list(_new_answers(name, annotator, table[answered], drawn, starts, answers))
    if new and name in answers.closed:
        _refuse(folder, [f"{folder}/work_list.tsv: round {name} is closed; accepted are answers to the open round"])
    others = {(each.volume, each.slice) for each in answers.all.values() if each.annotator != annotator}
    if new:
        answers.add(*new)
    for volume in sorted({answer.volume for answer in new}):
        answers.write_mask(volume, pictures.shape(volume), pictures.affine(volume))

    same = sum(answer.start == "proposal" and answer.changed == 0 for answer in new)
    lines = [
        f"{name}: {len(new)} slices imported from {annotator}, {same} of them as proposed; "
        f"{int(answered.sum()) - len(new)} imported before; {len(asked) - int(answered.sum())} not answered here"
    ]
    for key in zip(table["volume"][~answered], table["slice"][~answered], strict=True):
        if not np.array_equal(drawn[key], starts[key]):
            lines.append(f"{key[0]}, slice {key[1]}: is drawn on, but has no answer in work_list.tsv; not imported")
    single = set(asked.loc[asked["people"] == 1, ["volume", "slice"]].itertuples(index=False, name=None))
    for volume, index in [(answer.volume, answer.slice) for answer in new]:
        if (volume, index) in others & single:
            lines.append(f"{volume}, slice {index}: another annotator has answered it first, and that answer is valid")
    if unanswered(asked, answers).empty or name in answers.closed:
        answers.close(name)
        lines.append(f"{name} is closed; now run Snakemake again")
    else:
        lines.append(waiting(results / "work_lists", answers, name))
    return "\n".join(lines)


def _starts(pictures: Pictures, name: str, asked: pd.DataFrame) -> Slices:
    """Return the mask with which each slice of a work list starts."""
    starts = Slices()
    for volume, index, start in asked[["volume", "slice", "start"]].itertuples(index=False):
        runs = pictures.proposal(name, volume, index) if start == "proposal" else None
        starts[volume, index] = from_runs(runs or (), pictures.shape(volume)[1:])
    return starts


def _new_answers(
    name: str, annotator: str, table: pd.DataFrame, drawn: Slices, starts: Slices, answers: Answers
) -> Iterator[Answer]:
    """Yield those answers of a table that the annotator has not given before."""
    saved = datetime.now(UTC).isoformat(timespec="milliseconds")
    done: dict[tuple[str, int], list[Answer]] = {}
    for answer in answers.all.values():
        if answer.annotator == annotator:
            done.setdefault((answer.volume, answer.slice), []).append(answer)
    columns = ["volume", "slice", "start", "answer", "comment"]
    for volume, index, start, what, comment in table[columns].itertuples(index=False):
        own = done.get((volume, index), [])
        mask = drawn[volume, index] & (what == MASK)
        runs = to_runs(mask)
        if any((each.answer, each.runs, each.comment) == (what, runs, comment) for each in own):
            continue
        given, began = ("answer", own[-1].mask) if own else (start, starts[volume, index])
        changed = int((mask != began).sum())
        yield Answer(
            *(name, volume, index, annotator, what, mask.shape, runs, None, "", saved, given, changed, comment)
        )


def _read_work_list(path: Path) -> pd.DataFrame:
    """Read the table that an annotator has filled in, all cells as text."""
    if not path.exists():
        raise UserError(f"{path}: there is no such file; accepted: a folder written by export")
    table = read_cells(path)
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise UserError(f"{path}: has no column {', '.join(missing)}; accepted are those of export, separated by tabs")
    table = table[COLUMNS].fillna("").apply(lambda column: column.str.strip())
    table["answer"] = table["answer"].str.lower()
    return table[(table != "").any(axis=1)]


def _table_faults(path: Path, table: pd.DataFrame, asked: pd.DataFrame) -> list[str]:
    """Return a line for each fault of a filled table."""
    faults, seen = [], set()
    keys = set(zip(asked["volume"], asked["slice"].astype(str), strict=True))
    for number, row in enumerate(table.to_dict("records"), start=2):
        key = row["volume"], row["slice"]
        which = f"{path}, row {number}: volume {key[0]}, slice {key[1]}"
        if key not in keys:
            faults.append(f"{which} is not in the work list of round {row['round']}; accepted are only its slices")
        if key in seen:
            faults.append(f"{which} is there twice; accepted is one row per slice")
        seen.add(key)
        if row["answer"] not in ("", *ACCEPTED):
            accepted = ", ".join(ACCEPTED)
            faults.append(f"{which}: answer is {row['answer']!r}; accepted: {accepted}, or nothing if not finished")
    return faults


def _read_mask(path: Path, grid: Grid) -> np.ndarray:
    """Read a mask of another tool as uint8 (z, y, x) on `grid`, for any stored axis order and number type."""
    stored = read_file(path)
    turned, own = upright(stored.values, stored.grid)
    if not own.matches(grid):
        raise UserError(f"{path}: is not on the grid of its image; it has {own}; accepted: {grid}")
    values = scaled(turned, stored)
    wrong = ~np.isin(values, (BACKGROUND, STRUCTURE, NOT_ANNOTATED))
    if wrong.any():
        index = int(np.flatnonzero(wrong.any(axis=(1, 2)))[0])
        found = ", ".join(f"{value:g}" for value in np.unique(values[wrong])[:5])
        raise UserError(f"{path}: holds {found}, first on slice {index}; accepted are 0, 1 and 2")
    return np.ascontiguousarray(values).astype(np.uint8)


def _mask_faults(path: Path, mask: np.ndarray, rows: pd.DataFrame) -> list[str]:
    """Return the faults of a mask (z, y, x): changes on slices that are not in `rows`, and contradicted answers."""
    faults = []
    elsewhere = np.setdiff1d(np.arange(len(mask)), rows["slice"])
    changed = elsewhere[(mask[elsewhere] != NOT_ANNOTATED).any(axis=(1, 2))]
    if len(changed):
        named = ", ".join(map(str, changed[:5])) + (f", … ({len(changed)} in all)" if len(changed) > 5 else "")
        faults.append(f"{path}: was changed on slices that are not requested: {named}; accepted there: only 2")
    for index, what in rows[["slice", "answer"]].itertuples(index=False):
        voxels, left = int((mask[index] == STRUCTURE).sum()), int((mask[index] == NOT_ANNOTATED).sum())
        answered = f"{path}: slice {index} has the answer {what}, but"
        if what in (MASK, NO_STRUCTURE) and left:
            faults.append(f"{answered} {left} voxels of 2, not annotated; accepted are 0 and 1")
        elif what == MASK and not voxels:
            faults.append(f"{answered} nothing is drawn; accepted: {NO_STRUCTURE}, {CANNOT_TELL}, or a drawing")
        elif what == NO_STRUCTURE and voxels:
            faults.append(f"{answered} {voxels} voxels of 1; accepted: {MASK}, or a slice without 1")
    return faults


def _refuse(folder: Path, faults: list[str]) -> None:
    """Raise UserError with a line for each fault, if there is any."""
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise UserError("\n".join([f"{folder}: {count}, nothing is imported", *(f"  {fault}" for fault in faults)]))
