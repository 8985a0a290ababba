"""The paper's numbers are the defaults; each wrong key, type, range or name is one line that says what is accepted."""

import copy
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml
from slicesampling import UserError
from slicesampling.configuration import check_configuration
from slicesampling.query.rules import RULES
from slicesampling.query.strategies import ERROR, MEASURES, STRATEGIES, strategies_of
from snakemake.utils import update_config

ROOT = Path(__file__).parents[1]
SCHEMA = ROOT / "workflow/schemas/config.schema.yaml"


def load(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "config" / name).read_text(encoding="utf-8"))


def changed(path: str, value: Any) -> dict[str, Any]:
    config = copy.deepcopy(load("config.yaml"))
    *parents, last = path.split(".")
    group = config
    for name in parents:
        group = group[name]
    group[last] = value
    return config


def test_defaults_are_the_papers() -> None:
    config = load("config.yaml")
    check_configuration(config, SCHEMA)
    assert (config["iterations"], config["initial_volumes"], config["volumes_per_iteration"]) == (5, 5, 5)
    assert config["slices_per_iteration"] == 200
    assert config["preprocessing"]["spacing"] == [1.5, 1.0, 1.0]
    training = config["network"]["aunet"]["training"]
    assert training["patch"] == [4, 180, 180]
    assert (training["batch_size"], training["learning_rate"]) == (2, 1e-5)
    assert training["validation_interval"] == 1000
    assert training["iteration"]["epochs"] == 30
    assert (config["uncertainty"]["samples"], config["uncertainty"]["dilation"]) == (20, 11)
    assert config["network"]["aunet"]["dropout"] == 0.25
    splits = {
        split: sum(site[split] for site in config["phantom"]["sites"].values()) for split in ("pool", "val", "test")
    }
    assert splits == {"pool": 240, "val": 10, "test": 234}


@pytest.mark.parametrize("name", ["demo.yaml", "study.yaml"])
def test_what_overlays_change_is_valid(name: str) -> None:
    config = load("config.yaml")
    update_config(config, load(name))
    check_configuration(config, SCHEMA)


