"""CT and masks in, Hounsfield units, one canonical grid, and back to native space (method of section III of the paper).

Everything that is read is laid out (z, y, x) at once, by flips and transpositions alone: z towards the head, y towards
the back, x towards the patient's left, as nearly as the file's own axes allow. World points are millimetres in the same
order (z, y, x) of the same frame (LPS). A `Grid` says where the voxels of such an array lie.
"""

import logging
import math
import re
import warnings
import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
from isal import igzip
from isal.isal_zlib import IsalError
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from PIL import Image, UnidentifiedImageError

from .. import UserError, one_line
from ..jobs import files
from . import dicom
from .dicom import LARGEST_SLICE_GAP
from .grids import REVERSE, Grid, canonical_grid, corners, resample_image, resample_mask, upright
from .plausibility import SOFT_TISSUE_SHARE, soft_tissue_share

logger = logging.getLogger(__name__)

AIR = -1024
"""Smallest stored value, HU. Scanners pad the outside of their circle with lower ones, such as -2000 or -3024."""

NIFTI_SUFFIXES = (".nii", ".nii.gz")
ITK_SUFFIXES = (".nrrd", ".mha")
IMAGE_SUFFIXES = (*NIFTI_SUFFIXES, *ITK_SUFFIXES)

LARGEST_VOLUME = 2**31
"""Voxels. A header that announces more is damaged: the longest whole-body CT, 2000 slices of 1024 x 1024, has fewer."""

LARGEST_HEADER = 2**24
"""Bytes before the first voxel of a NIfTI file; extensions take some thousand."""

PIECE = 2**22
"""Bytes that are unpacked at a time."""

TILT_TOLERANCE = 0.1
"""How many degrees the axes of a grid may miss the right angle: 0.9 mm over a stack of 500 mm. More is resampled."""

LARGEST_TILT = 45
"""Degrees; gantries tilt by up to 30."""

_RAS_TO_LPS = np.diag([-1.0, -1, 1, 1])


class LabelError(UserError):
    """A fault of the mask of a volume, not of its image."""


@dataclass(frozen=True)
class Preprocessed:
    """One volume on the canonical grid.

    `image` is int16 HU and `mask` uint8 (1 liver, 0 elsewhere), both (z, y, x) on `grid`; `native_grid` is the grid of
    the original file, and `native_mask` the mask on it: None once loaded, because it is not mapped but unpacked, see
    `load_native_mask`.
    """

    image: np.ndarray
    mask: np.ndarray
    grid: Grid
    native_grid: Grid
    native_mask: np.ndarray | None = None


class Scan(NamedTuple):
    """A CT volume as its file has it, upright, and its liver mask.

    `image` is int16 HU and `mask` bool, None without a label, both (z, y, x) on `grid`. `remarks` tell what was left
    out, resampled or decided when the files were read. `patient` is the identifier in the file, empty where none is.
    """

    image: np.ndarray
    mask: np.ndarray | None
    grid: Grid
    remarks: tuple[str, ...]
    patient: str


