"""What all tests share."""

import re
import subprocess
import sys
from pathlib import Path

import torch

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
