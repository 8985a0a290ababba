"""Reading and checking of NIfTI, NRRD and MetaImage files, and writing of NIfTI."""

import math
import re
import warnings
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
from isal import igzip
from isal.isal_zlib import IsalError
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from .. import UserError, one_line
from ..jobs.nifti import nifti_image
from .grids import REVERSE, Grid, corners
from .kinds import IMAGE_SUFFIXES, ITK_SUFFIXES, NIFTI_SUFFIXES

LARGEST_VOLUME = 2**31
"""Voxels. A header with more is damaged: the longest whole-body CT, 2000 slices of 1024 x 1024, has fewer."""

LARGEST_HEADER = 2**24
"""The most bytes before the first voxel of a NIfTI file; extensions take a few thousand."""

PIECE = 2**22
"""The number of bytes that are unpacked at a time."""

TILT_TOLERANCE = 0.1
"""The tolerance for right angles of a grid in degrees, 0.9 mm over a stack of 500 mm; volumes beyond are resampled."""

LARGEST_TILT = 45
"""The largest accepted tilt in degrees; gantries tilt by up to 30."""

_RAS_TO_LPS = np.diag([-1.0, -1, 1, 1])


def check_usable(path: Path, grid: Grid) -> None:
    """Raise UserError for a grid whose axes do not span a volume, or that is tilted by more than `LARGEST_TILT`."""
    lengths = np.linalg.norm(grid.affine[:3, :3], axis=0)
    if not np.isfinite(grid.affine).all() or not lengths.min() > 0 or not np.isfinite(lengths).all():
        raise UserError(f"{path}: the voxel spacing must be finite and positive, got the affine {grid.affine.tolist()}")
    if grid.tilt > LARGEST_TILT:
        raise UserError(
            f"{path}: the slices are tilted by {grid.tilt:.1f} degrees against the direction in which they are "
            f"stacked; accepted are up to {LARGEST_TILT}, more than any gantry"
        )


class Stored(NamedTuple):
    """The content of a file: stored values (z, y, x), before slope and intercept, if any (`scale`), and their grid."""

    values: np.ndarray
    grid: Grid
    scale: tuple[float, float] | None = None
    remarks: tuple[str, ...] = ()


def scaled(values: np.ndarray, stored: Stored) -> np.ndarray:
    if stored.scale is None:
        return values
    slope, intercept = stored.scale
    return values.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def read_file(path: Path) -> Stored:
    """Read a file with one of the `IMAGE_SUFFIXES`."""
    if not path.exists():
        raise UserError(f"{path}: there is no such file or folder")
    if path.name.endswith(NIFTI_SUFFIXES):
        return read_nifti(path)
    if path.name.endswith(ITK_SUFFIXES):
        return _read_itk(path)
    raise UserError(f"{path}: unknown format; accepted are {', '.join(IMAGE_SUFFIXES)}, a DICOM slice or a folder")


def _read_itk(path: Path) -> Stored:
    """Read an NRRD or MetaImage file that contains its voxels, with SimpleITK."""
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    with path.open("rb") as file:
        beginning = file.read(1 << 16)
    # A header could refer to any other file of the machine.
    header = beginning.split(b"\n\n")[0] if path.suffix == ".nrrd" else beginning
    elsewhere = re.search(rb"(?im)^(data ?file:|ElementDataFile[ \t]*=)(?![ \t]*LOCAL\s)[^\r\n]*", header)
    if elsewhere:
        text = elsewhere[0].decode(errors="replace").strip()[:80]
        raise UserError(f"{path}: its voxels are in another file ({text}); accepted is one file with header and voxels")
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        size = reader.GetSize()
        if len(size) != 3:
            raise UserError(f"{path}: has shape {size}; accepted are three axes")
        if reader.GetNumberOfComponents() != 1:
            raise UserError(f"{path}: has {reader.GetNumberOfComponents()} values per voxel; accepted is one")
        if path.suffix == ".nrrd" and "NRRD_space" not in reader.GetMetaDataKeys():
            raise UserError(f"{path}: its header has no field space, so its orientation is unknown; write one")
        check_credible(path, size)
        compressed = re.search(rb"(?im)^CompressedData[ \t]*=[ \t]*True", header)
        if path.suffix == ".mha" and compressed:
            itemsize = SimpleITK.Image([1, 1, 1], reader.GetPixelID()).GetSizeOfPixelComponent()
            _whole_metaimage(path, math.prod(size) * itemsize)
        image = reader.Execute()
    except RuntimeError as error:
        raise UserError(
            f"{path}: cannot be read as {path.suffix[1:]} ({_itk_fault(error)}); is it complete?"
        ) from error
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    x, y, z = size
    grid = Grid((z, y, x), REVERSE @ affine @ REVERSE)
    check_usable(path, grid)
    return Stored(SimpleITK.GetArrayFromImage(image), grid)


