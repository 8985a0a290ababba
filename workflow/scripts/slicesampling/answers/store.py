"""What people have annotated: one folder that is theirs, which no rerun of the workflow touches.

    log.jsonl            a line for each answer, with its mask, and for each round that was closed; only appended to
    closed/ROUND.tsv     what had been annotated when a round was closed; the workflow goes on from there
    finished             is there if people have ended the loop: no further round follows those that are closed
    masks/VOLUME.nii.gz  the newest answers as masks with three values, for other tools
    drafts/              what is drawn and not yet answered

The log is the truth, and everything else but the drafts is made from it. An answer replaces an older one of the same
slice, which stays in the log. Several processes may write: each locks the log and reads what the others have appended.
"""

import errno
import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from .. import NOT_ANNOTATED, UserError
from ..domain.records import CLOSED, write_table
from ..jobs.files import replacing, write_text

logger = logging.getLogger(__name__)

BACKGROUND, STRUCTURE = 0, 1
"""The values of a mask, beside `NOT_ANNOTATED`, the highest one, which other tools call the ignore label."""

MASK, NO_STRUCTURE, CANNOT_TELL = "mask", "no structure", "cannot tell"
"""What an annotator says of a slice. Of the last nobody learns, and nobody is asked again."""

STARTS = ("empty", "proposal", "answer")
"""What a drawing begins with: nothing, the model's mask, or an earlier answer."""

ANNOTATOR = r"[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]{0,39}"
"""Pattern of an annotator's name."""


@dataclass(frozen=True)
class Answer:
    """One answer: of whom, to which slice of which round, what, and at what cost.

    `runs`: the mask (rows, columns) of `shape`, see `to_runs`; empty unless `answer` is `MASK`. `seconds`: at work,
    None where nobody measured them. `opened`, `saved`: moments in UTC, ISO 8601; `opened` is empty if it is not known.
    `start`: one of `STARTS`; `changed`: pixels that differ from it.
    """

    round: str
    volume: str
    slice: int
    annotator: str
    answer: str
    shape: tuple[int, int]
    runs: tuple[int, ...]
    seconds: float | None
    opened: str
    saved: str
    start: str = STARTS[0]
    changed: int = 0
    comment: str = ""

    @property
    def mask(self) -> np.ndarray:
        """The mask, bool (rows, columns)."""
        return from_runs(self.runs, self.shape)


def to_runs(mask: np.ndarray) -> tuple[int, ...]:
    """Return a mask (rows, columns) as lengths of runs, row by row: background first, then structure, in turn."""
    flat = np.concatenate([[False], np.asarray(mask, dtype=bool).ravel()])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    if not len(changes):
        return ()
    return tuple(np.diff(np.concatenate([[0], changes, [mask.size]])).tolist())


def from_runs(runs: tuple[int, ...], shape: tuple[int, int]) -> np.ndarray:
    """Return the mask, bool of `shape` (rows, columns), that `to_runs` has encoded; without runs, all background.

    Raises UserError where the runs are not those of a mask of that shape.
    """
    size = shape[0] * shape[1]
    lengths = np.asarray(runs or (size,), dtype=np.int64)
    if (lengths < 0).any() or (lengths[1:] == 0).any() or int(lengths.sum()) != size:
        raise UserError(f"runs: add up to {int(lengths.sum())}; accepted: lengths from 1 that add up to {size} pixels")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(shape)


def closed_rounds(folder: str | Path) -> list[str]:
    """Return the rounds that people have closed, in this order, from the log in their folder, without the answers."""
    log = Path(folder) / "log.jsonl"
    if not log.exists():
        return []
    with log.open("rb") as lines:
        return [json.loads(line)["closed"] for line in lines if line.startswith(b'{"closed"') and line.endswith(b"\n")]


