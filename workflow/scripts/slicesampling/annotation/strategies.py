"""The query strategies (section II-D): what should be annotated next.

A strategy is put together from a unit, a measure of uncertainty, the region that the measure is taken over, and a rule
of choice. The paper's four are the entries of `STRATEGIES`; a configuration adds its own under `combinations`.
"""

import logging
import re
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .rules import RULES, Rule, Settings

logger = logging.getLogger(__name__)

QUERY = ["volume", "slice", "score", "rank"]

MEASURES = ("predictive_entropy", "mutual_information", "variance")
"""The measures of `learning.uncertainty`, which is not imported because a choice needs no network."""

REGIONS = ("slice", "structure")
"""What a measure is taken over: the whole slice, or the predicted structure, dilated."""


class Strategy(NamedTuple):
    """How a strategy chooses: all that configuration, rules, tables and figures know of it.

    `title`: its name in a sentence; its key, in capitals, is the short one. `unit`: slice or volume, what it chooses
    and what its budget counts. `rule`: one of `RULES`. `measure`, `region`: what it ranks by; None where it does not
    rank. `beta`: see `Settings`.
    """

    title: str
    unit: str
    rule: str
    measure: str | None = None
    region: str | None = None
    beta: float = 1.0

    @property
    def how(self) -> Rule:
        return RULES[self.unit][self.rule]

    @property
    def uncertain(self) -> bool:
        """Whether it ranks by the previous model's uncertainty, which must be computed first."""
        return self.how.ranks

    @property
    def slices(self) -> bool:
        """Whether its budget counts slices rather than volumes."""
        return self.unit == "slice"

    @property
    def until_liver(self) -> bool:
        """Whether the annotator stops when the budget of slices with liver is reached."""
        return self.how.until_liver

    @property
    def column(self) -> str:
        """The column of the unit's uncertainty table by which it ranks."""
        selective = "_selective" if self.region == "structure" and self.rule != "mean" else ""
        return f"{self.measure}{selective}{'_maximum' if self.rule == 'maximum' else ''}"

    def choose(
        self, pool: pd.DataFrame, ledger: pd.DataFrame, budget: int, generator: np.random.Generator, distance: int = 5
    ) -> pd.DataFrame:
        """Return the query: a table of (volume, slice, score, rank) in the order of annotation, rank 0 first.

        pool: (volume, slice, score), a row for each slice, `score` that of its unit, needed only to rank; ledger:
        (volume, slice), what is annotated. If less than `budget` is left, all of it is asked for.
        """
        table = pool.sort_values(["volume", "slice"], ignore_index=True)
        table = table.assign(score=table["score"].astype(float) if self.uncertain else np.nan)
        table["annotated"] = pd.MultiIndex.from_frame(table[["volume", "slice"]]).isin(
            pd.MultiIndex.from_frame(ledger[["volume", "slice"]])
        )
        units = table if self.slices else _volumes(table)
        asked = self.how.order(units, generator, Settings(distance, self.beta))
        if not self.until_liver:
            if len(asked) < budget:
                logger.warning("only %d %ss are left to choose from, %d wanted", len(asked), self.unit, budget)
            asked = asked.head(budget)
        asked = asked.assign(rank=np.arange(len(asked)))
        if not self.slices:  # a volume is annotated completely, under one rank
            asked = table[["volume", "slice"]].merge(asked[["volume", "score", "rank"]], on="volume")
        return asked.sort_values(["rank", "slice"], ignore_index=True)[QUERY]


