"""Stored volumes on the canonical grid, and masks; all arrays are (z, y, x), see `scans`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

from .. import NOT_ANNOTATED
from ..jobs import files
from .formats import gridded, read_file, read_nifti
from .grids import Grid, upright

VOXEL_BYTES = 3
"""Bytes per voxel of a preprocessed volume: HU as int16, the mask as uint8."""


@dataclass(frozen=True)
class Preprocessed:
    """One volume on the canonical grid.

    `image` is int16 HU and `mask` uint8 (1 liver, 0 elsewhere, `NOT_ANNOTATED` on all voxels of slices that are not
    annotated), both (z, y, x) on `grid`. `native_grid` is the grid of the original file. `native_mask` is the mask on
    it; it is None without a mask, and after loading, because it is compressed, see `load_native_mask`.
    """

    image: np.ndarray
    mask: np.ndarray
    grid: Grid
    native_grid: Grid
    native_mask: np.ndarray | None = None


def annotated(mask: np.ndarray) -> np.ndarray:
    """Return which slices of a preprocessed mask (z, y, x) are annotated, bool (z,)."""
    return np.asarray(mask[:, 0, 0] != NOT_ANNOTATED)


def save_preprocessed(folder: str | Path, preprocessed: Preprocessed) -> None:
    """Write image.nii, mask.nii, native_grid.json and, if there is a mask, native_mask.nii.gz into `folder`.

    Files that are read often are not compressed, so that `load_preprocessed` can map them into memory.
    """
    with files.replacing(folder) as temporary:
        temporary.mkdir()
        nibabel.save(gridded(preprocessed.image, preprocessed.grid), temporary / "image.nii")
        nibabel.save(gridded(preprocessed.mask, preprocessed.grid), temporary / "mask.nii")
        if preprocessed.native_mask is not None:
            write_mask(temporary / "native_mask.nii.gz", preprocessed.native_mask, preprocessed.native_grid)
        (temporary / "native_grid.json").write_text(preprocessed.native_grid.to_json(), encoding="utf-8")


def load_preprocessed(folder: str | Path) -> Preprocessed:
    """Open a volume that `save_preprocessed` wrote; image and mask are memory-mapped."""
    folder = Path(folder)
    image, mask = (read_nifti(folder / name) for name in ("image.nii", "mask.nii"))
    native_grid = Grid.from_json((folder / "native_grid.json").read_text(encoding="utf-8"))
    return Preprocessed(image.values, mask.values, image.grid, native_grid)


def load_native_mask(folder: str | Path) -> np.ndarray:
    """Read the reference mask on its native grid, bool (z, y, x), of a volume that `save_preprocessed` wrote."""
    return read_file(Path(folder) / "native_mask.nii.gz").values != 0


def volume_folders(shards: Iterable[str | Path]) -> dict[str, Path]:
    """Return the folder of each preprocessed volume in `shards`, folders with one folder per volume."""
    return {folder.name: folder for shard in shards for folder in Path(shard).iterdir() if folder.is_dir()}


def all_volume_folders(results: str | Path) -> dict[str, Path]:
    """Return the folder of each volume that a run in the folder `results` has preprocessed."""
    return volume_folders((Path(results) / "preprocessed").glob("shard*[0-9]"))


def available(volumes: Iterable[str], folders: Mapping[str, Path]) -> list[str]:
    """Return those of `volumes` that have a preprocessed folder: all unless faulty ones are excluded (on_fault)."""
    return [volume for volume in volumes if volume in folders]


def write_mask(path: str | Path, mask: np.ndarray, grid: Grid) -> None:
    """Write a mask (z, y, x) on `grid` as a uint8 NIfTI file, compressed if `path` ends in .gz."""
    with files.replacing(path) as temporary:
        nibabel.save(gridded((mask != 0).astype(np.uint8), grid), temporary)


def stored_grid(path: str | Path) -> Grid:
    """Return the grid of an image file along its stored axes, reversed to (z, y, x)."""
    return read_file(Path(path)).grid


def read_canonical_mask(path: str | Path) -> np.ndarray:
    """Return a mask that `write_mask` wrote on a canonical grid, bool (z, y, x)."""
    stored = read_file(Path(path))
    return np.ascontiguousarray(upright(stored.values, stored.grid)[0]) != 0
