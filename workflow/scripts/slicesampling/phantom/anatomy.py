"""Synthetic patients: anatomy, deformation, and Hounsfield units in each contrast phase.

The anatomy is a list of implicit surfaces in the coordinates of a reference patient (mm; x to the left, y to the back,
z to the head; z = 0 at the right dome of the diaphragm), deformed by a smooth displacement, so that it can be sampled
on any grid.

The numbers here and in `liver`, `organs` and `skeleton` are positions and half axes in mm of that reference patient,
set by eye against clinical CT; Hounsfield units are those of `ENHANCEMENT` and of textbooks.
"""

from dataclasses import dataclass, field

import numpy as np

from .liver import liver
from .organs import bowel, thorax, upper_abdomen
from .shapes import Array, Part, Vector, tube
from .skeleton import VERTEBRA_PITCH, skeleton, spine_y

HARD_CASES = ("polycystic liver", "resected liver", "large tumour", "fatty liver", "metal streaks", "motion")

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


@dataclass(frozen=True)
class Anatomy:
    """One patient: the parts, and the deformation, scale and pose of the reference patient."""

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


# z in the reference patient, and half width and half depth of the muscles' surface at this z.
TORSO = np.array(
    [
        (-480, 165, 96), (-420, 166, 101), (-370, 158, 102), (-310, 144, 98), (-250, 136, 94), (-180, 138, 96),
        (-110, 142, 100), (-50, 145, 104), (20, 145, 106), (90, 142, 103), (150, 146, 94), (200, 152, 82),
        (260, 125, 66),
    ],
    dtype=np.float64,
)  # fmt: skip
FRONT_WALL, SIDE_WALL = 8.0, 13.0  # mm from the muscles' surface to the cavity


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
        *thorax(wobble, hu),
        *liver(wobble, hu, hard_case, tumours),
        *upper_abdomen(wobble, hu, hard_case),
        *bowel(wobble, hu),
        *skeleton(wobble),
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
