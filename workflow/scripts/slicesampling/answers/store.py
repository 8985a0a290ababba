"""The answers of people: a folder of their own, which no rerun of the workflow changes.

    log.jsonl            a line for each answer, with its mask, and for each round that was closed; only appended to
    closed/ROUND.tsv     the annotated slices when a round was closed; the workflow continues from there
    finished             exists if people have ended the loop: no further round follows the closed ones
    masks/VOLUME.nii.gz  the newest answers as masks with three values, for other tools
    drafts/              drawings that are not yet answers

Everything but the drafts is derived from the log. An answer replaces an older one of the same slice, which stays in the
log. Several processes may write: each locks the log and reads what the others have appended.
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
"""The values of a mask beside `NOT_ANNOTATED`, the highest value, which other tools call the ignore label."""

MASK, NO_STRUCTURE, CANNOT_TELL = "mask", "no structure", "cannot tell"
"""The answers to a slice. `CANNOT_TELL` slices are excluded from training, and are not asked for again."""

STARTS = ("empty", "proposal", "answer")
"""The start of a drawing: nothing, the model's mask, or an earlier answer."""

ANNOTATOR = r"[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]{0,39}"
"""Pattern of an annotator's name."""


@dataclass(frozen=True)
class Answer:
    """One answer of an annotator to a slice, with its cost.

    `runs`: the mask (rows, columns) of `shape`, see `to_runs`; empty unless `answer` is `MASK`. `seconds`: the time at
    work, None if it was not measured. `opened`, `saved`: times in UTC, ISO 8601; `opened` is empty if unknown. `start`:
    one of `STARTS`; `changed`: the number of pixels that differ from the start.
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
    """Return a mask (rows, columns) as run lengths, row by row, in turn of background (first) and structure."""
    flat = np.concatenate([[False], np.asarray(mask, dtype=bool).ravel()])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    if not len(changes):
        return ()
    return tuple(np.diff(np.concatenate([[0], changes, [mask.size]])).tolist())


def from_runs(runs: tuple[int, ...], shape: tuple[int, int]) -> np.ndarray:
    """Return the mask, bool of `shape` (rows, columns), that `to_runs` has encoded; without runs, all background.

    Raise UserError if the runs do not encode a mask of this shape.
    """
    size = shape[0] * shape[1]
    lengths = np.asarray(runs or (size,), dtype=np.int64)
    if (lengths < 0).any() or (lengths[1:] == 0).any() or int(lengths.sum()) != size:
        raise UserError(f"runs: add up to {int(lengths.sum())}; accepted: lengths from 1 that add up to {size} pixels")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(shape)


def closed_rounds(folder: str | Path) -> list[str]:
    """Return the closed rounds in the order of closing, from the log in `folder`, without reading the answers."""
    log = Path(folder) / "log.jsonl"
    if not log.exists():
        return []
    with log.open("rb") as lines:
        return [json.loads(line)["closed"] for line in lines if line.startswith(b'{"closed"') and line.endswith(b"\n")]


class Answers:
    """The folder of answers, see the module. Not thread-safe."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._log = self.folder / "log.jsonl"
        self._read_to = 0
        self._records: list[Answer | str] = []  # str: the name of a closed round
        self.refresh()

    def refresh(self) -> None:
        """Read the lines that this or another process has appended to the log since."""
        if self._log.exists():
            with self._log.open("rb") as log:
                self._read(log)

    @property
    def all(self) -> dict[int, Answer]:
        """All answers by their index in the log, including replaced ones."""
        return {number: record for number, record in enumerate(self._records) if isinstance(record, Answer)}

    @property
    def closed(self) -> list[str]:
        """The closed rounds, in the order of closing."""
        return [record for record in self._records if isinstance(record, str)]

    def valid(self, before: int | None = None) -> dict[tuple[str, int], int]:
        """Return for each (volume, slice) the index of the valid answer: the newest of the first annotator.

        before: consider only records before this index; None: all.
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
        """Return for each (volume, slice) the index of each annotator's newest answer, by first answers."""
        found: dict[tuple[str, int], dict[str, int]] = {}
        for number, answer in self.all.items():
            found.setdefault((answer.volume, answer.slice), {})[answer.annotator] = number
        return found

    def add(self, *answers: Answer) -> int:
        """Append answers to the log, all or none, flush them to disk, and return the index of the last one.

        Raise UserError if their round is closed, a mask does not fit its shape, or the disk is full.
        """
        for answer in answers:
            from_runs(answer.runs, answer.shape)
        with self._appending() as append:
            for answer in answers:
                if answer.round in self.closed:
                    raise UserError(f"round {answer.round}: is closed; reload the page for the open round")
            append(*answers)
            return len(self._records) - 1

    def begun(self, name: str) -> bool:
        """Return whether a round has any answer."""
        return any(answer.round == name for answer in self.all.values())

    def close(self, name: str) -> Path:
        """Close a round and return the path of closed/NAME.tsv; the workflow continues with what is annotated so far.

        Closing a round again changes nothing.
        """
        with self._appending() as append:
            if name not in self.closed:
                append(name)
        self.write_closed()
        return self.folder / "closed" / f"{name}.tsv"

    def write_closed(self) -> None:
        """Write missing tables of closed rounds, for example after the process that closed one was killed."""
        for name in self.closed:
            path = self.folder / "closed" / f"{name}.tsv"
            if not path.exists():
                write_table(path, self.closed_table(name))

    def closed_table(self, name: str) -> pd.DataFrame:
        """Return the content of closed/NAME.tsv: the slices annotated before it was closed, see `records.CLOSED`."""
        return self.table(self._records.index(name))

    @property
    def finished(self) -> bool:
        """Whether people have ended the loop."""
        return (self.folder / "finished").exists()

    def finish(self) -> None:
        """End the loop: no further round follows the closed ones."""
        write_text(
            self.folder / "finished", "No further round follows the closed ones. To continue, delete this file.\n"
        )

    def table(self, before: int | None = None) -> pd.DataFrame:
        """Return the annotated slices, see `records.CLOSED` and `valid`, in the order of first answers."""
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
        """Return the masks of the answers in a table of a closed round, bool (rows, columns), by volume and slice."""
        found: dict[str, dict[int, np.ndarray]] = {}
        answers = self.all
        for volume, index, number in closed.dropna(subset="structure")[["volume", "slice", "record"]].itertuples(False):
            found.setdefault(volume, {})[index] = answers[number].mask
        return found

    def write_mask(self, volume: str, shape: tuple[int, int, int], affine: np.ndarray) -> None:
        """Write masks/VOLUME.nii.gz, uint8 (z, y, x) of `shape`; affine: that of the preprocessed image (RAS)."""
        from ..jobs.nifti import nifti_image  # imports nibabel, which jobs that only read answers do not need

        mask = np.full(shape, NOT_ANNOTATED, np.uint8)
        for (name, index), number in self.valid().items():
            answer = self._records[number]
            if name == volume and isinstance(answer, Answer) and answer.answer != CANNOT_TELL:
                mask[index] = answer.mask
        with replacing(self.folder / "masks" / f"{volume}.nii.gz") as temporary:
            nifti_image(mask, affine).to_filename(temporary)

    def draft(self, round: str, volume: str, slice: int, annotator: str) -> dict[str, Any] | None:
        """Return the draft that `keep_draft` stored, or None."""
        path = self._draft(round, volume, slice, annotator)
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def drafts(self) -> Iterator[dict[str, Any]]:
        """Yield the drafts of all annotators."""
        for path in sorted((self.folder / "drafts").glob("*.json")):
            with suppress(FileNotFoundError):  # meanwhile answered through another server
                yield json.loads(path.read_text(encoding="utf-8"))

    def keep_draft(self, round: str, volume: str, slice: int, annotator: str, state: Mapping[str, Any]) -> None:
        """Store an annotator's unfinished drawing on a slice; replace an older draft."""
        write_text(self._draft(round, volume, slice, annotator), json.dumps(state))

    def drop_draft(self, round: str, volume: str, slice: int, annotator: str) -> None:
        """Remove a draft whose answer is in the log."""
        self._draft(round, volume, slice, annotator).unlink(missing_ok=True)

    def _draft(self, *key: str | int) -> Path:
        # A digest, because a typed name must not become a path.
        return self.folder / "drafts" / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]}.json"

    @contextmanager
    def _appending(self) -> Iterator[Any]:
        """Lock the log, read what others have appended, and yield a function that appends records, all or none."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._log.open("a+b") as log:
            fcntl.flock(log, fcntl.LOCK_EX)
            self._read(log)
            end = log.seek(0, os.SEEK_END)
            if end > self._read_to:  # a writer was killed before it confirmed the line
                logger.warning("%s: the last line is incomplete and is removed", self._log)
                log.truncate(self._read_to)

            def append(*records: Answer | str) -> None:
                entries = [{"closed": each} if isinstance(each, str) else asdict(each) for each in records]
                lines = "".join(f"{json.dumps(entry)}\n" for entry in entries).encode()
                try:
                    if os.write(log.fileno(), lines) < len(lines):  # not by `log`, whose buffer would keep the line
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301 - undone below as well
                    os.fsync(log.fileno())
                except OSError as error:
                    os.truncate(self._log, self._read_to)
                    raise UserError(f"{self._log}: {error.strerror}; the answer is not saved") from error
                self._read(log)

            yield append

    def _read(self, log: BinaryIO) -> None:
        """Read new complete lines."""
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
