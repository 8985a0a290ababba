"""The summary at the end of a failed run: the messages of the failed jobs, without Snakemake's lists."""

import re
from collections.abc import Iterable
from pathlib import Path

FAILED = re.compile(r"^Error in rule (\w+):$(?:\n    .*$)*?\n    log: (.+?) \(check log", re.MULTILINE)
MOST_LINES = 40
"""The number of lines shown of a job's message; its log has the rest."""


def failures(logs: Iterable[str | Path], folder: str | Path = ".") -> str:
    """Return the messages of a run's failed jobs, from Snakemake's `logs` and the jobs' own logs in `folder`.

    Each message has the rule, the path of its log, and the log's lines from the last error on. Jobs that succeeded in
    a later attempt are left out. Empty if no job has left a message.
    """
    told = []
    text = "\n".join(map(_read, map(Path, logs)))
    found = {path: rule for rule, path in FAILED.findall(text)}
    for path, rule in found.items():
        lines = _read(Path(folder) / path).splitlines()
        last = max((k for k, line in enumerate(lines) if line.startswith("error: ")), default=None)
        if last is None:  # a bug ends in a traceback
            begun = max((k for k, line in enumerate(lines) if line.startswith("Traceback ")), default=None)
            said = [] if begun is None else [f"error: {lines[-1]}"]
        else:
            said = lines[last : last + MOST_LINES]
            said += [f"  … and {len(lines) - last - MOST_LINES} more lines"] if len(lines) - last > MOST_LINES else []
        if said:
            told.append("\n".join([f"{rule} failed, see {path}", *said]))
    return "\n\n".join(told)


def _read(log: Path) -> str:
    """Return the readable text of a log; never raise, because other programs write into it as well."""
    try:
        return log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
