"""The query strategies (section II-D): what should be annotated next.

A strategy is a pure function of the data pool (a row for each slice, with what is known of it), the ledger, a budget
and a random generator. It returns a query: a table of (volume, slice, score, rank) in the order in which it should be
annotated, rank 0 first.
"""

import logging
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

logger = logging.getLogger(__name__)

QUERY = ["volume", "slice", "score", "rank"]


def unannotated_volumes(pool: pd.DataFrame, ledger: pd.DataFrame) -> list[str]:
    """Return the volumes of the pool without any annotated slice, in alphabetical order."""
    return sorted(set(pool["volume"]) - set(ledger["volume"]))


def unannotated_slices(pool: pd.DataFrame, ledger: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the pool whose slice is not in the ledger."""
    annotated = pd.MultiIndex.from_frame(ledger[["volume", "slice"]])
    return pool[~pd.MultiIndex.from_frame(pool[["volume", "slice"]]).isin(annotated)]


def volume_query(pool: pd.DataFrame, volumes: list[str], scores: dict[str, float], budget: int) -> pd.DataFrame:
    """Return the query for all slices of the first `budget` of `volumes`, each volume with its own rank."""
    if len(volumes) < budget:
        logger.warning("only %d volumes are left to annotate, %d wanted", len(volumes), budget)
    chosen = {volume: rank for rank, volume in enumerate(volumes[:budget])}
    rows = pool[pool["volume"].isin(chosen)]
    query = rows.assign(rank=rows["volume"].map(chosen), score=rows["volume"].map(scores).astype(float))
    return query.sort_values(["rank", "slice"], ignore_index=True)[QUERY]


def uncertainty_volume_sampling(
    pool: pd.DataFrame, ledger: pd.DataFrame, budget: int, generator: np.random.Generator
) -> pd.DataFrame:
    """UVS: the `budget` volumes with the largest volume-level uncertainty; a tie goes to the smaller id.

    pool: (volume, slice, volume_score), a row for each slice.
    """
    scores = pool.groupby("volume")["volume_score"].first().to_dict()
    volumes = sorted(unannotated_volumes(pool, ledger), key=lambda volume: (-scores[volume], volume))
    return volume_query(pool, volumes, scores, budget)


def random_volume_sampling(
    pool: pd.DataFrame, ledger: pd.DataFrame, budget: int, generator: np.random.Generator
) -> pd.DataFrame:
    """RVS: `budget` volumes at random. pool: (volume, slice)."""
    volumes = unannotated_volumes(pool, ledger)
    return volume_query(pool, [volumes[i] for i in generator.permutation(len(volumes))], {}, budget)


def uncertainty_slice_sampling(
    pool: pd.DataFrame, ledger: pd.DataFrame, budget: int, generator: np.random.Generator
) -> pd.DataFrame:
    """USS: the `budget` slices with the largest slice-level uncertainty among the candidates of all volumes.

    pool: (volume, slice, slice_score, candidate); slices annotated already are no candidates. A tie goes to the smaller
    (volume, slice).
    """
    left = unannotated_slices(pool, ledger)
    query = left[left["candidate"]].rename(columns={"slice_score": "score"})
    if len(query) < budget:
        logger.warning("only %d candidate slices are left, %d wanted", len(query), budget)
    query = query.sort_values(["score", "volume", "slice"], ascending=[False, True, True], ignore_index=True)
    return query.head(budget).assign(rank=lambda rows: np.arange(len(rows)))[QUERY]


def random_slice_sampling(
    pool: pd.DataFrame, ledger: pd.DataFrame, budget: int, generator: np.random.Generator
) -> pd.DataFrame:
    """RSS: all slices that are left, in random order; the annotator stops once `budget` slices with liver are found."""
    left = unannotated_slices(pool, ledger).sort_values(["volume", "slice"])
    query = left.iloc[generator.permutation(len(left))].reset_index(drop=True)
    return query.assign(score=np.nan, rank=np.arange(len(query)))[QUERY]


class Strategy(NamedTuple):
    """How a strategy chooses, and what it needs: all that configuration, rules, tables and figures know of it.

    `title`: its name in a sentence; its key in `STRATEGIES`, in capitals, is the short one. `uncertain`: it ranks by
    the previous model's uncertainty, which must be computed first. `slices`: its budget counts slices rather than
    volumes. `until_liver`: the annotator stops when the budget of slices with liver is reached.
    """

    title: str
    choose: Callable[[pd.DataFrame, pd.DataFrame, int, np.random.Generator], pd.DataFrame]
    uncertain: bool
    slices: bool
    until_liver: bool = False


STRATEGIES = {
    "uvs": Strategy("uncertainty volume sampling", uncertainty_volume_sampling, uncertain=True, slices=False),
    "rvs": Strategy("random volume sampling", random_volume_sampling, uncertain=False, slices=False),
    "uss": Strategy("uncertainty slice sampling", uncertainty_slice_sampling, uncertain=True, slices=True),
    "rss": Strategy("random slice sampling", random_slice_sampling, uncertain=False, slices=True, until_liver=True),
}


def strategies_in(table: pd.DataFrame) -> list[str]:
    """Return the strategies that a table's column `strategy` holds, in the paper's order."""
    present = set(table["strategy"])
    return [name for name in STRATEGIES if name in present]
