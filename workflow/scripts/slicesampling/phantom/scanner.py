"""Rendering of a synthetic patient: Hounsfield units and labels on a grid."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from .. import UserError
from ..jobs.randomness import generator
from .anatomy import FRONT_WALL, HARD_CASES, SIDE_WALL, TORSO, Anatomy, anatomy
from .shapes import TUMOUR, Array, Part, Points, Vector, ellipsoid, smooth_min
from .sites import FULL_MATRIX, SCAN_RANGES, SITES, Row, check_settings

LOWEST_HU, HIGHEST_HU = -1024, 3071  # twelve bits, as scanners store them


class Grid(NamedTuple):
    """Voxel centres: `shape`, `spacing` (mm) and `origin` (mm, the first voxel) in the order (z, y, x)."""

    shape: tuple[int, int, int]
    spacing: Vector
    origin: Vector


CHUNK = 1 << 19  # voxels rendered at a time: a few MB per array, so that they stay in the processor's cache


def render(
    patient: Anatomy,
    grid: Grid,
    generator: np.random.Generator,
    noise: float = 10.0,
    kernel: float = 0.8,
    padding: int = -1024,
) -> tuple[Array, Array]:
    """Sample `patient` on `grid`; return Hounsfield units (int16) and labels (uint8), both (z, y, x).

    Labels are `LIVER`, `TUMOUR` (inside the liver), `VENA_CAVA`, and 0 elsewhere. noise: standard deviation in HU;
    kernel: its blur in mm; padding: HU of the corners outside the scanner's circle. The memory is that of the two
    results and a few slices.
    """
    slices, rows, columns = grid.shape
    hu = np.empty(grid.shape, np.int16)
    labels = np.empty(grid.shape, np.uint8)
    dz, dy, dx = grid.spacing
    oz, oy, ox = grid.origin
    x1 = (ox + dx * np.arange(columns)).astype(np.float32)
    y1 = (oy + dy * np.arange(rows)).astype(np.float32)
    radius = 0.5 * columns * dx
    corners = np.hypot(*np.meshgrid(y1 - y1.mean(), x1 - x1.mean(), indexing="ij")) > radius
    sigma = kernel / dx
    # Blurring reduces the variance: divide by the root of the sum of squared weights, measured on an impulse.
    impulse = np.zeros((65, 65), np.float32)
    impulse[32, 32] = 1
    gain = noise / float(np.sqrt((ndimage.gaussian_filter(impulse, sigma) ** 2).sum()))
    memory = np.float32(np.exp(-dz / 1.5))  # slices closer than about 1.5 mm share noise
    previous: Array = generator.standard_normal((rows, columns), dtype=np.float32)
    step = max(1, CHUNK // (rows * columns))
    for first in range(0, slices, step):
        last = min(first + step, slices)
        z1 = (oz + dz * np.arange(first, last)).astype(np.float32)
        values, labels[first:last], depth = _render_slices(patient, z1, y1, x1, grid.spacing)
        fresh: Array = np.asarray(generator.standard_normal(values.shape, dtype=np.float32))
        for layer in fresh:
            layer *= np.sqrt(1 - memory**2)
            layer += memory * previous
            previous = layer.copy()
        if sigma > 0.3:
            ndimage.gaussian_filter(fresh, (0, sigma, sigma), output=fresh, truncate=2.5)
        # Noise is stronger where more tissue absorbs, in the middle of the body, and weak in air.
        fresh *= np.float32(gain) * (np.float32(0.45) + np.clip(depth * np.float32(-1 / 110), 0, 0.75))
        values += fresh
        np.clip(values, LOWEST_HU, HIGHEST_HU, out=values)
        values[:, corners] = padding
        hu[first:last] = np.rint(values)
    return hu, labels


def _displacement(patient: Anatomy, z: Array, y: Array, x: Array) -> tuple[Array, Array, Array]:
    """Return the smooth displacement (x, y, z components) in mm, each (z, y, x), as sums of products of waves."""
    components = []
    for waves in np.moveaxis(patient.waves, 1, 0):
        amplitude, kx, ky, kz, px, py, pz = waves.T[..., None].astype(np.float32)
        plane = np.sin(ky * y + py)[:, :, None] * np.sin(kx * x + px)[:, None, :]
        along = amplitude * np.sin(kz * z + pz)
        components.append((along.T @ plane.reshape(len(plane), -1)).reshape(len(z), len(y), len(x)))
    return components[0], components[1], components[2]


def _render_slices(patient: Anatomy, z1: Array, y1: Array, x1: Array, spacing: Vector) -> tuple[Array, Array, Array]:
    """Render some slices without noise; return HU, labels and the distance to the skin in mm."""
    shape = len(z1), len(y1), len(x1)
    # Scanner → reference patient.
    sx, sy, sz = patient.scale
    cos, sin = np.cos(patient.rotation), np.sin(patient.rotation)
    breath = patient.motion * np.sin(2 * np.pi * np.floor(z1 / 9) * 9 / 41)  # mm; in steps, as the couch advances
    px = (x1 - patient.shift[0])[None, None, :]
    py = (y1 - patient.shift[1])[None, :, None] - breath[:, None, None].astype(np.float32)
    bx = (cos * px + sin * py) / sx
    by = (cos * py - sin * px) / sy
    bz = (z1 + 0.6 * breath.astype(np.float32)) / sz
    ux, uy, uz = _displacement(patient, bz, y1 / sy, x1 / sx)
    x, y, z = (bx + ux).astype(np.float32), (by + uy).astype(np.float32), bz[:, None, None].astype(np.float32) + uz
    # Edges are as wide as a voxel, for partial volume effects instead of steps.
    gap, pixel = spacing[0], spacing[2]
    edge = np.float32((sx + sy) / 2 / (1.1 * max(pixel, 0.6 * gap)))

    def coverage(distance: Array) -> Array:
        share = distance * -edge
        share += np.float32(0.5)
        return np.clip(share, 0, 1, out=share)

    # Torso.
    a = (patient.girth * np.interp(bz, TORSO[:, 0], TORSO[:, 1])).astype(np.float32)[:, None, None]
    b = (patient.girth * np.interp(bz, TORSO[:, 0], TORSO[:, 2])).astype(np.float32)[:, None, None]
    u, v = x / a, y / b
    u *= u
    v *= v
    q = np.sqrt(np.sqrt(u * u + v * v + np.float32(patient.squareness) * u * v)) + np.float32(1e-4)
    wall = np.sqrt(x * x + y * y)
    wall -= wall / q
    groove = np.exp(-((x1 / sx - 0) ** 2) / 300)[None, None, :] * np.clip(y1 / sy / 20, 0, 1)[None, :, None]
    wall += np.float32(6) * groove.astype(np.float32)
    front = np.clip(0.5 - y1 / sy / 180, 0, 1)[None, :, None]
    sideways = np.clip(np.abs(x1) / sx / 130, 0, 1)[None, None, :]
    belly = np.interp(bz, [-420, -330, -150, 0, 100], [1.5, 1.6, 1.15, 0.8, 0.7])[:, None, None]
    fat = patient.fat * belly * (0.55 + 0.5 * front + 0.35 * sideways)
    breast = np.exp(-(((np.abs(x1) / sx - 72) / 42) ** 2))[None, None, :] * np.clip(-y1 / sy / 70, 0, 1)[None, :, None]
    fat = fat + patient.breasts * breast * np.exp(-(((bz - 45) / 42) ** 2))[:, None, None]
    skin = wall - fat.astype(np.float32)
    thickness = FRONT_WALL + (SIDE_WALL - FRONT_WALL) * sideways * np.ones_like(front)
    inner = wall + thickness.astype(np.float32)
    if bz[-1] > 60:  # the shoulders surround the dome of the ribs
        inner = np.maximum(inner, ellipsoid(Points(x, y, z, wall), (0, 2, 60), (128, 97, 165)))
    muscles = _section(x1 / sx, (-75, 75)), _section(y1 / sy, (30, 140))
    near = np.s_[:, muscles[1], muscles[0]]
    spread = np.interp(bz, [-420, -300, -150, 0, 100], [75, 66, 60, 54, 50]).astype(np.float32)[:, None, None]
    back = np.sqrt((x[near] / spread) ** 2 + ((y[near] - 96) / 42) ** 2)
    inner[near] = np.maximum(inner[near], (1 - back) * 42)
    if bz[0] > 45 or bz[-1] < -200:  # far from the diaphragm only the sign matters
        abdomen = z + np.float32(60)
    else:
        dome_right = ellipsoid(Points(x, y, z, wall), (-57, -4, -112), (94, 104, 114))
        dome_left = ellipsoid(Points(x, y, z, wall), (58, 0, -120), (88, 100, 110))
        abdomen = smooth_min(dome_right, dome_left, 40)
        abdomen = smooth_min(abdomen, z + (92 + np.float32(0.42) * y), 22)

    # Air, table, skin, fat, muscles, cavity.
    values = np.full(shape, -1000, np.float32)
    _paint_table(values, patient, y1, x1)
    for distance, value in ((skin, 5.0), (skin + 2, -104.0), (wall, patient.muscle_hu), (inner, -100.0)):
        share = coverage(distance)
        values += share * (np.float32(value) - values)
    share = coverage(np.maximum(inner, np.abs(abdomen - 1) - 2)) * (z > -170)
    values += share * (np.float32(patient.muscle_hu) - values)

    fields = {"cavity": inner, "abdomen": abdomen, "liver": np.full(shape, 1e3, np.float32)}
    labels = np.zeros(shape, np.uint8)
    for part, where in _reached(patient, z1, y1, x1, 1 / float(edge)):
        if part.shell:
            chosen = np.nonzero((wall[where] > part.shell[0]) & (wall[where] < part.shell[1]))
            where = tuple(c + s.start for c, s in zip(chosen, where, strict=True))
        points = Points(x[where], y[where], z[where], wall[where])
        distance = part.distance(points)
        for name, clearance in part.inside:
            distance = np.maximum(distance, fields[name][where] + np.float32(clearance))
        for name, clearance in part.outside:
            distance = np.maximum(distance, np.float32(clearance) - fields[name][where])
        if part.name == "liver":
            fields["liver"][where] = distance
        if part.label is not None:
            inside = distance < 0
            current = labels[where]
            if part.label == TUMOUR:
                inside &= current > 0
            current[inside] = part.label
            labels[where] = current
        share = coverage(distance)
        shade: Array = np.asarray(part.hu(points) if callable(part.hu) else part.hu, np.float32)
        old: Array = values[where]
        old += share * (shade - old)
        values[where] = old
    if patient.metal:
        _add_streaks(values, patient, z1, y1, x1, skin)
    if patient.motion:
        ghost = max(1, round(patient.motion / pixel))
        values[:] = 0.65 * values + 0.35 * np.roll(values, ghost, axis=1)
    return values, labels, skin


def _section(axis: Array, limits: tuple[float, float]) -> slice:
    """Return the part of an ascending axis between two limits."""
    first, last = np.searchsorted(axis, limits)
    return slice(int(first), int(last))


def _reached(patient: Anatomy, z1: Array, y1: Array, x1: Array, blur: float) -> Iterator[tuple[Part, Any]]:
    """Yield each part that overlaps these voxel centres (mm), with the block of voxels around its box."""
    boxes = np.array([part.box for part in patient.parts], float)  # (part, low or high, x y z)
    scale = np.array(patient.scale)
    # Boxes are defined before deformation and breathing: add the largest displacement, and rotate them.
    margin = np.abs(patient.waves[..., 0]).sum(axis=0) + blur + 1 + patient.motion / scale
    middle, half = boxes.mean(axis=1) * scale, ((boxes[:, 1] - boxes[:, 0]) / 2 + margin) * scale
    cos, sin = np.cos(patient.rotation), np.sin(patient.rotation)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    middle, half = middle @ turn.T + np.array([*patient.shift, 0.0]), half @ np.abs(turn.T)
    ends = [
        (
            np.searchsorted(axis, middle[:, i] - half[:, i]).tolist(),
            np.searchsorted(axis, middle[:, i] + half[:, i]).tolist(),
        )
        for i, axis in ((2, z1), (1, y1), (0, x1))
    ]
    for index, part in enumerate(patient.parts):
        block = tuple(slice(first[index], last[index]) for first, last in ends)
        if all(s.start < s.stop for s in block):
            yield part, block


def _paint_table(values: Array, patient: Anatomy, y1: Array, x1: Array) -> None:
    """Paint the table: two curved plates with foam between, behind the patient, not deformed with the patient."""
    top = patient.shift[1] + 104 * patient.scale[1] + 0.5 * patient.fat + 10
    x, y = x1[None, :], y1[:, None]
    plate = top - 34 * (x / 210) ** 2
    bottom = top + 26 - 42 * (x / 210) ** 2
    pixel = float(x1[1] - x1[0])
    for surface, value in (
        (np.maximum(plate - y, y - bottom), -940.0),
        (np.abs(y - plate) - 1.2, 40.0),
        (np.abs(y - bottom) - 1.2, 40.0),
    ):
        share = np.clip(0.5 - np.maximum(surface, np.abs(x) - 205) / pixel, 0, 1).astype(np.float32)
        values += share * (np.float32(value) - values)


def _add_streaks(values: Array, patient: Anatomy, z1: Array, y1: Array, x1: Array, skin: Array) -> None:
    """Add bright and dark rays from each piece of metal, in the slices that it crosses."""
    body = np.clip(-skin / 10, 0, 1)
    for number, (mx, my, mz) in enumerate(patient.metal):
        weight = np.exp(-(((z1 / patient.scale[2] - mz) / 7) ** 2)).astype(np.float32)
        for index in np.flatnonzero(weight > 0.05):
            dx = x1[None, :] - mx * patient.scale[0] - patient.shift[0]
            dy = y1[:, None] - my * patient.scale[1] - patient.shift[1]
            angle, reach = np.arctan2(dy, dx), np.hypot(dx, dy)
            rays = np.sin(9 * angle + number) + np.sin(14 * angle + 2 * number) + 0.8 * np.sin(23 * angle + 3 * number)
            dark = -1.6 * np.exp(-((np.sin(angle) * 7) ** 2))
            values[index] += weight[index] * body[index] * 85 * (rays + dark) * np.exp(-reach / 75)


class Scan(NamedTuple):
    """A patient and its acquisition."""

    patient: Anatomy
    grid: Grid
    phase: str
    noise: float


def scan_of(row: Row, settings: Mapping[str, Any]) -> Scan:
    """Draw the patient and the acquisition of a row of the plan, which depend only on (seed, volume)."""
    check_settings(settings)
    site = SITES[row["site"]]
    volume = row["volume"]
    hard_case = row["hard_case"] if isinstance(row["hard_case"], str) else ""
    if hard_case and hard_case not in HARD_CASES:
        raise UserError(f"phantom: {volume}: unknown hard_case {hard_case!r}; there are {', '.join(HARD_CASES)}")
    draw = generator(settings["seed"], volume, "acquisition")
    phase = str(draw.choice(site.phase))
    noise = float(draw.uniform(*site.noise))
    patient = anatomy(generator(settings["seed"], volume, "anatomy"), hard_case, phase, site.tumours, site.stoutness)
    width = 2 * (150 * patient.scale[0] + 1.3 * patient.fat) + draw.uniform(10, 50)
    field_of_view = float(np.clip(width, *site.field_of_view))
    matrix = settings["matrix"]
    pixel = field_of_view / matrix
    protocol = float(draw.choice(site.slice_thickness))
    top, bottom = (draw.uniform(*ends) * patient.scale[2] for ends in SCAN_RANGES[str(draw.choice(site.scan))])
    length = float(np.clip((top - bottom) / protocol, *site.slices)) * protocol
    # A coarser matrix also has thicker slices, up to the width of a pixel.
    thickness = max(protocol, min(protocol * FULL_MATRIX / matrix, pixel))
    slices = max(1, round(length / thickness))
    middle = field_of_view / 2 - pixel / 2
    grid = Grid((slices, matrix, matrix), (thickness, pixel, pixel), (top - thickness * (slices - 1), -middle, -middle))
    return Scan(patient, grid, phase, noise)


def render_row(row: Row, settings: Mapping[str, Any]) -> tuple[Array, Array, Grid]:
    """Render a row of the plan; return Hounsfield units, labels (see `render`) and grid."""
    scan = scan_of(row, settings)
    site = SITES[row["site"]]
    draw = generator(settings["seed"], row["volume"], "noise")
    hu, labels = render(scan.patient, scan.grid, draw, scan.noise, site.kernel, site.padding)
    return hu, labels, scan.grid
