"""The kind of a file, by its name and its first bytes."""

from pathlib import Path

NIFTI_SUFFIXES = (".nii", ".nii.gz")
ITK_SUFFIXES = (".nrrd", ".mha")
IMAGE_SUFFIXES = (*NIFTI_SUFFIXES, *ITK_SUFFIXES)

_VALUE_KINDS = (b"UL", b"OB", b"UI", b"CS", b"SH", b"DA", b"TM", b"LO", b"AE")
"""Value representations of the first elements of a data set."""


def image_name(path: Path) -> str:
    """Return the name of a volume's file without its suffix; an empty text for other files."""
    longest_first = sorted(IMAGE_SUFFIXES, key=len, reverse=True)
    suffix = next((ending for ending in longest_first if path.name.endswith(ending)), "")
    return path.name.removesuffix(suffix) if suffix else ""


def is_dicom(path: Path) -> bool:
    """Return whether a file begins like a DICOM file, or like a bare data set (`begins_data_set`)."""
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError:
        return False
    return start[128:132] == b"DICM" or begins_data_set(start)


def begins_data_set(start: bytes) -> bool:
    """Return whether a file begins with a bare DICOM data set, without preamble and prefix, as in old archives.

    Its first element is of group 2 or 8, little-endian, followed directly by another element of these groups.
    """
    if len(start) < 16 or start[:2] not in (b"\2\0", b"\10\0"):
        return False
    explicit = start[4:6] in _VALUE_KINDS
    size, header = (int.from_bytes(start[6:8], "little"), 8) if explicit else (int.from_bytes(start[4:8], "little"), 8)
    if start[4:6] == b"OB":
        size, header = int.from_bytes(start[8:12], "little"), 12
    following = start[header + size : header + size + 8]
    if len(following) < 8 or following[:2] not in (b"\2\0", b"\10\0"):
        return False
    later = (following[:2], following[2:4][::-1]) > (start[:2], start[2:4][::-1])
    return later and explicit == (following[4:6] in _VALUE_KINDS)


def of_slices(path: Path) -> bool:
    """Return whether an image or mask consists of DICOM slices (a folder or DICOM file), not of one volume file."""
    return path.is_dir() or (path.is_file() and not path.name.endswith(IMAGE_SUFFIXES) and is_dicom(path))
