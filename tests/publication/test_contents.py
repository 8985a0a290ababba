"""Laws of the contents: each entry can be made of what it reads, has a caption, and stands in the documentation."""

import inspect
import re
from dataclasses import replace
from itertools import count

import pytest
import yaml
from conftest import ROOT
from slicesampling.experiment import Experiment, read_experiment
from slicesampling.publication import contents
from slicesampling.publication.contents import ALL, FIGURES, PLOTS, TABLES, caption

CONFIG = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return read_experiment(CONFIG)


@pytest.mark.parametrize("name", [*TABLES, *PLOTS])
def test_a_function_takes_what_its_entry_reads(name: str, experiment: Experiment) -> None:
    entry = ALL[name]
    assert entry.make is not None
    given = {*entry.reads, *entry.arguments, *experiment.arguments(name)}
    parameters = inspect.signature(entry.make()).parameters
    needed = {key for key, parameter in parameters.items() if parameter.default is parameter.empty}
    assert needed <= given <= set(parameters)


@pytest.mark.parametrize("name", ALL)
def test_each_has_a_caption_of_whole_sentences(name: str, experiment: Experiment) -> None:
    own = {"mine": "a strategy of one's own"}
    facts = experiment.facts._replace(own=own, many=True, epochs=None, seeds=(1, 2))
    for told in (caption(name, experiment.facts), caption(name, facts)):
        assert re.fullmatch(r"[A-Z].*[.?]", told, re.DOTALL)
        assert not re.search(r"  |\.\.|None|\{|\(\)| \.", told)
    assert ("MINE: a strategy" in caption(name, facts)) == (
        name in {**PLOTS, "figure6_cases": None, "selected_slices": None}
    )


def test_tables_and_figures_are_numbered_without_gaps() -> None:
    for kind, names in (("table", TABLES), ("supplement", TABLES), ("figure", PLOTS | FIGURES)):
        numbers = sorted(int(found[1]) for name in names if (found := re.match(rf"{kind}([0-9]+)_", name)))
        assert numbers == [number for number, _ in zip(count(1), numbers, strict=False)]
        assert numbers


def test_the_documentation_names_what_comes_out_and_nothing_else() -> None:
    page = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:table|supplement|figure)[0-9]+_\w+|[a-z_]+)` \|", page))
    assert named == {*TABLES, *PLOTS, *FIGURES, *contents.PAGES_OF_RECORDS}


def test_what_a_run_lacks_is_left_out_and_nothing_else(experiment: Experiment) -> None:
    assert set(experiment.filled(TABLES | PLOTS | FIGURES)) == {*TABLES, *PLOTS, *FIGURES}
    random = replace(experiment, config=CONFIG | {"strategies": ["rvs", "rss"]})
    lost = {*TABLES, *PLOTS, *FIGURES} - set(random.filled(TABLES | PLOTS | FIGURES))
    assert lost == {"supplement7_error_detection", "error_detection", "figure2_uncertainty_profile"}
