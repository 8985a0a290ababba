"""Grids of voxels, and interpolation between grids (method of section III of the paper).

Arrays are laid out (z, y, x). World points are millimetres in the same order (z, y, x) of the patient's frame: z
towards the head, y towards the back, x towards the patient's left (LPS).
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

GRID_TOLERANCE = 0.1
"""The tolerance for equal grids in voxels at any corner: headers hold rounded numbers."""

EDGE = 1.01
"""The distance beyond the outermost voxel centres up to which the border value is used, in voxels: half a voxel to the
edge of the field, half a voxel because the extent is not a multiple of the canonical spacing, and a hundredth for
rounding."""

OBLIQUE_EDGE = 0.51
"""The same for volumes oblique to the patient's axes: the canonical grid then reaches beyond the field, which ends half
a voxel from the centres, and the border value would add a rim."""

ALIGNED = 1e-3
"""The tolerance for parallel axes in voxels, over the whole length of a grid."""

TIE = 1e-4
"""The tolerance for comparisons of interpolated mask values, or positions between two voxels, with one half: NIfTI
headers hold positions in float32, to some 3e-5 mm."""

PAPER_SPACING = (1.5, 1.0, 1.0)
"""mm (z, y, x), section III-A."""

REVERSE = np.array([[0.0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
"""Swaps (x, y, z) of files and (z, y, x) of the library, for points and indices."""


@dataclass(frozen=True, eq=False)
class Grid:
    """The positions of an array's voxels.

    `shape` is in voxels (z, y, x); `affine` (4, 4) maps a voxel index (z, y, x, 1) to millimetres (z, y, x, 1), LPS.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    @property
    def spacing(self) -> tuple[float, float, float]:
        """The distance of neighbouring voxel centres (z, y, x) in mm."""
        z, y, x = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(z), float(y), float(x)

    @property
    def tilt(self) -> float:
        """The largest deviation of the axes from right angles in degrees."""
        axes = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        cosines = np.abs((axes.T @ axes)[np.triu_indices(3, k=1)])
        return float(np.degrees(np.arcsin(np.clip(cosines.max(), 0, 1))))

    def distance(self, other: "Grid") -> float:
        """Return the largest distance of voxels with equal indices in voxels of this grid; inf for other shapes."""
        if self.shape != other.shape:
            return float("inf")
        ends = corners(self.shape)
        displaced = np.linalg.inv(self.affine) @ other.affine @ ends
        return float(np.abs(displaced - ends).max())

    def matches(self, other: "Grid") -> bool:
        """Return whether both grids have the same voxels, within `GRID_TOLERANCE`."""
        return self.distance(other) < GRID_TOLERANCE

    def to_json(self) -> str:
        """Return the grid as a JSON object with the keys shape and affine, without loss of precision."""
        return json.dumps({"shape": self.shape, "affine": self.affine.tolist()})

    @classmethod
    def from_json(cls, text: str) -> "Grid":
        """Return the grid that `to_json` wrote."""
        stored = json.loads(text)
        z, y, x = stored["shape"]
        return cls((z, y, x), np.array(stored["affine"], dtype=float))

    def __str__(self) -> str:
        """Return shape, spacing, first voxel centre and axes (z, y, x) in one line."""
        size = "x".join(str(n) for n in self.shape)
        spacing = "x".join(f"{s:.4g}" for s in self.spacing)
        origin = ", ".join(f"{c:.2f}" for c in self.affine[:3, 3])
        axes = ", ".join(
            "(" + " ".join(f"{c:.3f}" for c in column / np.linalg.norm(column)) + ")"
            for column in self.affine[:3, :3].T
        )
        return f"{size} voxels of {spacing} mm from ({origin}) mm along {axes}"


def upright(array: np.ndarray, grid: Grid) -> tuple[np.ndarray, Grid]:
    """Return a view of `array`, flipped and transposed so that its axes are nearest to the patient's z, y and x."""
    orientation = io_orientation(grid.affine)
    affine = grid.affine @ inv_ornt_aff(orientation, grid.shape)
    turned = apply_orientation(array, orientation)
    z, y, x = turned.shape
    return turned, Grid((z, y, x), affine)


def canonical_grid(grid: Grid, spacing: tuple[float, float, float]) -> Grid:
    """Return the grid along the patient's axes with `spacing` (z, y, x) in mm over the extent of `grid`.

    The lower edges of both grids coincide, and the number of voxels is rounded, so that every voxel centre lies within
    the extent. The extent of an oblique grid is its bounding box.
    """
    # Corners of the outermost voxels, half a voxel beyond their centres.
    edges = corners(grid.shape, margin=0.5)
    world = (grid.affine @ edges)[:3]
    low, high = world.min(axis=1), world.max(axis=1)
    # Round to a millionth first; otherwise the last bits would decide on half voxels.
    z, y, x = np.maximum(np.floor(np.round((high - low) / spacing, 6) + 0.5), 1).astype(int).tolist()
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = low + np.asarray(spacing) / 2
    return Grid((z, y, x), affine)


def resample(array: np.ndarray, source: Grid, target: Grid, *, fill: float) -> np.ndarray:
    """Interpolate `array` (z, y, x) on `source` linearly at the voxel centres of `target`; float32 (z, y, x).

    The border value is used up to `EDGE` voxels beyond the outermost centres, or `OBLIQUE_EDGE` if `source` is oblique,
    so that a volume neither gains nor loses a rim; beyond that the value is `fill`.
    """
    result = np.empty(target.shape, np.float32)
    for z, plane in enumerate(_planes(array, source, target, fill)):
        result[z] = plane
    return result