def read_scan(
    image_path: str | Path,
    label_path: str | Path | None = None,
    liver_values: Collection[int] = (),
    largest_slice_gap: float = LARGEST_SLICE_GAP,
) -> Scan:
    """Read a CT volume, HU not below `AIR`, and its liver mask.

    `image_path` is a NIfTI, NRRD or MetaImage file (`IMAGE_SUFFIXES`), a folder with a DICOM series, or one of its
    files where the folder holds several. `label_path` is a file on the grid of the image, stored along whichever axes;
    for a DICOM image also a DICOM segmentation or structure set, or a folder with one PNG a slice. The PNG files in
    natural order of their names belong to the slices in order of InstanceNumber, the layout of the CHAOS challenge,
    whatever direction the positions run in. `liver_values` are liver in the mask; without any it must have one value
    beside zero.

    Unevenly spaced slices are interpolated at their positions, where no gap is above `largest_slice_gap` mm, and tilted
    ones (gantry tilt) resampled to the patient's axes, so that every grid that leaves this module is even and has
    perpendicular axes. Raises `LabelError` for faults of the mask, `UserError` for those of the image.
    """
    path = Path(image_path)
    stack = None
    if of_slices(path):
        stack = dicom.read_stack(path, largest_slice_gap)
        raw_grid = stack.grid()
        _usable(path, raw_grid)
        _credible(path, stack.shape)
        on_slices: np.ndarray = np.empty(stack.shape, np.int16)
        for k, plane in enumerate(dicom.planes(stack)):
            on_slices[k] = _hounsfield(plane)
        remarks, patient = list(stack.remarks), stack.slices[0].patient
        turned, grid = upright(stack.evened(on_slices), raw_grid)
        image: np.ndarray = np.ascontiguousarray(turned)
    else:
        stored = _read_file(path)
        if min(stored.grid.shape) < 2:
            raise UserError(
                f"{path}: has {stored.grid.shape} voxels; a volume has two or more slices, rows and columns"
            )
        turned, grid = upright(stored.values, stored.grid)
        image = np.empty(turned.shape, np.int16)
        for k, plane in enumerate(turned):
            image[k] = _hounsfield(_scaled(plane, stored))
        on_slices = image
        remarks, patient = list(stored.remarks), ""
    mask = None
    if label_path is not None:
        try:
            mask = _read_mask(Path(label_path), grid, stack, on_slices, liver_values)
        except UserError as error:
            raise LabelError(str(error)) from error
    if grid.tilt > TILT_TOLERANCE:
        remarks.append(f"slices tilted by {grid.tilt:.1f} degrees: resampled to the patient's axes")
        image, mask, grid = _straightened(image, mask, grid)
    for remark in remarks:
        logger.info("%s: %s", path, remark)
    return Scan(image, mask, grid, tuple(remarks), patient)


def preprocess(
    image_path: str | Path,
    label_path: str | Path,
    spacing: tuple[float, float, float],
    liver_values: Collection[int] = (),
    largest_slice_gap: float = LARGEST_SLICE_GAP,
) -> Preprocessed:
    """Read a volume and its mask (see `read_scan`), and resample both to the canonical grid with `spacing` (mm)."""
    image, mask, native_grid, *_ = read_scan(image_path, label_path, liver_values, largest_slice_gap)
    assert mask is not None
    grid = canonical_grid(native_grid, spacing)
    return Preprocessed(
        image=resample_image(image, native_grid, grid, fill=AIR),
        mask=resample_mask(mask, native_grid, grid).view(np.uint8),
        grid=grid,
        native_grid=native_grid,
        native_mask=mask,
    )


def save_preprocessed(folder: str | Path, preprocessed: Preprocessed) -> None:
    """Write image.nii, mask.nii, native_mask.nii.gz and native_grid.json into `folder`, in place of an older one.

    The files that are read again and again are not compressed, so that `load_preprocessed` can map them into memory.
    """
    assert preprocessed.native_mask is not None
    with files.replacing(folder) as temporary:
        temporary.mkdir()
        nibabel.save(_nifti(preprocessed.image, preprocessed.grid), temporary / "image.nii")
        nibabel.save(_nifti(preprocessed.mask, preprocessed.grid), temporary / "mask.nii")
        write_mask(temporary / "native_mask.nii.gz", preprocessed.native_mask, preprocessed.native_grid)
        (temporary / "native_grid.json").write_text(preprocessed.native_grid.to_json(), encoding="utf-8")


def load_preprocessed(folder: str | Path) -> Preprocessed:
    """Open what `save_preprocessed` wrote; image and mask are maps of their files, read as they are touched."""
    folder = Path(folder)
    image, mask = (_read_nifti(folder / name) for name in ("image.nii", "mask.nii"))
    native_grid = Grid.from_json((folder / "native_grid.json").read_text(encoding="utf-8"))
    return Preprocessed(image.values, mask.values, image.grid, native_grid)


