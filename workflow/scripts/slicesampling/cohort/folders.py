"""The files in folders, including links, and zip archives."""

import os
import re
import zipfile
from collections import Counter
from pathlib import Path, PurePosixPath

from .. import UserError
from ..jobs.files import replacing
from .kinds import IMAGE_SUFFIXES, is_dicom

LARGEST_RATIO = 200
"""The largest ratio of unpacked to packed bytes: air compresses well, but images do not exceed this."""


def natural(name: str) -> list[str | int]:
    """Split a name so that numbers in it compare by value: slice-2 before slice-10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", name)]


def files_under(root: Path) -> list[Path]:
    """Return all files under `root` in natural order; links are followed, and no folder is entered twice."""
    seen: set[str] = set()
    found = []
    for folder, inner, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        found += [path for name in names if (path := Path(folder) / name).is_file()]
    return sorted(found, key=lambda path: natural(str(path)))


def what_is_there(root: Path) -> str:
    """Return a description of the files in a folder, the most frequent kinds first, for messages."""
    kinds = Counter(_kind(path) for path in files_under(root))
    dangling = sum(1 for folder, inner, names in os.walk(root) for name in (*inner, *names)
                   if not (Path(folder) / name).exists())  # fmt: skip
    kinds["links that lead nowhere"] += dangling
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common() if count) or "no file"


def _kind(path: Path) -> str:
    for suffix in IMAGE_SUFFIXES:
        if path.name.endswith(suffix):
            return f"{suffix} files"
    if is_zip(path):
        return "zip files"
    if is_dicom(path):
        return "DICOM files"
    return f"{path.suffix.lower()} files" if 1 < len(path.suffix) < 8 else "other files"


def is_zip(path: Path) -> bool:
    """Return whether a file is a zip archive, by its name or content."""
    return path.suffix.lower() == ".zip" or (not path.suffix and zipfile.is_zipfile(path))


def unpack(root: Path, to: Path) -> int:
    """Unpack all zip files under `root` into the same folders under `to`, and return their number.

    An existing folder is complete, because it gets its name last, and is not unpacked again. Raise UserError for a zip
    file that is damaged or encrypted, has names that lead out of the folder, or exceeds `LARGEST_RATIO`.
    """
    archives = [path for path in files_under(root) if is_zip(path)]
    for path in archives:
        folder = to / path.relative_to(root).with_suffix("")
        if folder.exists():
            continue
        try:
            with zipfile.ZipFile(path) as archive, replacing(folder) as temporary:
                for member in archive.infolist():
                    parts = PurePosixPath(member.filename).parts
                    if ".." in parts or member.filename.startswith("/"):
                        raise UserError(f"{path}: {member.filename!r} leads out of the folder")
                    if member.file_size > LARGEST_RATIO * max(member.compress_size, 1000):
                        raise UserError(
                            f"{path}: {member.filename!r} unpacks to {member.file_size} bytes; is it intact?"
                        )
                archive.extractall(temporary)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:  # RuntimeError: encrypted
            raise UserError(f"{path}: cannot be unpacked ({error})") from error
        except OSError as error:
            raise UserError(f"{error.filename or to}: {error.strerror}; --unpack names a folder with room") from error
    return len(archives)
