"""`slicesampling pick`: what to annotate next by the probability maps of any ensemble, without Snakemake."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from .. import NOT_ANNOTATED, UserError
from ..cohort.formats import gridded, read_file, scaled
from ..cohort.kinds import IMAGE_SUFFIXES, image_name
from ..domain.records import read_table, write_table
from ..jobs.files import replacing, require_new
from ..jobs.randomness import generator
from ..learning.compute import computing
from ..learning.ensembles import Scores, ensemble_scores, mean_mask, members_of
from ..query.strategies import STRATEGIES, Strategy, custom_strategy_faults, strategies_of

EPILOG = """example: slicesampling pick maps --slices 20 --to picked.tsv

Slices are numbered from 0 in the order of the file; ITK-SNAP counts from 1."""

OWN = "own"
"""The name of a custom strategy on the command line."""
CHANNEL = "_0000"
"""The suffix that nnU-Net adds to the names of images."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", type=Path, help="one folder per member or sample, each with VOLUME.nii.gz or VOLUME.npz"
    )
    parser.add_argument("--to", type=Path, required=True, help="the table of picked slices, in the order of annotation")
    parser.add_argument(
        "--strategy", default="uss", help=f'{", ".join(STRATEGIES)}; or a custom one, as in docs/strategies.md: '
        '"{unit: slice, measure: mutual_information, rule: power}"',
    )  # fmt: skip
    parser.add_argument("--slices", type=int, help="number of slices, with a strategy for slices")
    parser.add_argument("--volumes", type=int, help="number of volumes, with a strategy for volumes")
    parser.add_argument(
        "--annotated", type=Path, action="append", default=[], metavar="PATH",
        help="annotated slices: a table with the columns volume and slice, such as an earlier pick, or a folder of "
        "masks in which --ignore marks the other slices; may be given several times",
    )  # fmt: skip
    parser.add_argument("--ignore", type=int, help="the value of nnU-Net's ignore label in those masks")
    parser.add_argument("--channel", type=int, help="for .npz with several classes: that of the structure, from 0")
    parser.add_argument("--distance", type=int, default=5, help="least number of slices between candidates (paper: 5)")
    parser.add_argument("--dilation", type=int, default=11, help="side of the dilating box in voxels, odd (paper: 11)")
    parser.add_argument("--seed", type=int, default=1, help="of random strategies")
    parser.add_argument(
        "--export", type=Path, metavar="FOLDER",
        help=f"write masks to draw on: the ensemble's on the picked slices, {NOT_ANNOTATED} on all others",
    )  # fmt: skip
    parser.add_argument("--images", type=Path, help="folder of images, for the grid of .npz maps, which have none")


def run(options: argparse.Namespace) -> None:
    threads = max(len(os.sched_getaffinity(0)) - 1, 1)  # one core reads the next maps
    computing(
        {"device": "cpu", "precision": "float32", "threads": threads, "tile_gib": "auto", "training_data": "auto"}
    )
    name, strategy = strategy_of(options.strategy)
    budget = options.slices if strategy.slices else options.volumes
    if budget is None or budget < 1:
        raise UserError(f"--{strategy.unit}s: strategy {name} picks {strategy.unit}s; give their number, from 1")
    if options.distance < 1 or options.dilation < 1 or options.dilation % 2 == 0:
        raise UserError(
            f"--distance {options.distance}, --dilation {options.dilation}: accepted are a number from 1, "
            "and an odd one"
        )
    if options.export:
        require_new(options.export)
    maps = members_of(options.folder)
    done = annotated(options.annotated, options.ignore)
    unknown = sorted(set(done["volume"]) - set(maps))
    if unknown:
        print(f"{unknown[0]} is annotated, but has no map ({len(unknown)} such)", file=sys.stderr)
    measures = [strategy.measure] if strategy.measure else []
    found = ensemble_scores(
        maps, options.channel, options.dilation, measures, lambda name: print(name, file=sys.stderr)
    )
    query = picked(strategy, name, found, done, budget, options.seed, options.distance)
    write_table(options.to, query)
    if options.export:
        export(options, query, maps)
    print(f"{options.to}: {len(query)} slices of {query['volume'].nunique()} volumes")


