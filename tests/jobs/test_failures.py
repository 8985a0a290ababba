"""What failed jobs said is told last, once each, and nothing else."""

from pathlib import Path

import pytest
from slicesampling.jobs.failures import MOST_LINES, failures

BLOCK = """[Sat Nov 28 10:17:18 2026]
Error in rule {rule}:
    message: None
    jobid: 2
    input: a, b, {rule}, c
    output: results/x
    log: {log} (check log file(s) for error details)
"""


def told(folder: Path, logs: dict[str, str], blocks: list[tuple[str, str]]) -> str:
    text = "Error in rule of no job\n" + "".join(BLOCK.format(rule=rule, log=log) for rule, log in blocks)
    (folder / "snakemake.log").write_text(text, encoding="utf-8")
    for name, content in logs.items():
        (folder / name).write_text(content, encoding="utf-8")
    return failures([folder / "snakemake.log"], folder)


def test_each_failed_job_is_told_once_in_its_own_words(tmp_path: Path) -> None:
    logs = {
        "check.log": "INFO begun\nerror: first attempt\nINFO again\nerror: t.tsv: 2 faults\n  row 2\n  row 3\n",
        "train.log": "INFO begun\nTraceback (most recent call last):\n  File x\nValueError: is odd\n",
        "mended.log": "INFO begun\nINFO ended\n",
    }
    blocks = [("check", "check.log"), ("train", "train.log"), ("train", "train.log"), ("mended", "mended.log")]
    blocks += [("killed", "there-is-none.log")]
    assert told(tmp_path, logs, blocks) == (
        "check failed, see check.log\nerror: t.tsv: 2 faults\n  row 2\n  row 3\n\n"
        "train failed, see train.log\nerror: ValueError: is odd"
    )
    assert told(tmp_path, {}, []) == ""


@pytest.mark.parametrize(("lines", "more"), [(MOST_LINES, ""), (MOST_LINES + 3, "  … and 3 lines more")])
def test_long_lists_are_cut(tmp_path: Path, lines: int, more: str) -> None:
    content = "\n".join(["error: many faults", *(f"  row {k}" for k in range(2, lines + 1))])
    said = told(tmp_path, {"a.log": content}, [("check", "a.log")]).splitlines()
    assert said[1 : MOST_LINES + 1] == content.splitlines()[:MOST_LINES]
    assert said[MOST_LINES + 1 :] == [more] * bool(more)
