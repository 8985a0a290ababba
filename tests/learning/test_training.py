"""Laws of training: the loss is eq. 2, the same key gives the same weights, an interruption changes nothing."""

import functools
import itertools
import mmap
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import HANGS
from hypothesis import given
from hypothesis import strategies as st
from slicesampling import NOT_ANNOTATED, UserError
from slicesampling.jobs.randomness import generator
from slicesampling.learning import training
from slicesampling.learning.checkpoint import Checkpoint, Terminated
from slicesampling.learning.compute import Compute, device_name
from slicesampling.learning.networks.aunet import build_network, save_model
from slicesampling.learning.networks.interface import load_model
from slicesampling.learning.patches import AnnotatedVolume, TrainingSet
from slicesampling.learning.progress import Progress
from slicesampling.learning.training import Settings, ValidationVolume, train, validate, weighted_soft_dice_loss
from slicesampling.learning.unet import AnisotropicUNet, Encoded

SETTINGS = Settings((2, 12, 12), 2, 1e-2, 3, (-1000.0, 1000.0), epochs=3, steps=None, patience=None)
CPU = Compute(torch.device("cpu"), "float32", 2.0**28)
NETWORK = {"kind": "aunet", "filters": [4, 6], "in_plane_levels": 1, "dropout": 0.25}


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


def run(
    folder: Path,
    settings: Settings = SETTINGS,
    key=(1, "model"),
    progress=lambda now: None,
    minutes=60.0,
    compute=CPU,
    checkpoint: Checkpoint | None = None,
) -> dict:
    torch.set_num_threads(1)
    training_set, validation = problem()
    network = build_network(NETWORK, torch.device("cpu"))
    checkpoint = checkpoint or Checkpoint(folder / "checkpoint.pt", "same", minutes)
    return train(network, training_set, validation, settings, compute, key, checkpoint, progress)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return run(tmp_path_factory.mktemp("undisturbed"))


def same(first: dict, second: dict) -> bool:
    return all(torch.equal(value, second.state[name]) for name, value in first.state.items())


def timeless(history: list[dict]) -> list[dict]:
    """The history without what depends on the machine."""
    names = ("step", "epoch", "loss", "validation_jaccard", "validation_dice")
    return [{name: row[name] for name in names} for row in history]


def test_training_learns_and_is_reproduced_bit_by_bit(undisturbed: dict, tmp_path: Path) -> None:
    first = undisturbed
    torch.manual_seed(12345)
    np.random.seed(1)  # noqa: NPY002 - no global state may matter
    second, other = run(tmp_path / "b"), run(tmp_path / "c", key=(2, "model"))
    assert same(first, second)
    assert not same(first, other)
    assert timeless(first.history) == timeless(second.history)
    jaccard = [row["validation_jaccard"] for row in first.history]
    assert max(jaccard) > 0.5
    assert first.best_step == first.history[int(np.argmax(jaccard))]["step"]
    epochs = [problem()[0].epoch(generator(1, "model", "epoch", epoch), 2) for epoch in range(3)]
    assert first.steps == sum(len(list(epoch)) for epoch in epochs)


def test_a_longer_training_with_the_same_key_begins_with_the_shorter_one(tmp_path: Path) -> None:
    """So a converged model is the training of the last iteration carried on; both validate at the same steps."""
    shorter = run(tmp_path / "a", SETTINGS._replace(epochs=2))
    longer = run(tmp_path / "b", SETTINGS._replace(epochs=None, patience=4))
    shared = [row for row in shorter.history if row["step"] % SETTINGS.validation_interval == 0]
    assert len(shared) >= 4
    assert len(longer.history) > len(shared)
    assert timeless(longer.history)[: len(shared)] == timeless(shared)


class Interruption(BaseException):
    pass


@pytest.mark.parametrize(("step", "after_validation"), [(1, False), (3, False), (3, True), (7, False), (15, True)])
def test_an_interruption_changes_nothing_and_nothing_is_repeated(
    undisturbed: dict, tmp_path: Path, step: int, after_validation: bool
) -> None:
    """With a checkpoint at each step, also at the step before a validation."""

    def interrupt(now: Progress) -> None:
        if now.step == step + 1 or (after_validation and now.step == step and now.validation is not None):
            raise Interruption

    with pytest.raises(Interruption):
        run(tmp_path / "b", progress=interrupt, minutes=0)
    seen: list[Progress] = []
    resumed = run(tmp_path / "b", progress=seen.append)
    assert same(undisturbed, resumed)
    assert timeless(undisturbed.history) == timeless(resumed.history)
    assert seen[0].step == step + 1


