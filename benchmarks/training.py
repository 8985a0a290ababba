"""Steps of a training fed by this data path, and by what a user would write instead; the step itself is the same.

A step waits for its batch, computes, and asks for the next one. The share says how much of the speed on one constant
batch is left.
"""

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import common
import numpy as np
import psutil
import torch
from slicesampling.cohort.grids import Grid
from slicesampling.cohort.volumes import Preprocessed, load_preprocessed, save_preprocessed
from slicesampling.learning.compute import Compute
from slicesampling.learning.geometry import axes
from slicesampling.learning.patches import AnnotatedVolume, TrainingSet, scale_intensities
from slicesampling.learning.training import Settings, prepared_batches, steps_after, weighted_soft_dice_loss
from slicesampling.learning.unet import AnisotropicUNet
from torch import Tensor

FILTERS, PATCH = (8, 16, 32, 64), (4, 92, 92)
"""A network and patch whose step takes a third of a second on two CPU cores. On a GPU give --paper."""
PAPER_FILTERS, PAPER_PATCH = (22, 44, 88, 176, 336), (4, 180, 180)
VOLUMES, SHAPE = 6, (120, 400, 400)
"""Larger than a patch with its margin, because not every library pads by reflection."""
WINDOW, BATCH, WORKERS = (-1000.0, 1000.0), 2, 2
Batch = tuple[Tensor, Tensor, Tensor]


def write_volumes(folder: Path) -> None:
    """Write volumes as the workflow preprocesses them, a box of liver in each."""
    random = np.random.default_rng(1)
    grid = Grid(SHAPE, np.diag([1.5, 1.0, 1.0, 1.0]))
    for number in range(VOLUMES):
        mask = np.zeros(SHAPE, np.uint8)
        mask[30:90, 100:250, 60:200] = 1
        image = random.integers(-1000, 1000, SHAPE).astype(np.int16)
        save_preprocessed(folder / str(number), Preprocessed(image, mask, grid, grid, mask))


def constant(network: AnisotropicUNet, folder: Path, patch: tuple, compute: Compute) -> Iterator[Batch]:
    return itertools.repeat(next(iter(this(network, folder, patch, compute))))


def this(network: AnisotropicUNet, folder: Path, patch: tuple, compute: Compute) -> Iterator[Batch]:
    volumes = [(str(number), load_preprocessed(folder / str(number))) for number in range(VOLUMES)]
    training_set = TrainingSet(
        [AnnotatedVolume(name, volume.image, volume.mask, np.arange(SHAPE[0])) for name, volume in volumes],
        axes(patch),
    )
    settings = Settings(axes(patch), BATCH, 1e-5, 1000, WINDOW, None, None, None)
    planned = steps_after(0, training_set, settings, ("key",))
    return (batch for _, _, batch in prepared_batches(planned, training_set, network, settings, compute.device))


def centre(labels: Tensor, margin: tuple) -> tuple[Tensor, Tensor]:
    """Return label and weight of the output voxels of patches (batch, z, y, x)."""
    label = labels[:, *(slice(side, size - side) for side, size in zip(margin, labels.shape[1:], strict=True))].float()
    return label, torch.ones_like(label)


class Plain(torch.utils.data.Dataset):
    """Reads a volume with nibabel and cuts a random patch, as a first version of many a project does."""

    def __init__(self, folder: Path, shape: list[int]) -> None:
        self.folder, self.shape = folder, shape

    def __len__(self) -> int:
        return 10**6

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        import nibabel

        random = np.random.default_rng(index)
        paths = [self.folder / str(index % VOLUMES) / name for name in ("image.nii", "mask.nii")]
        image, mask = (nibabel.load(path).get_fdata(dtype=np.float32).T for path in paths)
        start = [random.integers(size - side + 1) for size, side in zip(image.shape, self.shape, strict=True)]
        crop = tuple(slice(first, first + side) for first, side in zip(start, self.shape, strict=True))
        image, mask = (torch.from_numpy(np.ascontiguousarray(array[crop])) for array in (image, mask))
        return scale_intensities(image, WINDOW)[None], mask


def plain(network: AnisotropicUNet, folder: Path, patch: tuple, compute: Compute) -> Iterator[Batch]:
    shape = [size + 2 * side for size, side in zip(patch, network.margin, strict=True)]
    loader = torch.utils.data.DataLoader(Plain(folder, shape), BATCH, num_workers=WORKERS)
    for image, mask in loader:
        label, weight = centre(mask, network.margin)
        yield image.to(compute.device), label.to(compute.device), weight.to(compute.device)


