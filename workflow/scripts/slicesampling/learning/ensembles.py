"""Files of probability maps of any ensemble: one folder per member or sample, one file per volume.

A file is NIfTI, NRRD or MetaImage with the probability of the structure, or .npz of nnU-Net with an array
`probabilities` (class, z, y, x). Slices are numbered from 0 in the order of the file.
"""

import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .. import UserError, one_line
from ..cohort.formats import read_file, scaled
from ..cohort.grids import Grid
from ..cohort.kinds import image_name
from .inference import LIVER, Sampled
from .prefetch import read_ahead
from .uncertainty import (
    MEASURES,
    OF_THE_MEAN,
    SLICES_AT_ONCE,
    RunningMoments,
    slice_counts,
    slice_profiles,
    structure_region,
    volume_scores,
)

NPZ = ".npz"
PROBABILITIES = "probabilities"
TOLERANCE = 1e-3
"""Tolerance for probabilities outside [0, 1], due to rounding and resampling."""
READERS = 2
"""Threads that read maps, because reading takes longer than the computation."""


class Scores(NamedTuple):
    """The scores of an ensemble, as in the workflow's uncertainty tables.

    slices: a row per slice, with volume, slice, structure_voxels and the columns of each measure. volumes: a row per
    volume, with volume and the columns of each measure.
    """

    slices: pd.DataFrame
    volumes: pd.DataFrame


def members_of(folder: Path) -> dict[str, list[Path]]:
    """Return the maps of each volume by its name: one of each member, in the order of the members' names.

    Raise UserError if there are fewer than two members, or if a member lacks a volume or has two maps of one.
    """
    members = sorted(path for path in folder.iterdir() if path.is_dir())
    maps = {member: found for member in members if (found := _maps_in(member))}
    if len(maps) < 2:
        raise UserError(
            f"{folder}: has {len(maps)} folders with maps; accepted are two or more, one per member or sample"
        )
    volumes = sorted({name for found in maps.values() for name in found})
    for member, found in maps.items():
        missing = [name for name in volumes if name not in found]
        if missing:
            raise UserError(
                f"{member}: has no map of {missing[0]} ({len(missing)} missing); accepted: all volumes in all folders"
            )
    return {name: [found[name] for found in maps.values()] for name in volumes}


def _maps_in(member: Path) -> dict[str, Path]:
    """Return the maps of a member by the names of their volumes.

    If there are .npz files, other files are ignored: they are the masks that nnU-Net derived from the maps.
    """
    files = [path for path in sorted(member.iterdir()) if _name(path)]
    packed = [path for path in files if path.name.endswith(NPZ)]
    found: dict[str, Path] = {}
    for path in packed or files:
        other = found.setdefault(_name(path), path)
        if other != path:
            raise UserError(f"{path}: {other.name} exists as well; accepted is one map per volume")
    return found


def read_map(path: Path, channel: int | None) -> tuple[np.ndarray, Grid | None]:
    """Read the probability of the structure, float32 (z, y, x), and its grid, None for .npz, which has none.

    channel: the structure's class; None: there are two classes. Raise UserError if the file is not such a map.
    """
    grid = None
    if path.name.endswith(NPZ):
        values = _of_class(path, channel)
    else:
        stored = read_file(path)
        values, grid = scaled(stored.values, stored), stored.grid
        if np.abs(grid.affine[:3, 0]).argmax() != 0:
            raise UserError(f"{path}: its third axis does not run along the patient; accepted are axial slices")
    values = np.ascontiguousarray(values, dtype=np.float32)
    low, high = float(values.min()), float(values.max())
    if not -TOLERANCE <= low <= high <= 1 + TOLERANCE:
        raise UserError(f"{path}: holds {low:.3g} to {high:.3g}; accepted are probabilities from 0 to 1")
    return np.clip(values, 0, 1, out=values), grid