def load_native_mask(folder: str | Path) -> np.ndarray:
    """Read the reference mask on its native grid, bool (z, y, x), from what `save_preprocessed` wrote."""
    return _read_file(Path(folder) / "native_mask.nii.gz").values != 0


def volume_folders(shards: Iterable[str | Path]) -> dict[str, Path]:
    """Return the folder of each preprocessed volume in `shards`, folders that hold one folder a volume."""
    return {folder.name: folder for shard in shards for folder in Path(shard).iterdir() if folder.is_dir()}


def sound(volumes: Iterable[str], folders: Mapping[str, Path]) -> list[str]:
    """Return those of `volumes` that were preprocessed: all, unless faulty ones are excluded (on_fault)."""
    return [volume for volume in volumes if volume in folders]


def write_mask(path: str | Path, mask: np.ndarray, grid: Grid) -> None:
    """Write a mask (z, y, x) on `grid` as a uint8 NIfTI file, compressed where `path` ends in .gz."""
    with files.replacing(path) as temporary:
        nibabel.save(_nifti((mask != 0).astype(np.uint8), grid), temporary)


def stored_grid(path: str | Path) -> Grid:
    """Return the grid of an image file along the axes of the file, reversed: (z, y, x) as stored."""
    return _read_file(Path(path)).grid


def read_canonical_mask(path: str | Path) -> np.ndarray:
    """Read a mask that `write_mask` wrote on a canonical grid; bool (z, y, x)."""
    stored = _read_file(Path(path))
    return np.ascontiguousarray(upright(stored.values, stored.grid)[0]) != 0


def of_slices(path: Path) -> bool:
    """Say whether an image or mask goes by DICOM slices, as a folder or a DICOM file; others are files of a volume."""
    return path.is_dir() or (path.is_file() and not path.name.endswith(IMAGE_SUFFIXES) and dicom.is_dicom(path))


def _usable(path: Path, grid: Grid) -> None:
    """Refuse axes that span no volume."""
    lengths = np.linalg.norm(grid.affine[:3, :3], axis=0)
    if not np.isfinite(grid.affine).all() or not lengths.min() > 0 or not np.isfinite(lengths).all():
        raise UserError(f"{path}: the voxel spacing must be finite and positive, got the affine {grid.affine.tolist()}")
    if grid.tilt > LARGEST_TILT:
        raise UserError(
            f"{path}: the slices are tilted by {grid.tilt:.1f} degrees against the direction in which they are "
            f"stacked; accepted are up to {LARGEST_TILT}, more than any gantry"
        )


def _straightened(image: np.ndarray, mask: np.ndarray | None, grid: Grid) -> tuple[np.ndarray, np.ndarray | None, Grid]:
    """Resample a volume whose slices are tilted to the patient's axes, with the spacing it has; outside is air."""
    straight = canonical_grid(grid, grid.spacing)
    image = resample_image(image, grid, straight, fill=AIR)
    return image, None if mask is None else resample_mask(mask, grid, straight), straight


def _hounsfield(plane: np.ndarray) -> np.ndarray:
    """Round to whole HU within int16; what is lower than `AIR` or no number becomes `AIR`."""
    if np.issubdtype(plane.dtype, np.floating):
        plane = np.rint(np.nan_to_num(plane, nan=AIR))
    return np.clip(plane, AIR, np.iinfo(np.int16).max)


# Images ---------------------------------------------------------------------------------------------------------------


class _Stored(NamedTuple):
    """What a file holds: values (z, y, x) as stored, before slope and intercept where there are any; and their grid."""

    values: np.ndarray
    grid: Grid
    scale: tuple[float, float] | None = None
    remarks: tuple[str, ...] = ()


