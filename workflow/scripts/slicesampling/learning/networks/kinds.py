"""The kinds of network that the loop can train, by network.kind of the configuration; see `interface`.

Each has its own section under `network`. A model's file stores all keys of the section except `training`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Config = Mapping[str, Any]


class Kind(NamedTuple):
    """A kind of network; all functions take its section of the configuration.

    module: in this package, with the functions `train` and `load` (see `interface`).
    training: returns the settings that trainings of all lengths share, beside those of the network.
    end: returns the length of a training, by `iteration` or `converged`.
    samples: returns a description of the samples behind the uncertainty; also takes the configured number of samples.
    epochs: returns the most epochs of a training of an iteration; None: no such limit.
    features: whether its models provide features of slices, which some strategies use.
    """

    module: str
    training: Callable[[Config], dict[str, Any]]
    end: Callable[[Config, str], Any]
    samples: Callable[[Config, int], str]
    epochs: Callable[[Config], int | None]
    features: bool


ENDS = ("iteration", "converged")

KINDS = {
    "aunet": Kind(
        module="aunet",
        training=lambda own: {name: value for name, value in own["training"].items() if name not in ENDS},
        end=lambda own, length: own["training"][length],
        samples=lambda own, samples: f"{samples} Monte Carlo dropout samples",
        epochs=lambda own: own["training"]["iteration"]["epochs"],
        features=True,
    ),
    "nnunet": Kind(
        module="nnunet",
        training=lambda own: {},
        end=lambda own, length: own["trainer"][length],
        samples=lambda own, samples: (
            f"{own['folds']} models of nnU-Net" + (", each on all mirrored volumes" if own["mirroring"] else "")
        ),
        epochs=lambda own: None,
        features=False,
    ),
}


class Network(NamedTuple):
    """The network of a configuration: its kind, the settings in a model's file, and those of its trainings."""

    kind: Kind
    settings: dict[str, Any]
    training: dict[str, Any]
    ends: dict[str, Any]
    samples: str
    epochs: int | None


def network_of(config: Config) -> Network:
    """Return the network of a checked configuration."""
    name = config["network"]["kind"]
    kind, own = KINDS[name], config["network"][name]
    return Network(
        kind,
        {"kind": name, **{key: value for key, value in own.items() if key != "training"}},
        kind.training(own),
        {length: kind.end(own, length) for length in ENDS},
        kind.samples(own, config["uncertainty"]["samples"]),
        kind.epochs(own),
    )
