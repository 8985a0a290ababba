"""Damaged files: whatever bytes are changed, there is a usable volume or one clear line, soon and in little memory.

`PYTHONPATH=workflow/scripts:tests python tests/cohort/test_fuzz.py 5000` tries as many mutations of each format.
"""

import sys
import time
import tracemalloc
import warnings
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from scans import (
    IDENTITY,
    read_case,
    read_image,
    rectangle,
    write_dicom,
    write_enhanced,
    write_series,
    write_structures,
)
from slicesampling import UserError
from slicesampling.cohort import scans
from slicesampling.cohort.dicom import read_stack
from slicesampling.cohort.dicom_masks import write_segmentation

MASKS = ("seg", "rtstruct", "gap-seg", "gap-rtstruct")
"""Drawn on an even series, and on one that misses slices."""
FORMATS = (".nii", ".nii.gz", ".nrrd", "-packed.nrrd", ".mha", "-packed.mha", "dicom", "bare", "enhanced", *MASKS)
HEADER = {".nii": 352, ".nii.gz": 120, ".nrrd": 400, "-packed.nrrd": 400, ".mha": 350, "-packed.mha": 350, "dicom": 900}
HEADER |= {"bare": 700, "enhanced": 1800, "seg": 4000, "rtstruct": 1200, "gap-seg": 4000, "gap-rtstruct": 1600}
"""Bytes at the beginning that are changed more often than the rest."""

NAME = "Planted^Name"

SECONDS, BYTES = 30, 2**28
"""At most, for a file: of this process's CPU, which no other process can take away; a thousand times what it takes."""


def sound(folder: Path, suffix: str) -> Path:
    """Write a small sound volume, or a mask for one, and return the file whose bytes are to be changed."""
    hu = np.random.default_rng(1).integers(-1000, 1000, (5, 8, 7)).astype(np.int16)
    if suffix in MASKS:
        series = write_series(folder / "series", hu, **IDENTITY)
        if suffix.startswith("gap"):
            (series / "i0003.dcm").unlink()
        path = folder / f"{suffix}.dcm"
        if suffix.endswith("seg"):
            stack = read_stack(series)
            write_segmentation(path, stack, hu[: len(stack.slices)] > 0)
        else:
            planes = [10, 12.5, 15, 17.5] if suffix.startswith("gap") else [12.5, 15]
            write_structures(path, {1: [rectangle(z, -39 + z / 9, -37 + z / 9, -59, -56) for z in planes]})
        return path
    if suffix == "enhanced":
        return write_enhanced(folder / "enhanced.dcm", hu, PatientName=NAME, PatientID=NAME)
    if suffix in ("dicom", "bare"):
        for k, plane in enumerate(hu):
            write_dicom(
                folder / f"{k}.dcm", plane + 1024, (-40, -60, 10 + 2.5 * k), k + 1, PatientName=NAME, PatientID=NAME
            )
        if suffix == "bare":
            for path in folder.iterdir():
                path.write_bytes(path.read_bytes()[132:])
        return folder / "2.dcm"
    path = folder / f"volume{suffix}"
    if suffix.startswith(".nii"):
        nibabel.save(nibabel.Nifti1Image(hu.T, np.diag([-0.7, -0.8, 2.5, 1])), path)
    else:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(hu), str(path), useCompression=suffix.startswith("-packed"))
    return path


def mutated(content: bytes, header: int, random: np.random.Generator) -> bytes:
    """Change some bytes, most of them in the header; or cut, repeat or insert a piece."""
    changed = bytearray(content)
    for _ in range(int(random.integers(1, 6))):
        end = min(header, len(changed)) if random.random() < 0.8 else len(changed)
        place = int(random.integers(0, max(1, end)))
        kind = random.integers(0, 8)
        if kind == 0:
            del changed[place:]
        elif kind == 1:
            del changed[place : place + int(random.integers(1, 9))]
        elif kind == 2:
            changed[place:place] = bytes(random.integers(0, 256, int(random.integers(1, 9)), dtype=np.uint8))
        elif kind == 3:
            changed[place : place + 4] = random.choice([b"\xff\xff\xff\x7f", b"\x00\x00\x00\x00", b"\x00\x00\xc0\x7f"])
        elif place < len(changed):
            changed[place] = int(random.choice([0, 1, 255, int(random.integers(0, 256))]))
    return bytes(changed)


