"""The simulated annotator, who answers queries from the reference masks, and the lookup of annotated masks."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from .. import UserError
from ..domain.records import LEDGER
from .store import Answers

logger = logging.getLogger(__name__)


def annotate_volumes(reference: pd.DataFrame, volumes: Iterable[str]) -> pd.DataFrame:
    """Return the ledger with all slices of `volumes` annotated before the first iteration.

    reference: (volume, slice, structure), a row for each slice of the data pool.
    """
    rows = reference[reference["volume"].isin(list(volumes))].assign(iteration=0)
    return rows[list(LEDGER)].sort_values(["volume", "slice"], ignore_index=True)


def annotate(
    ledger: pd.DataFrame,
    query: pd.DataFrame,
    reference: pd.DataFrame,
    iteration: int,
    structure_slices: int | None = None,
) -> pd.DataFrame:
    """Answer a query from the reference masks, like the paper's simulated annotator, and return the extended ledger.

    The annotator works through `query` (volume, slice, rank) in the order of the ranks. With `structure_slices`, they
    stop when that number of slices with liver is annotated (random slice sampling). Raise UserError if the query holds
    a slice twice, an annotated slice, or one that is not in the data pool.
    """
    asked = query.sort_values(["rank", "volume", "slice"], kind="stable")[["volume", "slice"]]
    again = pd.concat([ledger[["volume", "slice"]], asked]).duplicated()
    if again.any():
        volume, index = pd.concat([ledger[["volume", "slice"]], asked])[again].iloc[0]
        raise UserError(f"query: slice {index} of volume {volume} is asked for twice or annotated already")
    answered = asked.merge(reference, how="left", on=["volume", "slice"], sort=False)
    unknown = answered[answered["structure"].isna()]
    if len(unknown):
        volume, index = unknown.iloc[0][["volume", "slice"]]
        raise UserError(f"query: slice {index} of volume {volume} is not in the data pool")
    if structure_slices is not None:
        seen = answered["structure"].cumsum()
        answered = answered[seen.shift(fill_value=0) < structure_slices]
        if answered["structure"].sum() < structure_slices:
            logger.warning(
                "only %d slices with liver were left, %d wanted", answered["structure"].sum(), structure_slices
            )
    answered = answered.assign(iteration=iteration, structure=answered["structure"].astype(int))
    return pd.concat([ledger, answered[list(LEDGER)]], ignore_index=True)


def annotated_masks(folder: str | Path, closed: str | None) -> Callable[[str, np.ndarray], np.ndarray]:
    """Return the lookup of training masks: a volume's annotated mask, uint8 (z, y, x), by its name and own mask.

    The own mask is the preprocessed one, which alone the simulated annotator uses. folder: the people's answers;
    closed: the closed round whose answers replace slices of the own mask; None: no people. Answered slices of a
    memory-mapped mask are copied on write. The lookup raises UserError if an answer does not fit the volume.
    """
    drawn: dict[str, dict[int, np.ndarray]] = {}
    if closed:
        answers = Answers(folder)
        drawn = answers.masks(answers.closed_table(closed))

    def mask_of(volume: str, own: np.ndarray) -> np.ndarray:
        own_answers = drawn.get(volume, {})
        mask = own if own.flags.writeable or not own_answers else own.copy()
        for index, answer in own_answers.items():
            if index >= len(mask) or answer.shape != mask.shape[1:]:
                raise UserError(
                    f"{folder}: the answer to slice {index} of volume {volume} has {answer.shape} rows and columns, "
                    f"but the volume is {mask.shape}; accepted: the files and preprocessing.spacing it was drawn with"
                )
            mask[index] = answer
        return mask

    return mask_of
