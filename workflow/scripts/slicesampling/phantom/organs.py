"""The organs of chest and abdomen, without the liver, in mm of the reference patient."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .shapes import (
    GAS_HU,
    Array,
    Part,
    Points,
    Vector,
    above_fluid,
    around,
    blob,
    box_around,
    chain,
    ellipsoid,
    smooth_max,
    smooth_min,
    tube,
)
from .skeleton import spine_y


def thorax(rng: np.random.Generator, hu: Mapping[str, float]) -> list[Part]:
    """Return lungs with vessels, heart, great vessels, oesophagus, and trachea."""
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


def upper_abdomen(rng: np.random.Generator, hu: Mapping[str, float], hard_case: str) -> list[Part]:
    """Return spleen, stomach, pancreas, kidneys, aorta with branches, portal vein, and psoas muscles."""
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


def bowel(rng: np.random.Generator, hu: Mapping[str, float]) -> list[Part]:
    """Return colon with faeces and gas, loops of the small bowel, mesenteric vessels, and pelvic organs."""
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
