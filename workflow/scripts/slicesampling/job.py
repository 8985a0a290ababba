"""What each script of the workflow does first: its log, and one line instead of a traceback for faults of the user."""

import errno
import logging
import os
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

import tqdm

from . import UserError
from .cluster import place

if TYPE_CHECKING:
    from .training import Progress

LOG_INTERVAL = 30
"""Seconds between two lines of progress in a log."""


def start(snakemake: Any) -> TextIO:
    """Send all output of this process to the job's log file, and report a UserError as one line there and on stderr.

    Returns the stream that stderr was.
    """
    terminal = sys.stderr
    mode = "a" if os.environ.get("RANK", "0") != "0" else "w"  # one log for all processes of a training
    log = open(snakemake.log[0], mode, buffering=1, encoding="utf-8")  # noqa: SIM115, PTH123 - stays open to the end
    sys.stdout = sys.stderr = log
    logging.basicConfig(
        stream=log, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"
    )
    logging.captureWarnings(True)
    logging.info("%s", place())

    def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            path = error.filename or snakemake.output[0]
            kind, error = UserError, UserError(f"{path}: {error.strerror}; free some space and start again")
        if issubclass(kind, UserError):
            for stream in (log, terminal):
                print(f"error: {error}", file=stream)
        else:
            sys.__excepthook__(kind, error, trace)
            print(f"error: {kind.__name__}: {error} (traceback in {snakemake.log[0]})", file=terminal)

    sys.excepthook = report
    return terminal


class ProgressReport:
    """Says how far a training is: lines with the time left in the log and, where `terminal` is one, a bar there."""

    def __init__(self, name: str, terminal: TextIO) -> None:
        self.name, self.terminal = name, terminal
        self.bar: tqdm.tqdm | None = None
        self.logged = time.monotonic()
        self.first: tuple[int, float] | None = None  # step and time at which this process began

    def __call__(self, now: "Progress") -> None:
        if self.first is None:
            self.first = (now.step, time.monotonic())
        if self.terminal.isatty():
            self._show(now)
        if now.validation is not None:
            row = {name: f"{x:.5g}" if isinstance(x, float) else x for name, x in now.validation.items()}
            logging.info("%s", ", ".join(f"{name} {value}" for name, value in row.items()))
        elif time.monotonic() - self.logged >= LOG_INTERVAL:
            self.logged = time.monotonic()
            steps, seconds = now.step - self.first[0], time.monotonic() - self.first[1]
            left = (now.of - now.step) * seconds / steps if steps else 0
            logging.info(
                "step %d of %d, epoch %d, loss %.4f, %.3g steps/s, %d min left",
                *(now.step, now.of, now.epoch, now.loss, steps / seconds, round(left / 60)),
            )

    def _show(self, now: "Progress") -> None:
        if self.bar is None:
            self.bar = tqdm.tqdm(desc=self.name, initial=now.step, file=self.terminal, leave=False, dynamic_ncols=True)
        self.bar.total = now.of
        self.bar.set_postfix(loss=f"{now.loss:.4f}", refresh=False)
        self.bar.update(now.step - self.bar.n)