def _whole_metaimage(path: Path, expected: int) -> None:
    """Reject a compressed MetaImage whose voxels do not unpack to `expected` bytes, on which ITK would never end."""
    unpack = zlib.decompressobj(wbits=47)  # zlib or gzip
    found = 0
    with path.open("rb") as file:
        for line in iter(lambda: file.readline(1 << 16), b""):
            if line.startswith(b"ElementDataFile"):
                break
        try:
            while not unpack.eof and found <= expected:
                piece = unpack.unconsumed_tail or file.read(1 << 20)
                if not piece:
                    break
                found += len(unpack.decompress(piece, 1 << 24))
        except zlib.error as error:
            raise UserError(f"{path}: its voxels cannot be unpacked ({error}); is it complete?") from error
    if not unpack.eof or found != expected:
        raise UserError(f"{path}: its voxels do not unpack to the {expected} bytes of its header; is it complete?")


def _itk_fault(error: Exception) -> str:
    """Return the message of ITK without the location in its sources."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return one_line(ValueError(lines[-1] if lines else "no reason given"))


def check_credible(path: Path, shape: tuple[int, ...]) -> None:
    """Reject an impossible size of a volume before memory is allocated."""
    if min(shape) < 1 or math.prod(shape) > LARGEST_VOLUME:
        raise UserError(f"{path}: announces {'x'.join(map(str, shape))} voxels; accepted are up to {LARGEST_VOLUME:,}")


def read_nifti(path: Path) -> Stored:
    """Read a NIfTI-1 or NIfTI-2 file; the values are memory-mapped if it is not compressed.

    The grid is that of the sform if there is one, otherwise of the qform; a remark mentions disagreement.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid headers are reported below, or are errors
            header, values, scale = _unpacked_nifti(path) if path.suffix == ".gz" else _mapped_nifti(path)
            if header["sform_code"] and not np.isfinite(header.get_sform()).all():
                raise UserError(f"{path}: its sform is {header.get_sform().tolist()}; accepted are finite numbers")
            affine = np.asarray(header.get_best_affine(), dtype=np.float64)
            remarks = _form_conflict(header, affine)
    except (
        OSError,
        EOFError,
        KeyError,
        ValueError,
        MemoryError,
        zlib.error,
        IsalError,  # type: ignore[misc]
        ImageFileError,
        HeaderDataError,
    ) as error:
        raise UserError(f"{path}: cannot be read as NIfTI ({one_line(error)}); is it complete?") from error
    grid = Grid(values.shape[:3], _from_ras(affine))
    check_usable(path, grid)
    return Stored(values, grid, scale, remarks)


def _mapped_nifti(path: Path) -> tuple[nibabel.Nifti1Header, np.ndarray, tuple[float, float] | None]:
    """Return the header of an uncompressed NIfTI file, its memory-mapped values (z, y, x), and (slope, intercept)."""
    image = nibabel.load(path)
    if not isinstance(image, nibabel.Nifti1Image):
        raise UserError(f"{path}: holds no NIfTI image; accepted are NIfTI-1 and NIfTI-2")
    shape = _check_nifti(path, image.header)
    stored: Any = image.dataobj
    scale = None if (stored.slope, stored.inter) == (1, 0) else (float(stored.slope), float(stored.inter))
    return image.header, stored.get_unscaled().reshape(shape, order="F").T, scale


