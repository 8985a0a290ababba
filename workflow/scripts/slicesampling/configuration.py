"""Read the configuration, and check it as a whole before anything runs."""

import difflib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from snakemake.utils import update_config

from . import UserError
from .learning.geometry import Geometry, axes
from .learning.networks.kinds import KINDS
from .query.strategies import STRATEGIES, custom_strategy_faults, strategies_of

DEFAULTS = Path(__file__).parents[3] / "config/config.yaml"


def read_configuration(paths: Sequence[str | Path]) -> dict[str, Any]:
    """Return the configuration that Snakemake merges from `DEFAULTS` and these files; later files win.

    Raise UserError if a file cannot be read.
    """
    config: dict[str, Any] = {}
    for path in (DEFAULTS, *map(Path, paths)):
        try:
            update_config(config, yaml.safe_load(path.read_text(encoding="utf-8")) or {})
        except (OSError, yaml.YAMLError) as error:
            raise UserError(f"{path}: cannot be read ({error})") from error
    return config


def lay_defaults(config: dict[str, Any], path: str | Path) -> None:
    """Fill keys that are missing in `config` with the defaults in the file `path`, in place."""
    with Path(path).open(encoding="utf-8") as file:
        defaults = yaml.safe_load(file)
    update_config(defaults, config)
    config.update(defaults)


def check_configuration(config: dict[str, Any], schema: str | Path) -> None:
    """Raise one UserError that lists every fault of `config`: the key, the value, and what is accepted.

    Beyond the schema, settings must be consistent: for example, the patch must fit the network.
    """
    with Path(schema).open(encoding="utf-8") as file:
        content = yaml.safe_load(file)
    custom = config.get("custom_strategies")
    custom = custom if isinstance(custom, dict) else {}
    content["properties"]["strategies"]["items"] = {"enum": [*STRATEGIES, *custom]}
    networks = content["properties"]["network"]["properties"]
    networks["kind"] = {"enum": list(KINDS)}
    old = old_form_faults(config, networks)
    if old:
        raise UserError("configuration: " + "\n  ".join(old))
    validator = jsonschema.Draft202012Validator(content)
    faults = list({message for error in validator.iter_errors(config) for message in fault_messages(error)})
    faults += [fault for name, given in custom.items() for fault in custom_strategy_faults(name, given)]
    if not faults:
        faults = contradictions(config)
    if faults:
        raise UserError("configuration: " + "\n  ".join(sorted(faults)))


def old_form_faults(config: dict[str, Any], networks: dict[str, Any]) -> list[str]:
    """Return a line for each key in its place or under its name of versions before 0.2, with the new form.

    networks: the schema of each kind of network.
    """
    faults = []

    def moved(old: str, given: Any, *place: str) -> None:
        new = given
        for key in reversed(place):
            new = {key: new}
        text = yaml.safe_dump(new, default_flow_style=True, sort_keys=False, width=math.inf).strip()
        faults.append(f"{old} is no key any more; write {text}")

    if "combinations" in config:
        moved("combinations", config["combinations"], "custom_strategies")
    if "training" in config:
        moved("training", config["training"], "network", "aunet", "training")
    network = config.get("network")
    for name, given in network.items() if isinstance(network, dict) else ():
        for kind in KINDS:
            if name not in networks and name in networks[kind]["properties"]:
                moved(f"network.{name}", given, "network", kind, name)
    return faults


def fault_messages(error: jsonschema.ValidationError) -> list[str]:
    """Return one line for each fault in `error`."""
    key = ".".join(str(part) for part in error.absolute_path)
    prefix = f"{key}." if key else ""
    if error.validator == "additionalProperties":
        accepted = list(error.schema["properties"])
        unknown = [name for name in error.instance if name not in accepted]
        return [f"{prefix}{name} is no key; accepted: {listed(name, accepted)}" for name in unknown]
    if error.validator == "required":
        return [f"{prefix}{name} is missing" for name in error.validator_value if name not in error.instance]
    return [f"{key} is {error.instance!r}; accepted: {accepted_values(error.schema)}"]


def listed(name: str, accepted: list[str]) -> str:
    """Return the accepted names as text, with a suggestion if `name` resembles one of them."""
    close = difflib.get_close_matches(str(name), accepted, n=1)
    return ", ".join(accepted) + (f" (did you mean {close[0]}?)" if close else "")


