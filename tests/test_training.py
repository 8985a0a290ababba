"""Laws of training: the loss is eq. 2, the same key gives the same weights, an interruption changes nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from slicesampling import UserError
from slicesampling.models import build_network, load_model, save_model
from slicesampling.network import AnisotropicUNet
from slicesampling.patches import AnnotatedVolume, TrainingSet
from slicesampling.randomness import generator
from slicesampling.training import Settings, ValidationVolume, train, validate, weighted_soft_dice_loss

SETTINGS = Settings((2, 12, 12), 2, 1e-2, 3, (-1000.0, 1000.0), 2.0**28, epochs=3, patience=None)
NETWORK = {"filters": [4, 6], "in_plane_levels": 1, "dropout": 0.25}


def loss(probability, label, weight) -> float:
    return weighted_soft_dice_loss(
        *(torch.as_tensor(x, dtype=torch.float32) for x in (probability, label, weight))
    ).item()


@given(st.integers(0, 9999))
def test_loss_is_equation_2(seed: int) -> None:
    random = np.random.default_rng(seed)
    p, y, w = random.random((2, 3, 4, 5)), random.integers(0, 2, (2, 3, 4, 5)), random.integers(0, 2, (2, 3, 4, 5))
    p, y, w = p.astype(np.float32), y.astype(np.float32), w.astype(np.float32)
    y[0, 0, 0, 0] = w[0, 0, 0, 0] = 1
    expected = 1 - 2 * (w * y * p).sum(dtype=float) / ((w * y).sum(dtype=float) + (w * p).sum(dtype=float))
    assert loss(p, y, w) == pytest.approx(expected, abs=1e-6)


def test_loss_of_perfect_wrong_and_empty() -> None:
    liver = [1.0, 0.0, 1.0, 0.0]
    assert loss(liver, liver, [1] * 4) == 0
    assert loss([0.0, 1.0, 0.0, 1.0], liver, [1] * 4) == 1
    assert loss([0.0] * 4, [0.0] * 4, [1] * 4) == 0


def test_unannotated_voxels_have_no_gradient() -> None:
    """In slice sampling only the annotated slice may teach the network; what stands elsewhere is not even looked at."""
    probability = torch.rand(1, 4, 3, 3, generator=torch.Generator().manual_seed(1), requires_grad=True)
    label, weight = torch.ones(1, 4, 3, 3), torch.zeros(1, 4, 3, 3)
    weight[:, 2] = 1
    weighted_soft_dice_loss(probability, label, weight).backward()
    assert (probability.grad[:, 2] != 0).all()
    assert (probability.grad[:, [0, 1, 3]] == 0).all()


def problem() -> tuple[TrainingSet, list[ValidationVolume]]:
    """A bright box in noise, in two volumes to train on and one to validate on."""
    random = np.random.default_rng(0)
    volumes = []
    for name in "abc":
        mask = np.zeros((6, 24, 24), dtype=np.uint8)
        corner = random.integers(2, 10, 2)
        mask[1:5, corner[0] : corner[0] + 9, corner[1] : corner[1] + 9] = 1
        image = (mask * 400.0 + random.normal(0, 60, mask.shape)).astype(np.int16)
        volumes.append(AnnotatedVolume(name, image, mask, np.arange(6)))
    validation = volumes.pop()
    return TrainingSet(volumes, SETTINGS.patch), [ValidationVolume(validation.image, validation.mask)]


def run(folder: Path, settings: Settings = SETTINGS, key=(1, "model"), fingerprint="same", progress=lambda row: None):
    torch.set_num_threads(1)
    training_set, validation = problem()
    network = build_network(NETWORK, torch.device("cpu"))
    return train(network, training_set, validation, settings, key, folder / "checkpoint.pt", fingerprint, progress)


def same(first: dict, second: dict) -> bool:
    return all(torch.equal(value, second["state"][name]) for name, value in first["state"].items())


def test_training_learns_and_is_reproduced_bit_by_bit(tmp_path: Path) -> None:
    first = run(tmp_path / "a")
    torch.manual_seed(12345)
    np.random.seed(1)  # noqa: NPY002 - no global state may matter
    second, other = run(tmp_path / "b"), run(tmp_path / "c", key=(2, "model"))
    assert same(first, second)
    assert not same(first, other)
    without_time = [{k: v for k, v in row.items() if k != "seconds"} for row in first["history"]]
    assert without_time == [{k: v for k, v in row.items() if k != "seconds"} for row in second["history"]]
    jaccard = [row["validation_jaccard"] for row in first["history"]]
    assert max(jaccard) > 0.5
    assert first["best_step"] == first["history"][int(np.argmax(jaccard))]["step"]
    epochs = [problem()[0].epoch(generator(1, "model", "epoch", epoch), 2) for epoch in range(3)]
    assert first["steps"] == sum(len(list(epoch)) for epoch in epochs)


@pytest.mark.parametrize("interrupted_after", [1, 2, 5])
def test_an_interruption_changes_nothing(tmp_path: Path, interrupted_after: int) -> None:
    undisturbed = run(tmp_path / "a")

    class Interruption(BaseException):
        pass

    count = 0

    def interrupt(row: dict) -> None:
        nonlocal count
        count += 1
        if count == interrupted_after:
            raise Interruption

    with pytest.raises(Interruption):
        run(tmp_path / "b", progress=interrupt)
    steps = []
    resumed = run(tmp_path / "b", progress=lambda row: steps.append(row["step"]))
    assert steps[0] == SETTINGS.validation_interval * (interrupted_after + 1)  # nothing was repeated
    assert same(undisturbed, resumed)


def test_a_damaged_or_foreign_checkpoint_is_not_continued(tmp_path: Path) -> None:
    undisturbed = run(tmp_path / "a")
    path = tmp_path / "a/checkpoint.pt"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert same(run(tmp_path / "a"), undisturbed)
    steps = []
    run(tmp_path / "a", fingerprint="other", progress=lambda row: steps.append(row["step"]))
    assert steps[0] == SETTINGS.validation_interval


def test_patience_ends_a_training_without_epochs(tmp_path: Path) -> None:
    result = run(tmp_path, SETTINGS._replace(epochs=None, patience=4))
    since_best = [row for row in result["history"] if row["step"] > result["best_step"]]
    assert len(since_best) == 4
    assert all(row["validation_jaccard"] <= result["best_jaccard"] for row in since_best)


def test_a_loss_that_is_not_finite_names_step_and_volume(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"loss is nan at step \d+ .*(a|b) at "):
        run(tmp_path, SETTINGS._replace(learning_rate=float("inf")))


def test_validation_is_the_mean_jaccard_of_whole_volumes() -> None:
    class Threshold(AnisotropicUNet):
        """Predicts liver where the scaled intensity exceeds 0.1 (100 HU)."""

        def decode(self, skips, generator):
            return torch.cat([torch.zeros_like(skips[0]), (skips[0] - 0.1) * 1000], dim=1)

        def encode(self, image):
            dz, dy, dx = self.margin
            return [image[:, :, dz or None : -dz or None, dy:-dy, dx:-dx]]

    image = np.full((3, 10, 10), -500, dtype=np.int16)
    image[1, :4, :5] = 500
    masks = [image > 0, np.roll(image > 0, 2, axis=1)]
    volumes = [ValidationVolume(image, mask) for mask in masks]
    jaccard, dice = validate(Threshold([2, 2], 1), volumes, SETTINGS)
    assert jaccard == pytest.approx((1 + 10 / 30) / 2)
    assert dice == pytest.approx((1 + 20 / 40) / 2)


def test_a_model_survives_its_file(tmp_path: Path) -> None:
    result = run(tmp_path)
    save_model(tmp_path / "model.pt", NETWORK, [-1000, 1000], result)
    model = load_model(tmp_path / "model.pt", torch.device("cpu"))
    assert model.window == (-1000, 1000)
    assert all(torch.equal(value, result["state"][name]) for name, value in model.network.state_dict().items())
