"""Implicit surfaces of a patient: negative inside, approximately the distance in mm near the surface."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]
Vector = tuple[float, float, float]
LIVER, TUMOUR, VENA_CAVA = 1, 2, 3  # values of the label volume that `render` makes
GAS_HU = -980.0


class Points(NamedTuple):
    """Points in the reference patient in mm; `wall` is the distance to the outer surface of the muscles."""

    x: Array
    y: Array
    z: Array
    wall: Array


Distance = Callable[[Points], Array]


class Part(NamedTuple):
    """One object: the region of `box` ((low x, y, z), (high x, y, z)) with negative `distance`, and its value `hu`.

    `inside` and `outside` clip it by previous fields: name, margin in mm. `shell` limits it to a range of distances to
    the muscles' surface. `label` is its value in the label volume; None keeps the existing labels, 0 erases them.
    """

    name: str
    hu: float | Callable[[Points], Array]
    box: tuple[Vector, Vector]
    distance: Distance
    inside: tuple[tuple[str, float], ...] = ()
    outside: tuple[tuple[str, float], ...] = ()
    shell: tuple[float, float] | None = None
    label: int | None = 0


def smooth_min(a: Array, b: Array, width: float) -> Array:
    """Return the union of two surfaces, rounded over `width` mm."""
    overlap = np.maximum(width - np.abs(a - b), 0)
    return np.minimum(a, b) - overlap * overlap * (0.25 / width)


def smooth_max(a: Array, b: Array, width: float) -> Array:
    """Return the intersection of two surfaces, rounded over `width` mm."""
    overlap = np.maximum(width - np.abs(a - b), 0)
    return np.maximum(a, b) + overlap * overlap * (0.25 / width)


def ellipsoid(p: Points, centre: Vector, radii: Vector, tilt: Vector = (0, 0, 0)) -> Array:
    """Return the distance to an ellipsoid; `tilt` shears it: x with z, y with z, y with x."""
    dx, dy, dz = p.x - np.float32(centre[0]), p.y - np.float32(centre[1]), p.z - np.float32(centre[2])
    if tilt[2]:
        dy = dy - np.float32(tilt[2]) * dx
    if tilt[0]:
        dx = dx - np.float32(tilt[0]) * dz
    if tilt[1]:
        dy = dy - np.float32(tilt[1]) * dz
    u, v, w = (d * np.float32(1 / r) for d, r in zip((dx, dy, dz), radii, strict=True))
    uu, vv, ww = u * u, v * v, w * w
    squared = uu + vv + ww
    reach = np.sqrt(squared)
    gradient = np.sqrt(
        uu * np.float32(radii[0] ** -2) + vv * np.float32(radii[1] ** -2) + ww * np.float32(radii[2] ** -2)
    )
    return (squared - reach) / (gradient + np.float32(1e-6))


def capsule(p: Points, start: Vector, end: Vector, radius: float, end_radius: float) -> Array:
    """Return the distance to a tube with round ends, whose radius changes from `radius` to `end_radius`."""
    axis = np.subtract(end, start).astype(np.float32)
    per_length = axis / np.float32(max(float(axis @ axis), 1e-6))
    dx, dy, dz = p.x - np.float32(start[0]), p.y - np.float32(start[1]), p.z - np.float32(start[2])
    along = np.clip(dx * per_length[0] + dy * per_length[1] + dz * per_length[2], 0, 1)
    dx, dy, dz = dx - along * axis[0], dy - along * axis[1], dz - along * axis[2]
    return np.sqrt(dx * dx + dy * dy + dz * dz) - (np.float32(radius) + along * np.float32(end_radius - radius))


def box_around(centre: Vector, radii: Vector, tilt: Vector = (0, 0, 0)) -> tuple[Vector, Vector]:
    """Return the bounding box of an `ellipsoid`."""
    reach = (
        radii[0] + abs(tilt[0]) * radii[2],
        radii[1] + abs(tilt[1]) * radii[2] + abs(tilt[2]) * (radii[0] + abs(tilt[0]) * radii[2]),
        radii[2],
    )
    low, high = np.subtract(centre, reach), np.add(centre, reach)
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])


def blob(name: str, hu: Any, centre: Vector, radii: Vector, tilt: Vector = (0, 0, 0), **clip: Any) -> Part:
    """Return an ellipsoid as a part."""
    return Part(name, hu, box_around(centre, radii, tilt), lambda p: ellipsoid(p, centre, radii, tilt), **clip)


def tube(name: str, hu: Any, start: Vector, end: Vector, radius: float, end_radius: float, **clip: Any) -> Part:
    """Return a capsule as a part."""
    reach = max(radius, end_radius)
    (ax, ay, az), (bx, by, bz) = start, end
    box = (
        (min(ax, bx) - reach, min(ay, by) - reach, min(az, bz) - reach),
        (max(ax, bx) + reach, max(ay, by) + reach, max(az, bz) + reach),
    )
    return Part(name, hu, box, lambda p: capsule(p, start, end, radius, end_radius), **clip)


def chain(name: str, hu: Any, points: list[Vector], radii: list[float], **clip: Any) -> list[Part]:
    """Return capsules along `points` as parts."""
    return [
        tube(name, hu, a, b, r, s, **clip)
        for (a, r), (b, s) in itertools.pairwise(list(zip(points, radii, strict=True)))
    ]


def above_fluid(part: Part, level: float) -> Part:
    """Return the gas in a hollow organ: in front of y = `level`, because the patient is supine."""
    content = part.distance
    return part._replace(hu=GAS_HU, distance=lambda p: np.maximum(content(p), p.y - np.float32(level)))


def around(generator: np.random.Generator, centre: Vector, spread: float) -> Vector:
    """Return a random point near `centre`, with a standard deviation of `spread` mm."""
    x, y, z = np.asarray(centre) + spread * np.clip(generator.standard_normal(3), -2, 2)
    return float(x), float(y), float(z)
