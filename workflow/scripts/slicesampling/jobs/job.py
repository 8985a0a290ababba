"""Start-up of each script of the workflow: its log, and one line instead of a traceback for user errors."""

import errno
import logging
import os
import sys
from types import TracebackType
from typing import Any, TextIO

from .. import UserError
from .cluster import place


def start(snakemake: Any) -> TextIO:
    """Redirect all output of this process to the job's log; report a UserError as one line there and on stderr.

    Return the original stderr.
    """
    terminal = sys.stderr
    mode = "a" if os.environ.get("RANK", "0") != "0" else "w"  # the processes of a training share a log
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
