"""Metrics of one liver against MedPy, MONAI and surface-distance: seconds, ratios, agreement, in one run."""

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable

import numpy as np
from common import CPU, in_a_process, peak_gib
from scipy import ndimage
from slicesampling.learning.memory import reset_peak_memory

SHAPE, SPACING = (300, 512, 512), (1.0, 0.75, 0.75)
SEMIAXES = (75.0, 70.0, 95.0)  # mm: an ellipsoid of two litres
ROUGHNESS = 0.12  # of the surface, as a share of the radius


def liver(seed: int) -> np.ndarray:
    """Return a mask of about two litres with a rough surface, (z, y, x)."""
    random = np.random.default_rng(seed)
    coarse = ndimage.gaussian_filter(random.normal(size=(60, 103, 103)), 2)
    rough = ndimage.zoom(coarse / coarse.std(), np.array(SHAPE) / coarse.shape, order=1)
    grid = np.ogrid[tuple(slice(-size / 2, size / 2) for size in SHAPE)]
    radius = sum((axis * step / half) ** 2 for axis, step, half in zip(grid, SPACING, SEMIAXES, strict=True))
    return radius + ROUGHNESS * rough < 1


def this_library(prediction: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    from slicesampling.evaluation.metrics import segmentation_metrics

    result = segmentation_metrics(prediction, reference, SPACING)
    return result.msd, result.hd


def medpy(prediction: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    from medpy.metric.binary import assd, hd

    return assd(prediction, reference, SPACING), hd(prediction, reference, SPACING)


def monai(prediction: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    import torch
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    masks = [torch.from_numpy(mask)[None, None] for mask in (prediction, reference)]
    settings = {"include_background": True, "spacing": list(SPACING)}
    mean = compute_average_surface_distance(*masks, symmetric=True, **settings)
    return float(mean), float(compute_hausdorff_distance(*masks, **settings))


def surface_distance(prediction: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    import surface_distance as package

    distances = package.compute_surface_distances(reference, prediction, SPACING)
    mean = float(np.mean(package.compute_average_surface_distance(distances)))
    return mean, package.compute_robust_hausdorff(distances, 100)


VARIANTS: dict[str, tuple[Callable[..., tuple[float, float]], int]] = {
    "this library, all its metrics": (this_library, 5),
    "surface-distance, mean and Hausdorff": (surface_distance, 3),
    "MONAI, mean and Hausdorff": (monai, 3),
    "MedPy, assd and hd": (medpy, 1),
}


def measure(variant: str, masks: str) -> dict[str, float]:
    work, repeats = VARIANTS[variant]
    prediction, reference = np.load(masks)
    small = tuple(slice(size // 2, size // 2 + 9) for size in SHAPE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        work(prediction[small], reference[small])  # imports
        reset_peak_memory(CPU)
        before, times = peak_gib(), []
        for _ in range(repeats):
            started = time.perf_counter()
            mean, largest = work(prediction, reference)
            times.append(time.perf_counter() - started)
    return {
        "seconds": float(np.median(times)),
        "memory": peak_gib() - before,
        "msd": mean,
        "hd": largest,
        "litres": float(reference.sum() * np.prod(SPACING) / 1e6),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", choices=VARIANTS)
    parser.add_argument("--masks")
    arguments = parser.parse_args()
    if arguments.variant:
        print(json.dumps(measure(arguments.variant, arguments.masks)))
        return
    with tempfile.TemporaryDirectory() as folder:
        masks = f"{folder}/masks.npy"  # made here, so that making them is not in the peak memory of the others
        np.save(masks, np.stack([liver(1), liver(2)]))
        results = {name: in_a_process(["--variant", name, "--masks", masks]) for name in VARIANTS}
    first = next(iter(results.values()))
    size = " × ".join(map(str, reversed(SHAPE)))
    print(f"{size} voxels of {' × '.join(map(str, reversed(SPACING)))} mm, {first['litres']:.1f} litres\n")
    print("| | seconds | times this library | memory beyond the masks (GiB) | MSD (mm) | HD (mm) |")
    print("|:---|---:|---:|---:|---:|---:|")
    for name, result in results.items():
        ratio = result["seconds"] / first["seconds"]
        print(
            f"| {name} | {result['seconds']:.2f} | {ratio:.1f} | {result['memory']:.2f} "
            f"| {result['msd']:.4f} | {result['hd']:.4f} |"
        )


if __name__ == "__main__":
    main()
