"""Spine, ribs, pelvis and other bones, in mm of the reference patient."""

from typing import Any

import numpy as np

from .shapes import Array, Part, Points, Vector, blob, ellipsoid, smooth_max, tube

RIB_PITCH, LOWEST_RIB = 29.0, -122.0  # mm; height of the twelfth rib at the spine
VERTEBRA_PITCH = 33.0


def spine_y(z: Any) -> Any:
    """Return y of the middle of the vertebral bodies, with lumbar lordosis and thoracic kyphosis."""
    return 39 - 8 * np.cos((z + 230) / 93)


def skeleton(rng: np.random.Generator) -> list[Part]:
    """Return spine, ribs, sternum, pelvis, femoral heads, and scapulae, with layers of fat."""
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
