"""A synthetic multi-site abdominal CT cohort in real file formats: the data set of the demo and of the tests.

No voxel of it comes from a patient. The anatomy is a list of implicit surfaces in the coordinates of a reference
patient (mm; x to the left, y to the back, z to the head; z = 0 at the right dome of the diaphragm), bent by a smooth
displacement, so that any grid can sample it. Every volume depends on (seed, volume) alone.

The numbers in the anatomy below are positions and half axes in mm of that reference patient, set by eye against
clinical CT; Hounsfield units are those of `ENHANCEMENT` and of textbooks.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import nibabel
import numpy as np
import pandas as pd
import pydicom
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy import ndimage

from .. import UserError
from ..jobs.files import replacing
from ..jobs.randomness import generator

Array: TypeAlias = np.ndarray[Any, Any]
Vector = tuple[float, float, float]
Row: TypeAlias = Mapping[str, Any] | pd.Series  # of the table that `plan_cohort` makes

FULL_MATRIX = 512  # pixels a side of a clinical CT slice
LIVER, TUMOUR, VENA_CAVA = 1, 2, 3  # values of the label volume that `render` makes
GAS_HU = -980.0
LOWEST_HU, HIGHEST_HU = -1024, 3071  # twelve bits, as scanners store them
HARD_CASES = ("polycystic liver", "resected liver", "large tumour", "fatty liver", "metal streaks", "motion")
EXCLUSIONS = ("inferior vena cava included in the reference mask", "poor quality of the reference mask")
SPLIT_LETTERS = {"pool": "p", "val": "v", "test": "t"}
EXCLUDED_LETTER = "x"


class Site(NamedTuple):
    """How a site acquires and stores its CT; lengths in mm.

    `field_of_view` (pixel size × 512), `slice_thickness`, `slices` and `pool`, `val`, `test` follow Table 1 of the
    paper; the field of view is fitted to the patient within its range. `scan` names the range in `SCAN_RANGES`, `phase`
    the contrast phase in `PHASES`. `noise` is the standard deviation in HU in a soft-tissue organ, `kernel` that
    of the noise's blur in mm. `orientation` is the direction in which the stored axes grow. `padding` is
    the value in HU outside the scanner's circle. `stoutness` is the range of the patients' size, `tumours` the most
    lesions of an ordinary liver.
    """

    pool: int
    val: int
    test: int
    field_of_view: tuple[float, float]
    slice_thickness: tuple[float, ...]
    slices: tuple[int, int]
    scan: tuple[str, ...]
    phase: tuple[str, ...]
    noise: tuple[float, float]
    kernel: float
    file_format: str
    slope: float
    intercept: float
    orientation: str
    padding: int
    stoutness: tuple[float, float]
    tumours: int


SITES: dict[str, Site] = {
    "yokohama": Site(
        119, 2, 97, (290.0, 410.0), (0.8, 1.0, 1.25, 1.6), (170, 376), ("abdomen",), ("arterial", "portal venous"),
        (9.0, 16.0), 0.8, ".nii.gz", 1.0, -1024.0, "LPS", -1024, (0.88, 1.02), 2,
    ),
    "rumc": Site(
        46, 2, 52, (307.0, 512.0), (0.7, 1.0, 1.5), (378, 1057), ("trunk",), ("portal venous",),
        (10.0, 18.0), 0.9, ".nii.gz", 1.0, 0.0, "RAS", -1024, (0.95, 1.18), 1,
    ),
    "dresden": Site(
        36, 2, 42, (307.0, 461.0), (0.5, 1.0, 2.0, 5.0), (71, 1160), ("abdomen", "trunk"), ("native", "portal venous"),
        (8.0, 20.0), 0.7, ".nii.gz", 0.5, -1024.0, "LAS", -2048, (0.95, 1.18), 1,
    ),
    "lits": Site(
        31, 2, 33, (307.0, 512.0), (0.7, 1.0, 2.0, 5.0), (74, 987), ("abdomen", "trunk"),
        ("arterial", "portal venous", "native"), (8.0, 20.0), 1.0, ".nii", 1.0, 0.0, "RAI", -1024, (0.9, 1.15), 4,
    ),
    "chaos": Site(
        8, 2, 10, (307.0, 410.0), (1.0, 1.5, 2.0), (81, 266), ("abdomen",), ("portal venous",),
        (9.0, 15.0), 0.7, "dicom", 1.0, -1000.0, "LPS", -1000, (0.88, 1.02), 0,
    ),
}  # fmt: skip

# From where to where a scan reaches, in mm of the reference patient: range of the upper end, range of the lower end.
SCAN_RANGES = {"abdomen": ((22.0, 50.0), (-310.0, -190.0)), "trunk": ((170.0, 215.0), (-455.0, -430.0))}

PHASES = ("native", "arterial", "portal venous")
# Hounsfield units of each tissue in the three phases.
ENHANCEMENT: dict[str, Vector] = {
    "liver": (58, 72, 112),
    "portal vein": (42, 95, 165),
    "hepatic vein": (42, 48, 155),
    "spleen": (50, 112, 122),
    "kidney cortex": (33, 175, 185),
    "kidney medulla": (30, 80, 168),
    "artery": (42, 290, 155),
    "vena cava": (42, 62, 135),
    "heart": (42, 190, 150),
    "myocardium": (45, 100, 110),
    "pancreas": (42, 105, 98),
    "stomach wall": (42, 75, 88),
    "bowel wall": (40, 72, 92),
    "muscle": (55, 58, 64),
    "tumour": (38, 66, 62),
}


# ---------------------------------------------------------------------------------------------------------------------
# Implicit surfaces: negative inside, about the distance in mm near the surface.
# ---------------------------------------------------------------------------------------------------------------------


class Points(NamedTuple):
    """Places in the reference patient in mm; `wall` is the distance to the outer surface of the muscles."""

    x: Array
    y: Array
    z: Array
    wall: Array


Distance = Callable[[Points], Array]


class Part(NamedTuple):
    """One thing to paint: where `distance` is negative inside `box` ((low x, y, z), (high x, y, z)), of value `hu`.

    `inside` and `outside` clip it by fields made before: name, margin in mm. `shell` limits it to a range of the
    distance to the muscles' surface. `label` is what it writes to the label volume: None leaves it, 0 erases.
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
    """Union of two surfaces, rounded over `width` mm."""
    overlap = np.maximum(width - np.abs(a - b), 0)
    return np.minimum(a, b) - overlap * overlap * (0.25 / width)


def smooth_max(a: Array, b: Array, width: float) -> Array:
    """Intersection of two surfaces, rounded over `width` mm."""
    overlap = np.maximum(width - np.abs(a - b), 0)
    return np.maximum(a, b) + overlap * overlap * (0.25 / width)


def ellipsoid(p: Points, centre: Vector, radii: Vector, tilt: Vector = (0, 0, 0)) -> Array:
    """Ellipsoid; `tilt` shears it: x with z, y with z, y with x."""
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
    """Tube from `start` to `end` with round ends, its radius going from `radius` to `end_radius`."""
    axis = np.subtract(end, start).astype(np.float32)
    per_length = axis / np.float32(max(float(axis @ axis), 1e-6))
    dx, dy, dz = p.x - np.float32(start[0]), p.y - np.float32(start[1]), p.z - np.float32(start[2])
    along = np.clip(dx * per_length[0] + dy * per_length[1] + dz * per_length[2], 0, 1)
    dx, dy, dz = dx - along * axis[0], dy - along * axis[1], dz - along * axis[2]
    return np.sqrt(dx * dx + dy * dy + dz * dz) - (np.float32(radius) + along * np.float32(end_radius - radius))


def box_around(centre: Vector, radii: Vector, tilt: Vector = (0, 0, 0)) -> tuple[Vector, Vector]:
    """Box of an `ellipsoid`."""
    reach = (
        radii[0] + abs(tilt[0]) * radii[2],
        radii[1] + abs(tilt[1]) * radii[2] + abs(tilt[2]) * (radii[0] + abs(tilt[0]) * radii[2]),
        radii[2],
    )
    low, high = np.subtract(centre, reach), np.add(centre, reach)
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])


