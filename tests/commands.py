"""A command of the workflow, run in the process of the tests, where all that it imports is loaded already."""

import contextlib
import io
import runpy
import sys
from pathlib import Path

from conftest import ROOT


def typed(script: str | Path, *arguments: object, code: int = 0) -> str:
    """Run a Python script in the repository's root as a user would type it, and return all that it prints."""
    said = io.StringIO()
    before = sys.argv, sys.path
    sys.argv, sys.path = [str(script), *map(str, arguments)], list(sys.path)
    ended: object = 0
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), contextlib.chdir(ROOT):
            runpy.run_path(str(ROOT / script), run_name="__main__")
    except SystemExit as error:
        ended = error.code or 0
    finally:
        sys.argv, sys.path = before
    said.write("" if isinstance(ended, int) else f"{ended}\n")  # as Python itself does
    assert (ended if isinstance(ended, int) else 1) == code, said.getvalue()
    return said.getvalue()
