"""Reports of the progress of a training, in its log and on a terminal."""

import logging
import time
from typing import Any, NamedTuple, TextIO

import tqdm

LOG_INTERVAL = 30
"""Interval of progress lines in a log, in seconds."""


class Progress(NamedTuple):
    """The progress of a training; `of` is its largest number of steps or, without epochs, the current estimate."""

    step: int
    of: int
    epoch: int
    loss: float
    validation: dict[str, Any] | None


class ProgressReport:
    """Reports the progress of a training: lines with the time left in the log and, if `terminal` is a tty, a bar."""

    def __init__(self, name: str, terminal: TextIO) -> None:
        self.name, self.terminal = name, terminal
        self.bar: tqdm.tqdm | None = None
        self.logged = time.monotonic()
        self.first: tuple[int, float] | None = None  # step and time at the start of this process

    def __call__(self, now: Progress) -> None:
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

    def _show(self, now: Progress) -> None:
        if self.bar is None:
            self.bar = tqdm.tqdm(desc=self.name, initial=now.step, file=self.terminal, leave=False, dynamic_ncols=True)
        self.bar.total = now.of
        self.bar.set_postfix(loss=f"{now.loss:.4f}", refresh=False)
        self.bar.update(now.step - self.bar.n)
