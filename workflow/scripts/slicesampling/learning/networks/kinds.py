"""The kinds of network that the loop can train, by network.kind of the configuration; `interface` is what they do.

Each has a section of its own under `network`; its keys but `training` are the settings that its models keep.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Config = Mapping[str, Any]


class Kind(NamedTuple):
    """A kind of network; all functions take its section of the configuration.

    module: in this package, with the functions `train` and `load` (see `interface`).
    training: returns what trainings of all lengths share, beside the settings of the network.
    end: returns how long a training is, by `iteration` or `converged`.
    samples: returns in words what an uncertainty is made of; also takes the number of samples that is configured.
    epochs: returns how many epochs a training of an iteration has at most; None: no such limit.
    features: whether its models give features of slices, by which some strategies choose.
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
    """The network that a configuration chooses: its kind, what its models keep, and how they are trained."""

    kind: Kind
    settings: dict[str, Any]
    training: dict[str, Any]
    ends: dict[str, Any]
    samples: str
    epochs: int | None


def network_of(config: Config) -> Network:
    """Return the network that a checked configuration chooses."""
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
