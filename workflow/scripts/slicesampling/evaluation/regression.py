"""Quantile regression of weighted rows, fast enough for a bootstrap."""

import numpy as np
import numpy.typing as npt

BISECTIONS = 40
"""Bisections of a range of at most twice the sum of weights; optima change at steps of a hundredth or more."""

Array = npt.NDArray[np.float64]

ROUNDING = 1e-6
"""Tolerance for a weight: if a level equals a sum of weights, the optimum is an interval; its middle is used."""


def weighted_regressions(
    outcome: npt.ArrayLike, design: npt.ArrayLike, weights: npt.NDArray[np.int64], quantile: float
) -> Array:
    """Return the coefficients (replicates, covariates) of a quantile regression for each row of weights.

    outcome: (rows,); design: (rows, covariates), of full rank, an intercept and up to two covariates of 0 or 1;
    weights: (replicates, rows). Rows with equal covariates form a cell. With as many cells as covariates, the solution
    is the quantile of each cell. Four cells with three covariates leave one constraint, the additivity of both effects.
    Its multiplier shifts the levels of the cells' quantiles (Koenker and Bassett 1978, doi:10.2307/1913643, the dual
    programme), and is found by bisection.
    """
    values = np.asarray(outcome, dtype=float)
    cells, cell = np.unique(np.asarray(design, dtype=float), axis=0, return_inverse=True)
    samples = [_Cell(values[cell == number], weights[:, cell == number], values) for number in range(len(cells))]
    middle = np.stack([sample.weight * quantile for sample in samples], axis=1)
    if len(cells) == cells.shape[1]:
        heights = (_heights(samples, middle - ROUNDING) + _heights(samples, middle + ROUNDING)) / 2
        return np.linalg.solve(cells, heights.T).T
    from scipy.linalg import null_space  # imported late: every table imports this module, and only table 9 needs it

    signs = np.sign(null_space(cells.T)[:, 0])
    upper = np.max([sample.weight for sample in samples], axis=0).astype(float)
    lower = -upper
    for _ in range(BISECTIONS):
        multiplier = (lower + upper) / 2
        above = _heights(samples, middle - signs * multiplier[:, None]) @ signs > 0
        lower, upper = np.where(above, multiplier, lower), np.where(above, upper, multiplier)
    ends = [_heights(samples, middle - signs * multiplier[:, None]) for multiplier in (lower, upper)]
    first, last = (heights @ signs for heights in ends)
    part = np.divide(first, first - last, out=np.zeros_like(first), where=first > last)[:, None]
    heights = ends[0] + part * (ends[1] - ends[0])
    return np.linalg.lstsq(cells, heights.T, rcond=None)[0].T


class _Cell:
    """The sorted rows of a cell, between two sentinels so far out that the constraint can always be met."""

    def __init__(self, own: Array, weights: npt.NDArray[np.int64], values: Array) -> None:
        order, beyond = np.argsort(own), 2 * np.ptp(values) + 1
        self.values = np.concatenate([[values.min() - beyond], own[order], [values.max() + beyond]])
        self.counted = weights[:, order].cumsum(axis=1)
        self.weight = self.counted[:, -1]

    def height(self, level: Array) -> Array:
        """Return the value (replicates,) at which the sum of weights from below reaches `level` (replicates,)."""
        place = (self.counted < level[:, None]).sum(axis=1) + 1
        return self.values[np.where(level > 0, place, 0)]


def _heights(samples: list[_Cell], levels: Array) -> Array:
    return np.stack([sample.height(level) for sample, level in zip(samples, levels.T, strict=True)], axis=1)