def blob(name: str, hu: Any, centre: Vector, radii: Vector, tilt: Vector = (0, 0, 0), **clip: Any) -> Part:
    """An ellipsoid to paint."""
    return Part(name, hu, box_around(centre, radii, tilt), lambda p: ellipsoid(p, centre, radii, tilt), **clip)


def tube(name: str, hu: Any, start: Vector, end: Vector, radius: float, end_radius: float, **clip: Any) -> Part:
    """A capsule to paint."""
    reach = max(radius, end_radius)
    (ax, ay, az), (bx, by, bz) = start, end
    box = (
        (min(ax, bx) - reach, min(ay, by) - reach, min(az, bz) - reach),
        (max(ax, bx) + reach, max(ay, by) + reach, max(az, bz) + reach),
    )
    return Part(name, hu, box, lambda p: capsule(p, start, end, radius, end_radius), **clip)


def chain(name: str, hu: Any, points: list[Vector], radii: list[float], **clip: Any) -> list[Part]:
    """Capsules along `points`."""
    return [
        tube(name, hu, a, b, r, s, **clip)
        for (a, r), (b, s) in itertools.pairwise(list(zip(points, radii, strict=True)))
    ]


def above_fluid(part: Part, level: float) -> Part:
    """The gas in a hollow organ: in front of y = `level`, because the patient lies on the back."""
    content = part.distance
    return part._replace(hu=GAS_HU, distance=lambda p: np.maximum(content(p), p.y - np.float32(level)))


def around(generator: np.random.Generator, centre: Vector, spread: float) -> Vector:
    """A place near `centre`, with `spread` mm of standard deviation."""
    x, y, z = np.asarray(centre) + spread * np.clip(generator.standard_normal(3), -2, 2)
    return float(x), float(y), float(z)


def spine_y(z: Any) -> Any:
    """Middle of the vertebral bodies: lumbar lordosis, thoracic kyphosis."""
    return 39 - 8 * np.cos((z + 230) / 93)


# ---------------------------------------------------------------------------------------------------------------------
# Anatomy
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Anatomy:
    """One patient: what to paint, and how the reference patient is bent, scaled and laid on the table."""

    parts: list[Part]
    scale: Vector  # x, y, z
    rotation: float  # rad, about z
    shift: tuple[float, float]  # mm, x and y of the body's axis from the middle of the field of view
    waves: Array  # (modes, 3 components, amplitude and wave numbers and phases): see `displacement`
    fat: float  # mm of subcutaneous fat
    breasts: float  # mm
    muscle_hu: float
    girth: float  # of the torso around the organs, relative to the reference patient
    squareness: float  # of the torso's outline: 2 is an ellipse, 0 is square
    hu: dict[str, float] = field(default_factory=dict)
    motion: float = 0.0  # mm
    metal: tuple[Vector, ...] = ()


# z of the reference patient, half width and half depth of the muscles' surface there.
TORSO = np.array(
    [
        (-480, 165, 96), (-420, 166, 101), (-370, 158, 102), (-310, 144, 98), (-250, 136, 94), (-180, 138, 96),
        (-110, 142, 100), (-50, 145, 104), (20, 145, 106), (90, 142, 103), (150, 146, 94), (200, 152, 82),
        (260, 125, 66),
    ],
    dtype=np.float64,
)  # fmt: skip
FRONT_WALL, SIDE_WALL = 8.0, 13.0  # mm from the muscles' surface to the cavity
RIB_PITCH, LOWEST_RIB = 29.0, -122.0  # mm; height of the twelfth rib at the spine
VERTEBRA_PITCH = 33.0


def anatomy(
    generator: np.random.Generator,
    hard_case: str = "",
    phase: str = "portal venous",
    tumours: int = 0,
    stoutness: tuple[float, float] = (0.95, 1.1),
) -> Anatomy:
    """Draw a patient.

    `hard_case` is one of `HARD_CASES` or empty, `phase` one of `PHASES`, `tumours` the most lesions of an ordinary
    liver, `stoutness` the range of the patient's size relative to the reference patient. The same generator state
    gives the same patient.
    """
    bending, build, wobble = (np.random.default_rng(s) for s in generator.integers(0, 2**62, 3))
    size = build.uniform(*stoutness)
    column = PHASES.index(phase)
    hu = {tissue: values[column] * build.uniform(0.93, 1.07) for tissue, values in ENHANCEMENT.items()}
    if hard_case == "fatty liver":
        hu["liver"] -= build.uniform(35, 50)
    scale = (size * build.uniform(0.97, 1.03), size * build.uniform(0.96, 1.04), size**0.5 * build.uniform(0.95, 1.06))
    modes = 5
    waves = np.empty((modes, 3, 7))
    waves[..., 0] = bending.normal(0, 2.6, (modes, 3))  # mm
    waves[..., 1:4] = 2 * np.pi / bending.uniform(130, 320, (modes, 3, 3)) * bending.choice([-1, 1], (modes, 3, 3))
    waves[..., 4:7] = bending.uniform(0, 2 * np.pi, (modes, 3, 3))
    waves[:, :, [0]] *= np.array([1.0, 0.8, 1.0])[None, :, None]
    metal: tuple[Vector, ...] = ()
    if hard_case == "metal streaks":
        z = float(build.uniform(-120, -40))
        metal = tuple((side * 17.0, float(spine_y(z)) + 8, z + dz) for side in (-1, 1) for dz in (0.0, VERTEBRA_PITCH))
    parts = [
        *_thorax(wobble, hu),
        *_liver(wobble, hu, hard_case, tumours),
        *_upper_abdomen(wobble, hu, hard_case),
        *_bowel(wobble, hu),
        *_skeleton(wobble),
        *(tube("metal", 3000.0, (x, y - 22, z), (x, y + 18, z), 3.0, 3.5, label=None) for x, y, z in metal),
    ]
    return Anatomy(
        parts=parts,
        scale=scale,
        rotation=float(build.normal(0, 0.03)),
        shift=(float(build.normal(0, 5)), float(build.normal(0, 4))),
        waves=waves,
        fat=float(build.uniform(6, 14) + 30 * max(0.0, size - 0.95)),
        breasts=float(build.choice([0.0, 14.0, 26.0])),
        muscle_hu=hu["muscle"],
        girth=float(build.uniform(0.93, 1.03)),
        squareness=float(build.uniform(1.0, 1.5)),
        hu=hu,
        motion=float(build.uniform(2.5, 4.5)) if hard_case == "motion" else 0.0,
        metal=metal,
    )


