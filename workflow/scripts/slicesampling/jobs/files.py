"""Write files atomically: no incomplete file ever has its final name."""

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
    """Yield a temporary path in the same folder; rename it to `path` if the block ends without an error.

    The temporary name keeps the suffixes of `path`, because writers choose their format by them. The block may create
    a file or a folder; a folder replaces an existing folder of that name.
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
            error.filename = error.filename or str(path)  # the error of a full disk names no file
            raise


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` a hard link to `source`, which is only replaced as a whole; copy it where links fail."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def require_new(folder: Path, why: str = "") -> None:
    """Raise UserError unless `folder` is new or an empty folder; the message ends with `why`."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists already; accepted: a new or an empty folder{why}")


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, by rename."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def own(path: str | Path, owner: str) -> int:
    """Lock `path` for this process, after waiting for another owner to end, and return the file descriptor.

    The file holds the owner's name. The kernel, or the server of a shared file system, releases the lock when its owner
    ends in any way. On a file system without locks, only a warning is logged.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("waiting for %s, which runs the same job", os.read(descriptor, 1000).decode())
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        logger.warning("%s cannot be locked (%s): do not start the same job twice", path, error.strerror)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, owner.encode(), 0)
    return descriptor
