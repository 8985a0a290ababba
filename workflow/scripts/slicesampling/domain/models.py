"""The models of an experiment and their names: initial, uss-3 (strategy and iteration), uss-5-converged,
pool-converged."""

from pathlib import Path
from typing import NamedTuple

INITIAL, POOL = "initial", "pool"
"""Used in place of a strategy: the initial set, which all strategies share, and the whole data pool."""

CONVERGED = "-converged"


class Model(NamedTuple):
    """A model, and with it the annotated set that it is trained on.

    strategy: a strategy, `INITIAL` or `POOL`. iteration: the last iteration in its annotated set; 0 for the initial set
    and for the data pool. converged: whether it is trained until convergence.
    """

    strategy: str
    iteration: int = 0
    converged: bool = False

    @classmethod
    def parse(cls, name: str) -> "Model":
        """Return the model with this name; the inverse of `str`."""
        bare = name.removesuffix(CONVERGED)
        converged = bare != name
        if bare in (INITIAL, POOL):
            return cls(bare, 0, converged)
        strategy, _, iteration = bare.rpartition("-")
        if not strategy or not iteration.isdecimal():
            raise ValueError(f"name must be {INITIAL}, {POOL} or such as uss-3, got {name!r}")
        return cls(strategy, int(iteration), converged)

    def __str__(self) -> str:
        return self.ledger + (CONVERGED if self.converged else "")

    @property
    def ledger(self) -> str:
        """The name of its ledger, and of the round of annotation that produced it."""
        return self.strategy if self.strategy in (INITIAL, POOL) else f"{self.strategy}-{self.iteration}"

    @property
    def begun(self) -> "Model":
        """The model whose training this one continues; the model itself if there is none."""
        return self if self.strategy == POOL else self._replace(converged=False)

    @property
    def previous(self) -> "Model":
        """The model on which the query of this iteration is based."""
        if self.iteration < 1:
            raise ValueError(f"{self} has no model before it")
        return Model(INITIAL) if self.iteration == 1 else Model(self.strategy, self.iteration - 1)


def seed_and_model(path: str | Path) -> tuple[int, Model]:
    """Return the seed and the model of a ledger or of a model's folder, such as annotations/seed1/uss-5.tsv."""
    path = Path(path)
    return int(path.parent.name.removeprefix("seed")), Model.parse(path.stem)