def _thorax(rng: np.random.Generator, hu: Mapping[str, float]) -> list[Part]:
    """Lungs with vessels, heart, great vessels, oesophagus, trachea."""
    heart = around(rng, (24, -42, 28), 3)
    size = rng.uniform(0.93, 1.07)
    radii = (64 * size, 49 * size, 58 * size)
    tilt = (-0.25, 0.0, -0.2)

    def mediastinum(p: Points) -> Array:
        middle = np.sqrt(((p.x - 3) / 30) ** 2 + ((p.y + 8) / 92) ** 2)
        front = (middle - 1) * np.float32(30) + np.maximum(60 - p.z, 0) * 0.12
        back = np.hypot(p.x - 2, p.y - spine_y(p.z) + 6) - 31
        around_heart = ellipsoid(p, heart, (radii[0] + 5, radii[1] + 5, radii[2] + 5), tilt)
        return smooth_min(smooth_min(front, back, 12), around_heart, 10)

    chest = (-160.0, -120.0, -140.0), (160.0, 120.0, 260.0)
    lung = (("cavity", 1.5),)
    above = (("abdomen", 0.5),)
    parts = [
        Part("lung", lambda p: -845 + 70 * (p.y / 100), chest, lambda p: -mediastinum(p), inside=lung, outside=above)
    ]
    for side in (-1, 1):
        hilum = np.array([side * 32.0, 12.0, 75.0])
        lung_vessels: dict[str, Any] = {"inside": (("cavity", 4.0),), "outside": (("abdomen", 4.0),)}
        for _ in range(26):
            direction = np.array([side * rng.uniform(0.2, 1), rng.normal(0, 0.7), rng.normal(-0.45, 0.8)])
            tip = hilum + direction / np.linalg.norm(direction) * rng.uniform(50, 135)
            middle = hilum + (tip - hilum) * 0.5 + rng.normal(0, 9, 3)
            stem = rng.uniform(2.2, 4.5)
            parts += chain(
                "lung vessel", 30.0, [tuple(hilum), tuple(middle), tuple(tip)], [stem, stem * 0.6, 0.7], **lung_vessels
            )
            for _ in range(2):
                twig = middle + rng.normal(0, 26, 3)
                parts.append(tube("lung vessel", 30.0, tuple(middle), tuple(twig), stem * 0.45, 0.6, **lung_vessels))
    hx, hy, hz = heart
    parts += [
        blob("heart", hu["myocardium"], heart, radii, tilt, outside=above),
        blob(
            "left ventricle",
            hu["heart"],
            (hx + 22, hy - 2, hz - 8),
            (27 * size, 21 * size, 30 * size),
            tilt,
            outside=(("abdomen", 10.0),),
        ),
        blob(
            "right ventricle",
            hu["heart"] * 0.93,
            (hx - 12, hy - 20, hz - 5),
            (32, 17, 32),
            tilt,
            outside=(("abdomen", 6.0),),
        ),
        blob("left atrium", hu["heart"], (hx - 10, hy + 36, hz + 22), (30, 15, 22)),
        blob("right atrium", hu["heart"] * 0.9, (-24, hy + 12, hz + 4), (21, 24, 30), outside=(("abdomen", 1.0),)),
        tube("superior vena cava", hu["vena cava"], (-26, -12, 60), (-24, -20, 190), 9, 9),
        tube("ascending aorta", hu["artery"], (2, -28, 60), (-8, -32, 118), 15, 14),
        tube("aortic arch", hu["artery"], (-8, -32, 118), (18, 20, 128), 14, 12),
        tube("pulmonary artery", hu["heart"], (12, -34, 70), (10, -8, 96), 13, 12),
        tube("pulmonary artery", hu["heart"], (-34, 2, 92), (34, 6, 94), 9, 9),
        tube("oesophagus", 45.0, (8, 14, -10), (4, 19, 230), 7, 7),
        tube("trachea", -980.0, (0, 4, 112), (0, -4, 260), 8.5, 8.5),
        tube("main bronchus", -980.0, (0, 4, 112), (-30, 12, 86), 6, 5),
        tube("main bronchus", -980.0, (0, 4, 112), (32, 12, 86), 6, 5),
    ]
    return parts


def _branches(
    rng: np.random.Generator, start: Array, direction: Array, length: float, radius: float, depth: int
) -> Iterator[tuple[Vector, Vector, float, float]]:
    """A tree of vessels that halves its cross section at each of `depth` forks."""
    end = start + direction * length
    yield (*start,), (*end,), radius, radius * 0.8  # type: ignore[misc]
    if depth:
        side = np.cross(direction, rng.normal(0, 1, 3))
        side /= np.linalg.norm(side) + 1e-6
        for sign in (-1, 1):
            turned = direction + sign * side * rng.uniform(0.35, 0.8)
            turned /= np.linalg.norm(turned)
            yield from _branches(rng, end, turned, length * rng.uniform(0.7, 0.95), radius * 0.72, depth - 1)


