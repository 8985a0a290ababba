"""Writing files so that nothing half-written ever stands under its final name."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, and rename it to `path` when the block has ended without an error.

    The temporary name keeps the suffixes of `path`, because writers choose their format by them. The block may create
    a file or a folder; a folder takes the place of an older folder of that name.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as scratch:
        temporary = Path(scratch) / path.name
        yield temporary
        if temporary.is_dir():
            if path.exists():
                shutil.rmtree(path)
        else:
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
        temporary.replace(path)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, by rename."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
