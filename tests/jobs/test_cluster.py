"""What SLURM is asked, where there is none, and with a stand-in for it; a real one is asked in tests/slurm."""

from pathlib import Path

import pytest
from slicesampling.jobs.cluster import jobs_of, place, requeue, wait_for_earlier_jobs


def slurm(folder: Path, monkeypatch: pytest.MonkeyPatch, **commands: str) -> None:
    """Put shell scripts for SLURM's commands before all others."""
    for name, script in commands.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_without_slurm_nothing_is_asked_and_nothing_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert jobs_of(tmp_path) == []
    wait_for_earlier_jobs(tmp_path, pytest.fail)
    requeue()
    assert "SLURM" not in place()


def test_jobs_are_told_by_the_folder_of_their_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = f"{tmp_path}/.snakemake/slurm_logs/rule_train/1_uss-1"
    lines = [
        f"12 {logs}/12.log",
        "13 /elsewhere/.snakemake/slurm_logs/rule_train/13.log",
        f"14_2 {logs}/14 2.log",
        "15",
    ]
    slurm(tmp_path, monkeypatch, squeue="\n".join(f"echo '{line}'" for line in lines))
    assert jobs_of(tmp_path) == ["12", "14_2"]


@pytest.mark.parametrize(("state", "requeued"), [("RUNNING", True), ("COMPLETING", False), ("", False)])
def test_only_a_job_that_is_running_in_slurms_eyes_is_requeued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, requeued: bool
) -> None:
    asked = tmp_path / "asked"
    slurm(tmp_path, monkeypatch, squeue=f"echo {state}", scontrol=f"echo $@ > {asked}")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    requeue()
    assert asked.exists() == requeued
    if requeued:
        assert asked.read_text() == "requeue 12\n"


def test_what_is_waited_for_is_said_once_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job is there in three looks, and then no more."""
    logs = f"{tmp_path}/.snakemake/slurm_logs/rule_train/12.log"
    slurm(
        tmp_path,
        monkeypatch,
        squeue=f"echo x >> {tmp_path}/looks; [ $(wc -l < {tmp_path}/looks) -gt 3 ] || echo 12 {logs}",
    )
    monkeypatch.setattr("slicesampling.jobs.cluster.POLL_SECONDS", 0)
    said: list[str] = []
    wait_for_earlier_jobs(tmp_path, said.append)
    assert len(said) == 1
    assert "and left 1 SLURM jobs: 12." in said[0]
    assert "scancel 12" in said[0]
