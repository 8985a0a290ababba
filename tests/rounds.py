"""Folders of a run that waits for people: volumes, a work list and proposals, as the workflow writes them."""

from pathlib import Path

import numpy as np
import pandas as pd
from slicesampling.cohort.grids import Grid
from slicesampling.cohort.volumes import Preprocessed, save_preprocessed, write_mask
from slicesampling.domain.records import write_table
from slicesampling.page.work import Work

SLICES = [("case 1", 3, "empty", 1), ("case 2", 5, "proposal", 1), ("case 1", 8, "empty", 2), ("case 2", 2, "empty", 1)]
"""The work list of `make_round`: volume, slice, start, people; the most uncertain first."""


def ellipsoid(shape: tuple[int, int, int], shift: float = 0.0) -> np.ndarray:
    """A structure, bool of `shape` (z, y, x), in the middle of the right half, moved to the left by a part of it."""
    at = [(np.arange(n) + 0.5) / n for n in shape]
    z, y, x = np.meshgrid(*at, indexing="ij")
    return ((z - 0.5) / 0.4) ** 2 + ((y - 0.45) / 0.25) ** 2 + ((x - 0.4 - shift) / 0.2) ** 2 < 1


def scan(shape: tuple[int, int, int]) -> np.ndarray:
    """HU of a body with that structure, int16 (z, y, x)."""
    at = [(np.arange(n) + 0.5) / n for n in shape]
    _, y, x = np.meshgrid(*at, indexing="ij")
    body = ((y - 0.5) / 0.4) ** 2 + ((x - 0.5) / 0.45) ** 2 < 1
    image = np.where(body, 40, -1000) + 70 * ellipsoid(shape)
    return (image + np.random.default_rng(0).normal(0, 8, shape)).round().astype(np.int16)


def make_round(
    folder: Path, shape: tuple[int, int, int] = (12, 30, 40), name: str = "uss-1", slices: list = SLICES
) -> None:
    """Write in `folder` what the page reads: two volumes of `shape`, the work list `name`, and its proposals."""
    grid = Grid(shape, np.diag([3.0, 1, 1, 1]))
    for number, volume in enumerate(("case 1", "case 2")):
        if not (folder / f"results/preprocessed/shard{number}").exists():
            mask = ellipsoid(shape)
            volumes = Preprocessed(scan(shape), mask.astype(np.uint8), grid, grid, mask)
            save_preprocessed(folder / f"results/preprocessed/shard{number}" / volume, volumes)
    write_mask(folder / f"results/proposals/{name}/case 2.nii.gz", ellipsoid(shape, 0.03), grid)
    table = pd.DataFrame(slices, columns=["volume", "slice", "start", "people"])
    table = table.assign(rank=range(len(table)), score=np.linspace(9, 1, len(table)))
    write_table(
        folder / f"results/work_lists/{name}.tsv", table[["volume", "slice", "rank", "score", "start", "people"]]
    )


def work_in(folder: Path, **options: object) -> Work:
    """The work of that folder."""
    return Work(folder / "results", folder / "annotations", 20, **options)  # type: ignore[arg-type]