def strategy_of(text: str) -> tuple[str, Strategy]:
    """Return the name and the strategy of `text`, a name or a custom strategy; raise UserError if it needs features."""
    if text in STRATEGIES:
        return text, STRATEGIES[text]
    try:
        given: Any = yaml.safe_load(text)
    except yaml.YAMLError:
        given = None
    if not isinstance(given, dict):
        raise UserError(f"--strategy {text}: accepted are {', '.join(STRATEGIES)}, or a group of keys in braces")
    faults = custom_strategy_faults(OWN, given)
    if faults:
        raise UserError(f"--strategy: {faults[0].removeprefix(f'custom_strategies.{OWN}')}")
    strategy = strategies_of({"custom_strategies": {OWN: given}, "strategies": [OWN]})[OWN]
    if strategy.how.features:
        raise UserError(f"--strategy: rule {strategy.rule} chooses by features of a network, which maps do not have")
    return OWN, strategy


def picked(
    strategy: Strategy, name: str, found: Scores, done: pd.DataFrame, budget: int, seed: int, distance: int
) -> pd.DataFrame:
    """Return the query: (volume, slice, score, rank), in the order of annotation."""
    pool = found.slices[["volume", "slice"]]
    if strategy.columns:
        table = found.slices if strategy.slices else found.volumes
        unit = ["volume", "slice"] if strategy.slices else ["volume"]
        seen = {column: read for read, column in strategy.columns.items()}
        pool = pool.merge(table[[*unit, *seen]].rename(columns=seen), on=unit, validate="m:1")
    drawn = generator(seed, name, len(done), "query")  # another draw with another annotated set
    query = strategy.choose(pool, done, budget, drawn, distance)
    # Strategies that stop at a number of slices with structure return more.
    return query[query["rank"] < budget].reset_index(drop=True)


def annotated(paths: list[Path], ignore: int | None) -> pd.DataFrame:
    """Return the annotated (volume, slice) of tables and folders of masks."""
    found = [pd.DataFrame({"volume": pd.Series(dtype=str), "slice": pd.Series(dtype=int)})]
    for path in paths:
        if path.is_dir():
            if ignore is None:
                raise UserError(f"{path}: masks need --ignore, the value of voxels that are not annotated")
            for mask in sorted(path.iterdir()):
                if name := image_name(mask):
                    stored = read_file(mask)
                    known = np.flatnonzero((scaled(stored[0], stored) != ignore).any(axis=(1, 2)))
                    found.append(pd.DataFrame({"volume": name, "slice": known}))
            continue
        try:
            table = read_table(path)
        except (ValueError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot be read as a table with tabs") from error
        if not {"volume", "slice"} <= set(table):
            raise UserError(f"{path}: has the columns {', '.join(table)}; accepted are volume and slice, or more")
        found.append(table[["volume", "slice"]])
    return pd.concat(found, ignore_index=True).drop_duplicates(ignore_index=True)


def export(options: argparse.Namespace, query: pd.DataFrame, maps: dict[str, list[Path]]) -> None:
    """Write VOLUME.nii.gz to draw on for each picked volume, and the table beside them, all or none."""
    with replacing(options.export) as temporary:
        temporary.mkdir()
        for volume, rows in query.groupby("volume"):
            mask, grid = mean_mask(maps[str(volume)], options.channel)
            if grid is None:
                grid = read_file(image_of(options.images, str(volume))).grid
            if grid.shape != mask.shape:
                raise UserError(f"{options.images}: {volume} has {grid.shape} voxels, its maps {mask.shape}")
            label = np.full(mask.shape, NOT_ANNOTATED, np.uint8)
            label[rows["slice"]] = mask[rows["slice"]]
            gridded(label, grid).to_filename(temporary / f"{volume}.nii.gz")
        write_table(temporary / "picked.tsv", query)


def image_of(images: Path | None, volume: str) -> Path:
    """Return the image file named after its volume, with or without nnU-Net's channel suffix."""
    if images is None:
        raise UserError("--export: .npz maps have no grid; give that of the images by --images FOLDER")
    for name in (f"{volume}{CHANNEL}", volume):
        for suffix in IMAGE_SUFFIXES:
            if (images / f"{name}{suffix}").exists():
                return images / f"{name}{suffix}"
    raise UserError(f"{images}: has no image {volume} or {volume}{CHANNEL}")
