"""The work of annotators: work list of the open round, reservations, drafts, answers, and the end of the round.

An opened slice is reserved for its annotator until `reserved_minutes` after their last stroke. The drafts in the folder
of answers are the reservations, so that other servers of the same folder see them, and they survive a killed server.
"""

import fcntl
import logging
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import UserError
from ..answers.pictures import Pictures
from ..answers.rounds import open_round
from ..answers.store import CANNOT_TELL, MASK, Answer, Answers, from_runs
from ..domain.models import Model
from ..domain.records import read_table

logger = logging.getLogger(__name__)


class Refused(Exception):  # noqa: N818 - it is an answer
    """A refused request, with a line for the annotator, which names no file, and the HTTP status."""

    def __init__(self, status: int, line: str, **more: Any) -> None:
        super().__init__(line)
        self.status, self.line, self.more = status, line, more


class Item(NamedTuple):
    """A row of a work list: a slice for `people` annotators, which starts from the model's mask or empty."""

    round: str
    volume: str
    slice: int
    rank: int
    score: float
    start: str
    people: int


class Scene(NamedTuple):
    """The state of a round.

    log: all answers by their index; done: each annotator's newest index by (volume, slice); reserved: the annotators at
    work by (volume, slice); drafts: the slices that one annotator has begun.
    """

    log: dict[int, Answer]
    done: dict[tuple[str, int], dict[str, int]]
    reserved: dict[tuple[str, int], set[str]]
    drafts: set[tuple[str, int]]


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


