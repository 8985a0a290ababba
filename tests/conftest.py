"""What all tests share."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from torch.utils._python_dispatch import TorchDispatchMode

# One thread: the networks of the tests are too small to gain from more, and results do not depend on the machine.
torch.set_num_threads(1)

ROOT = Path(__file__).parents[1]
SMALLEST = ["--configfile", str(ROOT / "tests/smallest.yaml")]
FEATURES = "results/uncertainty/seed1/initial/features-shard0.npz"
"""What none of the paper's strategies asks for: made as well, so that every rule has run."""

# How many examples a property is tried on: few in `make test`, all otherwise. None may fail for being slow.
settings.register_profile("all", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("few", settings.get_profile("all"), max_examples=10)
settings.load_profile("all")

HANGS = 600
"""Seconds after which a test gives up waiting; nothing that goes well takes as long, also on a busy machine."""
REAL = os.environ.get("LIVER_CT_DIR")
"""The folder of the real CT, where there is one."""


def real_ct(test: Callable) -> Callable:
    """Mark a test that needs real CT; each of them is slow."""
    return pytest.mark.slow(pytest.mark.skipif(not REAL, reason="LIVER_CT_DIR is not set: no real CT")(test))


def at_most(examples: int) -> settings:
    """Settings for a property that is tried on fewer examples than others, because each takes longer."""
    return settings(max_examples=min(examples, settings.default.max_examples))


def snakemake(folder: Path, *arguments: str, code: int = 0) -> str:
    """Run Snakemake in `folder` on this workflow, and return all that it printed."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    done = subprocess.run([*command, "--cores", "2", *arguments], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


Shared = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Shared:
    """A function that has a folder filled once for all tests, also where several processes run them (pytest-xdist)."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if hasattr(request.config, "workerinput") else base

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder, filled = base / name, base / f"{name}.filled"
        with (base / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not filled.exists():
                assert not folder.exists(), f"{name} has failed before, in another process"
                folder.mkdir()
                fill(folder)
                filled.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def run(shared: Shared) -> Path:
    """The folder of the one finished run of the whole experiment at the smallest size. No test changes it."""
    return shared("run", lambda folder: snakemake(folder, "all", FEATURES, *SMALLEST, "--cores", "4"))


@pytest.fixture
def run_copy(run: Path, tmp_path: Path) -> Path:
    """A copy of that folder for a test that goes on with it."""
    return Path(shutil.copytree(run, tmp_path / "run"))


def job_counts(output: str) -> dict[str, int]:
    """Return the table of jobs that Snakemake prints."""
    table = output[output.index("Job stats:") :]
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, flags=re.MULTILINE)}


def until(condition: Callable[[], Any]) -> Any:
    """Return what `condition` gives as soon as it is true."""
    end = time.monotonic() + HANGS
    while not (result := condition()):
        assert time.monotonic() < end, f"not within {HANGS} seconds"
        time.sleep(0.05)
    return result


class _Allocations(TorchDispatchMode):
    """Adds up what tensors hold, from the results of all operations, and keeps the largest sum."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self.held:
                    self.held[storage._cdata] = storage.nbytes()
                    weakref.finalize(storage, self.held.pop, storage._cdata, None)
        self.peak = max(self.peak, sum(self.held.values()))
        return result


def peak_bytes(function: Callable[[], object]) -> int:
    """Return how many bytes the tensors that `function` makes hold together, at the worst moment."""
    with _Allocations() as allocations:
        function()
    return allocations.peak


def calls(function: Callable[[], object]) -> int:
    """Return how many functions `function` calls in all: what it costs, whatever the machine."""
    count = 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


@pytest.fixture
def hu() -> np.ndarray:
    """A volume (12, 6, 5) in HU in which every voxel differs from every other."""
    return np.random.default_rng(0).permutation(np.arange(-180, 180)).reshape(12, 6, 5).astype(np.int16)