def _liver(rng: np.random.Generator, hu: Mapping[str, float], hard_case: str, tumours: int) -> list[Part]:
    """Liver with portal and hepatic veins, lesions, gallbladder and vena cava."""
    polycystic, resected = hard_case == "polycystic liver", hard_case == "resected liver"
    growth = rng.uniform(0.97, 1.1) * (1.12 if polycystic else 1.0)
    right, right_radii = around(rng, (-64, 2, -76), 4), (94 * growth, 92 * growth, 100 * growth)
    left_reach = rng.uniform(0.75, 1.15)
    left = around(rng, (4, -44, -46), 3)
    left_radii = (86 * left_reach * growth, 45 * growth, 46 * growth)
    lowest, rise_left, rise_back = rng.normal(-158, 11) * growth**1.5, rng.uniform(0.5, 0.72), rng.uniform(0.25, 0.45)
    per_plane = 1 / np.sqrt(1 + rise_left**2 + rise_back**2)
    wave = 2 * np.pi / rng.uniform(45, 110, (2, 3)) * rng.choice([-1, 1], (2, 3))
    phase = rng.uniform(0, 2 * np.pi, 2)
    amplitude = rng.uniform(1.5, 3.5, 2) * (2.0 if polycystic else 1.0)
    gallbladder = around(rng, (-47, -46, -118), 5)
    fissure = around(rng, (2, -62, -78), 4)
    hollow = around(rng, (66, 26, -80), 5)
    kidney = (-58, 46, -132)
    cut_side = rng.choice([-1, 1])
    cut_at = rng.uniform(-62, -45) if cut_side > 0 else rng.uniform(-48, -30)

    def shape(p: Points) -> Array:
        body = smooth_min(ellipsoid(p, right, right_radii), ellipsoid(p, left, left_radii, (0, 0.1, 0.12)), 32)
        lower = np.float32(lowest) + np.float32(rise_left) * (p.x + 130) + np.float32(rise_back) * (p.y + 40) - p.z
        body = smooth_max(body, lower * np.float32(per_plane), 22)
        stomach_bed = np.minimum(ellipsoid(p, hollow, (66, 52, 72)), np.hypot(p.x - 12, p.y - 44) - 46)
        body = smooth_max(body, -stomach_bed, 14)
        body = smooth_max(body, 4 - ellipsoid(p, kidney, (30, 27, 56), (-0.12, 0.12, 0)), 8)
        body = smooth_max(body, -ellipsoid(p, fissure, (2.5, 20, 26), (0.1, 0, 0)), 3)
        body = smooth_max(body, -ellipsoid(p, (8, -16, -72), (22, 2.0, 20), (0, 0, -0.35)), 3)
        body = smooth_max(body, -ellipsoid(p, (-22, -12, -92), (24, 9, 13)), 8)
        for number, offset, height in zip(wave.astype(np.float32), phase, amplitude, strict=True):
            body += np.float32(height) * np.sin(
                p.x * number[0] + p.y * number[1] + p.z * number[2] + np.float32(offset)
            )
        if resected:
            plane = (p.x - np.float32(cut_at) + np.float32(0.35) * (p.y + 30)) * np.float32(cut_side)
            body = smooth_max(body, plane + 3 * np.sin(p.z / 14) + 2 * np.sin(p.y / 11), 12)
        return body

    bounds = (-170.0, -125.0, -235.0), (130.0, 100.0, 15.0)
    under = (("cavity", 2.5), ("abdomen", 3.5))
    parts = [Part("liver", hu["liver"], bounds, shape, inside=under, label=LIVER)]
    within: dict[str, Any] = {"inside": (("liver", 2.0),), "label": None}
    porta = np.array([-30.0, -12.0, -80.0])
    veins = hu["portal vein"], hu["hepatic vein"]
    confluence = np.array([-22.0, 6.0, -22.0])
    trees = [
        (veins[0], porta, np.array([-0.85, 0.1, 0.2]), 42, 5.5, 4),
        (veins[0], porta, np.array([0.45, -0.75, 0.35]), 34, 4.8, 3),
        (veins[1], confluence, np.array([-0.85, 0.25, -0.3]), 46, 4.6, 4),
        (veins[1], confluence, np.array([-0.45, -0.75, -0.35]), 42, 4.2, 3),
        (veins[1], confluence, np.array([0.45, -0.8, -0.15]), 36, 3.8, 3),
    ]
    for value, start, direction, length, radius, depth in trees:
        direction = direction + rng.normal(0, 0.08, 3)
        direction /= np.linalg.norm(direction)
        parts += [
            tube("liver vessel", value, *branch, **within)
            for branch in _branches(rng, start, direction, length, radius, depth)
        ]

    lesion: dict[str, Any] = {"inside": (("liver", 0.0),), "label": TUMOUR}
    counts = {"large tumour": 1, "polycystic liver": int(rng.integers(45, 75))}
    for number in range(counts.get(hard_case, int(rng.integers(0, tumours + 1)))):
        place = np.array(right) + rng.uniform(-0.85, 0.85, 3) * right_radii * np.array([0.9, 0.75, 0.75])
        if number % 4 == 3:
            place = np.array(left) + rng.uniform(-0.7, 0.5, 3) * left_radii
        radius = rng.uniform(5, 18)
        if polycystic:
            radius = rng.choice([rng.uniform(5, 13), rng.uniform(13, 30)], p=[0.6, 0.4])
            parts.append(
                blob("cyst", rng.uniform(2, 14), tuple(place), tuple(radius * rng.uniform(0.85, 1.15, 3)), **lesion)
            )
            continue
        if hard_case == "large tumour":
            place, radius = np.array([rng.uniform(-95, -60), rng.uniform(-20, 25), rng.uniform(-95, -60)]), 52.0
        radii = radius * rng.uniform(0.85, 1.15, 3)
        parts += [
            blob("tumour rim", hu["tumour"] + 18, tuple(place), tuple(radii), tuple(rng.normal(0, 0.15, 3)), **lesion),
            blob(
                "tumour",
                hu["tumour"],
                tuple(place),
                tuple(radii - 0.14 * radius),
                tuple(rng.normal(0, 0.15, 3)),
                **lesion,
            ),
        ]
        if radius > 14:
            for _ in range(int(radius / 9)):
                core = place + rng.normal(0, 0.3 * radius, 3)
                parts.append(
                    blob(
                        "necrosis", hu["tumour"] - 32, tuple(core), tuple(radius * rng.uniform(0.15, 0.4, 3)), **lesion
                    )
                )

    vena_cava: list[Vector] = [(-20, 0, 40), (-22, 8, -12), (-24, 10, -70), (-22, 6, -150), (-18, 2, -262)]
    width = rng.uniform(9.5, 12.5)
    parts += chain("vena cava", hu["vena cava"], vena_cava, [width] * 5, label=VENA_CAVA)
    gx, gy, gz = gallbladder
    if not resected:
        size = rng.uniform(0.75, 1.2)
        tilt = (0.15, 0.45, 0.0)
        wall = (15 * size, 17 * size, 29 * size)
        bile = (12 * size, 14 * size, 26 * size)
        parts += [
            blob("gallbladder wall", 60.0, (gx, gy, gz), wall, tilt),
            blob("gallbladder", 8.0, (gx, gy, gz), bile, tilt),
        ]
    else:
        for _ in range(9):
            clip = (float(cut_at + rng.normal(0, 4)), float(rng.uniform(-40, 20)), float(rng.uniform(-110, -40)))
            parts.append(blob("surgical clip", 1800.0, clip, (1.8, 1.8, 3.0), label=None))
        if cut_side < 0:  # bowel moves up into the room of the right lobe
            free: dict[str, Any] = {"inside": (("cavity", 2.0), ("abdomen", 5.0)), "outside": (("liver", 2.0),)}
            line = [
                around(rng, q, 6)
                for q in [
                    (-96, 10, -190),
                    (-98, 20, -140),
                    (-92, -6, -92),
                    (-88, -30, -60),
                    (-84, -44, -104),
                    (-88, -40, -150),
                    (-72, -52, -190),
                ]
            ]
            for name, value, less in (("bowel wall", hu["bowel wall"], 0.0), ("colon", 25.0, 2.6)):
                parts += chain(
                    name,
                    value,
                    line,
                    [22 - less, 25 - less, 27 - less, 26 - less, 24 - less, 22 - less, 20 - less],
                    **free,
                )
            gas = [part for part in parts if part.name == "colon"]
            parts += [above_fluid(part, -38.0) for part in gas]
    return parts


