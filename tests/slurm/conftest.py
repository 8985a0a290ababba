"""A real SLURM on this machine, a workflow made ready up to a training, and the record of what each fault did."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from checkouts import checkout
from runs import LONG, MODEL, SMALLEST, Note, Run

SCRIPT = Path(__file__).with_name("cluster.sh")
FAULTS: list[dict[str, str]] = []


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """Two nodes with two declared GPUs each; its daemons are stopped by process id in the end."""
    subprocess.run([SCRIPT, "install"], check=True)
    with tempfile.TemporaryDirectory(prefix="slurm.") as root:  # a short path: sockets lie below
        try:
            subprocess.run([SCRIPT, "start", root], check=True)
            yield
        finally:
            subprocess.run(["scancel", "--user=root"], check=False)
            subprocess.run([SCRIPT, "stop", root], check=True)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which all is done that comes before the training of the initial model, without SLURM."""
    folder = checkout(tmp_path_factory.mktemp("prepared"))
    targets = ["results/annotations/seed1/initial.tsv", "results/preprocessed/shard0", "results/preprocessed/shard1"]
    Run(folder, *targets, "--configfile", SMALLEST, LONG, profile=False).wait()
    return folder


@pytest.fixture(scope="session")
def undisturbed(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that nothing has disturbed, without SLURM."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(prepared, folder, dirs_exist_ok=True)
    Run(folder, MODEL, "--configfile", SMALLEST, LONG, profile=False).wait()
    return folder


@pytest.fixture
def folder(cluster: None, prepared: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the prepared checkout, to let a fault happen in; a test that fails leaves no job to the next."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    yield tmp_path
    subprocess.run(["scancel", "--user=root"], check=False)


@pytest.fixture
def record() -> Note:
    """Note a fault that has ended well, for the table at the end: until the training went on, and from where."""

    def note(fault: str, seconds: float, run: Run) -> None:
        resumed = re.findall(r"continuing after step (\d+)", run.log())
        repeated = f"what came after step {resumed[0]}" if resumed else "nothing"
        FAULTS.append(
            {"fault": fault, "at work again after": f"{seconds:.0f} s", "repeated": repeated, "lost": "nothing"}
        )

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if FAULTS:
        terminalreporter.section("faults, each with the model of an undisturbed training in the end")
        terminalreporter.write_line(pd.DataFrame(FAULTS).to_markdown(index=False))