def _scaled(values: np.ndarray, stored: _Stored) -> np.ndarray:
    if stored.scale is None:
        return values
    slope, intercept = stored.scale
    return values.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def _read_file(path: Path) -> _Stored:
    """Read a file of any of the `IMAGE_SUFFIXES`."""
    if not path.exists():
        raise UserError(f"{path}: there is no such file or folder")
    if path.name.endswith(NIFTI_SUFFIXES):
        return _read_nifti(path)
    if path.name.endswith(ITK_SUFFIXES):
        return _read_itk(path)
    raise UserError(f"{path}: unknown format; accepted are {', '.join(IMAGE_SUFFIXES)}, a DICOM slice or a folder")


def _read_itk(path: Path) -> _Stored:
    """Read an NRRD or MetaImage file that holds its own voxels, with SimpleITK."""
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    with path.open("rb") as file:
        beginning = file.read(1 << 16)
    # Such a header could name any other file of the machine.
    header = beginning.split(b"\n\n")[0] if path.suffix == ".nrrd" else beginning
    elsewhere = re.search(rb"(?im)^(data ?file:|ElementDataFile[ \t]*=)(?![ \t]*LOCAL\s)[^\r\n]*", header)
    if elsewhere:
        text = elsewhere[0].decode(errors="replace").strip()[:80]
        raise UserError(f"{path}: its voxels lie in another file ({text}); accepted is one file with header and voxels")
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        size = reader.GetSize()
        if len(size) != 3:
            raise UserError(f"{path}: has shape {size}; accepted are three axes")
        if reader.GetNumberOfComponents() != 1:
            raise UserError(f"{path}: has {reader.GetNumberOfComponents()} values a voxel; accepted is one")
        if path.suffix == ".nrrd" and "NRRD_space" not in reader.GetMetaDataKeys():
            raise UserError(f"{path}: its header has no field space, so its orientation is unknown; write one")
        _credible(path, size)
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
    _usable(path, grid)
    return _Stored(SimpleITK.GetArrayFromImage(image), grid)


def _whole_metaimage(path: Path, expected: int) -> None:
    """Refuse a compressed MetaImage whose voxels do not unpack to `expected` bytes: ITK would try for ever."""
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
        raise UserError(f"{path}: its voxels do not unpack to the {expected} bytes that it announces; is it complete?")


def _itk_fault(error: Exception) -> str:
    """Return what ITK says beside where in its sources it says it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return one_line(ValueError(lines[-1] if lines else "no reason given"))


def _credible(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse a volume that no scanner makes, before memory is taken for it."""
    if min(shape) < 1 or math.prod(shape) > LARGEST_VOLUME:
        raise UserError(f"{path}: announces {'x'.join(map(str, shape))} voxels; accepted are up to {LARGEST_VOLUME:,}")


