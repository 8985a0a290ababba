"""Requests to SLURM beyond Snakemake's: the place of a job, its requeueing, and jobs left by an earlier run."""

import logging
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from .. import UserError

POLL_SECONDS = 30
"""Polling interval for jobs of an earlier run; Snakemake itself polls at least as often."""

logger = logging.getLogger(__name__)


def place() -> str:
    """Return the place of this process as text: the SLURM job, if any, the process id, and the node."""
    job = os.environ.get("SLURM_JOB_ID")
    node = os.environ.get("SLURMD_NODENAME") or platform.node()
    return f"{f'SLURM job {job}, ' if job else ''}process {os.getpid()} on {node}"


def requeue() -> None:
    """Requeue this SLURM job if SLURM is terminating it because its time limit is near.

    SLURM no longer lists a cancelled or preempted job as running, even if its processes still run.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or _ask("squeue", "--noheader", "--format=%T", f"--jobs={job}").strip() != "RUNNING":
        return
    logger.info("the time limit is near: SLURM job %s is requeued", job)
    done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
    if done.returncode:
        logger.warning("scontrol requeue %s: %s", job, done.stderr.strip())


def require_slurm() -> None:
    """Raise UserError if this machine has no command to submit SLURM jobs."""
    if shutil.which("sbatch") is None:
        raise UserError(
            "--profile slurm: there is no sbatch here; start on a login node of a SLURM cluster, or use --cores N"
        )


def jobs_of(folder: str | Path) -> list[str]:
    """Return the ids of this user's pending and running SLURM jobs that Snakemake has submitted in `folder`.

    They are recognised by the default path to which Snakemake's executor writes their output.
    """
    logs = f"{Path(folder).resolve()}/.snakemake/slurm_logs/"
    lines = _ask("squeue", "--noheader", f"--user={os.getuid()}", "--Format=JobID:20,STDOUT:4096").splitlines()
    return [job for job, _, log in (line.partition(" ") for line in lines) if log.strip().startswith(logs)]


def wait_for_earlier_jobs(folder: str | Path, say: Callable[[str], None]) -> None:
    """Wait until no SLURM job of a killed Snakemake in `folder` is left; report the jobs by `say`."""
    told: list[str] = []
    while jobs := jobs_of(folder):
        if jobs != told:
            say(
                f"An earlier run in this folder was killed and left {len(jobs)} SLURM jobs: {' '.join(jobs)}. "
                "Waiting for them, so that no work is repeated. To continue at once: "
                f"scancel {' '.join(jobs)} (trainings keep their checkpoints)"
            )
            told = jobs
        time.sleep(POLL_SECONDS)


def _ask(*command: str) -> str:
    """Return the output of a SLURM command; empty if there is no SLURM or the command fails."""
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
