"""The experiment: everything that follows from a configuration and a cohort before any job runs.

An `Experiment` lists the models, the annotated set of each, the inputs of each query, the files that each job reads,
and the final results. With simulated annotators all of this is known in advance. With people it follows from the rounds
that they have closed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import pandas as pd

from .answers.rounds import Progress, progress_of
from .cohort.table import Fault, fail_on, read_cohort, shard_of, size_faults, split_volumes, table_faults, used
from .domain.models import INITIAL, POOL, Model
from .learning.networks.kinds import Network, network_of
from .phantom.sites import plan_cohort
from .publication import contents
from .publication.contents import FIGURE_FORMATS, TABLE_FORMATS, Entry, Facts
from .publication.layout import MANY
from .query.strategies import Strategy, strategies_of

PHANTOM = "phantom"
"""The value of `cohort` for the synthetic cohort, which the workflow generates, instead of a path of a table."""

USS = "uss"
"""The strategy that the paper proposes; figures 2 and 5 show it if it is run."""

AT_ONCE, ASKED, LONG, LATER = 3, 2, 1, 0
"""Priorities of jobs: jobs of seconds that trainings wait for; trainings of models that a query uses; trainings that a
converged model continues; and all others, for which nothing waits."""

EXCLUDED_SHOWN = 4
"""The number of excluded volumes that figure 3 shows."""

REFERENCE = "results/annotations/reference.tsv"


class Query(NamedTuple):
    """One query: what a strategy asks to annotate in an iteration."""

    seed: int
    strategy: str
    iteration: int

    @property
    def previous(self) -> Model:
        """The model whose uncertainty or features the query uses."""
        return Model(self.strategy, self.iteration).previous


def ledger(seed: object, model: Model) -> str:
    """Return the path of the ledger that a model is trained on."""
    return f"results/annotations/seed{seed}/{model.ledger}.tsv"


def model_folder(seed: object, model: Model) -> str:
    return f"results/models/seed{seed}/{model}"


def read_experiment(config: Mapping[str, Any]) -> "Experiment":
    """Return the experiment of a checked configuration, with its cohort and the progress of people who annotate.

    Raise UserError if the cohort table cannot be read, or the answers belong to another configuration.
    """
    if config["cohort"] == PHANTOM:
        cohort = plan_cohort(config["phantom"], "results/phantom").rename_axis("row")
    else:
        cohort = read_cohort(config["cohort"])
    if config["annotator"] != "people":
        return Experiment(config, cohort)
    pool = used(cohort).query("split == 'pool'")
    return Experiment(config, cohort, progress_of(config, masks=bool((pool["label"] != "").any())))


@dataclass(frozen=True)
class Experiment:
    """Everything that follows from a configuration and a cohort.

    config: the checked configuration; cohort: the cohort table, including excluded volumes; progress: the progress of
    people who annotate, None with a simulated annotator.
    """

    config: Mapping[str, Any]
    cohort: pd.DataFrame
    progress: Progress | None = None

    # --- volumes -------------------------------------------------------------------------------------------------

    @property
    def people(self) -> bool:
        return self.progress is not None

    @property
    def synthetic(self) -> bool:
        return bool(self.config["cohort"] == PHANTOM)

    def check_table(self) -> None:
        """Raise UserError if the cohort table or a missing file makes a volume unusable.

        The error then also lists splits that are too small; these alone are no fault of the table.
        """
        files = not self.synthetic
        faults = table_faults(self.cohort, files, self.config["data_root"] if files else None, self.people)
        fail_on([*faults, *self._too_small()] if faults else [], self.config["cohort"])

    def check_sizes(self) -> None:
        """Raise UserError if a split holds too few volumes for the experiment."""
        fail_on(self._too_small(), self.config["cohort"])

    def _too_small(self) -> list[Fault]:
        return list(size_faults(self.cohort, self.config["initial_volumes"], 0, self.people))

    @cached_property
    def volumes(self) -> dict[str, list[str]]:
        """The used volumes of each stage: all, the data pool, the validation set, and test volumes with a reference."""
        rows = used(self.cohort)
        labelled = set(rows.loc[rows["label"] != "", "volume"])
        return {
            "preprocessing": rows["volume"].tolist(),
            "uncertainty": split_volumes(rows, "pool"),
            "validation": split_volumes(rows, "val"),
            "test": [name for name in split_volumes(rows, "test") if name in labelled],
        }

    def volumes_in(self, stage: str, shard: int | str) -> list[str]:
        """Return the volumes of a stage's shard."""
        return shard_of(self.volumes[stage], int(shard), self.config["shards"][stage])

    def shards(self, stage: str) -> list[int]:
        """Return the numbers of a stage's shards that are not empty."""
        return list(range(min(self.config["shards"][stage], len(self.volumes[stage]))))

    def preprocessed(self, volumes: Iterable[str]) -> list[str]:
        """Return the folders of the preprocessed shards that hold `volumes`."""
        order = {name: place for place, name in enumerate(self.volumes["preprocessing"])}
        shards = {order[name] % self.config["shards"]["preprocessing"] for name in volumes}
        return [f"results/preprocessed/shard{shard}" for shard in sorted(shards)]

    def files_of(self, volumes: Iterable[str]) -> list[str]:
        """Return the image and label paths of `volumes`; for the synthetic cohort, its one folder."""
        if self.synthetic:
            return ["results/phantom"]
        rows = self.cohort[self.cohort["volume"].isin(list(volumes))]
        return [*rows["image"], *filter(None, rows["label"])]

    def rows_of(self, volumes: Iterable[str]) -> list[dict[str, str]]:
        """Return the cohort table's rows of `volumes`."""
        return self.cohort[self.cohort["volume"].isin(list(volumes))].to_dict("records")

    @cached_property
    def shown_exclusions(self) -> list[str]:
        """The excluded volumes that figure 3 shows."""
        rows = self.cohort
        rows = rows[(rows["exclude"] != "") & (rows["image"] != "") & (rows["label"] != "")]
        return rows["volume"].head(EXCLUDED_SHOWN).tolist()

    # --- models and queries --------------------------------------------------------------------------------------

    @cached_property
    def strategies(self) -> dict[str, Strategy]:
        return strategies_of(dict(self.config))

    @cached_property
    def network(self) -> Network:
        """The network of this configuration."""
        return network_of(self.config)

    @property
    def seeds(self) -> list[int]:
        return list(self.config["seeds"])

    @property
    def iterations(self) -> range:
        """The planned iterations, from 1."""
        return range(1, self.config["iterations"] + 1)

    @cached_property
    def last(self) -> int:
        """The last iteration; with people, that of the last closed round."""
        return self.config["iterations"] if self.progress is None else max(len(self.iteration_models) - 1, 0)

    @cached_property
    def iteration_models(self) -> list[Model]:
        """The initial model and those of the iterations, which are not trained until convergence."""
        if self.progress is not None:
            return [Model.parse(name) for name in self.progress.models]
        return [Model(INITIAL), *(Model(name, k) for name in self.config["strategies"] for k in self.iterations)]

    @cached_property
    def converged_models(self) -> list[Model]:
        """The models trained until convergence: of the last iterations and, with simulated annotators, of the pool."""
        if self.progress is not None:
            return [] if self.progress.open else [self.iteration_models[-1]._replace(converged=True)]
        ends = [Model(name, self.last, converged=True) for name in self.config["strategies"]]
        return [*ends, Model(POOL, converged=True)]

    @property
    def models(self) -> list[Model]:
        return [*self.iteration_models, *self.converged_models]

    @cached_property
    def ledgers(self) -> list[Model]:
        """The annotated sets after the last iteration."""
        return [Model(name, self.last) for name in self.config["strategies"]]

    @cached_property
    def queries(self) -> list[Query]:
        return [
            Query(seed, name, k) for seed in self.seeds for name in self.config["strategies"] for k in self.iterations
        ]

    @cached_property
    def scored_models(self) -> list[Model]:
        """The models whose uncertainty a query uses; only their uncertainty can be compared with their errors."""
        asked = (query.previous for query in self.queries if self.strategies[query.strategy].columns)
        return list(dict.fromkeys(asked))

    def training_priority(self, model: Model) -> int:
        """Return the priority of a training and of its model's uncertainty: the more jobs wait for it, the higher."""
        if model in self.scored_models:
            return ASKED
        return LONG if model._replace(converged=True) in self.converged_models else LATER

    def begun(self, seed: object, model: Model) -> list[str]:
        """Return the file of the model whose training `model` continues, as a list; empty if there is none."""
        return [f"{model_folder(seed, model.begun)}/model.pt"] if model.begun != model else []

    def closed_round(self, model: Model) -> str | None:
        """Return the closed round whose answers a model is trained on; None if it is trained on no answers."""
        return model.ledger if self.progress is not None and model.ledger in self.progress.closed else None

    def query_inputs(self, query: Query) -> dict[str, Any]:
        """Return the files that a query reads: those of the previous model that its strategy uses, and the budget."""
        strategy, before = self.strategies[query.strategy], query.previous
        folder = f"results/uncertainty/seed{query.seed}/{before}"
        inputs: dict[str, Any] = {"reference": REFERENCE, "ledger": ledger(query.seed, before)}
        shards = self.shards("uncertainty")
        if strategy.columns:
            inputs["scores"] = [f"{folder}/{strategy.unit}s-shard{shard}.tsv" for shard in shards]
        if strategy.how.features:
            inputs["features"] = [f"{folder}/features-shard{shard}.npz" for shard in shards]
        if strategy.slices:
            inputs["budget"] = self.budget(query.seed)
        return inputs

    @staticmethod
    def budget(seed: object) -> str:
        """Return the path of the file with the number of slices that slice strategies add in an iteration."""
        return f"results/annotations/seed{seed}/slice_budget.txt"

    def budget_inputs(self, seed: object) -> list[str]:
        """Return the files from which the slice budget is computed."""
        return [ledger(seed, Model("uvs", self.last))] if self.config["slices_per_iteration"] == "auto" else []

    # --- what comes out ------------------------------------------------------------------------------------------

    @property
    def shown_seed(self) -> int:
        """The seed shown in figures of single cases."""
        return self.seeds[0]

    @property
    def shown_strategy(self) -> str:
        """The strategy of the model in figure 5."""
        return USS if USS in self.config["strategies"] else self.config["strategies"][0]

    @property
    def shown_model(self) -> Model:
        return Model(self.shown_strategy, self.last, converged=True)

    @property
    def own_titles(self) -> dict[str, str]:
        """The titles of custom strategies, for notes and captions."""
        return {name: one.title for name, one in self.strategies.items() if name in self.config["custom_strategies"]}

    @property
    def facts(self) -> Facts:
        """The facts of the run that captions mention."""
        return Facts(
            seeds=tuple(self.seeds),
            cases=len(self.volumes["test"]),
            many=len(self.strategies) > MANY,
            minutes_per_slice=self.config["annotation_minutes_per_slice"],
            time_ratio=self.config["annotation_time_ratio"],
            epochs=self.network.epochs,
            own=self.own_titles,
            candidate_distance=self.config["uncertainty"]["candidate_distance"],
            samples=self.network.samples,
            shown=str(self.shown_model),
        )

    def caption(self, name: str) -> str:
        """Return the caption of a table, figure or page."""
        return contents.caption(name, self.facts)

    @property
    def annotation_time(self) -> dict[str, Any]:
        """The time model: minutes per slice, the ratio of section IV-A, and the strategies that choose slices."""
        return {
            "minutes_per_slice": self.config["annotation_minutes_per_slice"],
            "ratio": self.config["annotation_time_ratio"],
            "sliced": [name for name, strategy in self.strategies.items() if strategy.slices],
        }

    def arguments(self, name: str) -> dict[str, Any]:
        """Return the arguments of a table or figure beside its records."""
        return self.annotation_time if contents.ALL[name].timed else {}

    @cached_property
    def lacks(self) -> frozenset[str]:
        """The prerequisites of tables and figures that this run lacks."""
        missing = {
            contents.STRATEGIES: self.people,
            contents.TESTS: not self.volumes["test"],
            contents.QUERIES: self.last < 1,
            contents.SCORES: not self.scored_models,
            contents.USS: USS not in self.config["strategies"],
            contents.AUNET: self.config["network"]["kind"] != "aunet",
        }
        return frozenset(name for name, absent in missing.items() if absent)

    def filled(self, entries: Mapping[str, Entry]) -> list[str]:
        """Return the names of the tables, figures or pages that this run can fill."""
        return [name for name, entry in entries.items() if not self.lacks.intersection(entry.needs)]

    @property
    def left_out(self) -> list[str]:
        """The tables, figures and pages that a run with people cannot fill."""
        entries = {name: entry for name, entry in contents.ALL.items() if contents.AUNET not in entry.needs}
        return [name for name in entries if name not in self.filled(entries)]

    def from_records(self) -> list[str]:
        """Return the paths of all tables, figures and pages that need only the records in results/evaluation."""
        return [
            *_files("tables", self.filled(contents.TABLES), TABLE_FORMATS),
            *_files("figures", self.filled(contents.PLOTS), FIGURE_FORMATS),
            *(f"results/{name}.html" for name in self.filled(contents.PAGES_OF_RECORDS)),
        ]

    def learning_curves(self) -> list[str]:
        """Return the paths of the learning curves of all trainings."""
        names = [f"learning_curves/seed{seed}/{model}" for seed in self.seeds for model in self.models]
        return _files("figures", names, FIGURE_FORMATS)

    def tables_and_figures(self) -> list[str]:
        """Return the paths of all tables and figures that this run can fill, and of the pages from the same records."""
        return [
            *self.from_records(),
            *_files("figures", self.filled(contents.FIGURES), FIGURE_FORMATS),
            *self.learning_curves(),
        ]

    def segmentations(self) -> list[str]:
        """Return the paths of the scores of all volumes that the converged model segments."""
        return [
            f"results/segmentations/seed{self.shown_seed}/{model}/shard{shard}.tsv"
            for model in self.converged_models
            for shard in self.shards("preprocessing")
        ]

    def targets(self) -> list[str]:
        """Return the targets of a run; with people, those of closed rounds and the work list of the open round."""
        cohort, provenance = "results/cohort_report.html", "results/provenance.json"
        if self.progress is None:
            return [*self.tables_and_figures(), cohort, provenance]
        annotation = ["results/annotation.html"] if self.models else []
        if self.progress.open is None:
            return [cohort, *annotation, *self.segmentations(), *self.tables_and_figures(), provenance]
        asked = [f"results/work_lists/{self.progress.open}.tsv"]
        if self.progress.open != INITIAL:
            asked.append(f"results/proposals/{self.progress.open}")
        return [cohort, *annotation, *asked]


def _files(folder: str, names: Iterable[str], formats: Iterable[str]) -> list[str]:
    return [f"results/{folder}/{name}.{suffix}" for name in names for suffix in formats]