def _read_nifti(path: Path) -> _Stored:
    """Read a NIfTI-1 or NIfTI-2 file; the values are a map of the file where it is not compressed.

    The grid is that of the sform where there is one, else of the qform; where they disagree it is told.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd headers are told of below, or are errors
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
    _usable(path, grid)
    return _Stored(values, grid, scale, remarks)


def _mapped_nifti(path: Path) -> tuple[nibabel.Nifti1Header, np.ndarray, tuple[float, float] | None]:
    """Return the header of an uncompressed NIfTI file, its values (z, y, x) as a map of the file, slope, intercept."""
    image = nibabel.load(path)
    if not isinstance(image, nibabel.Nifti1Image):
        raise UserError(f"{path}: holds no NIfTI image; accepted are NIfTI-1 and NIfTI-2")
    shape = _check_nifti(path, image.header)
    stored: Any = image.dataobj
    scale = None if (stored.slope, stored.inter) == (1, 0) else (float(stored.slope), float(stored.inter))
    return image.header, stored.get_unscaled().reshape(shape, order="F").T, scale


def _unpacked_nifti(path: Path) -> tuple[nibabel.Nifti1Header, np.ndarray, tuple[float, float] | None]:
    """Do the same for a compressed file: unpacked twice as fast as nibabel does, and no further than it announces."""
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
        # A file cannot hold a thousandfold of its size: deflate packs no better than 1 : 1032.
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
        packed.read(1)  # at the end the checksum is compared
    values = content.view(dtype)
    scale = None if slope is None or (slope, intercept) == (1, 0) else (float(slope), float(intercept))
    return header, values.reshape(shape, order="F").T, scale


def _check_nifti(path: Path, header: nibabel.Nifti1Header) -> tuple[int, int, int]:
    """Refuse what is no volume in mm, by its header; return its shape (x, y, z)."""
    shape = header.get_data_shape()
    if header.get_data_dtype().kind not in "biuf":
        raise UserError(f"{path}: voxels of type {header.get_data_dtype()}; accepted are integers and real numbers")
    if len(shape) < 3 or any(n != 1 for n in shape[3:]):
        raise UserError(f"{path}: has shape {shape}; accepted are three axes")
    _credible(path, shape)
    if not (header["sform_code"] or header["qform_code"]):
        raise UserError(f"{path}: has neither sform nor qform, so its orientation is unknown; write one of them")
    if header.get_xyzt_units()[0] not in ("mm", "unknown"):
        raise UserError(f"{path}: is measured in {header.get_xyzt_units()[0]}; accepted is mm")
    x, y, z = (int(n) for n in shape[:3])
    return x, y, z


def _form_conflict(header: nibabel.Nifti1Header, affine: np.ndarray) -> tuple[str, ...]:
    """Tell where both forms of a NIfTI header are set and place voxels differently."""
    if not (header["sform_code"] and header["qform_code"]):
        return ()
    try:
        qform = header.get_qform()
        grid, other = (Grid(header.get_data_shape()[:3], one) for one in (affine, qform))
        apart = float(np.linalg.norm(((affine - qform) @ corners(grid.shape))[:3], axis=0).max())
        if grid.matches(other):
            return ()
    except (HeaderDataError, ValueError, np.linalg.LinAlgError):
        return ("the qform of the header is invalid: the sform counts",)
    return (f"sform and qform of the header lie up to {apart:.3g} mm apart: the sform counts",)


def _from_ras(affine: np.ndarray) -> np.ndarray:
    """Turn an affine of NIfTI, (x, y, z) towards right, front and head, into the library's."""
    return np.asarray(REVERSE @ _RAS_TO_LPS @ affine @ REVERSE)


def _to_ras(affine: np.ndarray) -> np.ndarray:
    """Turn an affine of the library into that of NIfTI."""
    return np.asarray(_RAS_TO_LPS @ REVERSE @ affine @ REVERSE)


# Masks ----------------------------------------------------------------------------------------------------------------


def label_is_empty(path: str | Path) -> bool:
    """Say whether a mask file holds nothing but zeros."""
    return not _read_file(Path(path)).values.any()


def _read_mask(
    path: Path, grid: Grid, stack: dicom.Stack | None, on_slices: np.ndarray, liver_values: Collection[int]
) -> np.ndarray:
    """Read a mask onto `grid`, the image's. `stack` and `on_slices`: the slices of a DICOM image, and their HU."""
    if not of_slices(path):
        stored = _read_file(path)
        turned, mask_grid = upright(stored.values, stored.grid)
        if not mask_grid.matches(grid):
            raise UserError(f"{path}: the mask is not on the grid of its image; mask: {mask_grid}; image: {grid}")
        return np.ascontiguousarray(_liver(path, _scaled(turned, stored), liver_values))
    if stack is None:
        raise UserError(f"{path}: masks drawn on DICOM slices need an image in DICOM slices")
    if path.is_dir():
        mask = _read_png_masks(path, stack, on_slices, liver_values)
    else:
        mask = dicom.read_drawn_mask(path, stack, liver_values)
    return np.ascontiguousarray(upright(stack.evened(mask), stack.grid())[0])