def _upper_abdomen(rng: np.random.Generator, hu: Mapping[str, float], hard_case: str) -> list[Part]:
    """Spleen, stomach, pancreas, kidneys, aorta and its branches, portal vein, psoas muscles."""
    free: dict[str, Any] = {"inside": (("cavity", 1.5), ("abdomen", 3.5)), "outside": (("liver", 1.5),)}
    deep: dict[str, Any] = {"inside": (("cavity", 0.0),), "outside": (("liver", 1.0),)}
    parts: list[Part] = []
    # Stomach: fundus, body, antrum; wall, content, and gas above the fluid level (the patient lies on the back).
    fill = rng.uniform(0.72, 1.08)
    line: list[Vector] = [(62, 20, -48), (66, 4, -72), (58, -36, -112), (24, -54, -132), (-20, -42, -124)]
    line = [around(rng, point, 3) for point in line]
    radii = [43 * fill, 42 * fill, 32 * fill, 23 * fill, 14.0]
    level = rng.uniform(-45, 0)
    content = rng.choice([15.0, 35.0, 120.0], p=[0.5, 0.4, 0.1])
    parts += chain("stomach wall", hu["stomach wall"], line, radii, **free)
    inner = [r - rng.uniform(3.5, 5) for r in radii]
    parts += chain(
        "stomach",
        lambda p: content + 12 * np.sin(p.x * 0.31 + 2) * np.sin(p.y * 0.37) * np.sin(p.z * 0.29),
        line,
        inner,
        inside=(("cavity", 5.5), ("abdomen", 7.5)),
        outside=(("liver", 5.5),),
    )
    for part in chain(
        "stomach gas", GAS_HU, line, inner, inside=(("cavity", 5.5), ("abdomen", 7.5)), outside=(("liver", 5.5),)
    ):
        parts.append(above_fluid(part, level))
    # Spleen: an ellipsoid with a hollow for the stomach.
    spleen, size = around(rng, (98, 36, -70), 4), rng.uniform(0.95, 1.25)
    spleen_radii = (36 * size, 48 * size, 52 * size)

    def spleen_shape(p: Points) -> Array:
        body = ellipsoid(p, spleen, spleen_radii, (0.1, 0.15, 0))
        bed = ellipsoid(p, (spleen[0] - 48, spleen[1] - 30, spleen[2] - 6), (50, 48, 80))
        return smooth_max(body, -bed, 8)

    parts.append(Part("spleen", hu["spleen"], box_around(spleen, spleen_radii, (0.1, 0.15, 0)), spleen_shape, **free))
    # Kidneys.
    for side, centre in ((-1, (-58, 46, -132)), (1, around(rng, (60, 45, -116), 3))):
        k = rng.uniform(0.9, 1.08)
        kx, ky, kz = centre
        tilt = (side * 0.12, 0.12, 0.0)
        outer, inner_radii = (27 * k, 24 * k, 54 * k), (20 * k, 17.5 * k, 46 * k)
        parts.append(blob("kidney cortex", hu["kidney cortex"], centre, (outer[0], outer[1], outer[2]), tilt, **deep))
        parts.append(
            blob(
                "kidney medulla",
                hu["kidney medulla"],
                centre,
                (inner_radii[0], inner_radii[1], inner_radii[2]),
                tilt,
                **deep,
            )
        )
        for dz in rng.uniform(-32, 32, 4):  # renal columns
            parts.append(
                blob(
                    "kidney cortex",
                    hu["kidney cortex"],
                    (kx + side * 10, ky + 2, kz + float(dz)),
                    (15, 13, 3.0),
                    **deep,
                )
            )
        parts.append(
            blob("renal sinus", -85.0, (kx - side * 13, ky - 4, kz), (17, 9, 25), (side * 0.12, 0.12, 0), **deep)
        )
        parts.append(
            tube("renal vein", hu["vena cava"], (kx - side * 8, ky - 8, kz + 4), (-14, 2, kz + 14), 5, 6, **deep)
        )
        parts.append(
            tube("renal artery", hu["artery"], (kx - side * 6, ky - 2, kz + 2), (6, 8, kz + 16), 2.6, 3, **deep)
        )
        if hard_case == "polycystic liver":
            for _ in range(8):
                spot = around(rng, centre, 16)
                r = float(rng.uniform(6, 15))
                parts.append(blob("renal cyst", 6.0, spot, (r, r, r), **deep))
    # Pancreas, duodenum.
    pancreas: list[Vector] = [(-34, -8, -132), (-20, -18, -118), (8, -20, -104), (38, -2, -92), (70, 22, -84)]
    parts += chain("pancreas", hu["pancreas"], [around(rng, q, 3) for q in pancreas], [13, 12, 9, 9.5, 8.5], **free)
    duodenum: list[Vector] = [(-20, -40, -120), (-44, -22, -114), (-46, 2, -140), (-38, 10, -176), (4, -2, -184)]
    parts += chain("bowel wall", hu["bowel wall"], duodenum, [13, 13, 13, 12, 11], **free)
    parts += chain("duodenum", 25.0, duodenum, [10, 10, 10, 9, 8], **free)
    # Vessels.
    aorta: list[Vector] = [(18, 20, 128), (19, 26, 40), (12, 18, -30), (4, 8, -110), (3, 3, -190), (2, 0, -262)]
    width = rng.uniform(9, 12)
    parts += chain("aorta", hu["artery"], aorta, [width * taper for taper in (1.15, 1.1, 1, 0.95, 0.85, 0.8)])
    for side in (-1, 1):
        iliac: list[Vector] = [(2, 0, -262), (side * 28, 8, -318), (side * 58, -18, -390), (side * 70, -58, -440)]
        parts += chain("iliac artery", hu["artery"], iliac, [6, 5, 4.5, 4.5])
        vein: list[Vector] = [(-18, 2, -262), (side * 30 - 6, 18, -322), (side * 60, -8, -392), (side * 62, -54, -440)]
        parts += chain("iliac vein", hu["vena cava"], vein, [8, 6, 6, 6])
    parts += [
        tube("coeliac trunk", hu["artery"], (6, 6, -86), (2, -14, -88), 4, 4, **deep),
        tube("superior mesenteric artery", hu["artery"], (4, 6, -104), (0, -26, -200), 4, 3, **deep),
        tube("superior mesenteric vein", hu["portal vein"], (-14, -12, -122), (-12, -26, -210), 6, 5, **deep),
        tube("splenic vein", hu["portal vein"], (-10, -12, -106), (66, 26, -80), 4.5, 4, **deep),
        tube("portal vein", hu["portal vein"], (-12, -12, -118), (-30, -12, -80), 7, 7, label=None),
    ]
    for side in (-1, 1):
        crus: list[Vector] = [(side * 14, 20, -30), (side * 14, 22, -90), (side * 12, 26, -140)]
        parts += chain("diaphragm crus", hu["muscle"], crus, [5, 4.5, 3], **deep)
        psoas: list[Vector] = [
            (side * 27, 44, -120),
            (side * 38, 34, -210),
            (side * 45, 28, -290),
            (side * 62, 0, -370),
            (side * 80, -10, -430),
        ]
        parts += chain("psoas", hu["muscle"], psoas, [8, 17, 21, 17, 14], outside=(("liver", 1.0),))
        adrenal = (side * 36.0 + 6, 30.0, -84.0)
        parts.append(
            tube("adrenal gland", 75.0, adrenal, (adrenal[0] - 4, adrenal[1] + 16, adrenal[2] - 12), 2.6, 2.2, **free)
        )
    return parts


def _bowel(rng: np.random.Generator, hu: Mapping[str, float]) -> list[Part]:
    """Colon with faeces and gas, loops of the small bowel, mesenteric vessels, bladder, rectum."""
    free: dict[str, Any] = {"inside": (("cavity", 2.0), ("abdomen", 4.0)), "outside": (("liver", 2.0),)}
    frame: list[Vector] = [
        (-92, 18, -322),
        (-100, 20, -270),
        (-100, 22, -225),
        (-96, 8, -168),
        (-86, -26, -158),
        (-60, -56, -170),
        (-24, -68, -196),
        (12, -70, -200),
        (46, -66, -184),
        (76, -48, -152),
        (98, -14, -128),
        (108, 22, -132),
        (108, 32, -180),
        (104, 30, -240),
        (98, 26, -300),
        (80, 10, -345),
        (44, 14, -360),
        (14, 26, -368),
        (2, 48, -400),
        (0, 58, -450),
    ]
    frame = [around(rng, point, 4) for point in frame]
    radii = [float(rng.uniform(15, 23)) if i < 12 else float(rng.uniform(11, 17)) for i in range(len(frame))]
    walls = chain("bowel wall", hu["bowel wall"], frame, radii, **free)
    phases = rng.uniform(0, 6, 3)

    def faeces(p: Points) -> Array:
        warp = 1.7 * np.sin(p.x * 0.21 + p.z * 0.17 + phases[2])
        lumps = np.sin(p.x * 0.43 + warp + phases[0]) * np.sin(p.y * 0.52 - 1.3 * warp) + np.sin(
            p.z * 0.37 + p.y * 0.29 + warp + phases[1]
        )
        return np.where(lumps > 0.8, np.float32(-480), 30 + 35 * lumps)

    lumina = chain("colon", faeces, frame, [r - 2.5 for r in radii], **free)
    gas = []
    for part in lumina:
        if rng.random() < 0.6:
            level = (part.box[0][1] + part.box[1][1]) / 2 + rng.uniform(-9, 4)
            gas.append(above_fluid(part, level))
    # Small bowel: a jittered lattice of bent loops below the stomach and the pancreas.
    loops: list[Part] = []
    fillings: list[Part] = []
    for z in np.arange(-118, -392, -25.0):
        for y in (-66.0, -42.0, -17.0, 8.0):
            for x in np.arange(-78, 90, 28.0):
                upper_left = x > 24 and z < -138 + 0.9 * (y + 66)  # jejunum, beside and below the stomach
                lower = z < -205 and abs(x) < 84 - 0.2 * max(0.0, -300 - z)
                if not (upper_left or lower) or (abs(x) < 30 and y > -8 and z > -300):
                    continue
                centre = np.array([x, y, z]) + rng.normal(0, 5, 3)
                turn = rng.normal(0, 1, 3) * np.array([1, 0.7, 0.6])
                turn *= rng.uniform(12, 20) / np.linalg.norm(turn)
                bend = rng.normal(0, 5, 3)
                r = rng.uniform(9.5, 14.0)
                path = [tuple(centre - turn), tuple(centre + bend), tuple(centre + turn)]
                loops += chain("bowel wall", hu["bowel wall"], path, [r] * 3, **free)
                filling = rng.choice([18.0, 35.0, 60.0, -950.0], p=[0.45, 0.3, 0.15, 0.1])
                fillings += chain("small bowel", filling, path, [r - 3.2] * 3, **free)
    vessels = []
    for _ in range(60):
        root = np.array([-6, -20, rng.uniform(-250, -150)])
        tip = np.array([rng.uniform(-80, 85), rng.uniform(-70, 0), root[2] - rng.uniform(0, 90)])
        vessels.append(tube("mesenteric vessel", hu["portal vein"] * 0.9, tuple(root), tuple(tip), 2.0, 0.9, **free))
    bladder = rng.uniform(0.7, 1.2)
    pelvis = [
        blob("bladder", 45.0, (0, -30, -408), (38 * bladder + 3, 30 * bladder + 3, 30 * bladder + 3)),
        blob("urine", 5.0, (0, -30, -408), (38 * bladder, 30 * bladder, 30 * bladder)),
        blob("uterus or prostate", 75.0, (0, 12, -415), (25, 18, 22)),
    ]
    return [*vessels, *loops, *fillings, *walls, *lumina, *gas, *pelvis]