def _volumes(slices: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each volume of a table of slices; a volume with any annotated slice counts as annotated."""
    return slices.groupby("volume", as_index=False).agg(score=("score", "first"), annotated=("annotated", "any"))


STRATEGIES = {
    "uvs": Strategy("uncertainty volume sampling", "volume", "mean", "predictive_entropy", "structure"),
    "rvs": Strategy("random volume sampling", "volume", "random"),
    "uss": Strategy("uncertainty slice sampling", "slice", "peaks", "predictive_entropy", "slice"),
    "rss": Strategy("random slice sampling", "slice", "random"),
}
"""The paper's."""

UNCERTAIN = tuple(name for name, strategy in STRATEGIES.items() if strategy.uncertain)
SLICED = tuple(name for name, strategy in STRATEGIES.items() if strategy.slices)

NO_STRATEGIES = ("initial", "pool")
"""What stands in a column `strategy` for the model before all strategies, and for that of the whole data pool."""


def strategies_of(config: dict[str, Any]) -> dict[str, Strategy]:
    """Return the strategies of a configuration by name: the paper's, and those that `combinations` puts together."""
    combinations = config["combinations"]
    return {name: STRATEGIES.get(name) or _combined(**combinations[name]) for name in config["strategies"]}


def _combined(
    unit: str, rule: str, measure: str = MEASURES[0], region: str | None = None, beta: float = 1.0
) -> Strategy:
    """Return a strategy that is put together; what is left out is as the paper has it."""
    if not RULES[unit][rule].ranks:
        return Strategy(f"{unit}s by the rule {rule}", unit, rule)
    region = region or _regions(rule)[0]
    return Strategy(f"{unit}s by {measure} of the {region}, rule {rule}", unit, rule, measure, region, beta)


def _regions(rule: str) -> tuple[str, ...]:
    return ("structure",) if rule == "mean" else REGIONS


def combination_faults(name: str, given: Any) -> list[str]:
    """Return a line for each fault of an entry of `combinations`: its key, the value, and what is accepted."""
    key, taken = f"combinations.{name}", (*STRATEGIES, *NO_STRATEGIES)
    if not re.fullmatch("[a-z][a-z0-9_]*", str(name)) or name in taken:
        names = f"lower-case letters, digits and _, a letter first, and none of {', '.join(taken)}"
        return [f"{key} is no name of a strategy of one's own; accepted: {names}"]
    if not isinstance(given, dict):
        return [f"{key} is {given!r}; accepted: a group of keys: unit, rule, measure, region, beta"]
    unit, rule = given.get("unit"), given.get("rule")
    if unit not in list(RULES):
        return [f"{key}.unit is {unit!r}; accepted: {' or '.join(RULES)}"]
    if rule not in list(RULES[unit]):
        return [f"{key}.rule is {rule!r}; accepted with unit {unit}: {' or '.join(RULES[unit])}"]
    accepted: dict[str, tuple[str, ...]] = {"unit": (unit,), "rule": (rule,)}
    if RULES[unit][rule].ranks:
        accepted |= {"measure": MEASURES, "region": _regions(rule)}
    if RULES[unit][rule].beta:
        accepted["beta"] = ("a number above 0",)
    faults = []
    for part, value in given.items():
        if part not in accepted:
            faults.append(f"{key}.{part} is no key of rule {rule}; accepted: {', '.join(accepted)}")
        elif part == "beta":
            sound = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
            faults += [] if sound else [f"{key}.beta is {value!r}; accepted: {accepted['beta'][0]}"]
        elif value not in accepted[part]:
            faults.append(f"{key}.{part} is {value!r}; accepted with rule {rule}: {' or '.join(accepted[part])}")
    return faults


def by_strategies(table: pd.DataFrame) -> pd.Series:
    """Return for each row of a table whether its column `strategy` holds a strategy, rather than initial or pool."""
    return ~table["strategy"].isin(NO_STRATEGIES)


def strategies_in(table: pd.DataFrame) -> list[str]:
    """Return the strategies that a table's column `strategy` holds: the paper's in its order, then the others by name.

    Any strategy has the same place in all tables of a run, whatever the order of their rows.
    """
    present = set(table.loc[by_strategies(table), "strategy"])
    return [name for name in STRATEGIES if name in present] + sorted(present - set(STRATEGIES))
