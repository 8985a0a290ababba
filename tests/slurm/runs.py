"""A checkout to work in, and `snakemake --profile slurm` in it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

SMALLEST, LONG = "tests/smallest.yaml", "tests/slurm/long.yaml"
MODEL = "results/models/seed1/initial/model.pt"
LOG = "results/logs/models/seed1/initial.log"
CHECKPOINT = "results/checkpoints/seed1/initial.pt"
HANGS = 3600
"""Seconds after which a test gives up; nothing that goes well takes a quarter of that, also on a busy machine."""


class Run:
    """`snakemake --profile slurm`, typed in a checkout, with what it prints."""

    def __init__(self, folder: Path, *arguments: str, profile: bool = True) -> None:
        self.folder, self.started = folder, time.monotonic()
        self.output = folder / f"run-{time.monotonic_ns()}.log"
        # Asked sooner than on a real cluster, where 40 seconds are right.
        options = (
            ["--profile", "slurm", "--slurm-init-seconds-before-status-checks", "3"] if profile else ["--cores", "2"]
        )
        environment = os.environ | {
            "PATH": f"{folder}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(folder / "workflow/scripts"),  # before the library that is installed, another checkout's
        }
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                ["snakemake", *options, *arguments],
                cwd=folder,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
                start_new_session=True,
            )

    def text(self) -> str:
        return self.output.read_text(encoding="utf-8")

    def wait(self, code: int | None = 0, timeout: float = HANGS) -> str:
        """Wait for the end, and return all that was printed."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            pytest.fail(f"has not ended:\n{squeue()}\n{self.text()[-3000:]}")
        assert code is None or self.process.returncode == code, self.text()[-5000:]
        return self.text()

    def until(self, condition: Callable[[], object], timeout: float = HANGS) -> float:
        """Wait for `condition` while this runs, and return the seconds."""
        started = time.monotonic()
        while not condition():
            assert time.monotonic() - started < timeout, f"{squeue()}\n{self.text()[-5000:]}"
            assert self.process.poll() is None, self.text()[-5000:]
            time.sleep(0.2)
        return time.monotonic() - started

    def training(self) -> str:
        """Wait for a checkpoint of the training, hold it there (SIGSTOP), and return the id of its SLURM job.

        So a fault finds the training at work, however fast the machine is. SLURM itself lets go of what it ends; where
        it does not, `let_go` does.
        """
        self.until(lambda: (self.folder / CHECKPOINT).exists())
        (job,) = jobs()
        os.kill(training_process(job), signal.SIGSTOP)
        return job

    def log(self) -> str:
        """What the training has logged in this attempt."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / LOG).read_text(encoding="utf-8")
        return ""

    def continued(self) -> bool:
        """Whether the training goes on at its checkpoint."""
        return "continuing after step" in self.log()


def squeue(*arguments: str) -> str:
    done = subprocess.run(["squeue", "--noheader", *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def jobs() -> list[str]:
    """The ids of all jobs that run."""
    return squeue("--format=%i", "--states=RUNNING").split()


def processes_of(job: str) -> list[int]:
    """The ids of all processes that a SLURM job has started."""
    wanted, found = f"SLURM_JOB_ID={job}".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except OSError:  # it has ended meanwhile
            continue
    return found


def training_process(job: str) -> int:
    """The id of the process that trains."""
    (found,) = (p for p in processes_of(job) if b".train.py" in Path(f"/proc/{p}/cmdline").read_bytes().split(b"\0")[1])
    return found


def let_go(process: int) -> None:
    """Let a process that is held go on, unless it has ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGCONT)


def limit(job: str, minutes: int) -> None:
    """Give a job, running or waiting, another time limit."""
    subprocess.run(["scontrol", "update", f"JobId={job}", f"TimeLimit={minutes}"], check=True)


def is_to_end(process: int) -> bool:
    """Whether SIGTERM waits for a process that is held (SIGSTOP), or it has ended, because SLURM lets go of it."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except FileNotFoundError:
        return True
    pending = {line.split()[0]: int(line.split()[1], 16) for line in status.splitlines() if "Pnd:" in line}
    return any(signals & 1 << signal.SIGTERM - 1 for signals in pending.values())


def start(folder: Path, *arguments: str) -> Run:
    """Start the training on the cluster."""
    return Run(folder, MODEL, "--configfile", SMALLEST, LONG, *arguments)


def same_model(folder: Path, other: Path) -> None:
    """Check that two trainings have ended with the same model and, but for times and memory, the same history."""
    first, second = (torch.load(path / MODEL, weights_only=True)["state"] for path in (folder, other))
    assert all(torch.equal(weights, second[name]) for name, weights in first.items())
    columns = ["step", "epoch", "loss", "validation_jaccard", "validation_dice"]
    histories = [
        pd.read_csv(path / Path(MODEL).with_name("history.tsv"), sep="\t")[columns] for path in (folder, other)
    ]
    pd.testing.assert_frame_equal(*histories)


Note = Callable[[str, float, Run], None]
"""Notes a fault, the seconds until the training went on, and its run."""