def _skeleton(rng: np.random.Generator) -> list[Part]:
    """Spine, ribs, sternum, pelvis, femoral heads, scapulae."""
    density = rng.uniform(0.8, 1.15)
    cortex, marrow, cartilage = 520 * density, 175 * density, 105.0
    start = rng.uniform(0, VERTEBRA_PITCH)

    def level(p: Points) -> tuple[Array, Array, Array]:
        behind = p.y - spine_y(p.z).astype(np.float32)
        height = p.z - np.float32(start)
        height = height - np.float32(VERTEBRA_PITCH) * np.rint(height / np.float32(VERTEBRA_PITCH))
        width = np.clip(1.0 - (p.z + 250) * 0.00065, 0.75, 1.05)
        return p.x / width, behind / width, height

    def column(p: Points) -> Array:
        x, y, height = level(p)
        k = np.sqrt((x / 24) ** 2 + (y / 17.5) ** 2)
        return (k - 1) * 20 + 1.6 * (1 - (height / 13) ** 2).clip(0, 1)

    def vertebra(p: Points) -> Array:
        return smooth_max(column(p), np.abs(level(p)[2]) - np.float32(12.8), 3)

    def arch(p: Points) -> Array:
        x, y, height = level(p)
        ring = np.maximum(np.abs(np.hypot(x, y - 27) - 13) - 3.6, np.abs(height - 1) - 10)
        across = np.abs(x)
        transverse = (np.sqrt(((across - 27) / 19) ** 2 + ((y - 29) / 5) ** 2 + ((height - 3) / 6) ** 2) - 1) * 5
        lean = height + 5 + 0.35 * (y - 44)
        spinous = (np.sqrt((x / 3.8) ** 2 + ((y - 46) / 13) ** 2 + (lean / 9) ** 2) - 1) * 3.8
        return np.minimum(np.minimum(ring, transverse), spinous)

    def canal(p: Points) -> Array:
        x, y, _ = level(p)
        return np.hypot(x, (y - 26) * 1.15) - 9.5

    spine = (-46.0, 14.0, -322.0), (46.0, 125.0, 270.0)
    bodies = (-28.0, 14.0, -322.0), (28.0, 82.0, 270.0)
    back = (-50.0, 55.0, -322.0), (50.0, 135.0, 270.0)
    extent = np.array([-1, -1, -1, -1, -1, -1, -1, -1, -0.8, -0.7, -0.62, -0.05, 0.4])  # farthest front of ribs 0 to 12

    def rib(p: Points) -> Array:
        cosine = p.y / np.sqrt(p.x * p.x * np.float32(0.46) + p.y * p.y + 1)
        front = 1 - cosine
        along = p.z + front * (137 - 60 * front) * np.float32(0.95)
        number = 12 - (along - np.float32(LOWEST_RIB)) / np.float32(RIB_PITCH)
        nearest = np.clip(np.rint(number), 1, 12)
        height = (number - nearest) * np.float32(RIB_PITCH)
        limit = (np.take(extent, nearest.astype(np.int8)).astype(np.float32) - cosine) * 80
        near_spine = 30 - np.abs(p.x)
        section = (np.sqrt((height / 6.0) ** 2 + ((p.wall + 7.0) / 4.0) ** 2) - 1) * 4.0
        return np.maximum(np.maximum(section, limit), np.maximum(near_spine, p.z - 150))

    def rib_hu(p: Points) -> Array:
        cosine = p.y / np.sqrt(p.x * p.x * np.float32(0.46) + p.y * p.y + 1)
        bone = np.where(np.abs(p.wall + 7.0) < 2.0, np.float32(marrow * 1.5), np.float32(cortex))
        return np.where(cosine < -0.72, np.float32(cartilage), bone)

    ribs = (-190.0, -140.0, -215.0), (190.0, 140.0, 230.0)

    def sternum(p: Points) -> Array:
        plate = (np.sqrt((p.x / 19) ** 2 + ((p.wall + 8) / 5.5) ** 2) - 1) * 5.5
        return np.maximum(np.maximum(plate, -12 - p.z), p.y + 20)

    def wing(p: Points) -> Array:
        shell = np.abs(ellipsoid(p, (0, 4, -318), (126, 84, 118))) - 4.5 - np.maximum(p.y - 30, 0) * 0.09
        flank = np.maximum(np.maximum(p.z + 282 - 0.1 * p.y, -400 - p.z), -40 - p.y + (p.z + 300) * 0.2)
        return np.maximum(np.maximum(shell, flank), 34 - np.abs(p.x))

    def sacrum(p: Points) -> Array:
        down = p.z + 350
        half = 46 - np.maximum(-down, 0) * 0.55
        body = (np.sqrt((p.x / half) ** 2 + ((p.y - 60 - 0.0025 * down * down) / 17) ** 2) - 1) * 17
        return np.maximum(body, np.abs(down) - 46)

    folds = rng.uniform(0, 6, 3)

    def fat_sheet(p: Points) -> Array:
        sheet = np.abs(p.wall + 3.2 + 1.6 * np.sin(p.x / 17 + p.z / 31 + folds[0])) - 0.8
        return sheet + np.float32(2.0) * np.clip(np.sin(p.x / 23 + p.y / 29 + p.z / 47 + folds[1]), 0, 1)

    def fat_streak(p: Points) -> Array:
        streaks = np.sin(p.x / 4.1 + 2 * np.sin(p.y / 9 + folds[2]))
        return (1.72 - streaks - np.sin(p.y / 5.3 + p.x / 11 + 1.5 * np.sin(p.z / 23))) * 4

    torso = (-190.0, -140.0, -480.0), (190.0, 140.0, 270.0)
    parts = [
        Part("fat sheet", -90.0, torso, fat_sheet, shell=(-8.0, 0.0), label=None),
        Part(
            "fat streak",
            -60.0,
            ((-75.0, 58.0, -480.0), (75.0, 130.0, 200.0)),
            fat_streak,
            shell=(-60.0, -3.0),
            outside=(("cavity", 0.0),),
            label=None,
        ),
        Part("disc", 82.0, bodies, column, label=None),
        Part("vertebra", cortex * 0.8, bodies, vertebra, label=None),
        Part("marrow", marrow, bodies, lambda p: vertebra(p) + 2, label=None),
        Part("vertebral arch", cortex * 0.75, spine, arch, label=None),
        Part("spinal canal", 28.0, back, canal, label=None),
        Part("rib", rib_hu, ribs, rib, shell=(-18.0, 1.0)),
        Part(
            "sternum",
            marrow * 1.3,
            ((-25.0, -140.0, -20.0), (25.0, -20.0, 165.0)),
            sternum,
            shell=(-18.0, 1.0),
            label=None,
        ),
        Part("iliac wing", cortex, ((-140.0, -95.0, -405.0), (140.0, 110.0, -270.0)), wing),
        Part("iliac marrow", marrow, ((-140.0, -95.0, -405.0), (140.0, 110.0, -270.0)), lambda p: wing(p) + 2.2),
        Part("sacrum", cortex * 0.7, ((-60.0, 20.0, -400.0), (60.0, 100.0, -300.0)), sacrum),
        Part("sacral marrow", marrow * 0.8, ((-60.0, 20.0, -400.0), (60.0, 100.0, -300.0)), lambda p: sacrum(p) + 2.5),
    ]
    for side in (-1, 1):
        hip: Vector = (side * 88, 2, -418)
        parts += [
            blob("acetabulum", cortex * 0.9, (side * 84, 6, -410), (34, 32, 34)),
            blob("joint space", 60.0, hip, (26, 26, 26)),
            blob("femoral head", cortex * 0.9, hip, (24.5, 24.5, 24.5)),
            blob("femoral head", marrow * 1.7, hip, (22, 22, 22)),
            tube("femoral neck", cortex * 0.7, (side * 98, 6, -428), (side * 128, 16, -455), 15, 16),
            tube("femoral neck", marrow, (side * 98, 6, -428), (side * 128, 16, -455), 12, 13),
            tube("pubis", cortex * 0.8, (side * 8, -66, -438), (side * 66, -22, -412), 8, 11),
            tube("pubis", marrow, (side * 8, -66, -438), (side * 66, -22, -412), 5.5, 8),
            tube("ischium", cortex * 0.8, (side * 62, 34, -395), (side * 58, 44, -462), 11, 14),
            tube("ischium", marrow, (side * 62, 34, -395), (side * 58, 44, -462), 8, 11),
            blob("scapula", cortex * 0.8, (side * 98, 62, 140), (34, 4.5, 62), (0.0, 0.0, side * -0.75)),
            tube("clavicle", cortex * 0.8, (side * 18, -62, 190), (side * 110, -22, 208), 6, 6),
        ]
    return parts