def test_the_demo_changes_only_known_keys() -> None:
    def paths(group: dict[str, Any], prefix: str = "") -> set[str]:
        return {
            path
            for name, value in group.items()
            for path in (paths(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name])
        }

    assert paths(load("demo.yaml")) <= paths(load("config.yaml"))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("iteration", 5, "iteration is no key; accepted: .* (did you mean iterations?)"),
        ("network.aunet.dropuot", 0.5, "network.aunet.dropuot is no key; .* (did you mean dropout?)"),
        ("iterations", 0, "iterations is 0; accepted: a whole number from 1"),
        ("iterations", "five", "iterations is 'five'; accepted: a whole number from 1"),
        ("strategies", ["uss", "uus"], "strategies.1 is 'uus'; accepted: uvs or rvs or uss or rss"),
        ("strategies", [], "strategies is []; accepted: a list of at least 1"),
        ("seeds", [1, 1], "seeds is [1, 1]; accepted: a list of at least 1 without repetition"),
        ("slices_per_iteration", "all", "slices_per_iteration is 'all'; accepted: a whole number from 1 or auto"),
        ("uncertainty.dilation", 10, "uncertainty.dilation is 10; accepted: a whole number from 1 that is odd"),
        ("network.aunet.training.batch_size", 1, "training.batch_size is 1; accepted: a whole number from 2"),
        (
            "network.aunet.training.patch",
            [4, 181, 180],
            "network.aunet.training.patch is [4, 181, 180]; accepted by this network: [4, 196, 180]",
        ),
        (
            "network.aunet.training.window",
            [400, -160],
            "network.aunet.training.window is [400, -160]; accepted: a lower and a higher HU value",
        ),
        ("network.aunet.training.converged.patience", None, "network.aunet.training.converged never ends"),
        ("compute.training_processes", 3, "compute.training_processes is 3; accepted: a number that divides network"),
        ("compute.precision", "int8", "compute.precision is 'int8'; accepted: auto or float32 or tf32 or bfloat16"),
        ("compute.tile_gib", 0, "compute.tile_gib is 0; accepted: a number above 0 or auto"),
        ("network.aunet.in_plane_levels", 6, "network.aunet.in_plane_levels is 6; accepted: up to 5"),
        ("preprocessing.spacing", [1, 1], "preprocessing.spacing is [1, 1]; accepted: a list of at least 3"),
        (
            "phantom.sites.utrecht",
            {"pool": 1, "val": 1, "test": 1},
            "phantom.sites.utrecht is no key; accepted: yokohama",
        ),
    ],
)
def test_a_fault_is_one_clear_line(path: str, value: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_configuration(changed(path, value), SCHEMA)
    text = str(caught.value)
    position = 0
    for part in message.split(".*"):
        assert part in text[position:]
        position = text.index(part, position)
    assert "\n" not in text


def test_a_missing_key_is_named() -> None:
    config = load("config.yaml")
    del config["network"]["aunet"]["training"]["patch"]
    with pytest.raises(UserError, match=r"network\.aunet\.training\.patch is missing"):
        check_configuration(config, SCHEMA)


def nnunet(**changes: Any) -> dict[str, Any]:
    """Return the configuration with nnU-Net."""
    config = changed("network.kind", "nnunet")
    config["network"]["nnunet"] |= changes
    return config


@pytest.mark.parametrize("config", [load("config.yaml"), nnunet()])
def test_a_check_changes_nothing(config: dict[str, Any]) -> None:
    before = copy.deepcopy(config)
    check_configuration(config, SCHEMA)
    assert config == before


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"combinations": {"bald": {"unit": "slice", "measure": "mutual_information", "rule": "peaks"}}},
            "combinations is no key any more; write "
            "{custom_strategies: {bald: {unit: slice, measure: mutual_information, rule: peaks}}}",
        ),
        (
            {"training": {"iteration": {"epochs": 5}}},
            "training is no key any more; write {network: {aunet: {training: {iteration: {epochs: 5}}}}}",
        ),
        (
            {"network": {"filters": [8, 16], "kind": "aunet"}},
            "network.filters is no key any more; write {network: {aunet: {filters: [8, 16]}}}",
        ),
        (
            {"network": {"kind": "nnunet", "trainer": {"iteration": "x", "converged": "y"}}},
            "network.trainer is no key any more; write {network: {nnunet: {trainer: {iteration: x, converged: y}}}}",
        ),
    ],
)
def test_the_form_of_older_versions_is_refused_with_the_new_one(config: dict[str, Any], message: str) -> None:
    """And what is proposed is accepted."""
    old = load("config.yaml")
    update_config(old, config)
    with pytest.raises(UserError) as caught:
        check_configuration(old, SCHEMA)
    assert str(caught.value) == f"configuration: {message}"
    new = load("config.yaml")
    update_config(new, yaml.safe_load(message.split("; write ")[1]))
    check_configuration(new, SCHEMA)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (changed("network.kind", "unet"), "network.kind is 'unet'; accepted: aunet or nnunet"),
        (nnunet(folds=1), "network.nnunet.folds is 1; accepted: a whole number from 2"),
        (nnunet(configuration="3d_lowres"), "network.nnunet.configuration is '3d_lowres'; accepted: 3d_fullres or 2d"),
        (nnunet(patch=[1, 2, 3]), "network.nnunet.patch is no key; accepted: configuration, planner"),
        (nnunet(trainer={"iteration": "nnUNetTrainer"}), "network.nnunet.trainer.converged is missing"),
        (
            nnunet()
            | {"custom_strategies": {"core": {"unit": "slice", "rule": "k_centre"}}, "strategies": ["uss", "core"]},
            "strategies has core, which chooses by features of the network",
        ),
    ],
)
def test_a_fault_of_another_network_is_a_line(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_configuration(config, SCHEMA)
    assert message in str(caught.value)


def test_automatic_slices_need_uvs() -> None:
    config = changed("strategies", ["rvs", "uss"])
    config["slices_per_iteration"] = "auto"
    with pytest.raises(UserError, match="slices_per_iteration is auto, which needs uvs"):
        check_configuration(config, SCHEMA)


PEOPLE = {"annotator": "people", "strategies": ["uss"], "cohort": "config/cohort.tsv"}


def test_people_take_one_strategy_with_one_seed() -> None:
    check_configuration(load("config.yaml") | PEOPLE, SCHEMA)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotator": "persons"}, "annotator is 'persons'; accepted: simulated or people"),
        ({"seeds": [1, 2]}, "seeds is [1, 2]; accepted with annotator people: one seed"),
        ({"strategies": ["uss", "uvs"]}, "strategies is ['uss', 'uvs']; accepted with annotator people: one strategy"),
        (
            {"strategies": ["rss"]},
            "strategies has rss, which asks until it has enough slices with liver; accepted",
        ),
        (
            {
                "custom_strategies": {"by_error": {"unit": "slice", "measure": "error", "rule": "peaks"}},
                "strategies": ["by_error"],
            },
            "strategies has by_error, which looks into the reference; accepted with annotator people: others, such as",
        ),
        ({"slices_per_iteration": "auto", "strategies": ["uvs"]}, "slices_per_iteration is auto; accepted with annota"),
        ({"cohort": "phantom"}, "cohort is phantom; accepted with annotator people: a table of volumes"),
        (
            {"people.answers": "./results/annotations"},
            "people.answers is ./results/annotations; accepted: a folder out",
        ),
        ({"people.twice": 1.5}, "people.twice is 1.5; accepted: a number from 0 up to 1"),
        ({"people.initial_slices": 0}, "people.initial_slices is 0; accepted: a whole number from 1"),
        ({"people.names": []}, "people.names is no key; accepted: answers, proposals, twice"),
    ],
)
def test_what_people_cannot_do_is_one_line(change: dict[str, Any], message: str) -> None:
    config = load("config.yaml") | PEOPLE
    for key, value in change.items():
        group, _, name = key.rpartition(".")
        (config[group] if group else config)[name] = value
    with pytest.raises(UserError) as caught:
        check_configuration(config, SCHEMA)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_strategy_that_is_described_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """No list of names has to follow: schema and contradictions ask the description."""
    config = changed("strategies", ["every", "uvs"])
    with pytest.raises(UserError, match=r"strategies\.0 is 'every'; accepted: uvs or rvs or uss or rss"):
        check_configuration(config, SCHEMA)
    monkeypatch.setitem(STRATEGIES, "every", STRATEGIES["rss"]._replace(title="every slice"))
    check_configuration(config, SCHEMA)


