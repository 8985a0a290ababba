"""nnU-Net in the loop: what we make of it, and where it is installed its own word on what we say it says."""

import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import HANGS, ROOT, SMALLEST
from scipy.special import entr
from slicesampling import UserError
from slicesampling.learning.compute import Compute
from slicesampling.learning.networks.interface import load_model, train
from slicesampling.learning.networks.nnunet import (
    DATASET,
    FINAL,
    KEPT,
    NnUNet,
    history_of,
    last_state,
    mean_history,
)
from test_networks import task

INSTALLED = importlib.util.find_spec("nnunetv2") is not None
NETWORK = {
    "kind": "nnunet",
    "configuration": "3d_fullres",
    "planner": "ExperimentPlanner",
    "trainer": {"iteration": "FewSteps", "converged": "FewSteps"},
    "folds": 2,
    "mirroring": False,
}
CPU = Compute(torch.device("cpu"))


def logged(random: np.random.Generator, epochs: int) -> dict[str, list[float]]:
    begun = np.arange(epochs) * 10.0
    values = {"train_losses": random.normal(size=epochs), "mean_fg_dice": random.random(epochs)}
    values |= {"epoch_start_timestamps": begun, "epoch_end_timestamps": begun + random.random(epochs)}
    return {name: list(column) for name, column in values.items()}


