"""The query strategies (section II-D): what to annotate next.

A strategy consists of a unit, a measure of uncertainty, the region over which the measure is averaged, and a selection
rule. `STRATEGIES` holds the paper's four; a configuration adds others under `custom_strategies`.
"""

import logging
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .. import MAXIMUM, SELECTIVE
from .rules import PARAMETERS, RULES, Rule, Settings

logger = logging.getLogger(__name__)

QUERY = ["volume", "slice", "score", "rank"]

MEASURES = ("predictive_entropy", "mutual_information", "variance")
"""The measures of `learning.uncertainty`, which is not imported because a query needs no network."""

ERROR = "error"
"""The measure of an upper bound: the number of voxels of a slice in which the previous model is wrong."""

UPPER_BOUND = "by_error"
"""Prefix of the names of upper bounds and of no other strategy, because tables and figures know only the name."""

REGIONS = ("slice", "structure")
"""The region over which a measure is averaged: the whole slice, or the dilated predicted structure."""

WRONG = "wrong_voxels"
"""The column with the number of voxels in which the previous model differs from the reference."""


class Strategy(NamedTuple):
    """The description of a strategy, on which configuration, rules, tables and figures rely.

    `title`: its full name; its short name is its key in capitals. `unit`: slice or volume, which it chooses and its
    budget counts. `rule`: one of `RULES`. `measure`, `region`: the rule's input; None if it reads none. `parameters`:
    those of the rule that differ from their defaults.
    """

    title: str
    unit: str
    rule: str
    measure: str | None = None
    region: str | None = None
    parameters: Mapping[str, float] = {}

    @property
    def how(self) -> Rule:
        return RULES[self.unit][self.rule]

    @property
    def upper_bound(self) -> bool:
        """Whether it reads the reference to choose. It shows the limit of a perfect uncertainty, and is not for use."""
        return self.measure == ERROR

    @property
    def uncertain(self) -> bool:
        """Whether it ranks by uncertainty, rather than at random, by features or by the reference."""
        return self.how.measures and not self.how.until_liver and not self.upper_bound

    @property
    def slices(self) -> bool:
        """Whether its budget counts slices rather than volumes."""
        return self.unit == "slice"

    @property
    def until_liver(self) -> bool:
        """Whether the annotator stops when the budget of slices with liver is reached."""
        return self.how.until_liver

    @property
    def scheduled(self) -> bool:
        """Whether its choice depends on the number of iterations."""
        return "beta_last" in self.how.parameters

    @property
    def settings(self) -> dict[str, Any]:
        """The values of all parameters of its rule."""
        return {**self.how.parameters, **self.parameters}

    @property
    def column(self) -> str:
        """The column of the unit's uncertainty table with its score."""
        if self.upper_bound:
            return WRONG
        selective = SELECTIVE if self.region == "structure" and self.rule != "mean" else ""
        return f"{self.measure}{selective}{MAXIMUM if self.rule == 'maximum' else ''}"

    @property
    def columns(self) -> dict[str, str]:
        """The uncertainty table's column for each column of the rule's table.

        A query sees no other columns of the uncertainty table. Only an upper bound sees the errors.
        """
        read = {"score": self.column} if self.how.measures else {}
        if self.how.measures and not self.how.regions:
            read["structure_score"] = f"{self.measure}{SELECTIVE}"
        if self.settings.get("foreground", 0) > 0:
            read["structure_voxels"] = "structure_voxels"
        return read

    def choose(
        self,
        pool: pd.DataFrame,
        ledger: pd.DataFrame,
        budget: int,
        generator: np.random.Generator,
        distance: int = 5,
        progress: float = 0.0,
        features: np.ndarray | None = None,
    ) -> pd.DataFrame:
        """Return the query: a table of (volume, slice, score, rank), sorted by rank from 0, the order of annotation.

        pool: a row for each slice, with `volume`, `slice` and the `columns` of its unit; ledger: the annotated (volume,
        slice); distance, progress: see `Settings`; features: (row, channel), a row for each row of `pool`, only for
        rules that read them. If less than `budget` is left, the query holds all of it.
        """
        table = pool.reset_index(drop=True).sort_values(["volume", "slice"])
        if features is not None:
            features = features[table.index]
        table = table[["volume", "slice", *self.columns]].reset_index(drop=True)
        # Without a reference the error is unknown, and counts as 0.
        table["score"] = table["score"].astype(float).fillna(0) if self.how.measures else np.nan
        table["annotated"] = pd.MultiIndex.from_frame(table[["volume", "slice"]]).isin(
            pd.MultiIndex.from_frame(ledger[["volume", "slice"]])
        )
        units = table
        if not self.slices:
            units = _volumes(table)
            if features is not None:
                features = pd.DataFrame(features).groupby(table["volume"]).mean().to_numpy()
        asked = self.how.order(units, generator, Settings(distance, budget, progress, features, **self.settings))
        if not self.until_liver:
            if len(asked) < budget:
                logger.warning("only %d %ss are left to choose from, %d wanted", len(asked), self.unit, budget)
            asked = asked.head(budget)
        asked = asked.assign(rank=np.arange(len(asked)))
        if not self.slices:  # a volume is annotated completely, under one rank
            asked = table[["volume", "slice"]].merge(asked[["volume", "score", "rank"]], on="volume")
        return asked.sort_values(["rank", "slice"], ignore_index=True)[QUERY]