def outcome(path: Path) -> str:
    """Read a damaged file; return "volume" or the fault, and fail for anything that a user must not see."""
    started = time.process_time()
    tracemalloc.start()
    fault = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if (path.parent / "series").exists():
                image, mask, grid = read_case(path.parent / "series", path)
                assert mask is not None
                assert mask.shape == image.shape
            else:
                image, grid = read_image(path)
    except UserError as error:
        fault = str(error)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < BYTES, f"{peak / 2**20:.0f} MiB"
    assert time.process_time() - started < SECONDS
    if fault:
        assert "\n" not in fault
        assert NAME not in fault, "what is in a header stays there"
        assert str(path) in fault
        return fault
    assert image.dtype == np.int16
    assert image.shape == grid.shape
    assert image.min() >= scans.AIR
    assert np.isfinite(grid.affine).all()
    assert min(grid.spacing) > 0
    assert abs(np.linalg.det(grid.affine)) > 0
    return "volume"


def fuzz(suffix: str, seeds: range, folder: Path) -> dict[str, int]:
    """Read mutations of a format, one for each seed; return how many were volumes and how many were refused."""
    path = sound(folder, suffix)
    content = path.read_bytes()
    counts = {"volume": 0, "refused": 0}
    for seed in seeds:
        path.write_bytes(mutated(content, HEADER[suffix], np.random.default_rng(seed)))
        try:
            result = outcome(path.parent if suffix in ("dicom", "bare") else path)
        except Exception as error:
            error.add_note(f"{suffix}, seed {seed}")
            raise
        counts["volume" if result == "volume" else "refused"] += 1
    return counts


@pytest.mark.parametrize("seeds", [range(30), pytest.param(range(30, 150), marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("suffix", FORMATS)
def test_damaged_files_are_read_or_refused_in_one_line(suffix: str, seeds: range, tmp_path: Path) -> None:
    counts = fuzz(suffix, seeds, tmp_path)
    assert counts["refused"] > len(seeds) / 8
    assert counts["volume"] > 0 or suffix in (".nii.gz", "-packed.nrrd"), "a checksum guards these"


def cut(suffix: str, count: int, folder: Path) -> int:
    """Read a file cut to `count` lengths; return how many were read nevertheless, and fail if not as the whole file."""
    path = sound(folder, suffix)
    content = path.read_bytes()
    place = path.parent if suffix in ("dicom", "bare") else path

    def read() -> tuple:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read_case(folder / "series", path) if suffix in MASKS else (read_image(place)[0], None, None)

    image, mask, _ = read()
    taken = 0
    for size in np.unique(np.linspace(0, len(content) - 1, count).astype(int)):
        path.write_bytes(content[:size])
        try:
            found, drawn, _ = read()
        except UserError:
            continue
        taken += 1
        assert np.array_equal(found, image), f"{suffix}, cut to {size} of {len(content)} bytes"
        assert mask is None or np.array_equal(drawn, mask), f"{suffix}, cut to {size} of {len(content)} bytes"
    return taken


@pytest.mark.parametrize("count", [40, pytest.param(400, marks=pytest.mark.slow)])
@pytest.mark.parametrize("suffix", FORMATS)
def test_files_that_are_cut_short_are_refused_or_whole(suffix: str, count: int, tmp_path: Path) -> None:
    """No part of a mask is lost, and no slice invented: what is read has every voxel of the undamaged case."""
    assert cut(suffix, count, tmp_path) < count / 4


if __name__ == "__main__":
    import tempfile

    count = int(sys.argv[1])
    for suffix in FORMATS:
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            print(suffix, fuzz(suffix, range(count), Path(one)), "cut, and whole:", cut(suffix, count, Path(other)))
