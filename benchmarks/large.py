"""Peak memory of one large CT on its way: 512×512 pixels, 1 160 slices of 0.8 mm, in the default network.

Prints the highest resident memory of the process for preprocessing and for Monte Carlo dropout, each in a process of
its own. The number of samples changes the time only, so that few serve.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

SLICES, MATRIX, SPACING = 1160, 512, (0.8, 0.8, 0.8)
"""A thin-slice CT from head to thigh, in mm (z, y, x)."""


def make(folder: Path) -> None:
    """Write image and mask as a scanner's archive would hold them, compressed."""
    affine = np.diag([*SPACING[::-1], 1.0])
    random = np.random.default_rng(1)
    image = np.empty((MATRIX, MATRIX, SLICES), np.int16, order="F")
    for k in range(SLICES):
        image[..., k] = random.integers(-100, 150, (MATRIX, MATRIX))
    nibabel.save(nibabel.Nifti1Image(image, affine), folder / "image.nii.gz")
    image[:] = 0
    image[100:300, 100:300, 500:700] = 1
    nibabel.save(nibabel.Nifti1Image(image.astype(np.uint8), affine), folder / "mask.nii.gz")


def preprocess(folder: Path, _: int) -> None:
    from slicesampling.cohort.scans import preprocess
    from slicesampling.cohort.volumes import save_preprocessed
    from slicesampling.domain.labels import Label

    label = Label.single(folder / "mask.nii.gz")
    save_preprocessed(folder / "volume", preprocess(folder / "image.nii.gz", label, (1.5, 1.0, 1.0)))


def sample(folder: Path, samples: int) -> None:
    import torch
    from slicesampling.cohort.volumes import load_preprocessed
    from slicesampling.learning.compute import computing
    from slicesampling.learning.inference import sample
    from slicesampling.learning.uncertainty import slice_profiles, structure_region, volume_scores
    from slicesampling.learning.unet import AnisotropicUNet

    settings = {"device": "cpu", "precision": "float32", "threads": torch.get_num_threads()}
    settings |= {"tile_gib": "auto", "training_data": "auto"}
    compute = computing(settings)
    network = AnisotropicUNet().eval()
    network.initialise(torch.Generator().manual_seed(1))
    volume = load_preprocessed(folder / "volume")
    print(f"{volume.image.shape} voxels on the common grid,", end=" ")
    result = sample(network, volume.image, (-1000, 1000), compute, samples, ("large",))
    region = structure_region(result.liver)
    volume_scores(slice_profiles(result.measures, region), region)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--stage", choices=["preprocess", "sample"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        started = time.monotonic()
        {"preprocess": preprocess, "sample": sample}[arguments.stage](arguments.folder, arguments.samples)
        seconds = time.monotonic() - started
        from common import peak_gib  # imports torch, whose memory preprocessing does not have

        print(f"{arguments.stage}: {peak_gib():.2f} GiB at the most, {seconds:.0f} s", flush=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        for stage in ("preprocess", "sample"):
            command = [sys.executable, __file__, "--stage", stage, "--folder", folder]
            subprocess.run([*command, "--samples", str(arguments.samples)], check=True)


if __name__ == "__main__":
    main()
