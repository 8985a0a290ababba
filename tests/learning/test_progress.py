"""Progress as a user sees it: lines with the time left in a log, a bar on a terminal, neither where it is unwanted."""

import io
import logging

import pytest
from slicesampling.learning import progress
from slicesampling.learning.progress import Progress, ProgressReport


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_log_tells_step_and_time_left(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    stream = io.StringIO()
    report = ProgressReport("uss-1", stream)
    for step in range(11, 111):
        clock[0] += 2
        report(Progress(step, 610, 3, 0.5, None))
    lines = [record.message for record in caplog.records]
    assert len(lines) == 2 * 100 // progress.LOG_INTERVAL
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