def torchio_queue(network: AnisotropicUNet, folder: Path, patch: tuple, compute: Compute) -> Iterator[Batch]:
    import torchio

    shape = [size + 2 * side for size, side in zip(patch, network.margin, strict=True)]
    subjects = [
        torchio.Subject(
            image=torchio.ScalarImage(folder / str(k) / "image.nii"),
            mask=torchio.LabelMap(folder / str(k) / "mask.nii"),
        )
        for k in range(VOLUMES)
    ]
    dataset = torchio.SubjectsDataset(subjects, transform=torchio.RescaleIntensity((-1, 1), in_min_max=WINDOW))
    sampler = torchio.data.LabelSampler(tuple(shape[::-1]), label_name="mask")  # x, y, z
    while True:  # an epoch is as many patches as are asked of each volume
        queue = torchio.Queue(dataset, 48, 8, sampler, num_workers=WORKERS)
        for patches in torchio.SubjectsLoader(queue, batch_size=BATCH, num_workers=0):
            image, mask = (patches[name][torchio.DATA].transpose(2, 4) for name in ("image", "mask"))
            label, weight = centre(mask[:, 0], network.margin)
            yield image.float().to(compute.device), label.to(compute.device), weight.to(compute.device)


def monai_cache(network: AnisotropicUNet, folder: Path, patch: tuple, compute: Compute) -> Iterator[Batch]:
    from monai.data import CacheDataset, DataLoader
    from monai.transforms import (
        Compose,
        EnsureChannelFirstd,
        LoadImaged,
        RandCropByPosNegLabeld,
        ScaleIntensityRanged,
    )

    shape = [size + 2 * side for size, side in zip(patch, network.margin, strict=True)]
    files = [{"image": folder / str(k) / "image.nii", "mask": folder / str(k) / "mask.nii"} for k in range(VOLUMES)]
    transforms = Compose(
        [
            LoadImaged(("image", "mask")),
            EnsureChannelFirstd(("image", "mask")),
            ScaleIntensityRanged("image", *WINDOW, -1, 1, clip=True),
            RandCropByPosNegLabeld(("image", "mask"), "mask", shape[::-1], pos=1, neg=1, num_samples=1),
        ]
    )
    dataset = CacheDataset(files, transforms, progress=False)
    while True:
        for patches in DataLoader(dataset, batch_size=BATCH, shuffle=True, num_workers=WORKERS):
            image, mask = (patches[name].as_tensor().transpose(2, 4) for name in ("image", "mask"))
            label, weight = centre(mask[:, 0], network.margin)
            yield image.float().to(compute.device), label.to(compute.device), weight.to(compute.device)


VARIANTS: dict[str, Callable[..., Iterable[Batch]]] = {
    "one constant batch": constant,
    "this data path": this,
    "plain Dataset, DataLoader": plain,
    "TorchIO Queue": torchio_queue,
    "MONAI CacheDataset": monai_cache,
}


def measure(name: str, folder: Path, given: argparse.Namespace, compute: Compute) -> dict[str, Any]:
    network = AnisotropicUNet(PAPER_FILTERS if given.paper else FILTERS)
    patch = PAPER_PATCH if given.paper else network.geometry.output_size(PATCH)
    network.initialise(torch.Generator().manual_seed(1))
    network.to(compute.device).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-5)
    dropout = torch.Generator(device=compute.device).manual_seed(1)
    batches = iter(VARIANTS[name](network, folder, patch, compute))
    waits, steps = [], []
    for _ in range(given.steps + 3):
        started = time.perf_counter()
        image, label, weight = next(batches)
        waits.append(time.perf_counter() - started)
        with torch.autocast(compute.device.type, compute.dtype, enabled=compute.dtype != torch.float32):
            logits = network(image, dropout)
        loss = weighted_soft_dice_loss(logits.float().softmax(dim=1)[:, 1], label, weight)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        loss.item()
        steps.append(time.perf_counter() - started)
    process = psutil.Process()
    memory = sum(each.memory_full_info().pss for each in [process, *process.children(recursive=True)]) / 2**20
    return {"rate": 1 / statistics.mean(steps[3:]), "wait": 1000 * statistics.mean(waits[3:]), "memory": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3, help="each variant in turn; the medians are printed")
    parser.add_argument("--paper", action="store_true", help="the paper's network and patch")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    compute = common.compute_of(given.device, given.precision, given.threads)
    if given.variant:
        print(json.dumps(measure(given.variant, given.folder, given, compute)), flush=True)
        return
    options = ["--steps", str(given.steps), "--threads", str(given.threads), "--device", given.device]
    options += ["--precision", given.precision, *(["--paper"] if given.paper else [])]
    results: dict[str, list[dict]] = {name: [] for name in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        write_volumes(Path(folder))
        for _ in range(given.rounds):
            for name in VARIANTS:
                results[name].append(common.in_a_process([*options, "--variant", name, "--folder", folder]))
    print(f"{common.machine(compute)}; filters {PAPER_FILTERS if given.paper else FILTERS}, patches of ", end="")
    print(f"{PAPER_PATCH if given.paper else PATCH}, {given.steps} steps, {given.rounds} rounds\n")
    print("| | steps/s | of a constant batch | wait (ms a step) | memory (MiB) |\n|:---|---:|---:|---:|---:|")
    for name, rounds in results.items():
        rate, wait, memory = (statistics.median(row[key] for row in rounds) for key in ("rate", "wait", "memory"))
        pairs = [row["rate"] / other["rate"] for row, other in zip(rounds, results["one constant batch"], strict=True)]
        print(f"| {name} | {rate:.2f} | {100 * statistics.median(pairs):.0f} % | {wait:.1f} | {memory:.0f} |")


if __name__ == "__main__":
    main()
