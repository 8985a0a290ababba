"""Error handling of commands."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from .. import UserError


@contextmanager
def faults_in_one_line() -> Iterator[None]:
    """Exit with code 1 and one line, `error: ` and the message, if the block raises UserError or OSError."""
    try:
        yield
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}")
