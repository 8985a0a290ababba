"""How much the precision of a prediction shifts Dice: in float32, bfloat16 or float16, with batch norms folded or not.

FOLDER is one in which a run has ended. All its converged models predict all test volumes on the CPU, on the grid of the
preprocessed volumes. Folded: batch norms are folded into the convolutions, whose weights are then rounded, as
in `AnisotropicUNet.deployed`. Not folded: as in the training, by autocast, with batch norms in float32.
"""

import argparse
import itertools
from pathlib import Path

import common
import numpy as np
import pandas as pd
import torch
from scipy import stats
from slicesampling.cohort.volumes import load_preprocessed, volume_folders
from slicesampling.domain.records import read_table
from slicesampling.learning.compute import Compute
from slicesampling.learning.geometry import axes
from slicesampling.learning.inference import LIVER
from slicesampling.learning.networks.interface import load_model
from slicesampling.learning.patches import extract, scale_intensities
from slicesampling.learning.unet import AnisotropicUNet
from torch import Tensor

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@torch.inference_mode()
def probability(network: AnisotropicUNet, image: Tensor, dtype: torch.dtype, folded: bool) -> Tensor:
    """Return the probability of liver (z, y, x) of a scaled image (1, 1, z, y, x) that holds the margin."""
    if folded:
        deployed = network.deployed(dtype, sampling=False)
        scores = deployed.decode(deployed.encode(image.to(dtype)), None)
    else:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            scores = network(image)
    return scores.float().softmax(dim=1)[0, 1]


def dice_of_run(folder: Path) -> pd.DataFrame:
    """Return `seed model volume dtype folded dice` of all converged models and test volumes."""
    cohort = read_table(folder / "results/cohort/cohort.tsv")
    tested = cohort.loc[(cohort["split"] == "test") & (cohort["exclude"] == ""), "volume"]
    folders = volume_folders(folder.glob("results/preprocessed/shard?"))
    volumes = {name: load_preprocessed(folders[name]) for name in tested}
    rows = []
    for path in sorted(folder.glob("results/models/seed*/*-converged/model.pt")):
        model = load_model(path, Compute(torch.device("cpu")))
        for name, volume in volumes.items():
            size = model.network.geometry.output_size(volume.image.shape)
            shape = axes(a + 2 * b for a, b in zip(size, model.network.margin, strict=True))
            start = [-side for side in model.network.margin]
            block = extract(torch.as_tensor(volume.image), start, shape, torch.device("cpu"))
            image, reference = scale_intensities(block, model.window)[None, None], volume.mask != 0
            for (kind, dtype), folded in itertools.product(TYPES.items(), (True, False)):
                liver = probability(model.network, image, dtype, folded) > LIVER
                predicted = liver.numpy()[tuple(slice(n) for n in reference.shape)]
                dice = 2 * (predicted & reference).sum() / (predicted.sum() + reference.sum())
                names = {"seed": path.parts[-3], "model": path.parts[-2], "volume": name}
                rows.append({**names, "dtype": kind, "folded": folded, "dice": dice})
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    compute = common.compute_of("cpu", "float32", given.threads)
    cases = dice_of_run(given.folder).set_index(["seed", "model", "volume"])
    exact = cases.loc[(cases["dtype"] == "float32") & ~cases["folded"], "dice"]
    models = exact.groupby(["seed", "model"]).ngroups
    print(f"{common.machine(compute)}; {models} converged models, {exact.index.unique('volume').size} test volumes\n")
    print("| feature maps | batch norm | mean shift of Dice | largest of a model | of a case | smallest p of a model |")
    print("|:---|:---|---:|---:|---:|---:|")
    for (kind, folded), rows in cases.groupby(["dtype", "folded"], sort=False):
        shift = rows["dice"] - exact
        groups = [group for _, group in shift.groupby(["seed", "model"])]
        tests = [stats.wilcoxon(group).pvalue if np.any(group) else 1.0 for group in groups]
        largest = max((group.mean() for group in groups), key=abs)
        cells = [f"{value:+.5f}" for value in (shift.mean(), largest, max(shift, key=abs))]
        print(f"| {kind} | {'folded' if folded else 'as trained'} | {' | '.join(cells)} | {min(tests):.4f} |")
    print("\nAgainst float32 as trained; p: two-sided Wilcoxon signed-rank test over the test volumes of one model.")


if __name__ == "__main__":
    main()
