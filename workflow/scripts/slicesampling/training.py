"""Training: the weighted soft Dice loss and one loop that reads from top to bottom (section II-E)."""

import itertools
import logging
import pickle
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from . import UserError
from .files import replacing
from .geometry import Axes
from .inference import predict
from .network import AnisotropicUNet
from .patches import TrainingSet
from .randomness import generator, seed_of

logger = logging.getLogger(__name__)


def weighted_soft_dice_loss(probability: Tensor, label: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted soft Dice loss of eq. 2, a scalar in [0, 1].

    probability: of the liver class, label: 1 liver and 0 background, weight: 1 on annotated voxels and 0 elsewhere; all
    of one shape. The sums run over the whole mini-batch, in float32. Where neither holds any weighted liver, nothing
    is wrong and the loss is 0.
    """
    probability, label, weight = probability.float(), label.float(), weight.float()
    overlap = (weight * label * probability).sum()
    size = (weight * label).sum() + (weight * probability).sum()
    return torch.where(size > 0, 1 - 2 * overlap / size.clamp_min(torch.finfo(torch.float32).tiny), size)


class Settings(NamedTuple):
    """What a training needs to know: `patch` in voxels (z, y, x), `window` in HU, `memory` of a tile in bytes.

    It ends after `epochs`, or after `patience` validations without a better one, whichever comes first; None: never.
    """

    patch: Axes
    batch_size: int
    learning_rate: float
    validation_interval: int
    window: tuple[float, float]
    memory: float
    epochs: int | None
    patience: int | None


class ValidationVolume(NamedTuple):
    """A volume to validate on: HU and liver mask, (z, y, x)."""

    image: np.ndarray
    mask: np.ndarray


def validate(network: AnisotropicUNet, volumes: Sequence[ValidationVolume], settings: Settings) -> tuple[float, float]:
    """Return the Jaccard index and the Dice index, each averaged over the validation volumes, without dropout."""
    jaccard = []
    for volume in volumes:
        probability = predict(network, volume.image, settings.window, settings.memory)
        predicted, reference = probability[1] > 0.5, np.asarray(volume.mask, dtype=bool)
        union = np.count_nonzero(predicted | reference)
        jaccard.append(np.count_nonzero(predicted & reference) / union if union else 1.0)
    scores = np.array(jaccard)
    return float(scores.mean()), float((2 * scores / (1 + scores)).mean())


def train(
    network: AnisotropicUNet,
    training_set: TrainingSet,
    validation: Sequence[ValidationVolume],
    settings: Settings,
    key: Sequence[str | int],
    checkpoint: Path,
    fingerprint: str,
    progress: Callable[[dict[str, Any]], None] = lambda row: None,
) -> dict[str, Any]:
    """Train `network` from scratch and return its best state and the history of its validations.

    Every random number follows from `key`, the epoch and the step, so the same key gives the same model. At each
    validation the whole state is written to `checkpoint`, by rename; a training that finds one with the same
    `fingerprint` (of the training set and the settings) continues there and ends with the model of an undisturbed run.
    Returns `state` (of the best model by the validation Jaccard index, the earliest of equals), `best_step`, `steps`,
    and `history`: rows of step, epoch, loss (mean since the row before), validation_jaccard, validation_dice, seconds.
    Raises UserError when the loss is not finite.
    """
    device = next(network.parameters()).device
    network.initialise(torch.Generator().manual_seed(seed_of(*key, "initial weights")))
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    dropout = torch.Generator(device=device)
    run: dict[str, Any] = {"best_jaccard": -1.0, "best_step": 0, "steps": 0, "history": [], "state": {}, "ended": False}
    resumed = load_checkpoint(checkpoint, fingerprint)
    if resumed is not None:
        network.load_state_dict(resumed["network"])
        optimizer.load_state_dict(resumed["optimizer"])
        run = resumed["run"]
        logger.info("continuing at step %d", run["steps"])

    def close_interval(epoch: int, losses: list[float], started: float) -> None:
        """Validate, note the result, keep the best state, and write the checkpoint."""
        jaccard, dice = validate(network, validation, settings)
        row = {
            "step": run["steps"],
            "epoch": epoch,
            "loss": float(np.mean(losses)),
            "validation_jaccard": jaccard,
            "validation_dice": dice,
            "seconds": time.monotonic() - started,
        }
        run["history"].append(row)
        if jaccard > run["best_jaccard"]:
            state = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
            run.update(best_jaccard=jaccard, best_step=run["steps"], state=state)
        since_best = sum(row["step"] > run["best_step"] for row in run["history"])
        run["ended"] = settings.patience is not None and since_best >= settings.patience
        save_checkpoint(checkpoint, fingerprint, network, optimizer, run)
        progress(row)

    step, losses, started, epoch = 0, [], time.monotonic(), 0
    for epoch in itertools.count() if settings.epochs is None else range(settings.epochs):
        for tiles in training_set.epoch(generator(*key, "epoch", epoch), settings.batch_size):
            if run["ended"]:
                break
            step += 1
            if step <= run["steps"]:  # done before the interruption
                continue
            image, label, weight = (
                torch.from_numpy(array).to(device)
                for array in training_set.batch(tiles, network.margin, settings.window)
            )
            network.train()
            dropout.manual_seed(seed_of(*key, "dropout", step))
            probability = network(image, dropout).softmax(dim=1)[:, 1]
            loss = weighted_soft_dice_loss(probability, label, weight)
            if not torch.isfinite(loss):
                where = "; ".join(f"{training_set.volumes[tile.volume].name} at {tile.start}" for tile in tiles)
                raise UserError(f"training: the loss is {loss.item()} at step {step} (patches: {where})")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            run["steps"] = step
            if step % settings.validation_interval == 0:
                close_interval(epoch, losses, started)
                losses, started = [], time.monotonic()
        if run["ended"]:
            break
    if losses:  # the steps after the last full interval
        close_interval(epoch, losses, started)
    return run


def save_checkpoint(
    path: Path, fingerprint: str, network: AnisotropicUNet, optimizer: torch.optim.Optimizer, run: dict
) -> None:
    """Write all that `train` needs to continue, by rename."""
    state = {
        "fingerprint": fingerprint,
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "run": run,
    }
    with replacing(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """Return what `save_checkpoint` wrote for the same `fingerprint`; None where there is nothing to continue from."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        logger.warning("%s cannot be read (%s); training starts anew", path, error)
        return None
    if state["fingerprint"] != fingerprint:
        logger.info("%s belongs to another training set or other settings; training starts anew", path)
        return None
    return state
