"""The command `slicesampling`, run in the process of the tests, where all that it imports is loaded already."""

import contextlib
import io

from conftest import ROOT
from slicesampling.command.main import main

COMMAND = "slicesampling.command.main"
"""What `python -m` takes for it, in a process of its own."""


def typed(*arguments: object, code: int = 0) -> str:
    """Run the command in the repository's root as a user would type it, and return all that it prints."""
    said = io.StringIO()
    ended: object = 0
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), contextlib.chdir(ROOT):
            main([*map(str, arguments)])
    except SystemExit as error:
        ended = error.code or 0
    said.write("" if isinstance(ended, int) else f"{ended}\n")  # as Python itself does
    assert (ended if isinstance(ended, int) else 1) == code, said.getvalue()
    return said.getvalue()
