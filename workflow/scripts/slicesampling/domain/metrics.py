"""The metrics of segmentations: their names, their direction, and their printed form."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

LOWER_PERCENTILE, UPPER_PERCENTILE = 5, 95


class Metric(NamedTuple):
    """One metric: its column, its printed name and unit, its direction, and the decimals that the paper prints."""

    column: str
    name: str
    unit: str
    larger_is_better: bool
    decimals: int

    @property
    def tail_quantile(self) -> float:
        """The quantile at the bad end, the measure of robustness."""
        return (LOWER_PERCENTILE if self.larger_is_better else UPPER_PERCENTILE) / 100

    @property
    def label(self) -> str:
        """The name with its unit, such as "MSD [mm]"."""
        return f"{self.name} [{self.unit}]" if self.unit else self.name

    @property
    def tail_label(self) -> str:
        """The name of the percentile at the bad end."""
        return f"{LOWER_PERCENTILE if self.larger_is_better else UPPER_PERCENTILE}th percentile"

    def tail(self, values: npt.ArrayLike) -> float:
        """Return the percentile of `values` at the bad end."""
        return float(np.quantile(np.asarray(values, dtype=float), self.tail_quantile))


def _by_column(*metrics: Metric) -> dict[str, Metric]:
    return {metric.column: metric for metric in metrics}


METRICS = _by_column(
    Metric("dice", "Dice", "", larger_is_better=True, decimals=3),
    Metric("rve", "RVE", "%", larger_is_better=False, decimals=2),
    Metric("msd", "MSD", "mm", larger_is_better=False, decimals=2),
    Metric("hd", "HD", "mm", larger_is_better=False, decimals=1),
)
"""The four metrics by their column, in the order of the paper."""

FURTHER_METRICS = _by_column(
    Metric("hd95", "HD95", "mm", larger_is_better=False, decimals=2),
    Metric("surface_dice_1mm", "Surface Dice 1 mm", "", larger_is_better=True, decimals=3),
    Metric("surface_dice_2mm", "Surface Dice 2 mm", "", larger_is_better=True, decimals=3),
    Metric("surface_dice_3mm", "Surface Dice 3 mm", "", larger_is_better=True, decimals=3),
    Metric("jaccard", "Jaccard index", "", larger_is_better=True, decimals=3),
)
"""Further metrics, beyond the paper's."""
