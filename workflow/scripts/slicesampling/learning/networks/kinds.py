"""The kinds of network that the loop can train, by network.kind of the configuration; `interface` is what they do."""

from collections.abc import Callable
from typing import Any, NamedTuple

Config = dict[str, Any]


class Kind(NamedTuple):
    """A kind of network.

    module: in this package, with the functions `train` and `load` (see `interface`).
    training: returns of a configuration what trainings of all lengths share, beside `network`.
    end: returns of a configuration how long a training is, by `iteration` or `converged`.
    samples: returns of a configuration in words what an uncertainty is made of.
    epochs: returns of a configuration how many epochs a training of an iteration has at most; None: no such limit.
    features: whether its models give features of slices, by which some strategies choose.
    unread: keys of the configuration that it does not read, beside those of `network` that belong to other kinds.
    """

    module: str
    training: Callable[[Config], Config]
    end: Callable[[Config, str], Any]
    samples: Callable[[Config], str]
    epochs: Callable[[Config], int | None]
    features: bool
    unread: tuple[str, ...]


ENDS = ("iteration", "converged")

KINDS = {
    "aunet": Kind(
        module="aunet",
        training=lambda config: {name: value for name, value in config["training"].items() if name not in ENDS},
        end=lambda config, length: config["training"][length],
        samples=lambda config: f"{config['uncertainty']['samples']} Monte Carlo dropout samples",
        epochs=lambda config: config["training"]["iteration"]["epochs"],
        features=True,
        unread=(),
    ),
    "nnunet": Kind(
        module="nnunet",
        training=lambda config: {},
        end=lambda config, length: config["network"]["trainer"][length],
        samples=lambda config: (
            f"{config['network']['folds']} models of nnU-Net"
            + (", each on all mirrored volumes" if config["network"]["mirroring"] else "")
        ),
        epochs=lambda config: None,
        features=False,
        unread=(
            "training",
            "uncertainty.samples",
            "compute.precision",
            "compute.tile_gib",
            "compute.training_data",
            "compute.checkpoint_minutes",
        ),
    ),
}


def kind_of(config: Config) -> Kind:
    """Return the kind of network that a configuration chooses."""
    return KINDS[config["network"]["kind"]]