# ---------------------------------------------------------------------------------------------------------------------
# Rendering
# ---------------------------------------------------------------------------------------------------------------------


class Grid(NamedTuple):
    """Voxel centres: `shape`, `spacing` (mm) and `origin` (mm, the first voxel) in the order (z, y, x)."""

    shape: tuple[int, int, int]
    spacing: Vector
    origin: Vector


CHUNK = 1 << 19  # voxels rendered at a time: a few MB an array, so that they stay in the processor's cache


def render(
    patient: Anatomy,
    grid: Grid,
    generator: np.random.Generator,
    noise: float = 10.0,
    kernel: float = 0.8,
    padding: int = -1024,
) -> tuple[Array, Array]:
    """Sample `patient` on `grid`; return Hounsfield units (int16) and labels (uint8), both (z, y, x).

    Labels: `LIVER`, `TUMOUR` (inside the liver), `VENA_CAVA`, else 0. `noise` in HU (standard deviation), `kernel` in
    mm (its blur); `padding` in HU fills the corners outside the scanner's circle. Memory: the two results and a few
    slices.
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
    # Blurring leaves less variance: divide by the root of the sum of the squared weights, measured on an impulse.
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
        # More noise where more tissue absorbs: the middle of the body; little in air.
        fresh *= np.float32(gain) * (np.float32(0.45) + np.clip(depth * np.float32(-1 / 110), 0, 0.75))
        values += fresh
        np.clip(values, LOWEST_HU, HIGHEST_HU, out=values)
        values[:, corners] = padding
        hu[first:last] = np.rint(values)
    return hu, labels


def _displacement(patient: Anatomy, z: Array, y: Array, x: Array) -> tuple[Array, Array, Array]:
    """Smooth displacement in mm, each (z, y, x): sums of products of waves, so one matrix product a component."""
    components = []
    for waves in np.moveaxis(patient.waves, 1, 0):
        amplitude, kx, ky, kz, px, py, pz = waves.T[..., None].astype(np.float32)
        plane = np.sin(ky * y + py)[:, :, None] * np.sin(kx * x + px)[:, None, :]
        along = amplitude * np.sin(kz * z + pz)
        components.append((along.T @ plane.reshape(len(plane), -1)).reshape(len(z), len(y), len(x)))
    return components[0], components[1], components[2]


def _render_slices(patient: Anatomy, z1: Array, y1: Array, x1: Array, spacing: Vector) -> tuple[Array, Array, Array]:
    """Paint some slices without noise; return HU, labels and the distance to the skin."""
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
    # An edge is as wide as a voxel: partial volume instead of stairs.
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
    if bz[-1] > 60:  # shoulders lie around the ribs' dome
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
    """The part of an increasing axis between two limits."""
    first, last = np.searchsorted(axis, limits)
    return slice(int(first), int(last))


def _reached(patient: Anatomy, z1: Array, y1: Array, x1: Array, blur: float) -> Iterator[tuple[Part, Any]]:
    """Yield each part that these voxel centres (mm) reach, with the block of voxels around its box."""
    boxes = np.array([part.box for part in patient.parts], float)  # (part, low or high, x y z)
    scale = np.array(patient.scale)
    # Boxes are given before bending and breathing: add the largest displacement, and turn them with the patient.
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
    """Two curved plates with foam between, behind the patient; the table neither bends nor turns with the patient."""
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
    """Bright and dark rays from each piece of metal, in the slices that it crosses."""
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


# ---------------------------------------------------------------------------------------------------------------------
# Cohort
# ---------------------------------------------------------------------------------------------------------------------


def plan_cohort(settings: dict[str, Any], folder: str) -> pd.DataFrame:
    """Return the cohort table of the phantom, one row a volume; makes no voxels.

    `settings`: `seed`; `matrix`, in-plane pixels a side; `sites`, a dict of site → `pool`, `val`, `test` (number of
    volumes); `hard_cases`, the share of pool and test volumes that are hard; `excluded`, the number of pool volumes
    more whose reference mask is wrong on purpose (Fig. 3 of the paper). Columns: volume, patient, site, split, image,
    label, exclude, hard_case; paths under `folder`. More volumes of a split leave the rows of the others as they are.
    Raises UserError on an unknown site or a number out of range.
    """
    _check(settings)
    rows = []
    for site, counts in settings["sites"].items():
        for split, letter in SPLIT_LETTERS.items():
            share = 0.0 if split == "val" else settings.get("hard_cases", 0.0)
            draw = generator(settings["seed"], site, split, "hard cases")
            offset, kind = draw.random(), int(draw.integers(len(HARD_CASES)))
            for index in range(counts.get(split, 0)):
                # The running total of share × volumes passes a whole number: an even spread, whatever the total.
                passed, now = int(offset + share * index), int(offset + share * (index + 1))
                hard_case = HARD_CASES[(kind + passed) % len(HARD_CASES)] if now > passed else ""
                rows.append(_row(folder, site, split, f"{site}-{letter}{index + 1:03d}", "", hard_case))
    wrong_site = "lits" if "lits" in settings["sites"] else next(iter(settings["sites"]), "lits")
    for index in range(settings.get("excluded", 0)):
        reason = EXCLUSIONS[index % len(EXCLUSIONS)]
        rows.append(_row(folder, wrong_site, "pool", f"{wrong_site}-{EXCLUDED_LETTER}{index + 1:03d}", reason, ""))
    columns = ["volume", "patient", "site", "split", "image", "label", "exclude", "hard_case", "liver_values"]
    return pd.DataFrame(rows, columns=columns)


def _row(folder: str, site: str, split: str, volume: str, exclude: str, hard_case: str) -> dict[str, str]:
    file_format = SITES[site].file_format
    dicom = file_format == "dicom"
    return {
        "volume": volume,
        "patient": volume,
        "site": site,
        "split": split,
        "image": f"{folder}/{volume}/" + ("dicom" if dicom else f"ct{file_format}"),
        "label": f"{folder}/{volume}/" + ("masks" if dicom else f"liver{file_format}"),
        "exclude": exclude,
        "hard_case": hard_case,
        "liver_values": "1,2" if site == "lits" else "",  # liver and tumour
    }


def _check(settings: Mapping[str, Any]) -> None:
    """Raise UserError naming the first setting of the phantom that is out of range."""
    if not 16 <= settings["matrix"] <= 1024:
        raise UserError(f"phantom: matrix must be from 16 to 1024 pixels, got {settings['matrix']}")
    if not 0 <= settings.get("hard_cases", 0.0) <= 1:
        raise UserError(f"phantom: hard_cases must be a share from 0 to 1, got {settings['hard_cases']}")
    if settings.get("excluded", 0) < 0:
        raise UserError(f"phantom: excluded must not be negative, got {settings['excluded']}")
    for site, counts in settings["sites"].items():
        if site not in SITES:
            raise UserError(f"phantom: unknown site {site!r} in sites; there are {', '.join(SITES)}")
        for split, count in counts.items():
            if split not in SPLIT_LETTERS or not 0 <= count <= 999:
                raise UserError(
                    f"phantom: sites: {site}: {split}: {count}; accepted are pool, val and test, each from 0 to 999"
                )


class Scan(NamedTuple):
    """A patient and how the site scans it."""

    patient: Anatomy
    grid: Grid
    phase: str
    noise: float


def scan_of(row: Row, settings: Mapping[str, Any]) -> Scan:
    """Draw patient and acquisition of one row of the plan, from (seed, volume) alone."""
    _check(settings)
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
    # A coarser matrix also means thicker slices, up to the width of a pixel.
    thickness = max(protocol, min(protocol * FULL_MATRIX / matrix, pixel))
    slices = max(1, round(length / thickness))
    middle = field_of_view / 2 - pixel / 2
    grid = Grid((slices, matrix, matrix), (thickness, pixel, pixel), (top - thickness * (slices - 1), -middle, -middle))
    return Scan(patient, grid, phase, noise)


def render_row(row: Row, settings: Mapping[str, Any]) -> tuple[Array, Array, Grid]:
    """Render one row of the plan; return Hounsfield units, labels (see `render`) and grid."""
    scan = scan_of(row, settings)
    site = SITES[row["site"]]
    draw = generator(settings["seed"], row["volume"], "noise")
    hu, labels = render(scan.patient, scan.grid, draw, scan.noise, site.kernel, site.padding)
    return hu, labels, scan.grid


def reference_mask(labels: Array, exclude: str) -> Array:
    """Return the reference mask (uint8, z, y, x; 0 outside, 1 liver, 2 tumour) that goes with `exclude`.

    An empty reason gives the correct mask; the reasons of `EXCLUSIONS` give one that is wrong in the said way.
    """
    mask = np.where(labels == VENA_CAVA, 0, labels).astype(np.uint8)
    if exclude == EXCLUSIONS[0]:
        liver_slices = np.any(mask > 0, axis=(1, 2), keepdims=True)
        return np.where((labels == VENA_CAVA) & liver_slices, LIVER, mask).astype(np.uint8)
    if exclude == EXCLUSIONS[1]:
        # Drawn on few slices and carried over to the next ones, cut short, with straight edges.
        every = max(2, len(mask) // 12)
        held = mask[np.arange(len(mask)) // every * every]
        side = max(2, mask.shape[1] // 24)
        rows, columns = (np.arange(n) // side * side + side // 2 for n in mask.shape[1:])
        return held[:, rows.clip(max=mask.shape[1] - 1)][:, :, columns.clip(max=mask.shape[2] - 1)]
    return mask


def write_volume(row: Row, settings: Mapping[str, Any]) -> None:
    """Write image and label of one row of `plan_cohort`, each by rename; the same row gives the same bytes.

    NIfTI sites: int16 with the site's slope, intercept and orientation, label uint8. DICOM sites: a CT series with
    file names in no order, and one PNG mask a slice; the masks' names ascend from head to feet, with InstanceNumber.
    """
    hu, labels, grid = render_row(row, settings)
    site = SITES[row["site"]]
    mask = reference_mask(labels, row["exclude"] if isinstance(row["exclude"], str) else "")
    if row["site"] != "lits":
        mask = (mask > 0).astype(np.uint8)
    if site.file_format == "dicom":
        with replacing(row["image"]) as folder:
            _write_series(folder, hu, grid, row, settings)
        with replacing(row["label"]) as folder:
            folder.mkdir()
            for number, plane in enumerate(mask[::-1]):
                Image.fromarray(plane > 0).save(folder / f"liver_GT_{number:03d}.png")
        return
    for plane in hu:  # in place: a whole-body scan is half a gigabyte
        plane[:] = np.rint((plane - np.float32(site.intercept)) / np.float32(site.slope))
    for path, array, slope, intercept in (
        (row["image"], hu, site.slope, site.intercept),
        (row["label"], mask, 1, 0),
    ):
        with replacing(path) as temporary:
            nibabel.save(_nifti(array, grid, site.orientation, slope, intercept), temporary)


def _nifti(array: Array, grid: Grid, orientation: str, slope: float, intercept: float) -> nibabel.Nifti1Image:
    """Wrap stored values (z, y, x) so that NIfTI's axes grow as `orientation` says."""
    dz, dy, dx = grid.spacing
    oz, oy, ox = grid.origin
    affine = np.array([[-dx, 0, 0, -ox], [0, -dy, 0, -oy], [0, 0, dz, oz], [0, 0, 0, 1]], float)  # NIfTI is RAS
    axes = nibabel.orientations.axcodes2ornt
    turn = nibabel.orientations.ornt_transform(axes("LPS"), axes(orientation))
    image = nibabel.Nifti1Image(array.transpose(2, 1, 0), affine).as_reoriented(turn)
    image.header.set_xyzt_units("mm")
    image.set_sform(image.affine, code=1)
    image.set_qform(image.affine, code=1)
    image.header.set_slope_inter(slope, intercept)
    return image


