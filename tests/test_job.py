"""Progress as a user sees it: lines with the time left in a log, a bar on a terminal, neither where it is unwanted."""

import io
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from slicesampling import job
from slicesampling.job import ProgressReport
from slicesampling.training import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_log_tells_step_and_time_left(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(job.time, "monotonic", lambda: clock[0])
    stream = io.StringIO()
    report = ProgressReport("uss-1", stream)
    for step in range(11, 111):
        clock[0] += 2
        report(Progress(step, 610, 3, 0.5, None))
    lines = [record.message for record in caplog.records]
    assert len(lines) == 2 * 100 // job.LOG_INTERVAL
    assert lines[-1] == "step 100 of 610, epoch 3, loss 0.5000, 0.5 steps/s, 17 min left"
    report(Progress(110, 610, 3, 0.5, {"step": 110, "loss": 0.5, "validation_dice": 0.91234567, "device": "CPU"}))
    assert caplog.records[-1].message == "step 110, loss 0.5, validation_dice 0.91235, device CPU"
    assert stream.getvalue() == ""


def test_a_terminal_shows_a_bar(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    terminal = Terminal()
    report = ProgressReport("uss-1", terminal)
    report(Progress(41, 100, 2, 0.25, None))
    report.bar.mininterval = 0
    report(Progress(42, 100, 2, 0.125, None))
    report.bar.refresh()
    shown = terminal.getvalue().split("\r")[-1]
    assert shown.startswith("uss-1:  42%")
    assert "42/100" in shown
    assert "loss=0.1250" in shown
    report.bar.close()


SCRIPT = """
import errno, sys, types
from slicesampling.job import start
start(types.SimpleNamespace(log=[sys.argv[1]], output=["results/models/model.pt"]))
raise OSError(getattr(errno, sys.argv[2]), "No space left on device" if sys.argv[2] == "ENOSPC" else "broken")
"""


@pytest.mark.parametrize(("kind", "traceback"), [("ENOSPC", False), ("EIO", True)])
def test_a_full_disk_is_one_line_and_a_defect_is_a_traceback(tmp_path: Path, kind: str, traceback: bool) -> None:
    log = tmp_path / "job.log"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "workflow/scripts"), "SLURM_JOB_ID": "12"}
    command = [sys.executable, "-c", SCRIPT, str(log), kind]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    first, *rest = log.read_text(encoding="utf-8").splitlines()
    assert "SLURM job 12, process" in first
    assert any("Traceback" in line for line in rest) == traceback
    line = "error: results/models/model.pt: No space left on device; free some space and start again\n"
    assert (done.stderr == line) != traceback
