"""What each script of the workflow does first: its log, and one line instead of a traceback for faults of the user."""

import logging
import sys
from types import TracebackType
from typing import Any

from . import UserError


def start(snakemake: Any) -> None:
    """Send all output of this process to the job's log file, and report a UserError as one line there and on stderr."""
    terminal = sys.stderr
    log = open(snakemake.log[0], "w", buffering=1, encoding="utf-8")  # noqa: SIM115, PTH123 - stays open to the end
    sys.stdout = sys.stderr = log
    logging.basicConfig(
        stream=log, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"
    )
    logging.captureWarnings(True)

    def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, UserError):
            for stream in (log, terminal):
                print(f"error: {error}", file=stream)
        else:
            sys.__excepthook__(kind, error, trace)
            print(f"error: {kind.__name__}: {error} (traceback in {snakemake.log[0]})", file=terminal)

    sys.excepthook = report
