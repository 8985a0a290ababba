"""What else befalls jobs on a cluster, each with the model of an undisturbed training in the end."""

import os
import signal
import subprocess
import time
from pathlib import Path

from runs import MODEL, Note, jobs, processes_of, same_model, squeue, start


def slurm_logs(folder: Path) -> str:
    """What the jobs that failed have printed; the executor removes the logs of those that did not."""
    return "".join(path.read_text(encoding="utf-8") for path in (folder / ".snakemake/slurm_logs").rglob("*.log"))


def node_of(job: str) -> str:
    return squeue("--format=%N", f"--jobs={job}").strip()


def is_given_back(node: str) -> bool:
    """Try to give a node back, which SLURM refuses until the processes of its jobs have ended."""
    resume = ["scontrol", "update", node, "state=resume"]
    return subprocess.run(resume, capture_output=True, check=False).returncode == 0


def test_fault_2_the_processes_of_a_job_are_killed(folder: Path, undisturbed: Path, record: Note) -> None:
    run = start(folder)
    for process in processes_of(run.training()):
        os.kill(process, signal.SIGKILL)
    seconds = run.until(run.continued)
    run.wait()
    same_model(folder, undisturbed)
    record("2 kill -9 of all processes of a job", seconds, run)


def test_fault_3_a_node_goes_down_and_comes_back(folder: Path, undisturbed: Path, record: Note) -> None:
    run = start(folder)
    job = run.training()
    node = f"nodename={node_of(job)}"
    subprocess.run(["scontrol", "update", node, "state=down", "reason=test"], check=True)
    run.until(lambda: jobs() == [])
    run.until(lambda: is_given_back(node))
    seconds = run.until(run.continued)
    assert jobs() == [job]
    run.wait()
    same_model(folder, undisturbed)
    record("3 a node set down in mid-training, and back", seconds, run)


def test_fault_4_a_job_is_preempted(folder: Path, undisturbed: Path, record: Note) -> None:
    run = start(folder)
    job = run.training()
    urgent = ["sbatch", "--partition=urgent", "--exclusive", "--nodes=2", "--output=/dev/null", "--wrap=sleep 10"]
    subprocess.run(urgent, check=True, stdout=subprocess.DEVNULL)
    run.until(lambda: job not in jobs())
    seconds = run.until(run.continued)
    assert jobs() == [job]
    run.wait()
    same_model(folder, undisturbed)
    record("4 preempted by a partition of higher priority", seconds, run)


def test_fault_6_the_memory_does_not_suffice_at_first(folder: Path, undisturbed: Path, record: Note) -> None:
    """SLURM kills the job; the second attempt asks for more."""
    run = start(folder, "--set-resources", "train:mem_mb=350 if attempt == 1 else 4000")
    seconds = run.until(lambda: "Trying to restart job" in run.text())
    run.wait()
    assert "exceeded memory limit" in slurm_logs(folder)
    same_model(folder, undisturbed)
    record("6 out of memory in the first attempt", seconds, run)


def test_fault_7_snakemake_is_interrupted(folder: Path, undisturbed: Path, record: Note) -> None:
    """It cancels its jobs, which keep what they have, and leaves no lock."""
    run = start(folder)
    run.training()
    run.process.send_signal(signal.SIGINT)
    assert "Terminating processes" in run.wait(code=None)
    assert run.process.returncode != 0
    started = time.monotonic()
    run = start(folder)
    run.until(run.continued)
    seconds = time.monotonic() - started
    run.wait()
    same_model(folder, undisturbed)
    record("7a SIGINT to Snakemake", seconds, run)


def test_fault_8_the_disk_is_full(folder: Path, undisturbed: Path, record: Note) -> None:
    """One line names the file and what is wrong; when there is space, the same command ends what was begun."""
    models = folder / "results/models"
    models.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", models], check=True)
    try:
        run = start(folder, "--retries", "0")
        output = run.wait(code=1)
        assert "No space left on device; free some space and start again" in output
        assert "Traceback" not in output
        assert not list(models.rglob("*.*"))
        subprocess.run(["mount", "-o", "remount,size=64m", models], check=True)
        run = start(folder)
        run.wait()
        assert "this training had already ended" in run.log()
        same_model(folder, undisturbed)
    finally:
        subprocess.run(["umount", models], check=True)
    record("8 full disk while the model is written", 0, run)


def test_fault_9_a_job_that_says_it_is_done_and_has_written_nothing(
    folder: Path, undisturbed: Path, record: Note
) -> None:
    """The first srun of the training touches its outputs, and ends with exit code 0."""
    wrapper = folder / "bin/srun"
    wrapper.parent.mkdir()
    history = Path(MODEL).with_name("history.tsv")
    benchmark = "results/benchmarks/models/seed1/initial.tsv"
    touch = f"mkdir -p {history.parent} {Path(benchmark).parent}; touch {MODEL} {history} {benchmark}"
    wrapper.write_text(f"#!/bin/sh\nmv $0 $0.done; {touch}\n")
    wrapper.chmod(0o755)
    run = start(folder)
    seconds = run.until(lambda: "Trying to restart job" in run.text())
    run.wait()
    assert "empty" in slurm_logs(folder)
    same_model(folder, undisturbed)
    record("9 exit code 0, but empty outputs", seconds, run)