def accepted_values(schema: dict[str, Any]) -> str:
    """Return a description of the values that `schema` accepts."""
    if "anyOf" in schema:
        return " or ".join(accepted_values(option) for option in schema["anyOf"])
    if schema.get("$ref") == "#/$defs/count":
        return "a whole number from 1"
    if "enum" in schema:
        return " or ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    names = {
        "integer": "a whole number",
        "number": "a number",
        "string": "a text",
        "array": "a list",
        "object": "a group of keys",
        "null": "null",
    }
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    limits = {
        "minimum": "from {}",
        "maximum": "up to {}",
        "exclusiveMinimum": "above {}",
        "exclusiveMaximum": "below {}",
        "minItems": "of at least {}",
        "maxItems": "of at most {}",
        "uniqueItems": "without repetition",
        "minLength": "of at least {} character",
        "not": "that is odd",  # the only exclusion in the schema
    }
    parts = [names[types[0]], *(text.format(schema[name]) for name, text in limits.items() if name in schema)]
    return " ".join(parts) + "".join(f", or {names[name]}" for name in types[1:])


def contradictions(config: dict[str, Any]) -> list[str]:
    """Return the faults of a configuration whose keys are each valid but contradict each other."""
    faults = []
    network = config["network"]
    if network["kind"] not in network:
        return [f"network.{network['kind']} is missing; network.kind chooses it"]
    if network["kind"] == "aunet":
        faults += aunet_contradictions(network["aunet"], config["compute"]["training_processes"])
    if not KINDS[network["kind"]].features:
        faults += [
            f"strategies has {name}, which chooses by features of the network; accepted with network.kind "
            f"{network['kind']}: others, such as uss"
            for name, strategy in strategies_of(config).items()
            if strategy.how.features
        ]
    sliced = any(strategy.slices for strategy in strategies_of(config).values())
    if config["slices_per_iteration"] == "auto" and sliced and "uvs" not in config["strategies"]:
        faults.append(
            f"slices_per_iteration is auto, which needs uvs among the strategies ({', '.join(config['strategies'])}); "
            "accepted otherwise: a whole number from 1"
        )
    if config["cohort"] == "phantom" and "phantom" not in config:
        faults.append("phantom is missing, but cohort is phantom")
    return faults + (people_contradictions(config) if config["annotator"] == "people" else [])


def aunet_contradictions(network: dict[str, Any], processes: int) -> list[str]:
    """Return the contradictions between the settings of the paper's network and of its training."""
    training, key = network["training"], "network.aunet.training"
    faults = geometry_contradictions(network, training["patch"])
    if training["batch_size"] % processes:
        faults.append(
            f"compute.training_processes is {processes}; accepted: a number that divides {key}.batch_size, "
            f"{training['batch_size']}"
        )
    if training["window"][0] >= training["window"][1]:
        faults.append(f"{key}.window is {training['window']}; accepted: a lower and a higher HU value")
    for name in ("iteration", "converged"):
        if all(limit is None for limit in training[name].values()):
            faults.append(
                f"{key}.{name} never ends: {', '.join(training[name])} are all null; accepted: a number for one"
            )
    return faults


def geometry_contradictions(network: dict[str, Any], patch: list[int]) -> list[str]:
    """Return the contradictions between the levels of the paper's network and the patch (z, y, x)."""
    levels = len(network["filters"])
    if network["in_plane_levels"] > levels:
        return [
            f"network.aunet.in_plane_levels is {network['in_plane_levels']}; accepted: up to {levels}, the levels in "
            "filters"
        ]
    geometry = Geometry(levels, network["in_plane_levels"])
    fitting = list(geometry.output_size(axes(patch)))
    if fitting == patch:
        return []
    return [
        f"network.aunet.training.patch is {patch}; accepted by this network: {fitting}, and sizes that differ from it "
        f"by multiples of {list(geometry.stride)}"
    ]


def people_contradictions(config: dict[str, Any]) -> list[str]:
    """Return the settings of an otherwise valid configuration that do not work with people as annotators."""
    faults = []
    for key, of_what in (("seeds", "seed"), ("strategies", "strategy")):
        if len(config[key]) > 1:
            faults.append(f"{key} is {config[key]}; accepted with annotator people: one {of_what}")
    if config["slices_per_iteration"] == "auto":
        faults.append("slices_per_iteration is auto; accepted with annotator people: a whole number from 1")
    for name, strategy in strategies_of(config).items():
        reason = "looks into the reference" if strategy.upper_bound else "asks until it has enough slices with liver"
        if strategy.upper_bound or strategy.until_liver:
            faults.append(f"strategies has {name}, which {reason}; accepted with annotator people: others, such as uss")
    if config["cohort"] == "phantom":
        faults.append("cohort is phantom; accepted with annotator people: a table of volumes, see docs/data.md")
    folder = config["people"]["answers"]
    if Path(folder).resolve().is_relative_to(Path("results").resolve()):
        faults.append(f"people.answers is {folder}; accepted: a folder outside of results/, which a rerun may delete")
    return faults
