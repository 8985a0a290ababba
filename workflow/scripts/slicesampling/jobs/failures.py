"""What a user sees last when a run has failed: what the failed jobs said, without Snakemake's lists around it."""

import re
from collections.abc import Iterable
from pathlib import Path

FAILED = re.compile(r"^Error in rule (\w+):$(?:\n    .*$)*?\n    log: (.+?) \(check log", re.MULTILINE)
MOST_LINES = 40
"""Of what a job has said; the rest stands in its log."""


def failures(logs: Iterable[str | Path], folder: str | Path = ".") -> str:
    """Return what the failed jobs of a run said, from Snakemake's `logs` and the jobs' own, which lie in `folder`.

    For each its rule, its log, and the log's lines from the last error on. A job that a later attempt has mended is
    none. Empty where no job has said anything.
    """
    told = []
    text = "\n".join(map(_read, map(Path, logs)))
    found = {path: rule for rule, path in FAILED.findall(text)}
    for path, rule in found.items():
        lines = _read(Path(folder) / path).splitlines()
        last = max((k for k, line in enumerate(lines) if line.startswith("error: ")), default=None)
        if last is None:  # a defect ends in a traceback
            begun = max((k for k, line in enumerate(lines) if line.startswith("Traceback ")), default=None)
            said = [] if begun is None else [f"error: {lines[-1]}"]
        else:
            said = lines[last : last + MOST_LINES]
            said += [f"  … and {len(lines) - last - MOST_LINES} lines more"] if len(lines) - last > MOST_LINES else []
        if said:
            told.append("\n".join([f"{rule} failed, see {path}", *said]))
    return "\n\n".join(told)


def _read(log: Path) -> str:
    """Return what can be read of a log, which other programs write into as well: nothing may fail here."""
    try:
        return log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