def _unpacked_nifti(path: Path) -> tuple[nibabel.Nifti1Header, np.ndarray, tuple[float, float] | None]:
    """Return the same of a compressed file, unpacked twice as fast as by nibabel and limited to the announced size."""
    with igzip.open(path) as packed:
        start = packed.read(nibabel.Nifti2Header.sizeof_hdr)
        kinds = [kind for kind in (nibabel.Nifti1Header, nibabel.Nifti2Header) if kind.may_contain_header(start)]
        if not kinds:
            raise UserError(f"{path}: holds no NIfTI image; accepted are NIfTI-1 and NIfTI-2")
        header = kinds[0](start[: kinds[0].sizeof_hdr])
        shape = _check_nifti(path, header)
        offset = int(header["vox_offset"]) or header.single_vox_offset
        if not header.sizeof_hdr <= offset <= LARGEST_HEADER:
            raise UserError(
                f"{path}: vox_offset is {offset}; accepted are {header.sizeof_hdr} to {LARGEST_HEADER} bytes of header"
            )
        dtype = header.get_data_dtype()
        slope, intercept = header.get_slope_inter()
        # Deflate compresses to no less than 1 : 1032.
        count = math.prod(shape) * dtype.itemsize
        if count > 1032 * path.stat().st_size:
            raise UserError(
                f"{path}: announces {'x'.join(map(str, shape))} voxels, more than it can hold; is it complete?"
            )
        packed.seek(offset)
        content = np.empty(count, np.uint8)
        view, filled = memoryview(content.data), 0
        while filled < len(content):
            more = packed.readinto(view[filled : filled + PIECE])
            if not more:
                raise EOFError("it ends before its last voxel")
            filled += more
        packed.read(1)  # at the end of the file, the checksum is verified
    values = content.view(dtype)
    scale = None if slope is None or (slope, intercept) == (1, 0) else (float(slope), float(intercept))
    return header, values.reshape(shape, order="F").T, scale


def _check_nifti(path: Path, header: nibabel.Nifti1Header) -> tuple[int, int, int]:
    """Return the shape (x, y, z) of a header; raise UserError if it is not that of a volume in mm."""
    shape = header.get_data_shape()
    if header.get_data_dtype().kind not in "biuf":
        raise UserError(f"{path}: voxels of type {header.get_data_dtype()}; accepted are integers and real numbers")
    if len(shape) < 3 or any(n != 1 for n in shape[3:]):
        raise UserError(f"{path}: has shape {shape}; accepted are three axes")
    check_credible(path, shape)
    if not (header["sform_code"] or header["qform_code"]):
        raise UserError(f"{path}: has neither sform nor qform, so its orientation is unknown; write one of them")
    if header.get_xyzt_units()[0] not in ("mm", "unknown"):
        raise UserError(f"{path}: is measured in {header.get_xyzt_units()[0]}; accepted is mm")
    x, y, z = (int(n) for n in shape[:3])
    return x, y, z


def _form_conflict(header: nibabel.Nifti1Header, affine: np.ndarray) -> tuple[str, ...]:
    """Return a remark if sform and qform of a NIfTI header are both set and differ."""
    if not (header["sform_code"] and header["qform_code"]):
        return ()
    try:
        qform = header.get_qform()
        grid, other = (Grid(header.get_data_shape()[:3], one) for one in (affine, qform))
        apart = float(np.linalg.norm(((affine - qform) @ corners(grid.shape))[:3], axis=0).max())
        if grid.matches(other):
            return ()
    except (HeaderDataError, ValueError, np.linalg.LinAlgError):
        return ("the qform of the header is invalid: the sform is used",)
    return (f"sform and qform of the header differ by up to {apart:.3g} mm: the sform is used",)


def _from_ras(affine: np.ndarray) -> np.ndarray:
    """Return the library's affine of a NIfTI affine, (x, y, z) towards right, front and head."""
    return np.asarray(REVERSE @ _RAS_TO_LPS @ affine @ REVERSE)


def _to_ras(affine: np.ndarray) -> np.ndarray:
    """Return the NIfTI affine of an affine of the library."""
    return np.asarray(_RAS_TO_LPS @ REVERSE @ affine @ REVERSE)


def gridded(array: np.ndarray, grid: Grid) -> nibabel.Nifti1Image:
    """Return an array (z, y, x) on `grid` as a NIfTI image."""
    return nifti_image(array, _to_ras(grid.affine), perpendicular=grid.tilt <= TILT_TOLERANCE)
