"""Training: the weighted soft Dice loss and the training loop (section II-E)."""

import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import NOT_ANNOTATED, UserError
from ..jobs.randomness import generator, seed_of
from .checkpoint import Checkpoint, Terminated, Termination
from .compute import Compute, device_name
from .geometry import Axes
from .inference import LIVER, Predictor
from .memory import free_memory, peak_memory, ran_out_of_memory, reset_peak_memory
from .patches import Tile, TrainingSet
from .prefetch import read_ahead
from .processes import gathered, group, total
from .progress import Progress
from .unet import AnisotropicUNet

logger = logging.getLogger(__name__)

WARM_UP = 3
"""Steps after which a training has allocated all its memory: gradients, moments, workspaces of convolutions."""
INFERENCE_BYTES = 8 * 2**30
"""GPU memory reserved for validation when training volumes are moved to the GPU. By `plan_tiles`, for volumes of up to
350 × 420 × 420 voxels, tiles then cost at most 25 % more than with all of 80 GB; with half of it, up to 60 % more."""


def weighted_soft_dice_loss(probability: Tensor, label: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted soft Dice loss of eq. 2, a scalar in [0, 1].

    probability: of the liver class; label: 1 liver, 0 background; weight: 1 on annotated voxels, 0 elsewhere; all of
    the same shape. The sums run over the whole mini-batch, even if several processes share it, in float32. If neither
    probability nor label has any weighted liver, the loss is 0.
    """
    probability, label, weight = probability.float(), label.float(), weight.float()
    overlap = total((weight * label * probability).sum())
    size = total((weight * label).sum() + (weight * probability).sum())
    return torch.where(size > 0, 1 - 2 * overlap / size.clamp_min(torch.finfo(torch.float32).tiny), size)


class Settings(NamedTuple):
    """The settings of a training; `patch` in voxels (z, y, x), `window` in HU.

    The training ends after `epochs`, after `steps`, or after `patience` validations without improvement, whichever
    comes first; None: no such limit.
    """

    patch: Axes
    batch_size: int
    learning_rate: float
    validation_interval: int
    window: tuple[float, float]
    epochs: int | None
    steps: int | None
    patience: int | None


class ValidationVolume(NamedTuple):
    """A validation volume: HU and liver mask, (z, y, x); slices of `NOT_ANNOTATED` are ignored."""

    image: np.ndarray
    mask: np.ndarray


def validate(
    network: AnisotropicUNet,
    volumes: Sequence[ValidationVolume],
    window: tuple[float, float],
    compute: Compute,
    between: Callable[[], None] = lambda: None,
) -> tuple[float, float]:
    """Return the Jaccard index and the Dice index, each averaged over the validation volumes, without dropout.

    between: called before each volume; it may raise to end the validation. The next volume is copied to the device
    during each prediction.
    """
    rank, size = group()
    predict = Predictor(network, window, compute)
    jaccard = []

    def sent(volume: ValidationVolume) -> tuple[Tensor, Tensor]:
        return torch.as_tensor(volume.image).to(compute.device), torch.as_tensor(volume.mask).to(compute.device)

    for _, (image, mask) in read_ahead(volumes[rank::size], sent, compute.device):
        between()
        predicted, reference = (predict(image) > LIVER) & (mask != NOT_ANNOTATED), mask == 1
        union = int((predicted | reference).sum())
        jaccard.append(int((predicted & reference).sum()) / union if union else 1.0)
    scores = np.array(gathered(jaccard))
    return float(scores.mean()), float((2 * scores / (1 + scores)).mean())


@dataclass
class Run:
    """The state of a training, beside those of network, optimizer and gradient scaler.

    losses, seconds, data_wait: since the last validation; data_wait is the part of the seconds spent waiting for
    patches. state: of the best model by the validation Jaccard index, the earliest of equals; best_step: its step.
    history: rows of step, epoch, loss (mean since the last row), validation_jaccard, validation_dice, steps_per_second,
    seconds (of training since the last row), data_wait (part of these), validation_seconds, memory_mib and
    validation_memory_mib (the peaks of training since the last row and of validation, on the GPU if there is one),
    device and precision.
    """

    steps: int = 0
    epoch: int = 0
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    data_wait: float = 0.0
    best_jaccard: float = -1.0
    best_step: int = 0
    state: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Training:
    """A training in progress. shared: the network, or its wrapper that synchronises several processes."""

    network: AnisotropicUNet
    shared: torch.nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    dropout: torch.Generator
    settings: Settings
    compute: Compute
    key: Sequence[str | int]
    run: Run

    def save(self, checkpoint: Checkpoint) -> None:
        """Write the whole state; of several processes only the first writes."""
        if group().rank == 0:
            checkpoint.save(
                {
                    "network": self.network.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "scaler": self.scaler.state_dict(),
                    "run": vars(self.run),
                }
            )


def train(
    network: AnisotropicUNet,
    training_set: TrainingSet,
    validation: Sequence[ValidationVolume],
    settings: Settings,
    compute: Compute,
    key: Sequence[str | int],
    checkpoint: Checkpoint,
    progress: Callable[[Progress], None] = lambda now: None,
) -> Run:
    """Train `network` from scratch and return its best state and the history of its validations.

    Every random number follows from `key`, the epoch and the step, so that the same key gives the same model, and no
    state of a generator needs to be stored. The whole state is written to `checkpoint` at each validation, at intervals
    between them, at the end, and on SIGTERM, which then raises Terminated. A training that finds a checkpoint continues
    there, with the result of an uninterrupted run. The checkpoint may be the final state of a shorter training with the
    same key, such as that of the last iteration for a converged model. Feature maps have `compute.dtype`, weights and
    loss are float32.

    Several processes (see `processes`) share each mini-batch and the validation volumes. Raise UserError if the loss is
    not finite, or the device's memory does not suffice.
    """
    training = begun(network, settings, compute, key, checkpoint)
    run, device = training.run, compute.device
    if compute.training_data == "device":
        training_set.move_to(device)
    first = run.steps
    measured = compute.training_data != "auto" or device.type == "cpu"  # on a CPU, files need no copy
    reset_peak_memory(device)
    steps_per_epoch = sum(1 for _ in training_set.epoch(generator(*key, "epoch", 0), settings.batch_size))

    def tell(loss: float, row: dict[str, Any] | None) -> None:
        progress(Progress(run.steps, expected_steps(run, settings, steps_per_epoch), run.epoch, loss, row))

    planned = steps_after(run.steps, training_set, settings, key)
    batches = prepared_batches(planned, training_set, network, settings, device)
    with Termination(device) as termination, contextlib.closing(batches):
        try:
            while not out_of_patience(run.history, settings):
                if run.losses and run.steps % settings.validation_interval == 0:
                    row = close_interval(training, validation, termination)
                    training.save(checkpoint)
                    tell(row["loss"], row)
                    continue
                termination.check()
                started = time.monotonic()
                item = next(batches, None)
                if item is None:
                    break
                epoch, tiles, batch = item
                run.data_wait += time.monotonic() - started
                loss = make_step(training, training_set, tiles, batch)
                run.losses.append(loss)
                run.steps, run.epoch = run.steps + 1, epoch
                run.seconds += time.monotonic() - started
                tell(loss, None)
                if not measured and run.steps >= first + WARM_UP:
                    measured = True
                    keep_near(training_set, device)
                if checkpoint.due():
                    training.save(checkpoint)
            if run.steps == first:
                logger.info("this training had already ended")
            if run.losses:  # the steps after the last full interval
                training.save(checkpoint)  # before their validation, which a longer training skips
                row = close_interval(training, validation, termination)
                tell(row["loss"], row)
        except Terminated:
            training.save(checkpoint)
            raise
    if group().rank == 0:
        checkpoint.settle()
    return run


def begun(
    network: AnisotropicUNet, settings: Settings, compute: Compute, key: Sequence[str | int], checkpoint: Checkpoint
) -> Training:
    """Return a training at its first step, or at a state in `checkpoint` that it would pass through."""
    network.initialise(torch.Generator().manual_seed(seed_of(*key, "initial weights")))
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    scaler = torch.amp.GradScaler(compute.device.type, enabled=compute.dtype == torch.float16)
    run = Run()
    for state in checkpoint.states():
        if passes(settings, Run(**state["run"])):
            network.load_state_dict(state["network"])
            optimizer.load_state_dict(state["optimizer"])
            scaler.load_state_dict(state["scaler"])
            run = Run(**state["run"])
            logger.info("continuing after step %d", run.steps)
            break
    shared: torch.nn.Module = network
    if group().size > 1:
        shared = torch.nn.parallel.DistributedDataParallel(network, forward_sync_buffers=False)
    dropout = torch.Generator(device=compute.device)
    return Training(network, shared, optimizer, scaler, dropout, settings, compute, key, run)


def make_step(
    training: Training, training_set: TrainingSet, tiles: Sequence[Tile], batch: tuple[Tensor, Tensor, Tensor]
) -> float:
    """Perform one step on a mini-batch (image, label, weight) of `tiles`, and return its loss."""
    (image, label, weight), compute, settings = batch, training.compute, training.settings
    step = training.run.steps + 1
    training.network.train()
    training.dropout.manual_seed(seed_of(*training.key, "dropout", step))
    try:
        with torch.autocast(compute.device.type, compute.dtype, enabled=compute.dtype != torch.float32):
            logits = training.shared(image, training.dropout)
        loss = weighted_soft_dice_loss(logits.float().softmax(dim=1)[:, 1], label, weight)
        training.optimizer.zero_grad(set_to_none=True)
        training.scaler.scale(loss * group().size).backward()  # processes average their gradients
    except RuntimeError as error:  # the base class of OutOfMemoryError
        if not ran_out_of_memory(error):
            raise
        raise UserError(
            f"training: {compute.device} ran out of memory with network.aunet.training.patch {list(settings.patch)}, "
            f"batch_size {settings.batch_size} and compute.precision {compute.precision}; lower one of them, or "
            "network.aunet.filters"
        ) from error
    training.scaler.step(training.optimizer)
    training.scaler.update()
    if not torch.isfinite(loss):
        where = "; ".join(f"{training_set.volumes[tile.volume].name} at {tile.start}" for tile in tiles)
        raise UserError(f"training: the loss is {loss.item()} at step {step} (patches: {where})")
    return loss.item()


def close_interval(
    training: Training, validation: Sequence[ValidationVolume], termination: Termination
) -> dict[str, Any]:
    """Validate, keep the best state, and return the row of the history, see `Run`."""
    run, compute = training.run, training.compute
    started, training_memory = time.monotonic(), peak_memory(compute.device)
    reset_peak_memory(compute.device)
    # Ranks validate unequal numbers of volumes, so that they must not synchronise between volumes.
    between = termination.check if group().size == 1 else lambda: None
    jaccard, dice = validate(training.network, validation, training.settings.window, compute, between)
    row = {
        "step": run.steps,
        "epoch": run.epoch,
        "loss": float(np.mean(run.losses)),
        "validation_jaccard": jaccard,
        "validation_dice": dice,
        "steps_per_second": len(run.losses) / run.seconds,
        "seconds": run.seconds,
        "data_wait": run.data_wait,
        "validation_seconds": time.monotonic() - started,
        "memory_mib": training_memory,
        "validation_memory_mib": peak_memory(compute.device),
        "device": device_name(compute.device),
        "precision": compute.precision,
    }
    reset_peak_memory(compute.device)
    run.history.append(row)
    run.losses, run.seconds, run.data_wait = [], 0.0, 0.0
    if jaccard > run.best_jaccard:
        run.best_jaccard, run.best_step = jaccard, run.steps
        run.state = {name: tensor.detach().cpu().clone() for name, tensor in training.network.state_dict().items()}
    return row


def out_of_patience(history: Sequence[dict[str, Any]], settings: Settings) -> bool:
    """Return whether the last `patience` validations brought no improvement."""
    scores = [row["validation_jaccard"] for row in history]
    return bool(scores) and settings.patience is not None and len(scores) > settings.patience + int(np.argmax(scores))


def passes(settings: Settings, run: Run) -> bool:
    """Return whether a training with `settings` passes through the state `run`, perhaps of one of another length."""
    validated = run.history[-1]["step"] if run.history else 0
    before = run.history if run.steps > validated else run.history[:-1]
    return (
        not out_of_patience(before, settings)
        and (settings.epochs is None or run.epoch < settings.epochs)
        and (settings.steps is None or run.steps <= settings.steps)
    )


def steps_after(
    done: int, training_set: TrainingSet, settings: Settings, key: Sequence[str | int]
) -> Iterator[tuple[int, list[Tile]]]:
    """Yield epoch and tiles of each step after the first `done`; the steps themselves do not depend on it."""
    step = 0
    for epoch in itertools.count() if settings.epochs is None else range(settings.epochs):
        for tiles in training_set.epoch(generator(*key, "epoch", epoch), settings.batch_size):
            step += 1
            if settings.steps is not None and step > settings.steps:
                return
            if step > done:
                yield epoch, tiles


def prepared_batches(
    planned: Iterator[tuple[int, list[Tile]]],
    training_set: TrainingSet,
    network: AnisotropicUNet,
    settings: Settings,
    device: torch.device,
) -> Generator[tuple[int, list[Tile], tuple[Tensor, Tensor, Tensor]], None, None]:
    """Yield epoch, tiles and patches (image, label, weight) of each step, on the device.

    For a GPU, a thread prepares the next patches during the computation. On a CPU, that thread would cost the
    computation more than it saves.
    """

    def batch(step: tuple[int, list[Tile]]) -> tuple[Tensor, Tensor, Tensor]:
        rank, size = group()
        return training_set.batch(step[1][rank::size], network.margin, settings.window, device)

    if device.type == "cpu":
        yield from ((epoch, tiles, batch((epoch, tiles))) for epoch, tiles in planned)
    else:
        yield from ((*step, prepared) for step, prepared in read_ahead(planned, batch, device))


def keep_near(training_set: TrainingSet, device: torch.device) -> None:
    """Move the volumes to a GPU if they fit beside the measured memory of the training and that of validation."""
    free = free_memory(device) - INFERENCE_BYTES
    fits = training_set.nbytes <= free
    logger.info(
        "training volumes of %.1f GiB %s, where %.1f GiB are left for them",
        *(training_set.nbytes / 2**30, f"go to {device}" if fits else "stay in their files", free / 2**30),
    )
    if fits:
        training_set.move_to(device)


def expected_steps(run: Run, settings: Settings, steps_per_epoch: int) -> int:
    """Return the number of steps of a training without further improvement, up to a few over all its epochs."""
    ends = []
    if settings.epochs is not None:
        ends.append(settings.epochs * steps_per_epoch)
    if settings.steps is not None:
        ends.append(settings.steps)
    if settings.patience is not None:
        ends.append(run.best_step + settings.patience * settings.validation_interval)
    return max(min(ends), run.steps)
