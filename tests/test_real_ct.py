"""Real CT through the whole workflow: DICOM with PNG masks and NIfTI, from the files to tables and figures."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import REAL, ROOT, Shared, real_ct, snakemake
from slicesampling.cohort.volumes import load_native_mask, load_preprocessed, volume_folders

# volume, site, split, image, label; a patient each
VOLUMES = [
    ("lits-0", "lits", "pool", "lits8bit/volume-0.nii.gz", "lits8bit/segmentation-0.nii.gz"),
    ("lits-2", "lits", "pool", "lits8bit/volume-2.nii.gz", "lits8bit/segmentation-2.nii.gz"),
    ("a01", "cervical", "pool", "cervical/ccth_a01_abdomen_ct.nii.gz", "cervical/ccth_a01_abdomen_liver.nii.gz"),
    ("ts-example", "ts", "val", "totalsegmentator/ts_example_ct.nii.gz", "totalsegmentator/ts_example_liver.nii.gz"),
    ("lits-5", "lits", "test", "lits8bit/volume-5.nii.gz", "lits8bit/segmentation-5.nii.gz"),
    ("chaos-3", "chaos", "test", "chaos/CT/3/DICOM_anon", "chaos/CT/3/Ground"),
]


@pytest.fixture(scope="session")
def real_run(shared: Shared) -> Path:
    return shared("real", experiment)


def experiment(folder: Path) -> None:
    table = pd.DataFrame(VOLUMES, columns=["volume", "site", "split", "image", "label"])
    table["patient"] = table["volume"]
    table["liver_values"] = ["1,2" if site == "lits" else "" for site in table["site"]]
    table["modality"] = ["CT" if site == "lits" else "" for site in table["site"]]  # clipped to [-160, 240] HU
    for column in ("image", "label"):
        table[column] = [str(Path(str(REAL)) / path) for path in table[column]]
    table.to_csv(folder / "cohort.tsv", sep="\t", index=False)
    snakemake(folder, "--configfile", str(ROOT / "tests/real_ct.yaml"), "--config", "cohort=cohort.tsv")


@real_ct
def test_image_and_mask_lie_on_each_other(real_run: Path) -> None:
    """What the mask covers is soft tissue of liver-like values, and the rim just outside differs from it."""
    folders = volume_folders(sorted((real_run / "results/preprocessed").glob("shard?")))
    assert sorted(folders) == sorted(row[0] for row in VOLUMES)
    for name, folder in folders.items():
        volume = load_preprocessed(folder)
        inside = volume.image[volume.mask.astype(bool)]
        assert 20 < np.median(inside) < 200, name
        assert inside.std() < 80, name
        # Mirrored from head to feet, or from left to right, the mask would cover lung, fat and air as well.
        for axis in (0, 2):
            assert volume.image[np.flip(volume.mask, axis).astype(bool)].std() > inside.std(), (name, axis)
        native = load_native_mask(folder)
        millilitres = [
            mask.sum() * np.prod(grid.spacing) / 1000
            for mask, grid in ((native, volume.native_grid), (volume.mask, volume.grid))
        ]
        assert millilitres[1] == pytest.approx(millilitres[0], rel=0.03), name


@real_ct
def test_volumes_are_those_that_others_measured(real_run: Path) -> None:
    measured = pd.read_csv(real_run / "results/cohort/volumes.tsv", sep="\t").set_index("volume")
    assert measured.loc["chaos-3", "structure_ml"] == pytest.approx(1417, abs=2)
    assert measured.loc["ts-example", "structure_ml"] == pytest.approx(1126, abs=2)
    assert measured.loc["chaos-3", "spacing_z"] == pytest.approx(2.0)  # by the positions; the tag says 3.2


@real_ct
def test_every_model_is_evaluated_on_the_original_grid(real_run: Path) -> None:
    metrics = pd.read_csv(real_run / "results/evaluation/metrics.tsv", sep="\t")
    print(metrics.pivot_table(index="model", columns="volume", values=["dice", "hd"]).round(3).to_string())
    assert len(metrics) == 14 * 2
    assert np.isfinite(metrics[["dice", "rve", "msd", "hd"]]).all().all()
    assert metrics["dice"].between(0, 1).all()
    # A few dozen steps are enough to find the liver. Not for every model: so short a training may end anywhere.
    found = metrics[metrics["model"].str.endswith("converged")].groupby("volume")["dice"].median()
    assert (found > 0.5).all(), found


@real_ct
def test_tables_and_figures_are_there(real_run: Path) -> None:
    assert len(list((real_run / "results/tables").iterdir())) == (9 + 11) * 4 + 1
    for number in range(1, 8):
        assert list((real_run / "results/figures").glob(f"figure{number}_*.png")), number
