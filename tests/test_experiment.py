"""Laws of the experiment: models, queries and files follow from the configuration and the cohort alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from conftest import ROOT
from slicesampling import UserError
from slicesampling.answers.rounds import Progress
from slicesampling.domain.models import INITIAL, POOL, Model
from slicesampling.experiment import ASKED, LATER, LONG, Experiment, Query, ledger, read_experiment

PAPER = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))


def experiment(**changes: Any) -> Experiment:
    return read_experiment(PAPER | changes)


def of_people(progress: Progress) -> Experiment:
    """An experiment of the synthetic cohort as people would have it."""
    return replace(experiment(strategies=["uss"]), progress=progress)


def test_the_papers_experiment_has_its_models() -> None:
    paper = experiment()
    names = list(map(str, paper.models))
    assert len(names) == len(set(names)) == 1 + 4 * 5 + 4 + 1
    assert names[0] == "initial"
    assert names[-5:] == ["uvs-5-converged", "rvs-5-converged", "uss-5-converged", "rss-5-converged", "pool-converged"]
    assert list(map(str, paper.scored_models)) == [
        "initial",
        *(f"{s}-{k}" for s in ("uvs", "uss") for k in range(1, 5)),
    ]


@pytest.mark.parametrize("strategies", [["uvs"], ["rss", "uss"], ["uvs", "rvs", "uss", "rss"]])
@pytest.mark.parametrize("iterations", [1, 3])
def test_every_model_is_trained_on_a_set_that_was_asked_for(strategies: list[str], iterations: int) -> None:
    run = experiment(strategies=strategies, iterations=iterations, seeds=[1, 7])
    answered = {ledger(query.seed, Model(query.strategy, query.iteration)) for query in run.queries}
    given = {ledger(seed, Model(name)) for seed in run.seeds for name in (INITIAL, POOL)}
    assert {ledger(seed, model) for seed in run.seeds for model in run.models} == answered | given
    for query in run.queries:
        assert query.previous in run.models
        assert run.query_inputs(query)["ledger"] in answered | given
    for model in run.converged_models:
        assert model.begun in run.models
        assert run.begun(1, model) == (
            [] if model.strategy == POOL else [f"results/models/seed1/{model.begun}/model.pt"]
        )


@pytest.mark.parametrize("stage", ["preprocessing", "uncertainty", "test"])
@pytest.mark.parametrize("count", [1, 3, 1000])
def test_shards_hold_each_volume_once(stage: str, count: int) -> None:
    run = experiment(shards=dict.fromkeys(("preprocessing", "uncertainty", "test"), count))
    held = [name for shard in run.shards(stage) for name in run.volumes_in(stage, shard)]
    assert sorted(held) == sorted(run.volumes[stage])
    assert all(run.volumes_in(stage, shard) for shard in run.shards(stage))


def test_the_shards_of_volumes_hold_them(tmp_path: Path) -> None:
    run = experiment()
    for name in run.volumes["test"][:40]:
        (folder,) = run.preprocessed([name])
        assert name in run.volumes_in("preprocessing", folder.removeprefix("results/preprocessed/shard"))
    assert len(run.preprocessed(run.volumes["preprocessing"])) == PAPER["shards"]["preprocessing"]


def test_a_query_reads_only_what_its_strategy_uses() -> None:
    run = experiment()
    for name, reads in {"rvs": {"reference", "ledger"}, "uvs": {"reference", "ledger", "scores"},
                        "rss": {"reference", "ledger", "budget"},
                        "uss": {"reference", "ledger", "scores", "budget"}}.items():  # fmt: skip
        assert set(run.query_inputs(Query(1, name, 2))) == reads
    assert run.budget_inputs(1) == []
    assert experiment(slices_per_iteration="auto").budget_inputs(1) == ["results/annotations/seed1/uvs-5.tsv"]


def test_what_more_jobs_wait_for_starts_earlier() -> None:
    run = experiment()
    priority = {str(model): run.training_priority(model) for model in run.models}
    assert {name for name, value in priority.items() if value == ASKED} == set(map(str, run.scored_models))
    ends = {name for name in priority if name.endswith(("-5", "-converged"))}
    assert {name for name, value in priority.items() if value == LONG} == ends
    assert {value for name, value in priority.items() if name not in ends} == {ASKED, LATER}


@pytest.mark.parametrize(
    ("closed", "models", "following", "converged", "targets"),
    [
        ([], [], "initial", [], ["results/cohort_report.html", "results/work_lists/initial.tsv"]),
        (
            ["initial"], ["initial"], "uss-1", [],
            ["results/cohort_report.html", "results/annotation.html", "results/work_lists/uss-1.tsv",
             "results/proposals/uss-1"],
        ),
        (["initial", "uss-1"], ["initial", "uss-1"], None, ["uss-1-converged"], None),
    ],
)  # fmt: skip
def test_with_people_the_models_are_those_of_closed_rounds(
    closed: list[str], models: list[str], following: str | None, converged: list[str], targets: list[str] | None
) -> None:
    run = of_people(Progress(closed, models, following))
    assert list(map(str, run.models)) == models + converged
    assert run.last == max(len(models) - 1, 0)
    assert [run.closed_round(model) for model in run.iteration_models] == closed
    if targets is not None:
        assert run.targets() == targets
    else:
        made = run.targets()
        assert "results/segmentations/seed1/uss-1-converged/shard0.tsv" in made
        assert "results/tables/table4_dice.md" in made
        assert not [path for path in made if any(f"/{name}." in path for name in run.left_out)]


def test_simulated_annotators_close_no_round() -> None:
    run = experiment()
    assert not run.people
    assert {run.closed_round(model) for model in run.models} == {None}


def test_too_small_splits_are_no_fault_of_the_table_by_themselves(tmp_path: Path) -> None:
    rows = [(f"v{k}", f"p{k}", "x", split, f"{tmp_path}/i{k}.nii", f"{tmp_path}/m{k}.nii") for k, split in
            enumerate(["pool", "val", "test"])]  # fmt: skip
    table = pd.DataFrame(rows, columns=["volume", "patient", "site", "split", "image", "label"])
    for path in table[["image", "label"]].to_numpy().ravel():
        Path(path).touch()
    table.to_csv(tmp_path / "cohort.tsv", sep="\t", index=False)
    run = read_experiment(PAPER | {"cohort": str(tmp_path / "cohort.tsv")})
    run.check_table()
    with pytest.raises(UserError, match="1 pool volumes are too few: 5 for the initial set"):
        run.check_sizes()
    (tmp_path / "m0.nii").unlink()
    with pytest.raises(UserError, match=r"2 faults\n(?s:.*)too few(?s:.*)there is no such file"):
        run.check_table()