def _write_series(folder: Path, hu: Array, grid: Grid, row: Row, settings: Mapping[str, Any]) -> None:
    """Write one CT Image Storage file a slice into `folder`."""
    site = SITES[row["site"]]
    folder.mkdir()
    key = (str(settings["seed"]), str(settings["matrix"]), row["volume"])
    study, series, frame = (generate_uid(entropy_srcs=[*key, name]) for name in ("study", "series", "frame"))
    slices = len(hu)
    names = generator(settings["seed"], row["volume"], "file names").permutation(slices)
    dz, dy, dx = grid.spacing
    oz, oy, ox = grid.origin
    for number in range(slices):  # from head to feet
        index = slices - 1 - number
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[*key, "slice", str(number)])
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        slide = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        slide.SOPClassUID = CTImageStorage
        slide.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        slide.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
        slide.Modality = "CT"
        slide.PatientName = f"PHANTOM^{row['volume'].upper()}"
        slide.PatientID = row["patient"]
        slide.PatientBirthDate = slide.PatientSex = ""
        slide.StudyInstanceUID, slide.SeriesInstanceUID, slide.FrameOfReferenceUID = study, series, frame
        slide.StudyDate = slide.StudyTime = slide.StudyID = slide.AccessionNumber = slide.ReferringPhysicianName = ""
        slide.PositionReferenceIndicator = slide.Manufacturer = ""
        slide.SeriesDescription = "Synthetic CT"
        slide.SeriesNumber, slide.AcquisitionNumber, slide.InstanceNumber = 1, 1, number + 1
        slide.PatientPosition = "HFS"
        slide.KVP = 120
        slide.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        slide.ImagePositionPatient = [round(ox, 4), round(oy, 4), round(oz + dz * index, 4)]
        slide.SliceLocation = round(oz + dz * index, 4)
        slide.SliceThickness = round(dz, 4)
        slide.PixelSpacing = [round(dy, 6), round(dx, 6)]
        slide.SamplesPerPixel = 1
        slide.PhotometricInterpretation = "MONOCHROME2"
        slide.Rows, slide.Columns = hu.shape[1:]
        slide.BitsAllocated, slide.BitsStored, slide.HighBit, slide.PixelRepresentation = 16, 16, 15, 0
        slide.RescaleIntercept, slide.RescaleSlope, slide.RescaleType = site.intercept, site.slope, "HU"
        slide.WindowCenter, slide.WindowWidth = 50, 400
        stored = np.rint((hu[index] - np.float32(site.intercept)) / np.float32(site.slope))
        slide.PixelData = stored.clip(0, None).astype("<u2").tobytes()
        pydicom.dcmwrite(folder / f"i{names[number]:04d}.dcm", slide, enforce_file_format=True)
