"""Laws of the command: each of its commands is there, helps, and says what is wrong in a line."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from commands import typed
from conftest import ROOT
from slicesampling import VERSION
from slicesampling.command.main import COMMANDS


def test_the_help_lists_all_commands() -> None:
    said = typed("--help")
    assert re.findall(r"^  ([a-z]+) +[a-z]", said.split("commands:")[1], flags=re.MULTILINE) == [*COMMANDS]
    assert typed("--version") == f"slicesampling {VERSION}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_each_has_a_help_with_an_example_that_its_options_accept(name: str) -> None:
    said = typed(name, "--help")
    assert said.startswith(f"usage: slicesampling {name} ")
    (example,) = re.findall(rf"example: slicesampling {name} (.+)", said)
    for option in re.findall(r"--[a-z-]+", example):
        assert f"{option} " in said


def test_a_module_a_command() -> None:
    modules = {path.stem for path in (ROOT / "workflow/scripts/slicesampling/command").glob("*.py")}
    assert modules == {module for module, _ in COMMANDS.values()} | {"__init__", "main"}


def test_what_is_no_command_is_refused_with_those_that_are() -> None:
    said = typed("anotate", code=2)
    assert "invalid choice: 'anotate'" in said
    assert all(name in said for name in COMMANDS)


def test_it_is_installed_beside_python_and_starts_without_what_it_does_not_need() -> None:
    program = Path(sys.executable).with_name("slicesampling")
    done = subprocess.run([program, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout == typed("--help")
    listed = "import sys; from slicesampling.command import main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", listed], capture_output=True, text=True, check=True)
    assert not {"torch", "pandas", "numpy", "flask"} & set(done.stdout.split())
