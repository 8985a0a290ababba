"""Images for annotators: slices and planes of preprocessed volumes in HU, thumbnails, and the model's masks."""

import io
import threading
from functools import lru_cache
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image
from scipy import ndimage

from ..cohort.volumes import all_volume_folders, load_preprocessed, read_canonical_mask
from .store import to_runs

AXES = ("axial", "coronal", "sagittal")
"""Planes of constant z, y and x, in the order of a volume's axes."""

THUMBNAIL = 128
"""Pixels of a thumbnail's longer side."""
THUMBNAIL_WINDOW = (-110, 190)
"""HU shown black and white in a thumbnail: abdominal soft tissue."""
OUTLINE = (255, 196, 61)
"""Colour of an answer's outline in a thumbnail, RGB."""


class Pictures:
    """The volumes of a run in the folder `results`, opened on demand; thread-safe."""

    def __init__(self, results: str | Path) -> None:
        self._results = Path(results)
        self._lock = threading.Lock()
        self._folders: dict[str, Path] = {}
        self._proposals: dict[tuple[str, str], dict[int, tuple[int, ...]]] = {}
        self._image = lru_cache(maxsize=None)(self._open)  # memory-mapped files, which take no memory
        self.plane = lru_cache(maxsize=64)(self._plane)  # a sagittal plane reads the whole file

    def shape(self, volume: str) -> tuple[int, int, int]:
        """Return the size (z, y, x) of a volume in voxels."""
        z, y, x = self._image(volume)[0].shape
        return z, y, x

    def spacing(self, volume: str) -> tuple[float, float, float]:
        """Return the spacing (z, y, x) in mm."""
        return self._image(volume)[1]

    def _plane(self, volume: str, axis: str, index: int) -> bytes:
        """Return a plane of a volume as little-endian int16 HU: (y, x), (z, x) or (z, y), by `axis`, one of `AXES`.

        Raise IndexError if the volume has no such plane.
        """
        image, along = self._image(volume)[0], AXES.index(axis)
        if not 0 <= index < image.shape[along]:
            raise IndexError(index)
        return np.take(image, index, along).astype("<i2").tobytes()

    def thumbnail(self, volume: str, index: int, mask: np.ndarray | None = None) -> bytes:
        """Return a thumbnail of a slice as PNG, with the outline of `mask`, bool (y, x)."""
        plane = np.frombuffer(self.plane(volume, "axial", index), "<i2").reshape(self.shape(volume)[1:])
        low, high = THUMBNAIL_WINDOW
        grey = np.clip((plane.astype(np.float32) - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
        _, y, x = self.spacing(volume)
        height, width = plane.shape[0] * y, plane.shape[1] * x
        size = tuple(max(round(side * THUMBNAIL / max(height, width)), 1) for side in (width, height))
        picture = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BOX).convert("RGB")).copy()
        if mask is not None:
            small = np.asarray(Image.fromarray(mask.view(np.uint8) * 255).resize(size, Image.Resampling.BOX)) > 127
            picture[small & ~ndimage.binary_erosion(small)] = OUTLINE
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG")
        return file.getvalue()

    def proposal(self, round: str, volume: str, index: int) -> tuple[int, ...] | None:
        """Return the runs (see `store.to_runs`) of the mask that the model proposes in a round; None without one."""
        with self._lock:
            key = round, volume
            if key not in self._proposals:
                path = self._results / "proposals" / round / f"{volume}.nii.gz"
                self._proposals[key] = dict(enumerate(map(to_runs, read_canonical_mask(path)))) if path.exists() else {}
            return self._proposals[key].get(index)

    def affine(self, volume: str) -> np.ndarray:
        """Return the NIfTI affine (RAS) of a volume's preprocessed file."""
        self._image(volume)
        return np.asarray(nibabel.load(self._folders[volume] / "image.nii").affine)  # type: ignore[attr-defined]

    def _open(self, volume: str) -> tuple[np.ndarray, tuple[float, float, float]]:
        """Return a volume's image (z, y, x), HU, and its spacing (z, y, x) in mm."""
        if volume not in self._folders:
            self._folders = all_volume_folders(self._results)
        preprocessed = load_preprocessed(self._folders[volume])
        return preprocessed.image, preprocessed.grid.spacing

    def known(self, volume: str) -> bool:
        """Return whether a volume has been preprocessed."""
        try:
            self._image(volume)
        except (KeyError, FileNotFoundError):
            return False
        return True
