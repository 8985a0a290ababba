"""Laws of the seam: what goes through it is what lies behind it."""

import re
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT
from slicesampling import NOT_ANNOTATED
from slicesampling.cohort.grids import Grid
from slicesampling.cohort.volumes import Preprocessed, read_canonical_mask, save_preprocessed
from slicesampling.configuration import check_configuration
from slicesampling.learning.compute import Compute
from slicesampling.learning.inference import Predictor, sample
from slicesampling.learning.networks.interface import Task, load_model, train, write_proposals
from slicesampling.learning.networks.kinds import KINDS, Kind, network_of
from slicesampling.learning.patches import AnnotatedVolume
from slicesampling.learning.progress import Progress

SHAPE = (6, 20, 24)
GRID = Grid(SHAPE, np.diag([3.0, 2.0, 2.0, 1.0]))
COMPUTE = {
    "device": "cpu",
    "precision": "float32",
    "threads": 1,
    "tile_gib": "auto",
    "training_data": "auto",
    "training_processes": 1,
    "checkpoint_minutes": 15,
}
NETWORK = {"kind": "aunet", "filters": [2, 3], "in_plane_levels": 1, "dropout": 0.25}
TRAINING = {
    "patch": [2, 16, 16],
    "window": [-200, 300],
    "batch_size": 2,
    "learning_rate": 0.01,
    "validation_interval": 2,
}
END = {"epochs": 2, "steps": None, "patience": None}


def volume(seed: int) -> Preprocessed:
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:4, 5:12, 6 + seed : 14 + seed] = 1
    image = np.random.default_rng(seed).normal(150.0 * mask - 50, 30).astype(np.int16)
    return Preprocessed(image, mask, GRID, GRID, mask.astype(bool))


def task(folder: Path, kind: str = "aunet", **changes: object) -> Task:
    """Return a training on five slices of one volume, with another to validate on."""
    for seed, name in enumerate(("a", "v")):
        if not (folder / name).exists():
            save_preprocessed(folder / name, volume(seed))
    annotated = volume(0)
    slices = np.arange(5)
    made = Task(
        network=NETWORK | {"kind": kind},
        training=TRAINING,
        end=END,
        compute=COMPUTE,
        annotated=[AnnotatedVolume("a", annotated.image, annotated.mask, slices)],
        ledger="a 0 1 2 3 4",
        validation=["v"],
        folders={"a": folder / "a", "v": folder / "v"},
        key=(1, "uss-1", "training"),
        checkpoint=folder / "uss-1.pt",
        begun_checkpoint=folder / "uss-1.pt",
        model=folder / "model/model.pt",
        script="",
        progress=lambda now: None,
    )
    return made._replace(**changes)


def test_the_papers_network_is_what_it_is_without_the_seam(tmp_path: Path) -> None:
    told: list[Progress] = []
    history = pd.DataFrame(train(task(tmp_path, progress=told.append)))
    (chosen,) = history.index[history["chosen"]]
    assert chosen == history["validation_jaccard"].argmax()
    assert told[-1].step == history["step"].iloc[-1]
    compute = Compute(torch.device("cpu"), tile_memory=2.0**28)
    model = load_model(tmp_path / "model/model.pt", compute)
    image, window = volume(1).image, (-200.0, 300.0)
    probability = model.probability(image)
    assert torch.equal(probability, Predictor(model.network, window, compute)(image))
    sampled = model.sample(image, 3, ("key",), keep_mean=True)
    directly = sample(model.network, image, window, compute, 3, ("key",), keep_mean=True)
    assert torch.equal(sampled.mean_probability, directly.mean_probability)
    assert all(torch.equal(values, directly.measures[name]) for name, values in sampled.measures.items())
    write_proposals(model, ["v"], {"v": tmp_path / "v"}, tmp_path)
    np.testing.assert_array_equal(read_canonical_mask(tmp_path / "v.nii.gz"), (probability > 0.5).numpy())


def test_a_training_that_is_called_again_gives_the_same_file(tmp_path: Path) -> None:
    first = train(task(tmp_path))
    before = (tmp_path / "model/model.pt").read_bytes()
    (tmp_path / "model/model.pt").unlink()
    assert train(task(tmp_path)) == first
    assert (tmp_path / "model/model.pt").read_bytes() == before


def test_what_nobody_annotated_is_not_learnt_from(tmp_path: Path) -> None:
    """Whatever stands in the mask of another slice."""
    train(task(tmp_path))
    expected = (tmp_path / "model/model.pt").read_bytes()
    changed = volume(0)
    changed.mask[5] = NOT_ANNOTATED
    annotated = [AnnotatedVolume("a", changed.image, changed.mask, np.arange(5))]
    train(task(tmp_path, annotated=annotated, checkpoint=tmp_path / "b.pt", begun_checkpoint=tmp_path / "b.pt"))
    assert (tmp_path / "model/model.pt").read_bytes() == expected


def test_the_network_of_the_documentation_learns_and_says_what_it_learnt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it stands there, through the same interface."""
    page = (ROOT / "docs/networks.md").read_text(encoding="utf-8")
    module_text, entry = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (keys,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    module = types.ModuleType("slicesampling.learning.networks.small")
    module.__package__ = "slicesampling.learning.networks"
    exec(compile(module_text, "docs/networks.md", "exec"), vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(KINDS, "small", None)  # taken out again in the end
    exec(compile(entry, "docs/networks.md", "exec"), {"KINDS": KINDS, "Kind": Kind})
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text(encoding="utf-8"))
    schema["properties"]["network"]["properties"] |= yaml.safe_load(keys)
    (tmp_path / "schema.yaml").write_text(yaml.safe_dump(schema), encoding="utf-8")
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    config["network"] |= {"kind": "small", "small": {"width": 4, "dropout": 0.25, "epochs": 60}}
    check_configuration(config, tmp_path / "schema.yaml")
    network = network_of(config)
    assert network.settings == {"kind": "small", "width": 4, "dropout": 0.25, "epochs": 60}
    assert network.samples == "20 Monte Carlo dropout samples"

    history = pd.DataFrame(
        train(task(tmp_path, network=network.settings, training=network.training, end=network.ends["iteration"]))
    )
    assert history["loss"].iloc[-1] < 0.5 * history["loss"].iloc[0]
    assert history.loc[history["chosen"], "validation_dice"].iloc[0] > 0.7
    model, image = load_model(tmp_path / "model/model.pt", Compute(torch.device("cpu"))), volume(1).image
    sampled = model.sample(image, 4, (1, "key"), keep_mean=True)
    assert sampled.mean_probability.sum(dim=0) == pytest.approx(1)
    assert sampled.measures["mutual_information"].max() > 0  # dropout is on
    again = model.sample(image, 4, (1, "key")).measures
    assert all(torch.equal(values, again[name]) for name, values in sampled.measures.items())
    assert torch.equal(model.probability(image), model.probability(image))  # and off