class Work:
    """The work on a run in the folder `results`, with the folder of answers; thread-safe."""

    def __init__(
        self, results: str | Path, answers: str | Path, reserved_minutes: float, clock: Callable[[], datetime] = now
    ) -> None:
        self.pictures = Pictures(results)
        self._lists = Path(results) / "work_lists"
        self._answers = Answers(answers)
        self._reserved = timedelta(minutes=reserved_minutes)
        self._clock = clock
        self._lock = threading.RLock()
        self._read: dict[str, tuple[int, dict[tuple[str, int], Item]]] = {}
        self._unwritten: queue.SimpleQueue[str] = queue.SimpleQueue()

    def start(self) -> None:
        """Start a background thread that reads proposals in advance, and writes masks for other tools."""
        threading.Thread(target=self._in_background, daemon=True).start()

    def _in_background(self) -> None:
        answers = Answers(
            self._answers.folder
        )  # a separate one, so that no request waits for the compression of a mask
        log = answers.folder / "log.jsonl"
        try:
            for item in self.items(self.rounds()[-1]).values() if self.rounds() else ():
                if item.start == "proposal":
                    self.pictures.proposal(item.round, item.volume, item.slice)
            for volume in {answer.volume for answer in answers.all.values()}:
                mask = answers.folder / "masks" / f"{volume}.nii.gz"
                if not mask.exists() or mask.stat().st_mtime_ns < log.stat().st_mtime_ns:
                    self._unwritten.put(volume)  # a server was killed before it wrote this mask
        except (UserError, OSError) as error:
            logger.error("%s", error)  # noqa: TRY400 - a line is enough
        while True:
            volumes = {self._unwritten.get()}
            while not self._unwritten.empty():
                volumes.add(self._unwritten.get())
            for volume in volumes:
                try:
                    answers.refresh()
                    answers.write_mask(volume, self.pictures.shape(volume), self.pictures.affine(volume))
                except (UserError, OSError) as error:
                    logger.warning("the mask of volume %s is not written: %s", volume, error)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Exclude other threads and processes from reservations and answers, and read the answers of others."""
        with self._lock:
            self._answers.folder.mkdir(parents=True, exist_ok=True)
            with (self._answers.folder / "reservations.lock").open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                self._answers.refresh()
                yield

    # -- rounds and their state ------------------------------------------------------------------------------------

    def rounds(self) -> list[str]:
        """Return the rounds with a work list, the oldest first."""
        return sorted((path.stem for path in self._lists.glob("*.tsv")), key=lambda name: Model.parse(name).iteration)

    def items(self, round: str) -> dict[tuple[str, int], Item]:
        """Return the current work list of a round by (volume, slice)."""
        path = self._lists / f"{round}.tsv"
        changed = path.stat().st_mtime_ns
        if self._read.get(round, (None,))[0] != changed:
            table = read_table(path).sort_values("rank")
            rows = [
                Item(round, row.volume, int(row.slice), int(row.rank), float(row.score), row.start, int(row.people))
                for row in table.itertuples()
            ]
            for volume in {row.volume for row in rows}:
                if not self.pictures.known(volume):
                    raise UserError(f"{path}: volume {volume} has not been preprocessed; run snakemake again")
            self._read[round] = changed, {(row.volume, row.slice): row for row in rows}
        return self._read[round][1]

    def open_round(self) -> str | None:
        """Return the newest round with a work list; None if it is closed."""
        return open_round(self._lists, self._answers)

    def volumes(self) -> set[str]:
        """Return the volumes of all work lists, whose images the page may show."""
        with self._lock:
            return {volume for round in self.rounds() for volume, _ in self.items(round)}

    def _scene(self, round: str, annotator: str) -> Scene:
        """Return the state of a round for an annotator."""
        scene = Scene(self._answers.all, self._answers.by_slice(), {}, set())
        for draft in self._answers.drafts():
            if draft["round"] != round:
                continue
            key = draft["volume"], draft["slice"]
            if draft["annotator"] == annotator:
                scene.drafts.add(key)
            if datetime.fromisoformat(draft["touched"]) + self._reserved > self._clock():
                scene.reserved.setdefault(key, set()).add(draft["annotator"])
        return scene

    def state(self, annotator: str) -> dict[str, Any]:
        """Return the newest round as an annotator may see it: slices with their state, people, and earlier answers.

        If two people annotate a slice, neither sees the other's answer before both have answered.
        """
        with self._alone():
            round = self._finish_round()
            shown = next(reversed(self.rounds()), None)
            if shown is None:
                return {"round": None, "items": [], "earlier": [], "people": {}, "volumes": {}}
            scene = self._scene(shown, annotator)
            rows = [self._row(item, annotator, scene) for item in self.items(shown).values()]
            earlier = [
                self._row(item, annotator, scene._replace(reserved={}))
                for other in self.rounds()
                if other != shown
                for key, item in self.items(other).items()
                if annotator in scene.done.get(key, {})
            ]
            people: dict[str, dict[str, float]] = {}
            for answer in scene.log.values():
                if answer.round == shown:
                    of = people.setdefault(answer.annotator, {"answers": 0, "timed": 0, "seconds": 0.0})
                    of["answers"] += 1
                    of["timed"] += answer.seconds is not None
                    of["seconds"] += answer.seconds or 0
            volumes = {row["volume"] for row in rows + earlier}
            return {
                "round": shown,
                "number": Model.parse(shown).iteration,
                "open": round is not None,
                "items": rows,
                "earlier": earlier,
                "people": people,
                "volumes": {
                    name: {"shape": self.pictures.shape(name), "spacing": self.pictures.spacing(name)}
                    for name in sorted(volumes)
                },
            }

    def _row(self, item: Item, annotator: str, scene: Scene) -> dict[str, Any]:
        """Return the state of a slice of a work list, as an annotator may see it."""
        key = item.volume, item.slice
        by = scene.done.get(key, {})
        others = scene.reserved.get(key, set()) - {annotator} - set(by)
        records = self._visible(item, annotator, by)
        if annotator in by:
            state = "answered"
        elif len(by) >= item.people:
            state = "done"
        elif len(by) + len(others) >= item.people:
            state = "taken"
        else:
            state = "begun" if key in scene.drafts else "open"
        answers = {name: (number, scene.log[number]) for name, number in records.items()}
        return {
            **item._asdict(),
            "state": state,
            "by": list(by),
            "reserved": sorted(others),
            "answers": {
                name: {"answer": answer.answer, "seconds": answer.seconds, "comment": answer.comment, "record": number}
                for name, (number, answer) in answers.items()
            },
            "agreement": _agreement(*(answer for _, answer in answers.values())) if len(answers) == 2 else None,
        }

    @staticmethod
    def _visible(item: Item, annotator: str, by: Mapping[str, int]) -> dict[str, int]:
        """Return the answers of a slice that an annotator may see: all after it is done, before that their own."""
        return {name: number for name, number in by.items() if len(by) >= item.people or name == annotator}

    # -- working on a slice ----------------------------------------------------------------------------------------

    def open(self, annotator: str, tab: str, volume: str | None = None, slice: int | None = None) -> dict[str, Any]:
        """Reserve a slice for an annotator, by default the next free one, and return the data for drawing.

        Annotators may open their own answers of this or an earlier round again, from which the drawing then starts.
        Slices done by others are shown without a reservation. Raise `Refused` if the slice is not free.
        """
        with self._alone():
            round = self._require_open()
            scene = self._scene(round, annotator)
            if volume is None:
                item = self._next(annotator, round, scene)
            else:
                item = self._item(volume, slice, annotator, scene.done)
            key = item.volume, item.slice
            row = self._row(item, annotator, scene)
            if row["state"] == "taken":
                who = " and ".join([*row["by"], *row["reserved"]])
                raise Refused(409, f"{who} is working on this slice; take another one", reason="taken")
            read_only = row["state"] == "done"
            records = self._visible(item, annotator, scene.done.get(key, {}))
            masks = {name: scene.log[number].runs for name, number in records.items()}
            draft = None if read_only else self._draft(round, item, annotator)
            if not read_only:
                if draft and annotator in records and draft["opened"] <= scene.log[records[annotator]].saved:
                    draft = None  # a killed server had already logged this answer
                moment = self._clock().isoformat(timespec="milliseconds")
                draft = draft or {"opened": moment, "state": None}
                draft |= {"round": round, "volume": item.volume, "slice": item.slice, "annotator": annotator}
                draft |= {"tab": tab, "touched": moment}
                self._answers.keep_draft(round, *key, annotator, draft)
            start = "answer" if annotator in records else item.start
            proposal = None
            if start == "proposal" and not read_only:
                proposal = self.pictures.proposal(item.round, *key)
            return {
                "round": round,
                "item": row,
                "read_only": read_only,
                "start": "empty" if start == "proposal" and proposal is None else start,
                "proposal": proposal,
                "masks": masks,
                "draft": draft["state"] if draft else None,
                "opened": draft["opened"] if draft else None,
            }

    def keep(self, given: Mapping[str, Any]) -> None:
        """Store the drawing on a slice so far, which renews the reservation. Raise `Refused` if it cannot be stored.

        given: annotator, tab, round, volume, slice, opened, and the page's state with at least runs and revision.
        """
        annotator, round, volume, slice = (given[name] for name in ("annotator", "round", "volume", "slice"))
        opened, state = given["opened"], given["state"]
        with self._alone():
            item = self._of_open_round(annotator, round, volume, slice)
            shape = self.pictures.shape(volume)[1:]
            _checked_runs(state["runs"], shape)
            moment = self._clock().isoformat(timespec="milliseconds")
            newest = self._answers.by_slice().get((volume, slice), {}).get(annotator)
            if newest is not None and self._answers.all[newest].opened == opened:
                return  # a late draft, whose slice has meanwhile been answered
            draft = self._draft(round, item, annotator) or {"opened": opened, "tab": given["tab"], "state": None}
            if draft["tab"] != given["tab"]:
                raise Refused(409, "this slice has since been opened in another tab; continue there", reason="tab")
            if draft["state"] and draft["state"]["revision"] > state["revision"]:
                return  # a late draft, after a newer one
            draft |= {"round": round, "volume": volume, "slice": slice, "annotator": annotator}
            draft |= {"touched": moment, "state": dict(state)}
            self._answers.keep_draft(round, volume, slice, annotator, draft)

    def leave(self, annotator: str, tab: str, round: str, volume: str, slice: int) -> None:
        """Release a slice on which nothing is drawn; a slice with a drawing stays reserved for its time."""
        with self._alone():
            item = self._of_open_round(annotator, round, volume, slice)
            draft = self._draft(round, item, annotator)
            if draft and draft["tab"] == tab and draft["state"] is None:
                self._answers.drop_draft(round, volume, slice, annotator)

    def answer(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Log an answer, and close the round if it was the last one. Raise `Refused` if it is not accepted.

        given: annotator, round, volume, slice, answer, runs, seconds, opened, start and comment, see `Answer`. An
        answer that is sent again is not logged twice. also, in the result: who had already completed the slice.
        """
        annotator, round, volume, slice = (given[name] for name in ("annotator", "round", "volume", "slice"))
        with self._alone():
            before = self._answers.by_slice().get((volume, slice), {})
            earlier = self._answers.all.get(before.get(annotator, -1))
            runs = tuple(given["runs"]) if given["answer"] == MASK else ()
            if earlier and (earlier.round, earlier.opened, earlier.answer, earlier.runs, earlier.comment) == (
                *(round, given["opened"], given["answer"], runs, given["comment"]),
            ):  # the client sends it again, because it has not received the reply
                self._answers.drop_draft(round, volume, slice, annotator)
                return {"closed": self._finish_round() is None, "also": []}
            item = self._of_open_round(annotator, round, volume, slice)
            shape = self.pictures.shape(volume)[1:]
            mask = _checked_runs(runs, shape)
            if given["answer"] == MASK and not mask.any():
                raise Refused(400, "nothing is drawn; choose No liver here or Cannot tell instead")
            beyond = len(before) >= item.people and annotator not in before
            if beyond and self._draft(round, item, annotator) is None:
                raise Refused(409, "this slice has been answered by others; take another one", reason="taken")
            name, start = "empty", from_runs((), shape)
            if given["start"] == "proposal" and item.start == "proposal":
                name = "proposal"
                start = from_runs(self.pictures.proposal(item.round, volume, slice) or (), shape)
            elif given["start"] == "answer" and earlier:
                name, start = "answer", earlier.mask
            moment = self._clock().isoformat(timespec="milliseconds")
            self._answers.add(
                Answer(
                    *(round, volume, slice, annotator, given["answer"], shape, runs, float(given["seconds"])),
                    *(given["opened"], moment, name, int((mask != start).sum()), given["comment"]),
                )
            )
            self._unwritten.put(volume)
            self._answers.drop_draft(round, volume, slice, annotator)
            return {"closed": self._finish_round() is None, "also": list(before) if beyond else []}

    def _finish_round(self) -> str | None:
        """Close the open round if it is complete; return it if it is still open."""
        round = self.open_round()
        if round is None:
            self._answers.write_closed()  # the process that closed it may have been killed before
            return None
        done = self._answers.by_slice()
        if all(len(done.get(key, {})) >= item.people for key, item in self.items(round).items()):
            self._answers.close(round)
            return None
        return round

    def close(self, annotator: str, round: str) -> None:
        """Close the open round with the answers so far; raise `Refused` if it is not `round`, or has no answer."""
        with self._alone():
            if self._require_open() != round:
                raise Refused(409, "another round is open now; look at its list first", reason="closed")
            if not self._answers.begun(round):
                raise Refused(409, "no slice of this round is answered yet")
            logger.info("%s closes round %s", annotator, round)
            self._answers.close(round)

    def mask_of(self, annotator: str, volume: str, slice: int) -> np.ndarray | None:
        """Return the mask, bool (y, x), that an annotator may see on a slice: their own, else another's, or None."""
        with self._lock:
            done = self._answers.by_slice()
            item = self._item(volume, slice, annotator, done, any_round=True)
            records = self._visible(item, annotator, done.get((volume, slice), {}))
            number = records.get(annotator, next(iter(records.values()), None))
            return None if number is None else self._answers.all[number].mask

    def _next(self, annotator: str, round: str, scene: Scene) -> Item:
        """Return the next free slice for an annotator: one that they have begun, otherwise the first."""
        states = {item: self._row(item, annotator, scene)["state"] for item in self.items(round).values()}
        for wanted in ("begun", "open"):
            for item, state in states.items():
                if state == wanted:
                    return item
        waiting = sum(state == "taken" for state in states.values())
        if waiting:
            raise Refused(409, f"others are working on {waiting} slices; nothing else is left", reason="waiting")
        raise Refused(409, "you have done all your slices; the others wait for a second person", reason="waiting")

    def _require_open(self) -> str:
        round = self._finish_round()
        if round is None:
            raise Refused(
                409, "no round is open; run the same snakemake command again for the next one", reason="closed"
            )
        return round

    def _item(self, volume: str, slice: int | None, annotator: str, done: Mapping, *, any_round: bool = False) -> Item:
        """Return a slice of the newest work list, or one of an earlier list that the annotator has answered."""
        for number, round in enumerate(reversed(self.rounds())):
            item = self.items(round).get((volume, slice if slice is not None else -1))
            if item and (number == 0 or any_round or annotator in done.get((volume, slice), {})):
                return item
        raise Refused(404, "this slice is not in the work list, which may have changed; reload the page")

    def _of_open_round(self, annotator: str, round: str, volume: str, slice: int) -> Item:
        """Return a slice that may be answered now in `round`."""
        if self.open_round() != round:
            raise Refused(409, "the round of this slice is closed; reload the page for the open round", reason="closed")
        return self._item(volume, slice, annotator, self._answers.by_slice())

    def _draft(self, round: str, item: Item, annotator: str) -> dict[str, Any] | None:
        return self._answers.draft(round, item.volume, item.slice, annotator)


def _checked_runs(runs: Any, shape: tuple[int, int]) -> np.ndarray:
    """Return the mask, bool of `shape`, of a client's runs. Raise `Refused` if they are invalid."""
    try:
        return from_runs(tuple(runs), shape)
    except (UserError, OverflowError) as error:
        raise Refused(400, f"the mask does not fit this slice: {error}") from error


def _agreement(one: Answer, other: Answer) -> float | None:
    """Return the Dice index of two answers, 1 if both are empty, None if one is inconclusive."""
    if CANNOT_TELL in (one.answer, other.answer):
        return None
    masks = one.mask, other.mask
    both = int(masks[0].sum() + masks[1].sum())
    return 2 * int((masks[0] & masks[1]).sum()) / both if both else 1.0