def _liver(path: Path, values: np.ndarray, liver_values: Collection[int]) -> np.ndarray:
    """Return where a mask of labels says liver: at any of `liver_values`, or at its one value but zero."""
    labelled = values != 0
    found = np.unique(values[labelled])
    odd = found[~(np.isfinite(found) & (found > 0) & (found == np.rint(found)))]
    if len(odd):
        raise UserError(f"{path}: the mask holds {_listed(odd)}; accepted are 0 and positive whole numbers")
    if not liver_values:
        if len(found) > 1:
            raise UserError(f"{path}: the mask holds {_listed(found)}; liver_values must say which of them are liver")
        return np.asarray(labelled)
    if len(found) and not np.isin(found, sorted(liver_values)).any():
        raise UserError(f"{path}: the mask holds {_listed(found)}; accepted as liver: {_listed(liver_values)}")
    return np.isin(values, sorted(liver_values))


def _listed(values: Collection[float]) -> str:
    shown = sorted(float(value) for value in values)
    return ", ".join(f"{value:g}" for value in shown[:5]) + ", …" * (len(shown) > 5)


def _read_png_masks(folder: Path, stack: dicom.Stack, image: np.ndarray, liver_values: Collection[int]) -> np.ndarray:
    """Read one PNG a slice into a bool array (slice, row, column) on `stack`, and check their order against its HU.

    The k-th file in natural order of the names belongs to the k-th slice in order of InstanceNumber. In the CHAOS
    challenge this is the order of the DICOM file names as well, and it runs from the head to the feet, against the
    positions.
    """
    paths = sorted((p for p in folder.iterdir() if p.suffix.lower() == ".png"), key=lambda p: natural(p.name))
    instances = stack.instances
    if instances is None or len(set(instances)) != len(instances):
        raise UserError(f"{folder}: PNG masks need an image in DICOM slices with an InstanceNumber each, all different")
    if len(paths) != len(instances):
        raise UserError(f"{folder}: {len(paths)} PNG masks for {len(instances)} slices; there must be one a slice")
    values = np.empty(stack.shape, np.uint16)
    order = np.argsort(instances)
    for path, k in zip(paths, order, strict=True):
        try:
            with Image.open(path, formats=["PNG"]) as picture:
                if len(picture.getbands()) != 1:
                    raise UserError(f"{path}: is a picture of mode {picture.mode}; accepted is one grey channel")
                if picture.size[::-1] != stack.shape[1:]:
                    raise UserError(
                        f"{path}: has {picture.size[::-1]} rows and columns, but its image has {stack.shape[1:]}"
                    )
                values[k] = np.asarray(picture)
        except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise UserError(f"{path}: cannot be read as PNG ({one_line(error)}); is it complete?") from error
    mask = _liver(folder, values, liver_values)
    turned = np.empty_like(mask)
    turned[order] = mask[order[::-1]]
    if soft_tissue_share(image, mask) < SOFT_TISSUE_SHARE <= soft_tissue_share(image, turned):
        raise UserError(
            f"{folder}: the masks lie on soft tissue only when the last one belongs to the first slice; accepted are "
            "names in the order of InstanceNumber"
        )
    return mask


def natural(name: str) -> list[str | int]:
    """Split a name so that numbers in it compare by value: slice-2 before slice-10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", name)]


def _nifti(array: np.ndarray, grid: Grid) -> nibabel.Nifti1Image:
    """Wrap an array (z, y, x) on `grid` so that any viewer lays it over the original: RAS affine in sform and qform."""
    image = nibabel.Nifti1Image(array.T, _to_ras(grid.affine))
    image.header.set_xyzt_units("mm")
    image.set_sform(image.affine, code=1)
    # A qform cannot hold axes that are not perpendicular.
    image.set_qform(image.affine, code=int(grid.tilt <= TILT_TOLERANCE))
    return image
