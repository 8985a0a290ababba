"""How a command ends that a person has typed."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from .. import UserError


@contextmanager
def faults_in_one_line() -> Iterator[None]:
    """End the program with `error: `, what is wrong, and exit code 1, where the user can mend what a block meets."""
    try:
        yield
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}")
