"""Laws of the people's answers: the log replays to the same masks, and nothing that was saved is lost."""

import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from conftest import until
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from slicesampling import NOT_ANNOTATED, UserError
from slicesampling.answers.store import CANNOT_TELL, MASK, NO_STRUCTURE, Answer, Answers, from_runs, to_runs
from slicesampling.domain.records import read_table

LIBRARY = Path(__file__).parents[2] / "workflow/scripts"
ROWS, COLUMNS = 5, 7


def answer(index: int = 0, annotator: str = "anna", round: str = "uss-1", fill: float = 0.5, **more: object) -> Answer:
    """An answer to a slice of volume a; its mask depends on the slice and the annotator."""
    random = np.random.default_rng([index, *annotator.encode()])
    mask = random.random((ROWS, COLUMNS)) < fill
    moment = "2026-01-02T03:04:05Z"
    given = Answer(round, "a", index, annotator, MASK, mask.shape, to_runs(mask), 30.0, moment, moment)
    return replace(given, **more)


@given(hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_runs_are_the_mask(mask: np.ndarray) -> None:
    runs = to_runs(mask)
    assert np.array_equal(from_runs(runs, mask.shape), mask)
    assert sum(runs) in (0, mask.size)
    assert all(length > 0 for length in runs[1:])


@pytest.mark.parametrize("runs", [(3,), (36,), (-1, 36), (10, 0, 25), (35, 1)])
def test_runs_of_another_shape_are_refused(runs: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="35 pixels"):
        from_runs(runs, (ROWS, COLUMNS))
    answers = Answers(tmp_path)
    with pytest.raises(UserError, match="35 pixels"):
        answers.add(answer(runs=runs))
    assert not answers.all
    assert not Answers(tmp_path).all


actions = st.tuples(
    st.integers(0, 3), st.sampled_from(["anna", "ben"]), st.sampled_from([MASK, NO_STRUCTURE, CANNOT_TELL])
)


@given(st.lists(actions, max_size=12))
def test_of_who_answered_first_the_newest_answer_holds(
    tmp_path_factory: pytest.TempPathFactory, given_answers: list[tuple[int, str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("answers")
    answers, expected, first = Answers(folder), {}, {}
    for index, name, what in given_answers:
        number = answers.add(answer(index, name, answer=what, runs=()))
        if first.setdefault(index, name) == name:
            expected["a", index] = number
    assert answers.valid() == expected
    assert Answers(folder).valid() == expected  # replayed
    assert [name for _, name in sorted((number, record.annotator) for number, record in answers.all.items())] == [
        name for _, name, _ in given_answers
    ]


def test_the_log_replays_to_the_same_tables_and_masks(tmp_path: Path) -> None:
    """Also with corrections, second opinions, slices that nobody could tell, and a table that was lost."""
    answers = Answers(tmp_path)
    answers.add(answer(4))
    answers.add(answer(4, "ben"))
    answers.add(answer(2, "ben", answer=NO_STRUCTURE, runs=()))
    answers.add(answer(1, answer=CANNOT_TELL, runs=()))
    first = answers.close("uss-1").read_bytes()
    corrected = answers.add(answer(4, round="uss-2", fill=0.9, changed=3))
    answers.add(answer(3, round="uss-2"))
    second = answers.close("uss-2").read_bytes()
    for path in (tmp_path / "closed").iterdir():
        path.unlink()
    again = Answers(tmp_path)
    again.write_closed()
    assert (tmp_path / "closed/uss-1.tsv").read_bytes() == first
    assert (tmp_path / "closed/uss-2.tsv").read_bytes() == second
    table = read_table(tmp_path / "closed/uss-2.tsv")
    assert table["slice"].tolist() == [4, 2, 1, 3]
    assert table["round"].tolist() == ["uss-1", "uss-1", "uss-1", "uss-2"]  # where they were asked for first
    assert table["structure"].isna().tolist() == [False, False, True, False]
    assert table["record"].iloc[0] == corrected
    masks = again.masks(table)["a"]
    assert set(masks) == {2, 3, 4}  # of slice 1 nobody learns
    assert np.array_equal(masks[4], again.all[corrected].mask)
    before = again.masks(read_table(tmp_path / "closed/uss-1.tsv"))["a"]
    assert not np.array_equal(before[4], masks[4])  # an older answer stays recoverable
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    again.write_mask("a", (6, ROWS, COLUMNS), affine)
    image = nibabel.load(tmp_path / "masks/a.nii.gz")
    written = np.asarray(image.dataobj).T
    assert np.array_equal(image.affine, affine)
    for index in range(6):
        assert np.array_equal(
            written[index], masks[index] if index in masks else np.full((ROWS, COLUMNS), NOT_ANNOTATED)
        )


def test_a_closed_round_takes_no_answer_and_closing_again_changes_nothing(tmp_path: Path) -> None:
    ours, theirs = Answers(tmp_path), Answers(tmp_path)
    ours.add(answer(0))
    content = theirs.close("uss-1").read_bytes()
    with pytest.raises(UserError, match="round uss-1: is closed"):
        ours.add(answer(1))  # closed by another process meanwhile
    assert ours.close("uss-1").read_bytes() == content
    assert ours.closed == ["uss-1"]
    assert list(ours.all) == [0]
    ours.add(answer(1, round="uss-2"))
    assert (tmp_path / "closed/uss-1.tsv").read_bytes() == content


def _append(folder: Path, name: str, count: int, go: object) -> None:
    answers = Answers(folder)
    go.wait()  # type: ignore[attr-defined]
    for index in range(count):
        number = answers.add(answer(index, name))
        assert answers.all[number] == answer(index, name)  # the place is its own


def test_processes_that_append_at_once_lose_nothing(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("fork")
    go = spawn.Barrier(3)
    writers = [spawn.Process(target=_append, args=(tmp_path, name, 40, go)) for name in ("anna", "ben", "cleo")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    answers = Answers(tmp_path)
    assert sorted((record.annotator, record.slice) for record in answers.all.values()) == [
        (name, index) for name in ("anna", "ben", "cleo") for index in range(40)
    ]
    assert list(answers.all) == list(range(120))


@pytest.mark.parametrize("torn", [1, 20, -1])
def test_a_torn_last_line_is_no_answer_and_goes_with_the_next_one(tmp_path: Path, torn: int) -> None:
    answers = Answers(tmp_path)
    answers.add(answer(0))
    complete = (tmp_path / "log.jsonl").read_bytes()
    answers.add(answer(1))
    line = (tmp_path / "log.jsonl").read_bytes()[len(complete) :]
    (tmp_path / "log.jsonl").write_bytes(complete + line[:torn])
    left = Answers(tmp_path)
    assert [record.slice for record in left.all.values()] == [0]
    left.add(answer(2))
    assert [record.slice for record in Answers(tmp_path).all.values()] == [0, 2]


def test_a_line_that_is_no_answer_is_named(tmp_path: Path) -> None:
    answers = Answers(tmp_path)
    answers.add(answer(0))
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"round": "uss-1"}\n')
    with pytest.raises(UserError, match=r"log\.jsonl, line 2: is no answer"):
        Answers(tmp_path)


@pytest.mark.parametrize("room", [0, 1, 100])
def test_a_full_disk_is_one_line_and_leaves_the_log_as_it_was(tmp_path: Path, room: int) -> None:
    """A limit on the size of files stands for the disk; the signal that goes with it is ignored as a server does."""
    answers = Answers(tmp_path)
    answers.add(answer(0))
    before = (tmp_path / "log.jsonl").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + room, limits[1]))
        with pytest.raises(UserError, match=r"log\.jsonl: .*; the answer is not saved"):
            answers.add(answer(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / "log.jsonl").read_bytes() == before
    assert answers.add(answer(1)) == 1  # as soon as there is room
    assert len(Answers(tmp_path).all) == 2


WRITER = """
import sys
sys.path[:0] = {paths!r}
from test_store import answer
from slicesampling.answers.store import Answers
answers = Answers({folder!r})
for index in range(10**6):
    answers.add(answer(index))
    print(index, flush=True)  # told to be saved
"""


@pytest.mark.slow
def test_a_writer_that_is_killed_loses_nothing_that_it_has_told_to_be_saved(tmp_path: Path) -> None:
    paths = [str(LIBRARY), str(Path(__file__).parent), str(Path(__file__).parents[1])]
    script = WRITER.format(paths=paths, folder=str(tmp_path / "answers"))
    for wanted in (1, 7, 23):
        with (tmp_path / "told").open("w+") as told:
            writer = subprocess.Popen([sys.executable, "-c", script], stdout=told)
            until(lambda: len((tmp_path / "told").read_text().split()) >= wanted or writer.poll() is not None)  # noqa: B023
            os.kill(writer.pid, signal.SIGKILL)
            assert writer.wait() == -signal.SIGKILL
            saved = [
                int(line) for line in (tmp_path / "told").read_text().splitlines(keepends=True) if line.endswith("\n")
            ]
        found = [record.slice for record in Answers(tmp_path / "answers").all.values()]
        found = found[len(found) - 1 - found[::-1].index(0) :]  # of this writer, which began with slice 0
        assert found[: len(saved)] == saved
        assert len(found) <= len(saved) + 1
        Answers(tmp_path / "answers").add(answer(0, "next"))


def test_drafts_are_kept_apart_and_replaced(tmp_path: Path) -> None:
    answers = Answers(tmp_path)
    key = ("uss-1", "a", 3, "../../anna")
    assert answers.draft(*key) is None
    answers.keep_draft(*key, {"strokes": [1]})
    answers.keep_draft(*key, {"strokes": [1, 2]})
    answers.keep_draft("uss-1", "a", 3, "ben", {"strokes": []})
    assert Answers(tmp_path).draft(*key) == {"strokes": [1, 2]}
    assert {path.parent for path in tmp_path.rglob("*.json")} == {tmp_path / "drafts"}
    answers.drop_draft(*key)
    answers.drop_draft(*key)
    assert answers.draft(*key) is None
    assert answers.draft("uss-1", "a", 3, "ben") == {"strokes": []}


def test_a_log_holds_only_what_an_answer_has(tmp_path: Path) -> None:
    Answers(tmp_path).add(answer(1))
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    assert set(json.loads(line)) == set(Answer.__dataclass_fields__)


def test_an_empty_folder_has_no_answers_and_is_not_made(tmp_path: Path) -> None:
    answers = Answers(tmp_path / "none")
    assert answers.table().empty
    assert list(answers.table()) == ["round", "volume", "slice", "structure", "record"]
    assert not (tmp_path / "none").exists()
    assert not answers.finished
    answers.finish()
    assert answers.finished
    assert isinstance(answers.table(), pd.DataFrame)
