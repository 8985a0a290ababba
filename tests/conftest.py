"""What all tests share."""

import re
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

# One thread: the networks of the tests are too small to gain from more, and results do not depend on the machine.
torch.set_num_threads(1)

ROOT = Path(__file__).parents[1]


def snakemake(folder: Path, *arguments: str, code: int = 0) -> str:
    """Run Snakemake in `folder` on this workflow, and return all that it printed."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    done = subprocess.run([*command, "--cores", "2", *arguments], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def job_counts(output: str) -> dict[str, int]:
    """Return the table of jobs that Snakemake prints."""
    table = output[output.index("Job stats:") :]
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, flags=re.MULTILINE)}


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


@pytest.fixture
def hu() -> np.ndarray:
    """A volume (12, 6, 5) in HU in which every voxel differs from every other."""
    return np.random.default_rng(0).permutation(np.arange(-180, 180)).reshape(12, 6, 5).astype(np.int16)
