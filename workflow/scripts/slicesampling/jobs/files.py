"""Writing files so that nothing half-written ever stands under its final name."""

import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .. import UserError

logger = logging.getLogger(__name__)


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
        try:
            yield temporary
            if temporary.is_dir():
                if path.exists():
                    shutil.rmtree(path)
            else:
                with temporary.open("rb") as written:
                    os.fsync(written.fileno())
            temporary.replace(path)
        except OSError as error:
            error.filename = error.filename or str(path)  # a full disk does not say which file it was
            raise


def link_or_copy(source: Path, target: Path) -> None:
    """Let `target` be the file `source`, which is only ever replaced as a whole; a copy where there are no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def require_new(folder: Path, why: str = "") -> None:
    """Raise UserError, which ends with `why`, where a folder holds anything, or its name is that of a file."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: is there already; accepted: a new or an empty folder{why}")


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, by rename."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def own(path: str | Path, owner: str) -> int:
    """Make this process the only one that owns `path`, after waiting for one that does, and return the descriptor.

    The file holds the owner's name. It is free as soon as its owner has ended in any way: it is locked with the kernel,
    or with the server of a file system that is shared. Where a file system has no locks, a warning is all.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("waiting for %s, which does the same", os.read(descriptor, 1000).decode())
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        logger.warning("%s cannot be locked (%s): do not start the same job twice", path, error.strerror)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, owner.encode(), 0)
    return descriptor