def resample_image(array: np.ndarray, source: Grid, target: Grid, *, fill: float) -> np.ndarray:
    """Interpolate HU like `resample`, and round them to int16, half to even."""
    result = np.empty(target.shape, np.int16)
    for z, plane in enumerate(_planes(array, source, target, fill)):
        result[z] = np.rint(plane, out=plane)
    return result


def resample_mask(mask: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """Resample a mask (z, y, x): liver where its linear interpolation exceeds one half.

    Return bool (z, y, x) on `target`, False outside `source`. A value of exactly one half is that of the nearest voxel.
    Between equally near voxels, a checkerboard on the target decides, because the same side for all would move or
    shrink every structure. The function is used in both directions, to the canonical grid and back. The result does not
    depend on the order and direction of the stored axes of either grid.
    """
    mask, source = upright(mask if mask.dtype == bool else mask != 0, source)
    result = np.empty(target.shape, bool)
    turned, target = upright(result, target)  # a view
    matrix, last = np.linalg.inv(source.affine) @ target.affine, np.array(mask.shape)[:, None] - 1
    for z, plane in enumerate(_planes(mask, source, target, 0)):
        np.greater(plane, 0.5, out=turned[z])
        y, x = np.nonzero(np.abs(plane - 0.5) <= TIE)
        position = matrix[:3] @ np.stack([np.full(len(y), z), y, x, np.ones(len(y))])
        nearest = np.rint(position + np.where(checkerboard(z, y, x), TIE, -TIE)).astype(np.intp)
        turned[z, y, x] = mask[tuple(np.clip(nearest, 0, last))]
    return result


def checkerboard(z: int, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return whether voxels are odd fields of a three-dimensional checkerboard."""
    return (z + y + x) % 2 == 1


def corners(shape: tuple[int, int, int], margin: float = 0.0) -> np.ndarray:
    """Return the indices (4, 8) of the eight corner voxels, moved outwards by `margin` voxels."""
    ends = [(-margin, n - 1 + margin) for n in shape]
    return np.array([(z, y, x, 1.0) for z in ends[0] for y in ends[1] for x in ends[2]]).T


def _planes(array: np.ndarray, source: Grid, target: Grid, fill: float) -> Iterator[np.ndarray]:
    """Yield the planes of `target`, interpolated from `array`, one at a time, to avoid a volume of floats in memory."""
    matrix = np.linalg.inv(source.affine) @ target.affine
    scale, offset = np.diag(matrix)[:3], matrix[:3, 3]
    aside = np.abs(matrix[:3, :3] - np.diag(scale)) @ np.asarray(target.shape)
    if aside.max() < ALIGNED:
        plane = _aligned(array, target.shape, scale, offset, fill)
    else:
        leaning = source.affine[:3, :3] - np.diag(np.diag(source.affine)[:3])
        edge = EDGE if np.abs(leaning).max() < ALIGNED else OBLIQUE_EDGE
        plane = _oblique(array, target.shape, matrix, fill, edge)
    return map(plane, range(target.shape[0]))


def _aligned(
    array: np.ndarray, shape: tuple[int, int, int], scale: np.ndarray, offset: np.ndarray, fill: float
) -> Callable[[int], np.ndarray]:
    """Return the interpolation of a plane axis by axis: target index i is at source index scale x i + offset."""
    (z_low, z_high, z_part), (y_low, y_high, y_part), (x_low, x_high, x_part) = (
        _neighbours(*axis) for axis in zip(array.shape, shape, scale, offset, strict=True)
    )
    outside = np.isnan(y_part)[:, None] | np.isnan(x_part)
    some_outside = bool(outside.any())
    y_part = y_part[:, None]

    def plane(z: int) -> np.ndarray:
        if np.isnan(z_part[z]):
            return np.full(shape[1:], fill, np.float32)
        low = array[z_low[z]].astype(np.float32)
        if z_part[z]:
            low = _between(low, array[z_high[z]].astype(np.float32), z_part[z])
        low = _between(low[y_low], low[y_high], y_part)
        result = _between(np.take(low, x_low, axis=1), np.take(low, x_high, axis=1), x_part)
        if some_outside:
            result[outside] = fill
        return result

    return plane


def _between(low: np.ndarray, high: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Interpolate in place in `high`, in a form that returns equal values unchanged to the last bit."""
    high -= low
    high *= part
    high += low
    return high


def _neighbours(length: int, target: int, scale: float, offset: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return lower and upper neighbour of each target index and the weight of the upper one, NaN outside the field."""
    position = scale * np.arange(target) + offset
    inside = (position >= -EDGE) & (position <= length - 1 + EDGE)
    position = np.clip(position, 0, length - 1)
    low = np.floor(position).astype(np.intp)
    part = np.where(inside, position - low, np.nan).astype(np.float32)
    return low, np.minimum(low + 1, length - 1), part


def _oblique(
    array: np.ndarray, shape: tuple[int, int, int], matrix: np.ndarray, fill: float, edge: float
) -> Callable[[int], np.ndarray]:
    """Return the interpolation of a plane in 3D: target index (z, y, x, 1) is at source index matrix x (z, y, x, 1)."""
    from scipy import ndimage  # imported late: many jobs import this module, and few resample an oblique volume

    if array.dtype == bool:
        array = array.view(np.uint8)
    last = np.asarray(array.shape).reshape(3, 1, 1) - 1
    y, x = np.arange(shape[1])[:, None], np.arange(shape[2])[None, :]
    in_plane = matrix[:3, 1, None, None] * y + matrix[:3, 2, None, None] * x

    def plane(z: int) -> np.ndarray:
        position = in_plane + (matrix[:3, 0] * z + matrix[:3, 3])[:, None, None]
        inside = ((position >= -edge) & (position <= last + edge)).all(axis=0)
        result = ndimage.map_coordinates(array, position, output=np.float32, order=1, mode="nearest")
        result[~inside] = fill
        return result

    return plane