def forks() -> multiprocessing.context.ForkServerContext:
    """Processes that begin with all imported that a training needs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "test_training"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # or else the server does not find this module
        multiprocessing.forkserver.ensure_running()
    return context


EIGHT_EPOCHS = SETTINGS._replace(epochs=8)


def train_until_killed(folder: Path, step: int, reached: Event) -> None:
    """Train, a checkpoint at each step, and tell when so many steps of this process are done."""
    seen = itertools.count(1)

    def tell(now: Progress) -> None:
        if now.validation is None and next(seen) == step:
            reached.set()

    run(folder, EIGHT_EPOCHS, minutes=0, progress=tell)
    reached.set()  # on a machine so busy that kills come late
    signal.pause()


KILLS = 4


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_killed_at_random_moments_training_gives_the_same_model_bit_for_bit(tmp_path: Path, kind: int) -> None:
    processes = forks()
    random = np.random.default_rng(kind)
    for step in random.integers(1, 10, KILLS):
        reached = processes.Event()
        process = processes.Process(target=train_until_killed, args=(tmp_path, int(step), reached))
        process.start()
        assert reached.wait(timeout=HANGS)
        time.sleep(random.uniform(0, 0.02))  # a step takes longer: the next one, or its checkpoint, is under way
        assert process.pid is not None
        os.kill(process.pid, kind)
        process.join()
        assert process.exitcode in (-kind, 1)  # 1: a training ends itself on SIGTERM
    disturbed = run(tmp_path, EIGHT_EPOCHS)
    undisturbed = run(tmp_path / "undisturbed", EIGHT_EPOCHS)
    assert same(undisturbed, disturbed)
    assert timeless(undisturbed.history) == timeless(disturbed.history)


def test_on_sigterm_the_state_is_kept_and_nothing_is_repeated(undisturbed: dict, tmp_path: Path) -> None:
    """Whether it comes in the midst of a step or while a validation is due."""
    before = signal.getsignal(signal.SIGTERM)
    for step in (4, 6):

        def terminate(now: Progress) -> None:
            if now.step == step and now.validation is None:  # noqa: B023
                signal.raise_signal(signal.SIGTERM)

        with pytest.raises(Terminated):
            run(tmp_path / "b", progress=terminate)
        assert signal.getsignal(signal.SIGTERM) == before
    seen: list[Progress] = []
    resumed = run(tmp_path / "b", progress=seen.append)
    assert (seen[0].step, seen[0].validation is not None) == (6, True)
    assert same(undisturbed, resumed)


def test_a_damaged_checkpoint_gives_way_to_the_one_before_it_and_a_foreign_one_to_none(
    undisturbed: dict, tmp_path: Path
) -> None:
    def interrupt(now: Progress) -> None:
        if now.step == 14:
            raise Interruption

    with pytest.raises(Interruption):
        run(tmp_path / "b", progress=interrupt)
    path = tmp_path / "b/checkpoint.pt"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    seen: list[Progress] = []
    resumed = run(tmp_path / "b", progress=seen.append)
    assert same(resumed, undisturbed)
    last = 13 // SETTINGS.validation_interval * SETTINGS.validation_interval
    assert seen[0].step == last - SETTINGS.validation_interval + 1
    assert not list(Checkpoint(path, "other", 60).states())


@pytest.mark.parametrize("settings", [SETTINGS, SETTINGS._replace(epochs=None, patience=2)])
def test_a_finished_training_is_not_repeated(tmp_path: Path, settings: Settings) -> None:
    """Where it ended between two validations, only its last one is."""
    first = run(tmp_path, settings)
    seen: list[Progress] = []
    again = run(tmp_path, settings, progress=seen.append)
    assert [now.validation is not None for now in seen] == [True] * (first.steps % SETTINGS.validation_interval > 0)
    assert same(first, again)
    assert timeless(again.history) == timeless(first.history)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def slow(settings: Settings):
    return pytest.param(settings, marks=pytest.mark.slow)


SHORT = [
    slow(SETTINGS._replace(epochs=1)),
    slow(SETTINGS._replace(epochs=2)),
    slow(SETTINGS._replace(epochs=None, steps=9)),  # at a validation
    SETTINGS._replace(epochs=None, steps=10),
    SETTINGS._replace(epochs=None, patience=1),
]
LONG = [
    SETTINGS._replace(epochs=None, patience=3),
    slow(SETTINGS._replace(epochs=4, patience=2)),
    slow(SETTINGS._replace(epochs=None, steps=25)),
    SETTINGS._replace(epochs=None, steps=9),
    slow(SETTINGS._replace(epochs=1)),  # at times the shorter one
    slow(SETTINGS._replace(patience=1)),
]


Ended = Callable[[Settings], tuple[dict, Path]]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """A function that trains from the start, once for all tests: what that returns, and the checkpoint it leaves."""

    @functools.cache
    def end(settings: Settings) -> tuple[dict, Path]:
        folder = tmp_path_factory.mktemp("ended")
        return run(folder, settings), folder / "checkpoint.pt"

    return end


@pytest.mark.parametrize("short", SHORT)
@pytest.mark.parametrize("long", LONG)
def test_a_training_that_goes_on_where_another_ended_is_the_whole_training(
    tmp_path: Path, ended: Ended, short: Settings, long: Settings
) -> None:
    """Bit for bit; no step is made twice, except where the other went beyond the end of this one."""
    (whole, _), (before, begun) = ended(long), ended(short)
    seen: list[Progress] = []
    goes_on = run(tmp_path, long, checkpoint=Checkpoint(tmp_path / "its.pt", "same", 60, begun), progress=seen.append)
    assert same(whole, goes_on)
    assert timeless(goes_on.history) == timeless(whole.history)
    assert (goes_on.steps, goes_on.best_step) == (whole.steps, whole.best_step)
    if whole.steps >= before.steps:
        assert [now.step for now in seen if now.validation is None] == [*range(before.steps + 1, whole.steps + 1)]


def test_a_training_ends_after_its_steps(tmp_path: Path) -> None:
    """Whatever the size of the training set, and in the midst of an epoch."""
    assert run(tmp_path, SETTINGS._replace(epochs=None, steps=8)).steps == 8


@pytest.mark.parametrize("precision", [pytest.param("bfloat16", marks=pytest.mark.slow), "float16"])
def test_mixed_precision_keeps_weights_in_float32_and_learns(undisturbed: dict, tmp_path: Path, precision: str) -> None:
    mixed = run(tmp_path, SETTINGS._replace(epochs=6), compute=CPU._replace(precision=precision))
    assert {value.dtype for value in mixed.state.values()} <= {torch.float32, torch.int64}
    exact = undisturbed.history
    assert mixed.history[0]["loss"] == pytest.approx(exact[0]["loss"], abs=0.02)
    assert mixed.history[1]["loss"] != exact[1]["loss"]
    assert mixed.best_jaccard > 0.5


def test_the_expected_number_of_steps_is_right_in_the_end(tmp_path: Path) -> None:
    """It is exact where patience ends the training; epochs differ a little in their numbers of steps."""
    for settings in (SETTINGS, SETTINGS._replace(epochs=None, patience=3), SETTINGS._replace(patience=2)):
        seen: list[Progress] = []
        result = run(tmp_path / str(settings.patience), settings, progress=seen.append)
        assert all(now.step <= now.of for now in seen)
        assert seen[-1].of == pytest.approx(result.steps, rel=0 if settings.epochs is None else 0.15)


def test_memory_and_computation_are_recorded_for_each_interval(tmp_path: Path) -> None:
    """The peak of a stretch of training does not hold that of the validation before it, and so the other way round."""

    def fill(now: Progress) -> None:
        if now.step == 4 and now.validation is None:  # in the second interval alone
            with mmap.mmap(-1, 2**28) as ballast:  # 256 MiB that the heap cannot have held already
                for page in range(0, len(ballast), mmap.PAGESIZE):
                    ballast[page] = 1

    rows = run(tmp_path, progress=fill).history
    assert rows[1]["memory_mib"] > rows[0]["memory_mib"] + 200
    assert rows[1]["validation_memory_mib"] < rows[1]["memory_mib"] - 200
    assert rows[2]["memory_mib"] < rows[1]["memory_mib"] - 200
    assert {(row["device"], row["precision"]) for row in rows} == {(device_name(CPU.device), "float32")}


def test_of_equal_validations_the_earliest_gives_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.2, 0.5, 0.5, 0.4, 0.5])
    monkeypatch.setattr(training, "validate", lambda *_: (next(scores), 0.6))
    result = run(tmp_path, SETTINGS._replace(epochs=None, patience=3))
    assert [row["validation_jaccard"] for row in result.history] == [0.2, 0.5, 0.5, 0.4, 0.5]
    assert result.best_step == result.history[1]["step"]


def test_patience_ends_a_training_without_epochs(tmp_path: Path) -> None:
    result = run(tmp_path, SETTINGS._replace(epochs=None, patience=4))
    since_best = [row for row in result.history if row["step"] > result.best_step]
    assert len(since_best) == 4
    assert all(row["validation_jaccard"] <= result.best_jaccard for row in since_best)


def test_a_loss_that_is_not_finite_names_step_and_volume(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"loss is nan at step \d+ .*(a|b) at "):
        run(tmp_path, SETTINGS._replace(learning_rate=float("inf")))


def test_validation_is_the_mean_jaccard_of_whole_volumes() -> None:
    class Threshold(AnisotropicUNet):
        """Predicts liver where the scaled intensity exceeds 0.1 (100 HU)."""

        def decode(self, encoded, keep):
            return torch.cat([torch.zeros_like(encoded.below), (encoded.below - 0.1) * 1000], dim=1)

        def encode(self, image):
            dz, dy, dx = self.margin
            return Encoded([], image[:, :, dz or None : -dz or None, dy:-dy, dx:-dx])

    image = np.full((3, 10, 10), -500, dtype=np.int16)
    image[1, :4, :5] = 500
    masks = [image > 0, np.roll(image > 0, 2, axis=1)]
    volumes = [ValidationVolume(image, mask) for mask in masks]
    jaccard, dice = validate(Threshold([2, 2], 1), volumes, SETTINGS.window, CPU)
    assert jaccard == pytest.approx((1 + 10 / 30) / 2)
    assert dice == pytest.approx((1 + 20 / 40) / 2)
    partly = np.where(masks[1], 1, 0).astype(np.uint8)
    partly[0] = NOT_ANNOTATED
    same = [volumes[0], ValidationVolume(image, partly)]
    assert validate(Threshold([2, 2], 1), same, SETTINGS.window, CPU) == (jaccard, dice)  # both see nothing there
    partly[1] = NOT_ANNOTATED  # where they differ
    assert validate(Threshold([2, 2], 1), same, SETTINGS.window, CPU) == (1, 1)


def test_a_model_survives_its_file(tmp_path: Path) -> None:
    result = run(tmp_path)
    save_model(tmp_path / "model.pt", NETWORK, [-1000, 1000], result)
    model = load_model(tmp_path / "model.pt", CPU)
    assert model.window == (-1000, 1000)
    assert all(torch.equal(value, result.state[name]) for name, value in model.network.state_dict().items())


class NoMemory(AnisotropicUNet):
    error: Exception = torch.OutOfMemoryError()

    def decode(self, encoded, keep):
        raise self.error


@pytest.mark.parametrize("error", [torch.OutOfMemoryError(), RuntimeError("GET was unable to find an engine to …")])
def test_out_of_memory_names_the_keys_to_lower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(NoMemory, "error", error)
    training_set, validation = problem()
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", "same", 60)
    message = (
        r"cpu ran out of memory with network\.aunet\.training\.patch \[2, 12, 12\], batch_size 2 and compute\."
        r"precision float32; lower one of them, or network\.aunet\.filters"
    )
    with pytest.raises(UserError, match=message):
        train(NoMemory([4, 6], 1), training_set, validation, SETTINGS, CPU, (1,), checkpoint)
