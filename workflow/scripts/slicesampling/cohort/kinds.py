"""Which kind of file a path is, by its name and its first bytes."""

from pathlib import Path

NIFTI_SUFFIXES = (".nii", ".nii.gz")
ITK_SUFFIXES = (".nrrd", ".mha")
IMAGE_SUFFIXES = (*NIFTI_SUFFIXES, *ITK_SUFFIXES)


def is_dicom(path: Path) -> bool:
    """Say whether a file begins as a DICOM file does."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def of_slices(path: Path) -> bool:
    """Say whether an image or mask goes by DICOM slices, as a folder or a DICOM file; others are files of a volume."""
    return path.is_dir() or (path.is_file() and not path.name.endswith(IMAGE_SUFFIXES) and is_dicom(path))
