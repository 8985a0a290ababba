"""Laws of the exchange with other tools: what was drawn comes back as it was, and nothing comes back that was not."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import SimpleITK
from commands import COMMAND
from rounds import SLICES, ellipsoid, make_round, work_in
from slicesampling import UserError
from slicesampling.answers.exchange import COLUMNS, export_round, import_round
from slicesampling.answers.store import CANNOT_TELL, MASK, NO_STRUCTURE, Answer, Answers, from_runs
from slicesampling.domain.records import read_cells, read_table
from slicesampling.jobs.nifti import nifti_image

SHAPE = (12, 30, 40)
DRAWN = ellipsoid(SHAPE)
PROPOSED = ellipsoid(SHAPE, 0.03)
ASKED = {(volume, index): start for volume, index, start, _ in SLICES}
SINGLE = [(*row[:3], 1) for row in SLICES]
"""The same work list, but that nobody is to annotate a slice after somebody else."""


class Desk:
    """Somebody with another tool, and the folder that was exported."""

    def __init__(self, run: Path, folder: Path) -> None:
        self.run, self.folder = run, folder
        self.answers = Answers(run / "annotations")
        export_round(folder, run / "results", self.answers)

    def path(self, volume: str) -> Path:
        return self.folder / volume / "mask.nii.gz"

    def mask(self, volume: str) -> np.ndarray:
        return np.asarray(nibabel.load(self.path(volume)).dataobj).T

    def save(self, volume: str, mask: np.ndarray, affine: np.ndarray | None = None) -> None:
        affine = nibabel.load(self.path(volume)).affine if affine is None else affine
        nifti_image(mask, affine).to_filename(self.path(volume))

    def draw(self, volume: str, index: int, plane: np.ndarray) -> None:
        mask = self.mask(volume)
        mask[index] = plane
        self.save(volume, mask)

    @property
    def table(self) -> pd.DataFrame:
        return read_cells(self.folder / "work_list.tsv")

    def write(self, table: pd.DataFrame) -> None:
        table.to_csv(self.folder / "work_list.tsv", sep="\t", index=False)

    def say(self, volume: str, index: int, what: str, column: str = "answer") -> None:
        table = self.table
        table.loc[(table["volume"] == volume) & (table["slice"] == str(index)), column] = what
        self.write(table)

    def draw_all(self) -> None:
        for volume, index in ASKED:
            self.draw(volume, index, DRAWN[index])
            self.say(volume, index, MASK if DRAWN[index].any() else NO_STRUCTURE)

    def take(self, annotator: str = "Anna") -> str:
        return import_round(self.folder, self.run / "results", self.answers, annotator)

    def taken(self) -> dict[tuple[str, int], Answer]:
        """The newest answers, as they are on disk."""
        return {(each.volume, each.slice): each for each in Answers(self.run / "annotations").all.values()}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    make_round(tmp_path, SHAPE, slices=SINGLE)
    return Desk(tmp_path, tmp_path / "exported")


def test_the_folder_shows_what_is_asked_for_and_nothing_else(desk: Desk) -> None:
    table = desk.table
    assert list(table) == COLUMNS
    keys = [(row["volume"], int(row["slice"])) for row in table.to_dict("records")]
    assert keys == [row[:2] for row in SINGLE]
    assert table["itk_snap"].astype(int).tolist() == [index + 1 for _, index in keys]
    assert table["slicer_mm"].astype(float).tolist() == [3.0 * index for _, index in keys]  # the spacing of the round
    assert set(table["round"]) == {"uss-1"}
    for number, volume in enumerate(("case 1", "case 2")):
        source = nibabel.load(desk.run / f"results/preprocessed/shard{number}/{volume}/image.nii")
        names = sorted(path.name for path in (desk.folder / volume).iterdir())
        assert names == ["image.nii.gz", "mask.nii.gz"] + ["proposal.nii.gz"] * (volume == "case 2")
        for name in names:
            image = nibabel.load(desk.folder / volume / name)
            assert np.array_equal(image.affine, source.affine)
            assert image.shape == source.shape
            assert image.get_data_dtype() == (np.int16 if name == "image.nii.gz" else np.uint8)
        assert np.array_equal(nibabel.load(desk.folder / volume / "image.nii.gz").dataobj, source.dataobj)
        for index, plane in enumerate(desk.mask(volume)):
            start = {"proposal": PROPOSED[index], "empty": 0, None: 2}[ASKED.get((volume, index))]
            assert (plane == start).all()
    proposal = np.asarray(nibabel.load(desk.folder / "case 2/proposal.nii.gz").dataobj).T
    assert np.array_equal(proposal[5], PROPOSED[5])
    assert not np.delete(proposal, 5, axis=0).any()  # nor does it show where a slice is to begin empty
    assert "slicesampling answers import" in (desk.folder / "README.txt").read_text()


def test_no_file_names_another_one_or_a_moment(desk: Desk) -> None:
    for path in desk.folder.glob("*/*.nii.gz"):
        packed = path.read_bytes()
        assert packed[3] == 0  # no name
        assert packed[4:8] == bytes(4)
        header = nibabel.load(path).header
        assert not any(header[field].item() for field in ("descrip", "aux_file", "db_name", "intent_name"))
        assert not header.extensions
        assert str(desk.run).encode() not in gzip.decompress(packed)
    assert str(desk.run) not in (desk.folder / "work_list.tsv").read_text() + (desk.folder / "README.txt").read_text()


def test_what_was_drawn_comes_back_as_it_was(desk: Desk) -> None:
    desk.draw_all()
    said = desk.take()
    assert "uss-1: 4 slices imported from Anna, 0 of them as proposed; 0 imported before; 0 not answered here" in said
    assert "uss-1 is closed; now run Snakemake again" in said
    taken = desk.taken()
    assert set(taken) == set(ASKED)
    for (volume, index), answer in taken.items():
        assert np.array_equal(answer.mask, DRAWN[index])
        assert (answer.round, answer.annotator, answer.seconds) == ("uss-1", "Anna", None)
        assert answer.start == ASKED[volume, index]
        began = PROPOSED[index] if answer.start == "proposal" else np.zeros(SHAPE[1:], bool)
        assert answer.changed == (DRAWN[index] != began).sum()
    kept = nibabel.load(desk.run / "annotations/masks/case 2.nii.gz")
    source = nibabel.load(desk.folder / "case 2/image.nii.gz")
    assert np.array_equal(kept.affine, source.affine)
    assert np.array_equal(np.asarray(kept.dataobj).T, desk.mask("case 2"))
    closed = read_table(desk.run / "annotations/closed/uss-1.tsv")
    assert len(closed) == len(ASKED)


def test_another_tools_library_reads_the_folder_and_writes_it_back(desk: Desk) -> None:
    for volume in ("case 1", "case 2"):
        image = SimpleITK.ReadImage(str(desk.folder / volume / "image.nii.gz"))
        mask = SimpleITK.ReadImage(str(desk.path(volume)))
        for place in ("GetOrigin", "GetDirection", "GetSpacing", "GetSize"):
            assert getattr(image, place)() == getattr(mask, place)()
        array = SimpleITK.GetArrayFromImage(mask)
        for name, index in ASKED:
            if name == volume:
                assert set(np.unique(array[index])) <= {0, 1}
                array[index] = DRAWN[index]
                desk.say(volume, index, MASK)
        drawn = SimpleITK.GetImageFromArray(array.astype(np.float32))  # some tools keep labels so
        drawn.CopyInformation(image)
        before = nibabel.load(desk.path(volume)).header
        SimpleITK.WriteImage(drawn, str(desk.path(volume)))
        after = nibabel.load(desk.path(volume)).header
        assert after.get_data_dtype() != before.get_data_dtype()
        assert after.binaryblock != before.binaryblock
    desk.take()
    assert all(np.array_equal(answer.mask, DRAWN[key[1]]) for key, answer in desk.taken().items())
    assert len(desk.taken()) == len(ASKED)


def test_the_order_in_which_a_tool_stores_axes_makes_no_difference(desk: Desk) -> None:
    desk.draw_all()
    for orientation in ("RAS", "SPL"):
        image = nibabel.load(desk.path("case 1"))
        codes = nibabel.orientations.axcodes2ornt(orientation)
        turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), codes)
        image.as_reoriented(turn).to_filename(desk.path("case 1"))
        desk.take()
        assert np.array_equal(desk.taken()["case 1", 3].mask, DRAWN[3])
    assert len(desk.answers.all) == len(ASKED)


def test_what_was_left_as_it_is_is_told_apart_from_what_was_confirmed(desk: Desk) -> None:
    assert "0 slices imported" in desk.take()
    desk.say("case 2", 5, MASK)  # the proposal, confirmed
    desk.say("case 1", 8, " No structure ")  # nothing, confirmed
    desk.say("case 2", 2, CANNOT_TELL)
    desk.say("case 2", 2, "motion", column="comment")
    desk.draw("case 1", 3, DRAWN[3])  # not finished
    said = desk.take().splitlines()
    assert (
        said[0] == "uss-1: 3 slices imported from Anna, 1 of them as proposed; 0 imported before; 1 not answered here"
    )
    assert said[1] == "case 1, slice 3: is drawn on, but has no answer in work_list.tsv; not imported"
    assert said[2].startswith("Round 1: 1 slice of 1 volume waits for annotation")
    taken = desk.taken()
    assert set(taken) == set(ASKED) - {("case 1", 3)}
    assert (taken["case 2", 5].answer, taken["case 2", 5].changed) == (MASK, 0)
    assert np.array_equal(taken["case 2", 5].mask, PROPOSED[5])
    assert (taken["case 1", 8].answer, taken["case 1", 8].mask.any()) == (NO_STRUCTURE, False)
    assert (taken["case 2", 2].answer, taken["case 2", 2].comment) == (CANNOT_TELL, "motion")
    assert not (desk.run / "annotations/closed").exists()


def test_the_same_folder_again_changes_nothing(desk: Desk) -> None:
    log = desk.run / "annotations/log.jsonl"
    desk.say("case 2", 5, MASK)
    desk.take()
    before = log.read_bytes()
    assert "0 slices imported from Anna, 0 of them as proposed; 1 imported before; 3 not answered here" in desk.take()
    assert log.read_bytes() == before
    desk.draw("case 2", 5, DRAWN[5])  # a correction
    desk.take()
    answer = desk.taken()["case 2", 5]
    assert (answer.start, answer.changed) == ("answer", (DRAWN[5] != PROPOSED[5]).sum())
    assert answer.changed > 0
    desk.draw_all()
    desk.take()
    before = log.read_bytes()
    for _ in range(2):
        assert (
            "uss-1: 0 slices imported from Anna, 0 of them as proposed; 4 imported before; 0 not answered"
            in desk.take()
        )
    assert log.read_bytes() == before
    make_round(desk.run, SHAPE, "uss-2", slices=[("case 1", 1, "empty", 1), ("case 2", 7, "empty", 1)])
    assert "0 slices imported" in desk.take()  # also when the next round is open
    assert log.read_bytes() == before
    desk.draw("case 1", 3, DRAWN[4])
    with pytest.raises(UserError, match="round uss-1 is closed; accepted are answers to the open round"):
        desk.take()
    assert log.read_bytes() == before


def test_only_what_waits_is_exported_and_no_drawing_is_replaced(desk: Desk) -> None:
    desk.say("case 2", 5, MASK)
    desk.say("case 2", 2, NO_STRUCTURE)
    desk.take()
    with pytest.raises(UserError, match="exported: exists already; accepted: a new or an empty folder"):
        export_round(desk.folder, desk.run / "results", desk.answers)
    rest = Desk(desk.run, desk.run / "rest")
    assert set(rest.table["volume"]) == {"case 1"}
    assert not (rest.folder / "case 2").exists()
    rest.draw("case 1", 3, DRAWN[3])
    rest.say("case 1", 3, MASK)
    rest.say("case 1", 8, NO_STRUCTURE)
    assert "uss-1 is closed" in rest.take()
    with pytest.raises(UserError, match="no round is open"):
        export_round(desk.run / "third", desk.run / "results", desk.answers)


def test_a_folder_may_be_shared_out_by_volumes(desk: Desk) -> None:
    desk.draw_all()
    desk.path("case 1").unlink()
    for index in (3, 8):
        desk.say("case 1", index, "")
    assert "2 slices imported from Anna, 0 of them as proposed; 0 imported before; 2 not answered here" in desk.take()


def test_two_people_answer_a_slice_and_the_first_answer_holds(tmp_path: Path) -> None:
    make_round(tmp_path, SHAPE)  # two are asked for case 1, slice 8
    anna, ben = (Desk(tmp_path, tmp_path / name) for name in ("anna", "ben"))
    anna.draw_all()
    assert anna.take("Anna").splitlines()[-1].startswith("Round 1: 1 slice of 1 volume waits")
    ben.draw("case 1", 8, DRAWN[7])
    ben.say("case 1", 8, MASK)
    ben.draw("case 1", 3, DRAWN[4])
    ben.say("case 1", 3, MASK)
    said = ben.take("Ben").splitlines()
    assert said[1] == "case 1, slice 3: another annotator has answered it first, and that answer is valid"
    assert said[2] == "uss-1 is closed; now run Snakemake again"
    assert len(said) == 3
    answers = Answers(tmp_path / "annotations")
    masks = answers.masks(read_table(tmp_path / "annotations/closed/uss-1.tsv"))
    assert np.array_equal(masks["case 1"][3], DRAWN[3])
    assert np.array_equal(masks["case 1"][8], DRAWN[8])
    assert [each.annotator for each in answers.all.values()].count("Ben") == 2


def test_the_page_goes_on_with_what_was_imported(desk: Desk) -> None:
    """Its time is not known, which is neither no time nor a number that a browser cannot read."""
    desk.draw("case 1", 3, DRAWN[3])
    desk.say("case 1", 3, MASK)
    desk.take()
    work = work_in(desk.run)
    state = json.loads(json.dumps(work.state("Anna"), allow_nan=False))
    assert state["people"] == {"Anna": {"answers": 1, "timed": 0, "seconds": 0}}
    assert state["items"][0]["state"] == "answered"
    assert state["items"][0]["answers"]["Anna"]["seconds"] is None
    opened = work.open("Anna", "t1", "case 1", 3)
    assert opened["start"] == "answer"
    assert np.array_equal(from_runs(opened["masks"]["Anna"], SHAPE[1:]), DRAWN[3])


# -- faults -----------------------------------------------------------------------------------------------------------


def shifted(desk: Desk) -> None:
    affine = nibabel.load(desk.path("case 1")).affine.copy()
    affine[2, 3] += 3
    desk.save("case 1", desk.mask("case 1"), affine)


def cut(desk: Desk) -> None:
    desk.save("case 1", desk.mask("case 1")[:-1])


def truncated(desk: Desk) -> None:
    path = desk.path("case 1")
    path.write_bytes(path.read_bytes()[:-40])


def without(column: str) -> Callable[[Desk], None]:
    return lambda desk: desk.write(desk.table.drop(columns=column))


def saying(index: int, what: str, column: str = "answer") -> Callable[[Desk], None]:
    return lambda desk: desk.say("case 1", index, what, column)


def drawing(index: int, value: object, rows: int = 3) -> Callable[[Desk], None]:
    def draw(desk: Desk) -> None:
        mask = desk.mask("case 1").astype(np.float32)
        mask[index, :rows] = value
        desk.save("case 1", mask)

    return draw


def repeated(desk: Desk) -> None:
    desk.write(pd.concat([desk.table, desk.table.tail(1)]))


def utf16(desk: Desk) -> None:
    path = desk.folder / "work_list.tsv"
    path.write_bytes(path.read_text().encode("utf-16"))


def commas(desk: Desk) -> None:
    desk.table.to_csv(desk.folder / "work_list.tsv", index=False)


def stale(desk: Desk) -> None:
    make_round(desk.run, SHAPE, slices=[("case 1", 4, "empty", 1), *SINGLE[1:]])


FAULTS = [
    (shifted, "mask.nii.gz: is not on the grid of its image; it has 12x30x40 voxels of 3x1x1 mm from"),
    (cut, "mask.nii.gz: is not on the grid of its image; it has 11x30x40"),
    (truncated, "case 1/mask.nii.gz: "),
    (lambda desk: desk.path("case 1").unlink(), "case 1/mask.nii.gz: there is no such file"),
    (drawing(3, 3), "mask.nii.gz: holds 3, first on slice 3; accepted are 0, 1 and 2"),
    (drawing(3, 0.5), "mask.nii.gz: holds 0.5, first on slice 3; accepted are 0, 1 and 2"),
    (drawing(3, np.nan), "mask.nii.gz: holds nan, first on slice 3; accepted are 0, 1 and 2"),
    (drawing(4, 1), "was changed on slices that are not requested: 4; accepted there: only 2"),
    (drawing(slice(4, 8), 0), "was changed on slices that are not requested: 4, 5, 6, 7; accepted there: only 2"),
    (drawing(3, 2), "slice 3 has the answer mask, but 120 voxels of 2, not annotated; accepted are 0 and 1"),
    (drawing(3, 0, 30), "slice 3 has the answer mask, but nothing is drawn; accepted: no structure, cannot tell, or a"),
    (saying(3, NO_STRUCTURE), f"slice 3 has the answer no structure, but {DRAWN[3].sum()} voxels of 1; accepted: mask"),
    (saying(3, "yes"), "answer is 'yes'; accepted: mask, no structure, cannot tell, or nothing if not finished"),
    (saying(3, "5", "slice"), "work_list.tsv, row 2: volume case 1, slice 5 is not in the work list of round uss-1"),
    (saying(3, "../x", "volume"), "volume ../x, slice 3 is not in the work list of round uss-1; accepted are only"),
    (saying(3, "uss-7", "round"), "work_list.tsv: round is uss-1 and uss-7; accepted: one of uss-1"),
    (repeated, "work_list.tsv, row 6: volume case 2, slice 2 is there twice; accepted is one row per slice"),
    (without("answer"), "work_list.tsv: has no column answer; accepted are those of export, separated by tabs"),
    (commas, "work_list.tsv: has no column volume, slice"),
    (utf16, "work_list.tsv: cannot be read as a table; save it as tab-separated UTF-8 text"),
    (lambda desk: (desk.folder / "work_list.tsv").unlink(), "work_list.tsv: there is no such file; accepted: a folder"),
    (stale, "volume case 1, slice 3 is not in the work list of round uss-1"),
    (lambda desk: desk.answers.close("uss-1"), "work_list.tsv: round uss-1 is closed; accepted are answers to the"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "message"), FAULTS, ids=range(len(FAULTS)))
def test_a_fault_is_one_line_and_nothing_is_taken(spoil: Callable[[Desk], None], message: str, desk: Desk) -> None:
    desk.draw_all()
    spoil(desk)
    with pytest.raises(UserError) as caught:
        desk.take()
    (line,) = str(caught.value).splitlines()[-1:]
    assert message in line
    assert len(str(caught.value).splitlines()) <= 2
    assert not desk.taken()
    assert not (desk.run / "annotations/masks").exists()


def test_every_fault_has_its_line(desk: Desk) -> None:
    desk.draw_all()
    drawing(4, 1)(desk)
    desk.say("case 1", 3, NO_STRUCTURE)
    desk.draw("case 2", 5, DRAWN[5] * 3)
    with pytest.raises(UserError) as caught:
        desk.take()
    first, *lines = str(caught.value).splitlines()
    assert first == f"{desk.folder}: 3 faults, nothing is imported"
    assert ["requested: 4;" in lines[0], "slice 3 has" in lines[1], "case 2/mask.nii.gz: holds 3" in lines[2]] == [
        True
    ] * 3
    assert not desk.taken()


@pytest.mark.parametrize("name", ["", " Anna", "Anna\n", "A" * 41])
def test_a_name_is_one_that_the_page_takes(name: str, desk: Desk) -> None:
    desk.draw_all()
    with pytest.raises(UserError, match="accepted are 1 to 40 characters"):
        desk.take(name)


def test_a_full_disk_takes_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if there is room for some of the answers."""
    desk.say("case 2", 5, MASK)
    desk.take()
    log = desk.run / "annotations/log.jsonl"
    before = log.read_bytes()
    desk.draw_all()
    write, room = os.write, [2 * len(before)]

    def write_some(file: int, content: bytes) -> int:
        written = write(file, content[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr("os.write", write_some)
    with pytest.raises(UserError, match="No space left on device; the answer is not saved"):
        desk.take()
    monkeypatch.undo()
    assert log.read_bytes() == before
    assert "4 slices imported" in desk.take()


def test_the_command_exports_and_imports(tmp_path: Path) -> None:
    make_round(tmp_path, SHAPE, slices=SINGLE)

    def command(*arguments: str) -> Iterator[str]:
        line = [sys.executable, "-m", COMMAND, "answers", *arguments]
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
        return iter([str(done.returncode), done.stdout, done.stderr])

    code, output, _ = command("export", "out")
    assert (code, output) == ("0", "out: 4 slices of round uss-1, in 2 volumes; see README.txt\n")
    table = read_cells(tmp_path / "out/work_list.tsv")
    table.assign(answer="yes").to_csv(tmp_path / "out/work_list.tsv", sep="\t", index=False)
    code, _, error = command("import", "out", "--annotator", "Anna")
    assert (code, len(error.splitlines())) == ("1", 5)
    assert error.startswith("error: out: 4 faults, nothing is imported\n")
    table.assign(answer=CANNOT_TELL).to_csv(tmp_path / "out/work_list.tsv", sep="\t", index=False)
    code, output, _ = command("import", "out", "--annotator", "Anna")
    assert code == "0"
    assert output.endswith("uss-1 is closed; now run Snakemake again\n")
