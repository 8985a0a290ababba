"""The state of a training on disk, and the wish to end it: so that nothing is lost whenever a job is stopped."""

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
    """The process has been asked to end (SIGTERM)."""


class Termination:
    """While it is entered, SIGTERM only makes the next `check` raise Terminated; so a step is not cut in its middle.

    Where several processes train, `check` raises it in all of them if any has been asked.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __enter__(self) -> "Termination":
        self.requested = False
        self.main = threading.current_thread() is threading.main_thread()  # only there signals can be handled
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
    """Write what torch saves, by way of memory: where torch writes the file itself, a full disk is an obscure error."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path.write_bytes(buffer.getbuffer())


class Checkpoint:
    """The state of a training in a file, and the one before it beside it, in case the file cannot be read.

    `fingerprint` tells whether it belongs to this training set and these settings; `minutes` is the time between two;
    `begun` is the file of a training that may have made the first steps of this one, and only read; by default `path`.
    """

    def __init__(self, path: Path, fingerprint: str, minutes: float, begun: Path | None = None) -> None:
        self.path, self.fingerprint, self.minutes, self.begun = path, fingerprint, minutes, begun or path
        self.before = path.with_name(f"{path.stem}.before{path.suffix}")
        self.written = time.monotonic()

    def due(self) -> bool:
        return time.monotonic() - self.written >= 60 * self.minutes

    def save(self, state: dict[str, Any]) -> None:
        """Write `state` by rename; what stood there becomes the one before."""
        with replacing(self.path) as temporary:
            write_state(temporary, {"fingerprint": self.fingerprint, **state})
            if self.path.exists():
                self.path.replace(self.before)
        self.written = time.monotonic()

    def states(self) -> Iterator[dict[str, Any]]:
        """Yield the states that can be read and have the same fingerprint, the newest first."""
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
        """Remove the state before the last one, once the training has ended.

        The last one stays: a model whose file is lost is made from it, and a longer training goes on from it.
        """
        self.before.unlink(missing_ok=True)