class Answers:
    """The folder of answers, read and written; see the module. Not for several threads at once."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._log = self.folder / "log.jsonl"
        self._read_to = 0
        self._records: list[Answer | str] = []  # a text: the round of that name was closed
        self.refresh()

    def refresh(self) -> None:
        """Read what has been appended to the log since, also by others."""
        if self._log.exists():
            with self._log.open("rb") as log:
                self._read(log)

    @property
    def all(self) -> dict[int, Answer]:
        """Every answer by its place in the log, also those that newer ones have replaced."""
        return {number: record for number, record in enumerate(self._records) if isinstance(record, Answer)}

    @property
    def closed(self) -> list[str]:
        """The rounds that were closed, in this order."""
        return [record for record in self._records if isinstance(record, str)]

    def valid(self, before: int | None = None) -> dict[tuple[str, int], int]:
        """Return for each (volume, slice) which record holds: of whoever answered it first, the newest answer.

        before: as of that place in the log; None: as of now.
        """
        holds: dict[tuple[str, int], int] = {}
        for number, record in enumerate(self._records[:before]):
            if isinstance(record, Answer):
                holder = self._records[holds.setdefault((record.volume, record.slice), number)]
                assert isinstance(holder, Answer)
                if holder.annotator == record.annotator:
                    holds[record.volume, record.slice] = number
        return holds

    def by_slice(self) -> dict[tuple[str, int], dict[str, int]]:
        """Return for each (volume, slice) who has answered it, in this order, and the record of each one's newest."""
        found: dict[tuple[str, int], dict[str, int]] = {}
        for number, answer in self.all.items():
            found.setdefault((answer.volume, answer.slice), {})[answer.annotator] = number
        return found

    def add(self, *answers: Answer) -> int:
        """Append answers to the log, all or none, on disk before this returns, and return the place of the last one.

        Raises UserError where their round is closed, a mask is none of its shape, or the disk is full.
        """
        for answer in answers:
            from_runs(answer.runs, answer.shape)
        with self._appending() as append:
            for answer in answers:
                if answer.round in self.closed:
                    raise UserError(f"round {answer.round}: is closed; reload the page for the round that is open")
            append(*answers)
            return len(self._records) - 1

    def begun(self, name: str) -> bool:
        """Return whether a round has any answer."""
        return any(answer.round == name for answer in self.all.values())

    def close(self, name: str) -> Path:
        """Close a round: what is annotated by now is what the workflow goes on with. Return closed/NAME.tsv.

        Closing a round again changes nothing.
        """
        with self._appending() as append:
            if name not in self.closed:
                append(name)
        self.write_closed()
        return self.folder / "closed" / f"{name}.tsv"

    def write_closed(self) -> None:
        """Write the tables of closed rounds that are missing: of one that was closed by a process that was killed."""
        for name in self.closed:
            path = self.folder / "closed" / f"{name}.tsv"
            if not path.exists():
                write_table(path, self.closed_table(name))

    def closed_table(self, name: str) -> pd.DataFrame:
        """Return what was annotated when a round was closed, see `records.CLOSED`: what closed/NAME.tsv holds."""
        return self.table(self._records.index(name))

    @property
    def finished(self) -> bool:
        """Whether people have ended the loop."""
        return (self.folder / "finished").exists()

    def finish(self) -> None:
        """End the loop: no further round follows those that are closed."""
        write_text(self.folder / "finished", "No further round follows those that are closed. To go on: delete this.\n")

    def table(self, before: int | None = None) -> pd.DataFrame:
        """Return what is annotated, see `records.CLOSED` and `valid`, by the order of rounds, and within by first
        answers."""
        rounds: dict[tuple[str, int], str] = {}
        for record in self._records[:before]:
            if isinstance(record, Answer):
                rounds.setdefault((record.volume, record.slice), record.round)
        rows = []
        for (volume, index), number in self.valid(before).items():
            answer = self._records[number]
            assert isinstance(answer, Answer)
            liver = None if answer.answer == CANNOT_TELL else int(bool(answer.mask.any()))
            rows.append((rounds[volume, index], volume, index, liver, number))
        return pd.DataFrame(rows, columns=list(CLOSED)).astype({"structure": "Int64"})

    def masks(self, closed: pd.DataFrame) -> dict[str, dict[int, np.ndarray]]:
        """Return the masks of the answers that a closed round holds, bool (rows, columns), by volume and slice."""
        found: dict[str, dict[int, np.ndarray]] = {}
        answers = self.all
        for volume, index, number in closed.dropna(subset="structure")[["volume", "slice", "record"]].itertuples(False):
            found.setdefault(volume, {})[index] = answers[number].mask
        return found

    def write_mask(self, volume: str, shape: tuple[int, int, int], affine: np.ndarray) -> None:
        """Write masks/VOLUME.nii.gz, uint8 (z, y, x) of `shape`; affine: of the preprocessed image's file (RAS)."""
        from ..jobs.nifti import nifti_image  # nibabel, which the jobs that only read answers do not need

        mask = np.full(shape, NOT_ANNOTATED, np.uint8)
        for (name, index), number in self.valid().items():
            answer = self._records[number]
            if name == volume and isinstance(answer, Answer) and answer.answer != CANNOT_TELL:
                mask[index] = answer.mask
        with replacing(self.folder / "masks" / f"{volume}.nii.gz") as temporary:
            nifti_image(mask, affine).to_filename(temporary)

    def draft(self, round: str, volume: str, slice: int, annotator: str) -> dict[str, Any] | None:
        """Return what `keep_draft` has kept, or None."""
        path = self._draft(round, volume, slice, annotator)
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def drafts(self) -> Iterator[dict[str, Any]]:
        """Yield all drafts, of whomever."""
        for path in sorted((self.folder / "drafts").glob("*.json")):
            with suppress(FileNotFoundError):  # answered meanwhile, through another server
                yield json.loads(path.read_text(encoding="utf-8"))

    def keep_draft(self, round: str, volume: str, slice: int, annotator: str, state: Mapping[str, Any]) -> None:
        """Keep what an annotator has drawn on a slice so far; an older draft is replaced."""
        write_text(self._draft(round, volume, slice, annotator), json.dumps(state))

    def drop_draft(self, round: str, volume: str, slice: int, annotator: str) -> None:
        """Remove a draft whose answer is in the log."""
        self._draft(round, volume, slice, annotator).unlink(missing_ok=True)

    def _draft(self, *key: str | int) -> Path:
        # A digest, because a name that somebody has typed must not become a path.
        return self.folder / "drafts" / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]}.json"

    @contextmanager
    def _appending(self) -> Iterator[Any]:
        """Lock the log, read what others have appended, and yield a function that appends records, all or none."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._log.open("a+b") as log:
            fcntl.flock(log, fcntl.LOCK_EX)
            self._read(log)
            end = log.seek(0, os.SEEK_END)
            if end > self._read_to:  # a writer was killed within a line, which nobody was told to be saved
                logger.warning("%s: the last line is incomplete and is removed", self._log)
                log.truncate(self._read_to)

            def append(*records: Answer | str) -> None:
                entries = [{"closed": each} if isinstance(each, str) else asdict(each) for each in records]
                lines = "".join(f"{json.dumps(entry)}\n" for entry in entries).encode()
                try:
                    if os.write(log.fileno(), lines) < len(lines):  # not by `log`, which would keep what has failed
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301 - undone below as well
                    os.fsync(log.fileno())
                except OSError as error:
                    os.truncate(self._log, self._read_to)
                    raise UserError(f"{self._log}: {error.strerror}; the answer is not saved") from error
                self._read(log)

            yield append

    def _read(self, log: BinaryIO) -> None:
        """Read the complete lines that are new."""
        log.seek(self._read_to)
        for line in log:
            if not line.endswith(b"\n"):
                break
            try:
                entry = json.loads(line)
                record: Answer | str
                if "closed" in entry:
                    record = str(entry["closed"])
                else:
                    record = Answer(**entry | {"shape": tuple(entry["shape"]), "runs": tuple(entry["runs"])})
            except (ValueError, TypeError, KeyError) as error:
                number = len(self._records) + 1
                raise UserError(f"{self._log}, line {number}: is no answer ({error}); restore the file") from error
            self._records.append(record)
            self._read_to += len(line)