def _volumes(slices: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each volume; a volume with any annotated slice counts as annotated."""
    return slices.groupby("volume", as_index=False).agg(score=("score", "first"), annotated=("annotated", "any"))


STRATEGIES = {
    "uvs": Strategy("uncertainty volume sampling", "volume", "mean", "predictive_entropy", "structure"),
    "rvs": Strategy("random volume sampling", "volume", "random"),
    "uss": Strategy("uncertainty slice sampling", "slice", "peaks", "predictive_entropy", "slice"),
    "rss": Strategy("random slice sampling", "slice", "random"),
}
"""The paper's strategies."""

UNCERTAIN = tuple(name for name, strategy in STRATEGIES.items() if strategy.uncertain)
SLICED = tuple(name for name, strategy in STRATEGIES.items() if strategy.slices)

NO_STRATEGIES = ("initial", "pool")
"""The values of a column `strategy` for the initial model and for the model of the whole data pool."""


def strategies_of(config: dict[str, Any]) -> dict[str, Strategy]:
    """Return the strategies of a configuration by name: the paper's, and those in `custom_strategies`."""
    custom = config["custom_strategies"]
    return {name: STRATEGIES.get(name) or _custom(**custom[name]) for name in config["strategies"]}


def _custom(unit: str, rule: str, measure: str | None = None, region: str | None = None, **given: float) -> Strategy:
    """Return a custom strategy; a part that is left out is as in the paper."""
    how, by = RULES[unit][rule], "chance"
    if how.measures:
        measure = measure or MEASURES[0]
        region = region or next(iter(how.regions), None)
        by = f"{measure} of the {region or 'slice and of the structure'}".replace("_", " ")
    elif how.features:
        by = "features"
    made = Strategy("", unit, rule, measure, region, given)
    numbers = [f"{name} {value:g}" for name, value in made.settings.items() if value]
    title = ", ".join([f"{unit}s by {by}, rule {rule}", *numbers])
    return made._replace(title=f"{title}: an upper bound that looks into the reference" if made.upper_bound else title)


LONGEST_NAME = 12
"""The most characters of a strategy's name, so that it fits tables and legends."""

KEYS = ("unit", "rule", "measure", "region", *PARAMETERS)
"""The keys that an entry of `custom_strategies` may have."""


def custom_strategy_faults(name: str, given: Any) -> list[str]:
    """Return a line for each fault of an entry of `custom_strategies`: the key, the value, and what is accepted."""
    key, taken = f"custom_strategies.{name}", (*STRATEGIES, *NO_STRATEGIES)
    if not re.fullmatch(f"[a-z][a-z0-9_]{{0,{LONGEST_NAME - 1}}}", str(name)) or name in taken:
        names = f"up to {LONGEST_NAME} lower-case letters, digits and _, a letter first, and none of {', '.join(taken)}"
        return [f"{key} is no name of a custom strategy; accepted: {names}"]
    if not isinstance(given, dict):
        return [f"{key} is {given!r}; accepted: a group of keys: {', '.join(KEYS)}"]
    unit, rule = given.get("unit"), given.get("rule")
    if unit not in list(RULES):
        return [f"{key}.unit is {unit!r}; accepted: {' or '.join(RULES)}"]
    if rule not in list(RULES[unit]):
        return [f"{key}.rule is {rule!r}; accepted with unit {unit}: {' or '.join(RULES[unit])}"]
    how = RULES[unit][rule]
    accepted: dict[str, tuple[str, ...]] = {"unit": (unit,), "rule": (rule,)}
    if how.measures:
        # Errors are counted over the whole slice only.
        accepted["measure"] = (*MEASURES, ERROR) if unit == "slice" and how.regions else MEASURES
        if how.regions:
            accepted["region"] = REGIONS[:1] if given.get("measure") == ERROR else how.regions
    listed, faults = ", ".join([*accepted, *how.parameters]), []
    for part, value in given.items():
        if part in how.parameters:
            valid = isinstance(value, int | float) and not isinstance(value, bool) and PARAMETERS[part].accepts(value)
            faults += [] if valid else [f"{key}.{part} is {value!r}; accepted: {PARAMETERS[part].accepted}"]
        elif part not in accepted:
            faults.append(f"{key}.{part} is no key of rule {rule}; accepted: {listed}")
        elif value not in accepted[part]:
            faults.append(f"{key}.{part} is {value!r}; accepted with rule {rule}: {' or '.join(accepted[part])}")
    if not faults and (given.get("measure") == ERROR) != is_upper_bound(str(name)):
        accepted_here = f"{ERROR} if a name begins with {UPPER_BOUND}, only then"
        faults = [f"{key}.measure is {given.get('measure')!r}; accepted: {accepted_here}"]
    return faults


def is_upper_bound(strategy: str) -> bool:
    """Return whether the strategy of this name is an upper bound, see `Strategy.upper_bound`."""
    return strategy.startswith(UPPER_BOUND)


def by_strategies(table: pd.DataFrame) -> pd.Series:
    """Return for each row whether its column `strategy` holds a strategy, not one of `NO_STRATEGIES`."""
    return ~table["strategy"].isin(NO_STRATEGIES)


def strategies_in(table: pd.DataFrame) -> list[str]:
    """Return the strategies in a table's column `strategy`: the paper's in its order, then the others by name.

    The order does not depend on the order of the rows, so that it is the same in all tables of a run.
    """
    present = set(table.loc[by_strategies(table), "strategy"])
    return [name for name in STRATEGIES if name in present] + sorted(present - set(STRATEGIES))
