"""What this workflow asks of SLURM, beside what Snakemake does: where a job is, once more, and what still runs here."""

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
"""Between two looks at the jobs of an earlier run; as often as Snakemake itself asks, at most."""

logger = logging.getLogger(__name__)


def place() -> str:
    """Return where this process runs: the SLURM job, if it is one, its id, and the node."""
    job = os.environ.get("SLURM_JOB_ID")
    node = os.environ.get("SLURMD_NODENAME") or platform.node()
    return f"{f'SLURM job {job}, ' if job else ''}process {os.getpid()} on {node}"


def requeue() -> None:
    """Have SLURM start this job again, if it is SLURM that has asked it to end because its time limit is near.

    A job that was cancelled or preempted is no longer running in SLURM's eyes, even while its processes still are.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or _ask("squeue", "--noheader", "--format=%T", f"--jobs={job}").strip() != "RUNNING":
        return
    logger.info("the time limit is near: SLURM job %s goes into the queue again", job)
    done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
    if done.returncode:
        logger.warning("scontrol requeue %s: %s", job, done.stderr.strip())


def require_slurm() -> None:
    """Raise UserError where jobs cannot be submitted to SLURM at all."""
    if shutil.which("sbatch") is None:
        raise UserError(
            "--profile slurm: there is no sbatch here; start on a login node of a SLURM cluster, or take --cores N"
        )


def jobs_of(folder: str | Path) -> list[str]:
    """Return the ids of this user's SLURM jobs, running or not yet, that a Snakemake in `folder` has submitted.

    They are told by where their output goes, which is where Snakemake's executor puts it unless told otherwise.
    """
    logs = f"{Path(folder).resolve()}/.snakemake/slurm_logs/"
    lines = _ask("squeue", "--noheader", f"--user={os.getuid()}", "--Format=JobID:20,STDOUT:4096").splitlines()
    return [job for job, _, log in (line.partition(" ") for line in lines) if log.strip().startswith(logs)]


def wait_for_earlier_jobs(folder: str | Path, say: Callable[[str], None]) -> None:
    """Return when no SLURM job of a Snakemake that was killed in `folder` is left, having said what is waited for."""
    told: list[str] = []
    while jobs := jobs_of(folder):
        if jobs != told:
            say(
                f"An earlier run in this folder was killed, and has left {len(jobs)} SLURM jobs: {' '.join(jobs)}. "
                "Waiting for them, so that nothing is done twice. To go on at once: "
                f"scancel {' '.join(jobs)} (trainings keep what they have)"
            )
            told = jobs
        time.sleep(POLL_SECONDS)


def _ask(*command: str) -> str:
    """Return what a command of SLURM prints; nothing where there is no SLURM, or it does not know."""
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