OWN: dict[str, Any] = {
    "bald": {"unit": "slice", "measure": "mutual_information", "region": "structure", "rule": "peaks"},
    "noisy_2": {"unit": "slice", "rule": "power", "beta": 2},
    "largest": {"unit": "volume", "measure": "variance", "region": "structure", "rule": "maximum"},
    "whole": {"unit": "volume", "rule": "mean"},
    "blind": {"unit": "volume", "rule": "random"},
    "aware": {"unit": "slice", "rule": "random", "foreground": 0.66},
    "clasp": {"unit": "slice", "rule": "stratified", "beta_last": 50},
    "by_error": {"unit": "slice", "measure": "error", "rule": "peaks"},
    "core": {"unit": "slice", "rule": "k_centre"},
}


def test_strategies_are_put_together_from_what_the_configuration_says() -> None:
    config = changed("custom_strategies", OWN)
    config["strategies"] = ["uss", *OWN]
    check_configuration(config, SCHEMA)
    made = strategies_of(config)
    assert list(made) == config["strategies"]
    assert made["uss"] == STRATEGIES["uss"]
    assert {name: list(strategy.columns.values()) for name, strategy in made.items()} == {
        "uss": ["predictive_entropy"],
        "bald": ["mutual_information_selective"],
        "noisy_2": ["predictive_entropy"],
        "largest": ["variance_selective_maximum"],
        "whole": ["predictive_entropy"],
        "blind": [],
        "aware": ["structure_voxels"],
        "clasp": ["predictive_entropy", "predictive_entropy_selective", "structure_voxels"],
        "by_error": ["wrong_voxels"],
        "core": [],
    }
    uncertain = [name for name, strategy in made.items() if strategy.uncertain]
    assert uncertain == ["uss", "bald", "noisy_2", "largest", "whole", "clasp"]
    assert made["noisy_2"].settings == {"beta": 2}
    assert made["clasp"].settings == {"foreground": 0.66, "beta": 1, "beta_last": 50}
    assert [name for name, strategy in made.items() if not strategy.slices] == ["largest", "whole", "blind"]
    assert [name for name, strategy in made.items() if strategy.upper_bound] == ["by_error"]
    assert made["by_error"].title == (
        "slices by error of the slice, rule peaks: an upper bound that looks into the reference"
    )
    assert made["aware"].title == "slices by chance, rule random, foreground 0.66"
    for name, paper in STRATEGIES.items():  # each can be written as a custom strategy
        parts = {"unit": paper.unit, "rule": paper.rule, "measure": paper.measure, "region": paper.region}
        given = {"own": {part: value for part, value in parts.items() if value is not None}}
        again = strategies_of({"strategies": ["own"], "custom_strategies": given})["own"]
        assert again._replace(title=paper.title) == paper, name


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "pool",
            {},
            "custom_strategies.pool is no name of a custom strategy; accepted: up to 12 lower-case letters",
        ),
        ("uss", {}, "and none of uvs, rvs, uss, rss, initial, pool"),
        ("my-own", {}, "custom_strategies.my-own is no name"),
        ("Own", {}, "custom_strategies.Own is no name"),
        ("name_of_13_le", {}, "custom_strategies.name_of_13_le is no name"),
        (
            "ideal",
            {"measure": "error"},
            "ideal.measure is 'error'; accepted: error if a name begins with by_error, only",
        ),
        (
            "by_error_2",
            {},
            "by_error_2.measure is 'variance'; accepted: error if a name begins with by_error",
        ),
        ("own", {"unit": "voxel"}, "custom_strategies.own.unit is 'voxel'; accepted: slice or volume"),
        (
            "own",
            {"rule": "peak"},
            "custom_strategies.own.rule is 'peak'; accepted with unit slice: peaks or top or one_per_volume or power",
        ),
        ("own", {"unit": "volume"}, "own.rule is 'peaks'; accepted with unit volume: mean or maximum or k_centre or"),
        ("own", {"measure": "entropy"}, "accepted with rule peaks: predictive_entropy or mutual_information or var"),
        ("own", {"region": "volume"}, "own.region is 'volume'; accepted with rule peaks: slice or structure"),
        ("own", {"region": ["slice"]}, "own.region is ['slice']; accepted with rule peaks: slice or structure"),
        ("own", {"beta": 1}, "own.beta is no key of rule peaks; accepted: unit, rule, measure, region"),
        ("own", {"rule": "power", "beta": 0}, "own.beta is 0; accepted: a number above 0"),
        ("own", {"rule": "random"}, "own.measure is no key of rule random; accepted: unit, rule, foreground"),
        ("own", {"rule": "stratified", "region": "slice"}, "own.region is no key of rule stratified; accepted: unit, "),
        (
            "own",
            {"rule": "stratified", "measure": "error"},
            "own.measure is 'error'; accepted with rule stratified: pr",
        ),
        ("own", {"measure": "error", "region": "structure"}, "own.region is 'structure'; accepted with rule peaks: sl"),
        ("own", {"unit": "volume", "rule": "mean", "measure": "error"}, "own.measure is 'error'; accepted with rule m"),
        ("own", {"rule": "stratified", "foreground": 1.5}, "own.foreground is 1.5; accepted: a number from 0 to 1"),
        (
            "own",
            {"rule": "strided", "measure": ..., "stride": 2.5},
            "own.stride is 2.5; accepted: a whole number from 1",
        ),
        (
            "own",
            None,
            "own is None; accepted: a group of keys: unit, rule, measure, region, beta, beta_last, foreground",
        ),
    ],
)
def test_a_wrong_custom_strategy_is_one_line(name: str, change: dict[str, Any] | None, message: str) -> None:
    whole = {"unit": "slice", "measure": "variance", "rule": "peaks"}
    given = None if change is None else {key: value for key, value in (whole | change).items() if value is not ...}
    config = changed("custom_strategies", {name: given})
    with pytest.raises(UserError) as caught:
        check_configuration(config, SCHEMA)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