def ensemble_scores(
    maps: dict[str, list[Path]],
    channel: int | None,
    dilation: int,
    measures: Collection[str] = tuple(MEASURES),
    said: Callable[[str], None] = lambda line: None,
) -> Scores:
    """Return the scores of an ensemble by `measures`; the next maps are read during the computation.

    maps: from `members_of`; dilation: see `structure_region`; said: called with the name of each finished volume. Raise
    UserError if a map is not valid.
    """
    slices, volumes = [], []
    stream = _read_all(list(maps.values()), channel)
    for name, paths in maps.items():
        found = sampled(_of_volume(name, paths, stream), measures=measures)
        region = structure_region(found.liver, dilation)
        columns = slice_profiles(found.measures, region)
        seen = slice_counts(found.liver, None)["structure_voxels"]
        rows = {"volume": name, "slice": range(len(found.liver)), "structure_voxels": seen, **columns}
        slices.append(pd.DataFrame(rows))
        volumes.append({"volume": name, **volume_scores(columns, region)})
        said(name)
    return Scores(pd.concat(slices, ignore_index=True), pd.DataFrame(volumes))


def mean_mask(paths: Sequence[Path], channel: int | None) -> tuple[np.ndarray, Grid | None]:
    """Return the mask of a volume by the mean of its maps, bool (z, y, x), and its grid if known."""
    total, grid = np.zeros(()), None
    for path in paths:
        values, grid = read_map(path, channel)
        total = total + values
    return total > LIVER * len(paths), grid


def sampled(maps: Iterable[Tensor], keep_mean: bool = False, measures: Collection[str] = tuple(MEASURES)) -> Sampled:
    """Return the measures of several maps of a volume's probability of the structure, float32 (z, y, x), on the CPU.

    Maps are processed one by one, a few slices at a time, so that intermediate results stay in the processor's cache.
    """
    running: list[RunningMoments] = []
    shape = torch.Size()
    for values in maps:
        parts = values.split(SLICES_AT_ONCE)
        if not running:
            shape, running = values.shape, [RunningMoments(not OF_THE_MEAN.issuperset(measures)) for _ in parts]
        for part, of_part in zip(parts, running, strict=True):
            of_part.add(torch.stack([1 - part, part]))
    structure = torch.empty(shape, dtype=torch.bool)
    values_of = {measure: torch.empty(shape) for measure in measures}
    mean = torch.empty((2, *shape)) if keep_mean else None
    for k, of_part in enumerate(running):
        known, place = of_part.result(), slice(k * SLICES_AT_ONCE, (k + 1) * SLICES_AT_ONCE)
        structure[place] = known.probability[1] > LIVER
        for measure, values in values_of.items():
            values[place] = MEASURES[measure](known)
        if mean is not None:
            mean[:, place] = known.probability
    return Sampled(values_of, structure, mean)


def _of_volume(name: str, paths: Sequence[Path], stream: Iterator[np.ndarray]) -> Iterator[Tensor]:
    """Yield the maps of one volume, the next of a stream; raise UserError if their shapes differ."""
    shape: tuple[int, ...] = ()
    for path in paths:
        values = next(stream)
        shape = shape or values.shape
        if values.shape != shape:
            raise UserError(f"{path}: has {values.shape} voxels, the first map of {name} {shape}")
        yield torch.from_numpy(values)


def _read_all(groups: Sequence[Sequence[Path]], channel: int | None) -> Iterator[np.ndarray]:
    """Yield all maps in turn, while the next ones are read."""
    paths = [path for group in groups for path in group]
    for _, values in read_ahead(paths, lambda path: read_map(path, channel)[0], ahead=READERS):
        yield values


def _of_class(path: Path, channel: int | None) -> np.ndarray:
    """Return one class of nnU-Net's probabilities, (z, y, x)."""
    try:
        with np.load(path, allow_pickle=False) as content:
            if PROBABILITIES not in content:
                raise UserError(f"{path}: holds {', '.join(content)}; accepted is an array called {PROBABILITIES}")
            values = content[PROBABILITIES]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: cannot be read as .npz ({one_line(error)}); is it complete?") from error
    if values.ndim != 4:
        raise UserError(f"{path}: {PROBABILITIES} has shape {values.shape}; accepted is (class, z, y, x)")
    if channel is None and len(values) != 2:
        raise UserError(f"{path}: has {len(values)} classes; --channel says which is the structure, from 0")
    chosen = 1 if channel is None else channel
    if not 0 <= chosen < len(values):
        raise UserError(f"{path}: has {len(values)} classes, and no channel {chosen}")
    return np.asarray(values[chosen])


def _name(path: Path) -> str:
    """Return the name of the volume of a map; empty if the file is not a map."""
    name = path.name.removesuffix(NPZ) if path.name.endswith(NPZ) else image_name(path)
    return name if path.is_file() else ""
