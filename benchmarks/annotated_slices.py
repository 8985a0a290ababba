"""How right a model is on slices that were annotated for it, on their neighbours, and farther away.

    python benchmarks/annotated_slices.py ../study uss-5-converged pool-converged --configfile config/study.yaml

On volumes of the data pool of which the ledger of the first model has some slices, not all. Every model is asked on the
same slices. Prints for each model and group of slices the Dice over all their voxels, and the wrong voxels of a slice.
"""

import argparse
from pathlib import Path

import common
import numpy as np
import pandas as pd
from slicesampling.cohort.volumes import all_volume_folders, load_preprocessed
from slicesampling.configuration import check_configuration, read_configuration
from slicesampling.domain.records import read_table
from slicesampling.learning.compute import computing
from slicesampling.learning.inference import LIVER
from slicesampling.learning.networks.interface import load_model
from slicesampling.query.ledger import annotated_slices

GROUPS = ("annotated", "neighbouring", "farther away")


def group_of(depth: int, slices: np.ndarray) -> np.ndarray:
    """Return the index in `GROUPS` of each of `depth` slices, of which `slices` are annotated, (z,)."""
    distance = np.abs(np.arange(depth)[:, None] - slices[None]).min(axis=1)
    return np.minimum(distance, len(GROUPS) - 1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path, help="the folder of a run")
    parser.add_argument("models", nargs="+", help="such as uss-5-converged")
    parser.add_argument("--configfile", type=Path, nargs="+", default=[])
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    config = read_configuration(given.configfile)
    check_configuration(config, Path(__file__).parents[1] / "workflow/schemas/config.schema.yaml")
    compute = computing(config["compute"])
    results = given.run / "results"
    folders = all_volume_folders(results)
    ledger = given.models[0].removesuffix("-converged")
    picked = annotated_slices(read_table(results / f"annotations/seed{given.seed}/{ledger}.tsv"))
    rows = []
    for name in given.models:
        model = load_model(results / f"models/seed{given.seed}/{name}/model.pt", compute)
        for volume, slices in picked.items():
            loaded = load_preprocessed(folders[volume])
            depth = len(loaded.image)
            if len(slices) == depth:
                continue
            predicted = (model.probability(loaded.image) > LIVER).cpu().numpy()
            reference, groups = np.asarray(loaded.mask) == 1, group_of(depth, slices)
            for index in np.flatnonzero(predicted.any(axis=(1, 2)) | reference.any(axis=(1, 2))):
                said, there = predicted[index], reference[index]
                counts = {"both": (said & there).sum(), "sum": said.sum() + there.sum(), "wrong": (said != there).sum()}
                rows.append({"model": name, "slices": GROUPS[groups[index]], **counts, "number": 1})
    print(common.machine(compute), end="\n\n")
    table = pd.DataFrame(rows).groupby(["model", "slices"], sort=False).sum().reset_index()
    table["slices"] = pd.Categorical(table["slices"], GROUPS)
    table["dice"] = 2 * table["both"] / table["sum"]
    table["wrong voxels"] = table["wrong"] / table["number"]
    table = table.sort_values(["model", "slices"])[["model", "slices", "number", "dice", "wrong voxels"]]
    print(table.to_markdown(index=False, floatfmt=("", "", ".0f", ".3f", ".1f")))


if __name__ == "__main__":
    main()
