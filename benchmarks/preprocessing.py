"""Reading and resampling one CT of 512 × 512 × 400 voxels against SimpleITK and SciPy: seconds, memory, agreement."""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
from common import CPU, in_a_process, peak_gib, seconds
from scipy import ndimage
from slicesampling.learning.memory import reset_peak_memory

SHAPE, SPACING = (400, 512, 512), (1.25, 0.8, 0.8)
TARGET = (1.5, 1.0, 1.0)
THREADS = len(os.sched_getaffinity(0))
REPEATS = 3


def write_volume(path: Path) -> None:
    """Write a cylinder of soft tissue with the noise of a scanner, in air; its bytes pack about as well as real CT."""
    random = np.random.default_rng(1)
    y, x = np.ogrid[-1 : 1 : SHAPE[1] * 1j, -1 : 1 : SHAPE[2] * 1j]
    body = (x / 0.85) ** 2 + (y / 0.6) ** 2 < 1
    volume = np.empty(SHAPE, np.int16)
    for plane in volume:
        texture = ndimage.gaussian_filter(random.normal(size=body.shape), 1.0) * 60
        plane[:] = np.where(body, 40 + texture, -1000 + texture / 4)
    affine = np.diag([-SPACING[2], -SPACING[1], SPACING[0], 1])
    nibabel.save(nibabel.Nifti1Image(volume.T, affine), path)


def this_library(path: Path) -> np.ndarray:
    from slicesampling.cohort.grids import canonical_grid, resample_image
    from slicesampling.cohort.scans import AIR, read_scan

    scan = read_scan(path)
    return resample_image(scan.image, scan.grid, canonical_grid(scan.grid, TARGET), fill=AIR)


def simpleitk(path: Path) -> np.ndarray:
    import SimpleITK
    from slicesampling.cohort.grids import Grid, canonical_grid

    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(THREADS)
    image = SimpleITK.ReadImage(str(path))
    wanted = canonical_grid(Grid(SHAPE, np.diag([*SPACING, 1.0])), TARGET)
    resample = SimpleITK.ResampleImageFilter()
    resample.SetInterpolator(SimpleITK.sitkLinear)
    resample.SetSize(wanted.shape[::-1])
    resample.SetOutputSpacing(TARGET[::-1])
    resample.SetOutputOrigin(wanted.affine[2::-1, 3] + np.array(image.GetOrigin()))
    resample.SetOutputDirection(image.GetDirection())
    return SimpleITK.GetArrayFromImage(resample.Execute(image))


def scipy_zoom(path: Path) -> np.ndarray:
    image = np.asarray(nibabel.load(path).dataobj).T
    return ndimage.zoom(image, np.array(SPACING) / TARGET, order=1, grid_mode=True, mode="nearest")


VARIANTS: dict[str, tuple[Callable[[Path], np.ndarray], int]] = {
    "this library": (this_library, REPEATS),
    "SimpleITK, reader and linear resampling": (simpleitk, REPEATS),
    "nibabel and scipy.ndimage.zoom, linear": (scipy_zoom, 1),
}


def measure(variant: str, folder: Path) -> dict[str, float]:
    work, repeats = VARIANTS[variant]
    result = work(folder / "volume.nii.gz")  # imports, and the file into the cache
    np.save(folder / f"{list(VARIANTS).index(variant)}.npy", result)
    del result
    reset_peak_memory(CPU)
    before, times = peak_gib(), []
    for _ in range(repeats):
        started = time.perf_counter()
        work(folder / "volume.nii.gz")
        times.append(time.perf_counter() - started)
    return {"seconds": float(np.median(times)), "memory": peak_gib() - before}


def resampling_alone(path: Path) -> dict[str, float]:
    """Return the median seconds of resampling an image that has been read, here and with SciPy."""
    from slicesampling.cohort.grids import canonical_grid, resample_image
    from slicesampling.cohort.scans import AIR, read_scan

    scan = read_scan(path)
    grid = canonical_grid(scan.grid, TARGET)
    factors = np.array(SPACING) / TARGET
    ours = seconds(lambda: resample_image(scan.image, scan.grid, grid, fill=AIR), REPEATS, CPU)
    zoom = seconds(lambda: ndimage.zoom(scan.image, factors, order=1), REPEATS, CPU)
    return {"this library": ours, "scipy.ndimage.zoom": zoom}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", choices=VARIANTS)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    if arguments.variant:
        print(json.dumps(measure(arguments.variant, arguments.folder)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_volume(folder / "volume.nii.gz")
        results = {variant: in_a_process(["--variant", variant, "--folder", name]) for variant in VARIANTS}
        arrays = [np.load(folder / f"{number}.npy", mmap_mode="r") for number in range(len(VARIANTS))]
        inner = (slice(2, -2),) * 3  # at the border each has a rule of its own
        apart = [
            int(np.abs(array[inner].astype(int) - arrays[0][inner]).max()) if array.shape == arrays[0].shape else -1
            for array in arrays
        ]
        alone = resampling_alone(folder / "volume.nii.gz")
    volume = np.prod(SHAPE) * 4 / 2**30
    size = " × ".join(map(str, reversed(SHAPE)))
    print(f"{size} voxels, .nii.gz, to {' × '.join(map(str, reversed(TARGET)))} mm, {THREADS} threads\n")
    print("| | seconds | times this library | memory, as a multiple of the float32 volume | largest difference (HU) |")
    print("|:---|---:|---:|---:|---:|")
    for (name, result), difference in zip(results.items(), apart, strict=True):
        ratio = result["seconds"] / results["this library"]["seconds"]
        told = "–" if difference < 0 else str(difference)
        print(f"| {name} | {result['seconds']:.2f} | {ratio:.2f} | {result['memory'] / volume:.2f} | {told} |")

    times = " and ".join(f"{seconds:.2f} s with {name}" for name, seconds in alone.items())
    print(f"\nResampling alone, without reading: {times}.")


if __name__ == "__main__":
    main()
