"""The liver, its vessels and lesions, in mm of the reference patient."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .shapes import (
    LIVER,
    TUMOUR,
    VENA_CAVA,
    Array,
    Part,
    Points,
    Vector,
    above_fluid,
    around,
    blob,
    chain,
    ellipsoid,
    smooth_max,
    smooth_min,
    tube,
)


def _branches(
    rng: np.random.Generator, start: Array, direction: Array, length: float, radius: float, depth: int
) -> Iterator[tuple[Vector, Vector, float, float]]:
    """Yield the segments of a vessel tree whose branches halve their cross section at each of `depth` forks."""
    end = start + direction * length
    yield (*start,), (*end,), radius, radius * 0.8  # type: ignore[misc]
    if depth:
        side = np.cross(direction, rng.normal(0, 1, 3))
        side /= np.linalg.norm(side) + 1e-6
        for sign in (-1, 1):
            turned = direction + sign * side * rng.uniform(0.35, 0.8)
            turned /= np.linalg.norm(turned)
            yield from _branches(rng, end, turned, length * rng.uniform(0.7, 0.95), radius * 0.72, depth - 1)


def liver(rng: np.random.Generator, hu: Mapping[str, float], hard_case: str, tumours: int) -> list[Part]:
    """Return the liver with portal and hepatic veins, lesions, gallbladder, and vena cava."""
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
        if cut_side < 0:  # bowel moves up into the space of the right lobe
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
