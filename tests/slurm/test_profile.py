"""`snakemake --profile slurm` on a real SLURM: the whole experiment, and the faults that everybody meets."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from checkouts import checkout
from runs import (
    HANGS,
    LOG,
    LONG,
    SMALLEST,
    Note,
    Run,
    is_to_end,
    jobs,
    let_go,
    limit,
    same_model,
    squeue,
    start,
    training_process,
)

WHOLE = ["--configfile", SMALLEST, "tests/slurm/whole.yaml"]


def test_the_whole_experiment_gives_the_tables_of_a_run_without_slurm(
    cluster: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs with a GPU and jobs without go where the file of partitions says; a second Snakemake is refused."""
    here, there = (checkout(tmp_path_factory.mktemp(name)) for name in ("here", "there"))
    local = Run(here, *WHOLE, profile=False)  # beside the other, which waits for SLURM most of the time
    monkeypatch.setenv("SNAKEMAKE_SLURM_PARTITIONS", str(there / "tests/slurm/partitions.yaml"))
    run = Run(there, *WHOLE, "--jobs", "4")
    run.until(lambda: (there / LOG).exists())
    assert "Directory cannot be locked" in Run(there, *WHOLE).wait(code=1)
    run.wait()
    assert "SLURM job" in (there / LOG).read_text(encoding="utf-8")
    columns = "--format=Comment%100,Partition%10,ReqTRES%100,State%20"
    sacct = subprocess.run(["sacct", "-X", "--noheader", columns], capture_output=True, text=True, check=True).stdout
    where = {line.split("_wildcards")[0].split()[0]: line.split()[1:] for line in sacct.splitlines()}
    for rule in ("train", "uncertainty", "predict"):
        partition, resources, state = where[f"rule_{rule}"]
        assert (partition, state) == ("gpu", "COMPLETED")
        assert "gres/gpu=1" in resources
    for rule in ("preprocess", "evaluate", "table"):
        partition, resources, state = where[f"rule_{rule}"]
        assert (partition, state) == ("cpu", "COMPLETED")
        assert "gpu" not in resources
    local.wait()
    for table in sorted((here / "results/tables").iterdir()):
        assert (there / "results/tables" / table.name).read_bytes() == table.read_bytes(), table.name
    assert "Nothing to be done" in Run(there, *WHOLE).wait()


def test_fault_1_a_training_is_cancelled(folder: Path, undisturbed: Path, record: Note) -> None:
    run = start(folder)
    subprocess.run(["scancel", run.training()], check=True)
    seconds = run.until(run.continued)
    assert "Trying to restart job" in run.wait()
    same_model(folder, undisturbed)
    record("1 scancel of a training", seconds, run)


def test_fault_5_the_time_limit_is_too_short(folder: Path, undisturbed: Path, record: Note) -> None:
    """The training is no failure: it takes the next turn under the same id."""
    # The limit is set once the training is at work, and taken away after its turn: so neither a slow start nor a slow
    # training meets it a second time. SLURM looks at limits each half minute, and signals up to as much too early.
    run = start(folder, "--set-resources", "train:slurm_extra='--signal=TERM@60'")
    first = run.training()
    minutes = int(squeue("--format=%M", f"--jobs={first}").split(":")[-2])
    limit(first, minutes + 2)
    process = training_process(first)
    run.until(lambda: is_to_end(process))
    let_go(process)
    run.until(lambda: "is requeued" in run.log())
    limit(first, HANGS // 60)
    seconds = run.until(run.continued)
    assert jobs() == [first]
    output = run.wait()
    assert "Trying to restart job" not in output
    assert "Error in rule" not in output
    same_model(folder, undisturbed)
    record("5 time limit shorter than the training", seconds, run)


def test_fault_7_snakemake_is_killed(folder: Path, undisturbed: Path, record: Note) -> None:
    """Its job runs on. Started again, Snakemake waits for it, and does not train what has been trained."""
    run = start(folder)
    first = run.training()
    os.killpg(run.process.pid, signal.SIGKILL)
    run.wait(code=-signal.SIGKILL)
    assert jobs() == [first]
    assert "--unlock" in start(folder).wait(code=1)  # the lock, with the way out
    Run(folder, "--unlock", "--configfile", SMALLEST, LONG).wait()
    started = time.monotonic()
    run = start(folder)
    run.until(lambda: f"and left 1 SLURM jobs: {first}" in run.text())
    assert jobs() == [first]
    let_go(training_process(first))
    run.wait()
    seconds = time.monotonic() - started
    assert "this training had already ended" in run.log()
    same_model(folder, undisturbed)
    record("7b kill -9 of Snakemake", seconds, run)
