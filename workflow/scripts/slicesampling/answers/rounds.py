"""The rounds in which people annotate: their order, their work lists, and the slices that still wait."""

import itertools
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .. import UserError
from ..domain.models import INITIAL, Model
from ..domain.records import LEDGER, WORK_LIST, read_table
from .store import Answers, closed_rounds


class Progress(NamedTuple):
    """The progress of people: the `closed` rounds, the `models` that follow from them, and the `open` round.

    `open` is the round that waits for people, None after the end of the loop.
    """

    closed: list[str]
    models: list[str]
    open: str | None


def progress(strategy: str, iterations: int, masks: bool, closed: Collection[str], finished: bool) -> Progress:
    """Return the progress of people; the round `INITIAL` comes first if no volume of the pool has a mask.

    masks: whether any volume of the data pool has a mask; closed: the closed rounds; finished: whether people have
    ended the loop. Raise UserError if the closed rounds include those of another strategy, or if the loop has ended
    without any annotation.
    """
    others = {Model.parse(name).strategy for name in closed} - {INITIAL, strategy}
    if others:
        raise UserError(
            f"people.answers holds rounds of {', '.join(sorted(others))}; accepted with strategies [{strategy}]: its "
            "own, or another folder"
        )
    planned = [*([] if masks else [INITIAL]), *(str(Model(strategy, number)) for number in range(1, iterations + 1))]
    done = list(itertools.takewhile(lambda name: name in closed, planned))
    models = [*([INITIAL] if masks else []), *done]
    if finished and not models:
        raise UserError(
            "people.answers says that the loop has ended, but nothing is annotated; delete its file finished"
        )
    ended = finished or len(done) == len(planned)
    return Progress(done, models, None if ended else planned[len(done)])


def progress_of(config: Mapping[str, Any], masks: bool) -> Progress:
    """Return the progress of the people of a configuration, see `progress`."""
    folder = Path(config["people"]["answers"])
    finished = (folder / "finished").exists()
    return progress(config["strategies"][0], config["iterations"], masks, closed_rounds(folder), finished)


def where_people_are(now: Progress, answers: str | Path, work_lists: str | Path = "results/work_lists") -> str:
    """Return a line with the state of a run with people."""
    if now.open is None:
        return "People have ended the loop: the models are trained until convergence, and all volumes are segmented."
    if (Path(work_lists) / f"{now.open}.tsv").exists():
        return waiting(work_lists, Answers(answers), now.open)
    count = len(now.closed)
    rounds = "1 round of annotation is" if count == 1 else f"{count} rounds of annotation are"
    return f"{rounds} closed; this run makes the work list of the next one."


def first_query(slices: pd.DataFrame, volumes: int, count: int, random: np.random.Generator) -> pd.DataFrame:
    """Return the query before the first model: (volume, slice, score, rank), evenly spaced slices of random volumes.

    slices: (volume, slice) of the data pool. The query holds all slices of a volume with fewer slices than its share of
    `count`.
    """
    depths = slices.groupby("volume")["slice"].size()
    drawn = sorted(random.choice(sorted(depths.index), min(volumes, len(depths)), replace=False).tolist())
    shares = np.diff(np.linspace(0, count, len(drawn) + 1).astype(int))
    rows = []
    for volume, share in zip(drawn, shares.tolist(), strict=True):
        depth = int(depths[volume])
        places = range(depth) if share >= depth else ((np.arange(share) + 0.5) * depth / share).astype(int).tolist()
        rows += [(volume, index) for index in places]
    return pd.DataFrame(rows, columns=["volume", "slice"]).assign(score=np.nan, rank=range(len(rows)))


def work_list(query: pd.DataFrame, proposals: float, twice: float, random: np.random.Generator) -> pd.DataFrame:
    """Return the work list of a query, with the random start and number of people of each slice; `records.WORK_LIST`.

    proposals: the share of slices that start from the model's mask; twice: the share that two people annotate. Both are
    drawn at random, and rounded to whole numbers of slices.
    """
    count = len(query)
    start = np.where(random.permutation(count) < round(proposals * count), "proposal", "empty")
    people = np.where(random.permutation(count) < round(twice * count), 2, 1)
    return query.assign(start=start, people=people).sort_values(["rank", "slice"], ignore_index=True)[list(WORK_LIST)]


def people_ledger(given: pd.DataFrame, closed: pd.DataFrame | None) -> pd.DataFrame:
    """Return the ledger of all annotated slices: those with masks in the cohort, then those of people, by round.

    given: the ledger of slices that came with a mask; closed: the table of the last closed round, see `records.CLOSED`.
    Inconclusive slices are left out. Raise UserError if no slice holds liver, because no model can be trained then.
    """
    ledger = given
    if closed is not None:
        told = closed.dropna(subset="structure")
        told = told.assign(
            iteration=told["round"].map(lambda name: Model.parse(name).iteration)
        )  # in the order in which the rounds were closed
        ledger = pd.concat([given, told])[list(LEDGER)].drop_duplicates(["volume", "slice"], ignore_index=True)
    ledger = ledger.astype({"structure": int})
    if not ledger["structure"].any():
        raise UserError(
            f"none of the {len(ledger)} annotated slices holds liver, so there is nothing to train on; give a pool "
            "volume a mask with liver, or start with another people.answers and more people.initial_slices"
        )
    return ledger


def unanswered(asked: pd.DataFrame, answers: Answers) -> pd.DataFrame:
    """Return the rows of a work list with fewer answers, from any round, than people wanted."""
    by = answers.by_slice()
    counts = [len(by.get(key, ())) for key in zip(asked["volume"], asked["slice"], strict=True)]
    return asked[np.array(counts, dtype=int) < asked["people"].to_numpy()]


def open_round(work_lists: str | Path, answers: Answers) -> str | None:
    """Return the last round with a work list; None if it is closed or there is no work list."""
    names = sorted((path.stem for path in Path(work_lists).glob("*.tsv")), key=lambda name: Model.parse(name).iteration)
    return names[-1] if names and names[-1] not in answers.closed else None


def waiting(work_lists: str | Path, answers: Answers, name: str) -> str:
    """Return a line with the number of slices of a round that wait for people, and the next command."""
    left = unanswered(read_table(Path(work_lists) / f"{name}.tsv"), answers)
    title = "First round" if name == INITIAL else f"Round {Model.parse(name).iteration}"
    if left.empty:
        return f"{title}: all slices are annotated. Run slicesampling answers close, then the same command again."
    slices, volumes = (f"{n} {what}{'' if n == 1 else 's'}" for n, what in
                       ((len(left), "slice"), (left["volume"].nunique(), "volume")))  # fmt: skip
    verb = "waits" if len(left) == 1 else "wait"
    return f"{title}: {slices} of {volumes} {verb} for annotation. Run make annotate, then the same command again."