PAGE = (ROOT / "docs/strategies.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^    strategies:.*?(?=^\S|\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_of_the_documentation_are_accepted(example: str) -> None:
    config = load("config.yaml") | yaml.safe_load(textwrap.dedent(example))
    check_configuration(config, SCHEMA)
    made = strategies_of(config)
    assert set(config["custom_strategies"]) < set(made)
    assert [name for name, strategy in made.items() if strategy.upper_bound] == ["by_error"] * ("by_error" in made)


def test_the_documentation_has_all_rules_and_measures_with_their_parameters() -> None:
    """A row each, in the tables of rules and of measures; a row without a unit has that of the one above it."""
    assert len(EXAMPLES) == 2
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("|")]
    found: dict[str, dict[str, list[str]]] = {"slice": {}, "volume": {}}
    unit = ""
    for first, *cells in (row for row in rows if len(row) == 5 and row[3] in ("slices", "liver slices", "volumes")):
        before, _, name = first.rpartition(", ")
        unit = before or unit
        found[unit][name.strip("`")] = cells
    assert {unit: list(of_unit) for unit, of_unit in found.items()} == {unit: list(RULES[unit]) for unit in RULES}
    for of_unit, (unit, rules) in zip(found.values(), RULES.items(), strict=True):
        for name, rule in rules.items():
            _, parameters, budget, _ = of_unit[name]
            told = [f"`{key}`" + ("" if value is None else f" {value:g}") for key, value in rule.parameters.items()]
            assert parameters == ", ".join(told), name
            assert budget == ("liver slices" if rule.until_liver else f"{unit}s"), name
    measures = [row[0].strip("`") for row in rows if len(row) == 3]
    assert [name for name in measures if name in (*MEASURES, ERROR)] == [*MEASURES, ERROR]


def test_all_faults_are_listed_at_once() -> None:
    config = changed("iterations", 0)
    config["strategies"] = ["uus"]
    with pytest.raises(UserError) as caught:
        check_configuration(config, SCHEMA)
    assert "iterations is 0" in str(caught.value)
    assert "'uus'" in str(caught.value)
