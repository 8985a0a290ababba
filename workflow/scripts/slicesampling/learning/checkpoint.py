"""Checkpoints and graceful termination: a job that is stopped loses no finished work."""

import io
import logging
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from .. import one_line
from ..jobs.files import replacing
from .processes import anywhere

logger = logging.getLogger(__name__)


class Terminated(BaseException):
    """The process has received SIGTERM."""


class Termination:
    """Graceful termination: within this context, SIGTERM makes the next `check` raise Terminated, between two steps.

    If several processes train, `check` raises in all of them if any has received the signal.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __enter__(self) -> "Termination":
        self.requested = False
        self.main = threading.current_thread() is threading.main_thread()  # only the main thread can handle signals
        if self.main:
            self.before = signal.signal(signal.SIGTERM, lambda *_: setattr(self, "requested", True))
        return self

    def __exit__(self, *_: object) -> None:
        if self.main:
            signal.signal(signal.SIGTERM, self.before)

    def check(self) -> None:
        if anywhere(self.requested, self.device):
            raise Terminated


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Save by torch via memory, because torch itself reports a full disk by an obscure error."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path.write_bytes(buffer.getbuffer())


class Checkpoint:
    """The state of a training in a file, with the previous state beside it in case the file is unreadable.

    fingerprint: identifies the training set and the settings; minutes: the interval between two checkpoints; begun: the
    file of a training that may have performed the first steps of this one; it is only read; by default `path`.
    """

    def __init__(self, path: Path, fingerprint: str, minutes: float, begun: Path | None = None) -> None:
        self.path, self.fingerprint, self.minutes, self.begun = path, fingerprint, minutes, begun or path
        self.before = path.with_name(f"{path.stem}.before{path.suffix}")
        self.written = time.monotonic()

    def due(self) -> bool:
        return time.monotonic() - self.written >= 60 * self.minutes

    def save(self, state: dict[str, Any]) -> None:
        """Write `state` by rename; the existing state becomes the previous one."""
        with replacing(self.path) as temporary:
            write_state(temporary, {"fingerprint": self.fingerprint, **state})
            if self.path.exists():
                self.path.replace(self.before)
        self.written = time.monotonic()

    def states(self) -> Iterator[dict[str, Any]]:
        """Yield the readable states with the same fingerprint, the newest first."""
        for path in dict.fromkeys((self.path, self.before, self.begun)):
            try:
                state = torch.load(path, map_location="cpu", weights_only=True)
            except FileNotFoundError:
                continue
            except (OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
                logger.warning("%s cannot be read (%s)", path, one_line(error))
                continue
            if state["fingerprint"] == self.fingerprint:
                logger.info("%s holds a state of this training", path)
                yield state
            else:
                logger.info("%s belongs to another training set or other settings", path)

    def settle(self) -> None:
        """Remove the previous state after the end of the training.

        The last state remains, to restore a lost model file, and for a longer training to continue.
        """
        self.before.unlink(missing_ok=True)