def test_a_history_is_the_mean_of_the_members() -> None:
    random = np.random.default_rng(0)
    members = [logged(random, 4) for _ in range(3)]
    table = pd.DataFrame(mean_history([history_of(member, 250, CPU) for member in members]))
    assert table["step"].tolist() == [250, 500, 750, 1000]
    assert table["chosen"].tolist() == [False, False, False, True]
    dice = np.array([member["mean_fg_dice"] for member in members])
    assert table["validation_dice"].to_numpy() == pytest.approx(dice.mean(axis=0))
    assert table["validation_jaccard"].to_numpy() == pytest.approx((dice / (2 - dice)).mean(axis=0))
    spent = sum(np.subtract(member["epoch_end_timestamps"], member["epoch_start_timestamps"]) for member in members)
    assert table["seconds"].to_numpy() == pytest.approx(spent)
    assert set(table["precision"]) == {"float32"}


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_a_member_goes_on_from_the_last_file_that_can_be_read(tmp_path: Path, cut: int) -> None:
    """nnU-Net writes its checkpoints in place; those before a whole one that were cut off are removed."""
    for number, name in enumerate(KEPT):
        torch.save({"number": number, "weights": torch.zeros(1000)}, tmp_path / name)
        if number < cut:
            whole = (tmp_path / name).read_bytes()
            (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    state = last_state(tmp_path)
    assert (state and state["number"]) == (cut if cut < len(KEPT) else None)
    assert [path.name for path in sorted(tmp_path.iterdir())] == sorted(KEPT[cut:])


def test_without_nnunet_it_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(UserError, match=r"nnunetv2 is not installed here; see envs/README\.md"):
        train(task(tmp_path, network=NETWORK, training={}, end="FewSteps"))


@pytest.fixture
def few_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nnU-Net find the trainer that ends after a few steps."""
    trainers = tmp_path / "trainers"  # nnU-Net imports all that lies there
    trainers.mkdir()
    shutil.copy(ROOT / "tests/few_steps.py", trainers)
    monkeypatch.setenv("nnUNet_extTrainer", str(trainers))


def snakemake(folder: Path, *targets: str) -> list[str]:
    """Return the command of the smallest run with nnU-Net."""
    own = {name: value for name, value in NETWORK.items() if name != "kind"}
    changes = {"strategies": ["uss"], "slices_per_iteration": 2, "network": {"kind": "nnunet", "nnunet": own}}
    (folder / "nnunet.yaml").write_text(yaml.safe_dump(changes))
    snakefile = ["--snakefile", str(ROOT / "Snakefile"), *SMALLEST, str(folder / "nnunet.yaml")]
    return [sys.executable, "-m", "snakemake", "--cores", "1", *snakefile, "--directory", str(folder), *targets]


def slow_with_nnunet(test: Callable[..., None]) -> Callable[..., None]:
    needed = pytest.mark.skipif(not INSTALLED, reason="nnU-Net is not installed: pip install '.[nnunet]'")
    quiet = pytest.mark.filterwarnings("ignore")  # nnU-Net's own
    return pytest.mark.slow(pytest.mark.usefixtures("few_steps")(quiet(needed(test))))


def by_commands(model: Path, images: Path, folder: Path, folds: str, *options: str) -> None:
    """Predict with `nnUNetv2_predict`, which reads what nnU-Net's training leaves, made of a model's file."""
    content = torch.load(model, weights_only=True)
    results = folder / "nnUNet_results" / DATASET / f"{content['trainer']}__nnUNetPlans__3d_fullres"
    for name in ("plans", "dataset"):
        (results / f"{name}.json").parent.mkdir(parents=True, exist_ok=True)
        (results / f"{name}.json").write_text(json.dumps(content[name]))
    for number, weights in enumerate(content["members"]):
        state = {"network_weights": weights, "trainer_name": content["trainer"]}
        state |= {"init_args": {"configuration": "3d_fullres"}}
        state["inference_allowed_mirroring_axes"] = tuple(content["mirroring_axes"])
        (results / f"fold_{number}").mkdir(exist_ok=True)
        torch.save(state, results / f"fold_{number}" / FINAL)
    spaces = {f"nnUNet_{kind}": str(folder / f"nnUNet_{kind}") for kind in ("raw", "preprocessed", "results")}
    command = [Path(sys.executable).with_name("nnUNetv2_predict"), "-d", DATASET, "-c", "3d_fullres", "-tr", "FewSteps"]
    command += ["-i", images, "-o", folder / f"predicted{folds.replace(' ', '')}", "-device", "cpu"]
    command += ["-f", *folds.split(), *options]
    done = subprocess.run(command, env=os.environ | spaces, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]


@slow_with_nnunet
def test_the_loop_runs_with_nnunet_and_says_what_nnunet_says(tmp_path: Path) -> None:
    done = subprocess.run(snakemake(tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-6000:]
    results = tmp_path / "results"
    metrics = pd.read_csv(results / "evaluation/metrics.tsv", sep="\t")
    models = {"initial", "uss-1", "uss-2", "uss-2-converged", "pool-converged"}
    assert set(metrics["model"]) == models
    assert (results / "overview.html").exists()
    # The same trainer: the converged model is the last iteration's.
    last, converged = (results / f"models/seed1/{name}/model.pt" for name in ("uss-2", "uss-2-converged"))
    assert last.read_bytes() == converged.read_bytes()

    planned = subprocess.run(snakemake(tmp_path, "plan"), capture_output=True, text=True, check=False)
    assert "mini-batches of nnU-Net a second" in planned.stderr

    images, nifti = tmp_path / "images", sorted(results.glob("preprocessed/shard*/*/image.nii"))
    images.mkdir()
    tested = sorted(results.glob("predictions/seed1/uss-2/shard0/*.nii.gz"))
    for path in nifti:
        shutil.copy(path, images / f"{path.parent.name}_0000.nii")
    by_commands(last, images, tmp_path, "0 1", "--disable_tta")
    for path in tested:
        theirs = nibabel.load(tmp_path / "predicted01" / f"{path.name.removesuffix('.nii.gz')}.nii")
        np.testing.assert_array_equal(np.asarray(theirs.dataobj), np.asarray(nibabel.load(path).dataobj))

    for fold in "01":
        by_commands(last, images, tmp_path, fold, "--disable_tta", "--save_probabilities")
    (picked, *_) = pd.read_csv(results / "queries/seed1/uss-2.tsv", sep="\t")["volume"]
    maps = [np.load(tmp_path / f"predicted{fold}/{picked}.npz")["probabilities"] for fold in "01"]
    mean = np.mean(maps, axis=0, dtype=np.float64)
    image = np.asarray(nibabel.load(images / f"{picked}_0000.nii").dataobj).T
    sampled = load_model(last, CPU).sample(image, 20, ("key",), keep_mean=True)
    assert sampled.mean_probability is not None
    # Scores are added up in float16, in an order that varies with the threads.
    np.testing.assert_allclose(sampled.mean_probability.numpy(), mean, atol=2e-4)
    np.testing.assert_allclose(sampled.measures["predictive_entropy"], entr(mean).sum(axis=0), atol=5e-4)
    sure = np.abs(mean[1] - 0.5) > 2e-4
    np.testing.assert_array_equal(sampled.liver[sure], mean[1][sure] > 0.5)

    # With mirroring, no direction is preferred: what is said of a mirrored volume is what is said, mirrored.
    content = torch.load(last, weights_only=True)
    content["network"]["mirroring"] = True
    mirroring = NnUNet(content, CPU)
    one = mirroring.sample(image, 2, ("key",)).measures["predictive_entropy"]
    other = mirroring.sample(np.flip(image, (0, 2)).copy(), 2, ("key",)).measures["predictive_entropy"]
    np.testing.assert_allclose(other.flip((0, 2)), one, atol=5e-3)
    assert np.abs(one - sampled.measures["predictive_entropy"]).max() > 1e-2


@slow_with_nnunet
def test_an_interrupted_ensemble_keeps_its_members(tmp_path: Path) -> None:
    """Whoever interrupts it: the first member is not trained again, and no process is left behind."""
    target = "results/models/seed1/initial/model.pt"
    first = tmp_path / "results/checkpoints/seed1/initial/nnUNet_results" / DATASET
    first /= f"FewSteps__nnUNetPlans__3d_fullres/fold_0/{FINAL}"
    command = snakemake(tmp_path, target)
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    given_up = time.monotonic() + HANGS
    while not (first.parents[1] / "fold_1").exists() and time.monotonic() < given_up:
        assert running.poll() is None
        time.sleep(0.2)
    owner = (tmp_path / "results/checkpoints/seed1/initial.owner").read_text()
    os.kill(int(re.search(r"process (\d+)", owner)[1]), signal.SIGTERM)
    running.wait(HANGS)
    assert not (tmp_path / target).exists()
    left = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True, check=False).stdout.split()
    assert not left
    before = first.stat().st_mtime_ns
    again = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seen = set()
    while again.poll() is None:
        if first.exists():
            seen.add(first.stat().st_mtime_ns)
        time.sleep(0.1)
    assert again.returncode == 0
    assert seen == {before}
    assert len(torch.load(tmp_path / target, weights_only=True)["members"]) == 2
