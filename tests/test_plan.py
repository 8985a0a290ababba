"""Laws of the plan: it counts what the configuration asks for, and grows with it as the work does."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT
from slicesampling.cohort.grids import Grid, canonical_grid
from slicesampling.cohort.volumes import VOXEL_BYTES
from slicesampling.domain.models import INITIAL, POOL, Model
from slicesampling.experiment import Experiment, read_experiment
from slicesampling.learning.compute import Compute
from slicesampling.plan import STAGES, Measured, estimate, preprocessed_shapes
from slicesampling.plan_aunet import AuNetCosts, data_path, training_length
from slicesampling.plan_nnunet import NnUNetCosts
from slicesampling.publication.tables import paper_values

CPU = Compute(torch.device("cpu"), "float32", 4 * 2.0**30)
PAPER = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
AUNET = AuNetCosts(PAPER, CPU, {"files": 0.5, "device": 0.4}, 1e-11, 2e-11, 0.0, 20_000)
MEASURED = Measured(dict.fromkeys(STAGES, 3.0), 1e-8, 2e-8, 0.01, AUNET)
EXPERIMENT = read_experiment(PAPER)


def jobs_of(config: dict, others: int = 120) -> dict[str, int]:
    """The jobs of each rule as Snakemake would count them; a test of the workflow compares the plan with it."""
    seeds, models = len(config["seeds"]), len(EXPERIMENT.models)
    counts = {"preprocess": 24, "train": seeds * models, "uncertainty": 8 * seeds * len(EXPERIMENT.scored_models)}
    counts |= {"predict": 4 * seeds * models, "evaluate": 4 * seeds * models, "grid_limit": 4}
    return counts | {"total": sum(counts.values()) + others}


@pytest.fixture
def volumes() -> pd.DataFrame:
    """A cohort as large as the paper's: 282 slices of 1.5 mm a volume, of these 100 with liver (Table 2).

    One patient in five is too large for 2×2 tiles, as the paper's steps an epoch imply.
    """
    random = np.random.default_rng(0)
    splits = ["pool"] * 240 + ["val"] * 10 + ["test"] * 234
    thickness = random.choice([1.0, 1.5, 3.0], len(splits))
    slices = (282 * 1.5 / thickness).round().astype(int)
    table = pd.DataFrame({"split": splits, "slices": slices, "spacing_z": thickness, "rows": 512, "columns": 512})
    spacing = random.choice([0.7, 0.8], len(splits), p=[0.8, 0.2])
    return table.assign(spacing_y=spacing, spacing_x=spacing, structure_slices=(slices * 100 / 282).round())


def test_shapes_are_those_of_the_common_grid(volumes: pd.DataFrame) -> None:
    shapes = preprocessed_shapes(volumes, [1.5, 1.0, 1.0])
    for row, shape in zip(volumes.head(20).itertuples(), shapes.itertuples(index=False), strict=False):
        affine = np.diag([row.spacing_z, row.spacing_y, row.spacing_x, 1.0])
        grid = canonical_grid(Grid((row.slices, row.rows, row.columns), affine), (1.5, 1.0, 1.0))
        assert tuple(shape) == grid.shape


def test_the_papers_steps_lie_within_its_epochs(volumes: pd.DataFrame) -> None:
    """Table 3 tells the best of at most 30 epochs: the epochs must hold it, and not many times over."""
    pool = volumes[volumes["split"] == "pool"].join(preprocessed_shapes(volumes, [1.5, 1.0, 1.0]))
    pool = pool.assign(structure=pool["structure_slices"] / pool["slices"])
    table = paper_values()
    table = table[table["table"] == "table3_training_steps"]
    for row in table.itertuples():
        model = {"initial": Model(INITIAL), "data pool": Model(POOL, converged=True)}.get(row.row)
        if model is None:
            model = Model(row.column.lower(), int(row.row[6]), "converged" in row.row)
        steps, validations = training_length(model, pool, PAPER)
        assert row.value <= 1.1 * steps  # the sizes of the paper's volumes are not known
        assert steps <= 4 * row.value
        assert validations == np.ceil(steps / 1000)


def measured(config: dict = PAPER, start: float = 3.0, **changes: Any) -> Measured:
    """Return what was measured with a configuration: `MEASURED`, but for the start of jobs and costs of the network."""
    return MEASURED._replace(starts=dict.fromkeys(STAGES, start), network=AUNET._replace(config=config, **changes))


def of(config: dict) -> Experiment:
    return replace(EXPERIMENT, config=config)


def total(config: dict, volumes: pd.DataFrame, **changes: Any) -> pd.DataFrame:
    return estimate(of(config), measured(config, **changes), volumes, jobs_of(config)).stages


def test_the_plan_grows_as_the_work_does(volumes: pd.DataFrame) -> None:
    once = total(PAPER, volumes)
    assert once["jobs"].sum() == jobs_of(PAPER)["total"]
    assert once.loc["others", "jobs"] == 120
    models = ["train", "uncertainty", "predict", "evaluate"]

    seeds = total(PAPER | {"seeds": [1, 2, 3]}, volumes)
    columns = ["jobs", "cpu_hours", "disk_gib"]
    limit = once.loc["evaluate", columns] * [4 / 108, 4 / 108, 1]  # the limit of the grid: 4 jobs, whatever the seeds
    expected = 3 * once.loc[models, columns]
    expected.loc["evaluate"] -= 2 * limit
    assert np.allclose(seeds.loc[models, columns], expected)
    assert (seeds.loc["preprocess"] == once.loc["preprocess"]).all()

    slow, fast = (total(PAPER, volumes, start=0.0, step={"files": seconds}) for seconds in (1.0, 0.5))
    steps = (slow - fast).loc["train", "device_hours"] * 3600 / 0.5
    pool = volumes[volumes["split"] == "pool"].join(preprocessed_shapes(volumes, [1.5, 1.0, 1.0]))
    pool = pool.assign(structure=pool["structure_slices"] / pool["slices"])
    lengths = {model: training_length(model, pool, PAPER)[0] for model in EXPERIMENT.models}
    begun = [lengths[model] for model in EXPERIMENT.ledgers]  # which the converged models do not repeat
    assert steps == pytest.approx(sum(lengths.values()) - sum(begun))

    more = copy.deepcopy(PAPER)
    more["uncertainty"]["samples"] = 40
    double, single = (total(config, volumes, start=0.0, encode=0.0)["device_hours"] for config in (more, PAPER))
    ratio = double / single
    assert ratio["uncertainty"] == pytest.approx(2, rel=0.02)  # other tiles may be better for more samples
    assert ratio["predict"] == pytest.approx(1)


def test_the_plan_takes_the_data_path_that_a_training_will_take(volumes: pd.DataFrame) -> None:
    """Volumes lie on the device where they fit: those of all models, of few volumes only, or none."""
    pool = preprocessed_shapes(volumes[volumes["split"] == "pool"], [1.5, 1.0, 1.0])
    whole = float((pool["z"] * pool["y"] * pool["x"]).sum()) * VOXEL_BYTES
    hours = [total(PAPER, volumes, room=room).loc["train", "device_hours"] for room in (0, whole / 10, 1.01 * whole)]
    assert hours[0] > hours[1] > hours[2]
    few, all_ = (
        data_path(model, pool, PAPER, CPU, whole / 10) for model in (Model("rvs", 2), Model(POOL, converged=True))
    )
    assert (few, all_) == ("device", "files")
    assert data_path(Model(INITIAL), pool, PAPER, CPU._replace(training_data="files"), whole) == "files"


def test_workers_help_until_the_longest_chain(volumes: pd.DataFrame) -> None:
    plan = estimate(EXPERIMENT, MEASURED, volumes, jobs_of(PAPER))
    assert plan.wall_hours(1) == pytest.approx(plan.stages["job_hours"].sum())
    assert plan.wall_hours(2) == pytest.approx(plan.wall_hours(1) / 2)
    assert plan.wall_hours(1000) == plan.longest_hours
    auto = PAPER | {"slices_per_iteration": "auto"}
    waiting = estimate(of(auto), measured(auto), volumes, jobs_of(auto))
    assert waiting.longest_hours > plan.longest_hours


def test_nnunet_costs_what_its_trainers_say(volumes: pd.DataFrame) -> None:
    """As many mini-batches for each member, whatever is annotated; a converged model by the same trainer costs none."""
    network = PAPER["network"]["nnunet"]
    lengths = {network["trainer"]["iteration"]: (100, 250, 50), network["trainer"]["converged"]: (1000, 250, 50)}

    def hours(**changes: Any) -> pd.DataFrame:
        config = PAPER | {"network": {"kind": "nnunet", "nnunet": network | changes}}
        costs = NnUNetCosts(config, CPU, 0.0, 0.2, 0.1, 0.0, 1e-6, lengths, 1)
        found = MEASURED._replace(starts=dict.fromkeys(STAGES, 0.0), network=costs)
        return estimate(of(config), found, volumes, jobs_of(config)).stages

    epoch = (250 * 0.2 + 50 * 0.1) / 3600
    iterations, converged = len(EXPERIMENT.models) - 5, 5
    assert hours().loc["train", "device_hours"] == pytest.approx(5 * epoch * (100 * iterations + 1000 * converged))
    same = dict.fromkeys(("iteration", "converged"), network["trainer"]["iteration"])
    assert hours(trainer=same).loc["train", "device_hours"] == pytest.approx(5 * epoch * 100 * (iterations + 1))
    double = hours(folds=10)["device_hours"] / hours()["device_hours"]
    assert double[["train", "uncertainty", "predict"]].to_numpy() == pytest.approx(2)
