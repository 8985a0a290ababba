"""CT and masks in, Hounsfield units, one canonical grid, and back to native space (method of section III of the paper).

Everything that is read is laid out (z, y, x) at once, by flips and transpositions alone: z towards the head, y towards
the back, x towards the patient's left, as nearly as the file's own axes allow. World points are millimetres in the same
order (z, y, x) of the same frame (LPS). A `Grid` says where the voxels of such an array lie.
"""

import io
import json
import logging
import math
import re
import struct
import zlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
import pydicom
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from nibabel.spatialimages import HeaderDataError
from PIL import Image, UnidentifiedImageError
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels import get_decoder
from scipy import ndimage

from . import UserError, files

logger = logging.getLogger(__name__)

AIR = -1024
"""Smallest stored value, HU. Scanners pad the outside of their circle with lower ones, such as -2000 or -3024."""

NIFTI_SUFFIXES = (".nii", ".nii.gz")
ITK_SUFFIXES = (".nrrd", ".mha")
IMAGE_SUFFIXES = (*NIFTI_SUFFIXES, *ITK_SUFFIXES)

LARGEST_VOLUME = 2**31
"""Voxels. A header that announces more is damaged: the longest whole-body CT, 2000 slices of 1024 x 1024, has fewer."""

GRID_TOLERANCE = 0.1
"""Two grids are one when no corner is further apart than this many voxels: headers hold rounded numbers."""

SPACING_TOLERANCE = 0.25
"""How far a slice may lie from its place in an even stack, as a share of the slice spacing. Positions are rounded; one
missing slice moves some slice by half the spacing or more."""

HEADER_TOLERANCE = 1e-3
"""How far the slices of one series may differ in pixel spacing (mm) and direction cosines."""

TILT_TOLERANCE = 0.1
"""How many degrees the axes of a grid may miss the right angle: 0.9 mm over a stack of 500 mm. More is resampled."""

LARGEST_TILT = 45
"""Degrees; gantries tilt by up to 30."""

EDGE = 1.01
"""How many voxels beyond the outermost centres the border value still holds: half a voxel to the edge of the field,
half a voxel because the extent is no multiple of the canonical spacing, and a hundredth for rounding."""

ALIGNED = 1e-3
"""Grids that lean against each other by fewer voxels than this, over their whole length, have the same axes."""

SLICE_FIELDS = {"size": "Rows, Columns", "spacing": "PixelSpacing", "orientation": "ImageOrientationPatient"}
"""What must be the same in all slices of a series, and what DICOM calls it."""

UNREADABLE = (
    BytesLengthException,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    OverflowError,
    MemoryError,
    struct.error,
)
"""What pydicom and its decoders raise for bytes that make no sense."""

TIE = 1e-5
"""Rounding allowed for when interpolated mask values are compared with one half."""

# Swaps (x, y, z) of NIfTI and DICOM with the library's (z, y, x), for points and indices alike.
_REVERSE = np.array([[0.0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
_RAS_TO_LPS = np.diag([-1.0, -1, 1, 1])


class LabelError(UserError):
    """A fault of the mask of a volume, not of its image."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of an array lie.

    `shape` counts voxels (z, y, x); `affine` (4, 4) takes a voxel index (z, y, x, 1) to millimetres (z, y, x, 1), LPS.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxel centres (z, y, x) in mm."""
        z, y, x = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(z), float(y), float(x)

    @property
    def tilt(self) -> float:
        """How many degrees the axes miss the right angle, at most."""
        axes = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        cosines = np.abs((axes.T @ axes)[np.triu_indices(3, k=1)])
        return float(np.degrees(np.arcsin(np.clip(cosines.max(), 0, 1))))

    def matches(self, other: "Grid") -> bool:
        """Say whether both grids have the same voxels, to within `GRID_TOLERANCE`."""
        if self.shape != other.shape:
            return False
        corners = _corners(self.shape)
        displaced = np.linalg.inv(self.affine) @ other.affine @ corners
        return bool(np.abs(displaced - corners).max() < GRID_TOLERANCE)

    def to_json(self) -> str:
        """Return the grid as a JSON object with the keys shape and affine; no digit is lost."""
        return json.dumps({"shape": self.shape, "affine": self.affine.tolist()})

    @classmethod
    def from_json(cls, text: str) -> "Grid":
        """Return the grid that `to_json` wrote."""
        stored = json.loads(text)
        z, y, x = stored["shape"]
        return cls((z, y, x), np.array(stored["affine"], dtype=float))

    def __str__(self) -> str:
        """Return shape, spacing, first voxel centre and axes (z, y, x) in one line."""
        size = "x".join(str(n) for n in self.shape)
        spacing = "x".join(f"{s:.4g}" for s in self.spacing)
        origin = ", ".join(f"{c:.2f}" for c in self.affine[:3, 3])
        axes = ", ".join(
            "(" + " ".join(f"{c:.3f}" for c in column / np.linalg.norm(column)) + ")"
            for column in self.affine[:3, :3].T
        )
        return f"{size} voxels of {spacing} mm from ({origin}) mm along {axes}"


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


def read_image(path: str | Path) -> tuple[np.ndarray, Grid]:
    """Read a CT volume: int16 HU (z, y, x), not below `AIR`, and its native grid.

    `path` is a NIfTI, NRRD or MetaImage file (`IMAGE_SUFFIXES`) or a folder with one DICOM series. Raises `UserError`
    where the file is damaged or is no CT volume on an even grid. Tilted slices (gantry tilt) are resampled to the
    patient's axes, so that every grid that leaves this module has perpendicular ones.
    """
    image, _, grid = read_case(path, None)
    return image, grid


def read_case(
    image_path: str | Path, label_path: str | Path | None, liver_values: Collection[int] = ()
) -> tuple[np.ndarray, np.ndarray | None, Grid]:
    """Read a CT volume and its liver mask: HU as in `read_image`, the mask as bool (z, y, x), and their native grid.

    `label_path` is a file on the grid of the image, stored along whichever axes, or a folder with one PNG a DICOM
    slice; `liver_values` are liver in it, or, without any, all but zero. Without a label the mask is None. The PNG
    files in natural order of their names belong to the slices in order of InstanceNumber, the layout of the CHAOS
    challenge, whatever direction the positions run in. Raises `LabelError` for faults of the mask, `UserError` for
    those of the image.
    """
    values, raw_grid, instances = _read_raw_image(Path(image_path))
    image, grid = _upright(values, raw_grid)
    if label_path is None:
        return _straightened(Path(image_path), image, None, grid)
    try:
        mask = _read_mask(Path(label_path), grid, raw_grid, instances, liver_values)
    except UserError as error:
        raise LabelError(str(error)) from error
    return _straightened(Path(image_path), image, mask, grid)


def canonical_grid(grid: Grid, spacing: tuple[float, float, float]) -> Grid:
    """Return the grid along the patient's axes with `spacing` (z, y, x) in mm over the extent of `grid`.

    The lower edges of both grids coincide and the number of voxels is rounded, so that every voxel centre lies within
    the extent. The extent of an oblique grid is its bounding box.
    """
    # Corners of the outermost voxels, half a voxel beyond their centres.
    edges = _corners(grid.shape, margin=0.5)
    world = (grid.affine @ edges)[:3]
    low, high = world.min(axis=1), world.max(axis=1)
    # Rounded to a millionth first: otherwise the last bits decide whether half a voxel counts.
    z, y, x = np.maximum(np.floor(np.round((high - low) / spacing, 6) + 0.5), 1).astype(int).tolist()
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = low + np.asarray(spacing) / 2
    return Grid((z, y, x), affine)


def resample(array: np.ndarray, source: Grid, target: Grid, *, fill: float) -> np.ndarray:
    """Interpolate `array` (z, y, x) on `source` linearly at the voxel centres of `target`; float32 (z, y, x).

    Up to `EDGE` voxels beyond the outermost centres the border value holds, so that a volume gets no rim; further out
    the value is `fill`.
    """
    matrix = np.linalg.inv(source.affine) @ target.affine
    scale, offset = np.diag(matrix)[:3], matrix[:3, 3]
    aside = np.abs(matrix[:3, :3] - np.diag(scale)) @ np.asarray(target.shape)
    if aside.max() < ALIGNED:
        return _resample_aligned(array, target.shape, scale, offset, fill)
    return _resample_oblique(array, target.shape, matrix, fill)


def resample_mask(mask: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """Resample a mask (z, y, x): liver where its linear interpolation exceeds one half; exactly one half is not liver.

    Returns bool (z, y, x) on `target`, False outside of `source`. Used in both directions, to the canonical grid and
    back.
    """
    return resample(mask != 0, source, target, fill=0) > 0.5 + TIE


def preprocess(
    image_path: str | Path,
    label_path: str | Path,
    spacing: tuple[float, float, float],
    liver_values: Collection[int] = (),
) -> Preprocessed:
    """Read a volume and its mask (see `read_case`), and resample both to the canonical grid with `spacing` (mm)."""
    image, mask, native_grid = read_case(image_path, label_path, liver_values)
    assert mask is not None
    grid = canonical_grid(native_grid, spacing)
    return Preprocessed(
        image=np.rint(resample(image, native_grid, grid, fill=AIR)).astype(np.int16),
        mask=resample_mask(mask, native_grid, grid).astype(np.uint8),
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
    image, grid = _read_nifti(folder / "image.nii")
    mask, _ = _read_nifti(folder / "mask.nii")
    native_grid = Grid.from_json((folder / "native_grid.json").read_text(encoding="utf-8"))
    return Preprocessed(image, mask, grid, native_grid)


def load_native_mask(folder: str | Path) -> np.ndarray:
    """Read the reference mask on its native grid, bool (z, y, x), from what `save_preprocessed` wrote."""
    mask, _ = _read_mask_file(Path(folder) / "native_mask.nii.gz")
    return mask


def volume_folders(shards: Iterable[str | Path]) -> dict[str, Path]:
    """Return the folder of each preprocessed volume in `shards`, folders that hold one folder a volume."""
    return {folder.name: folder for shard in shards for folder in Path(shard).iterdir() if folder.is_dir()}


def write_mask(path: str | Path, mask: np.ndarray, grid: Grid) -> None:
    """Write a mask (z, y, x) on `grid` as a uint8 NIfTI file, compressed where `path` ends in .gz."""
    with files.replacing(path) as temporary:
        nibabel.save(_nifti((mask != 0).astype(np.uint8), grid), temporary)


def read_canonical_mask(path: str | Path) -> np.ndarray:
    """Read a mask that `write_mask` wrote on a canonical grid; bool (z, y, x)."""
    mask, _ = _upright(*_read_mask_file(Path(path)))
    return mask


def _corners(shape: tuple[int, int, int], margin: float = 0.0) -> np.ndarray:
    """Return the indices (4, 8) of the eight corner voxels, moved outwards by `margin` voxels."""
    ends = [(-margin, n - 1 + margin) for n in shape]
    return np.array([(z, y, x, 1.0) for z in ends[0] for y in ends[1] for x in ends[2]]).T


def _upright(array: np.ndarray, grid: Grid) -> tuple[np.ndarray, Grid]:
    """Flip and transpose `array` so that its axes come nearest to the patient's z, y and x; no value changes."""
    orientation = io_orientation(grid.affine)
    affine = grid.affine @ inv_ornt_aff(orientation, grid.shape)
    array = np.ascontiguousarray(apply_orientation(array, orientation))
    z, y, x = array.shape
    return array, Grid((z, y, x), affine)


def _usable(path: Path, affine: np.ndarray) -> None:
    """Refuse axes that span no volume."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or lengths.min() == 0:
        raise UserError(f"{path}: the voxel spacing must be finite and positive, got the affine {affine.tolist()}")
    tilt = Grid((1, 1, 1), affine).tilt
    if tilt > LARGEST_TILT:
        raise UserError(
            f"{path}: the slices are tilted by {tilt:.1f} degrees against the direction in which they are stacked; "
            f"accepted are up to {LARGEST_TILT}, more than any gantry"
        )


def _straightened(
    path: Path, image: np.ndarray, mask: np.ndarray | None, grid: Grid
) -> tuple[np.ndarray, np.ndarray | None, Grid]:
    """Resample a volume whose slices are tilted (gantry tilt) to the patient's axes, with the spacing it has.

    Any other volume is returned as it is. What lies outside of the tilted stack is air.
    """
    tilt = grid.tilt
    if tilt <= TILT_TOLERANCE:
        return image, mask, grid
    logger.info("%s: slices tilted by %.1f degrees, resampled to the patient's axes", path, tilt)
    straight = canonical_grid(grid, grid.spacing)
    image = np.rint(resample(image, grid, straight, fill=AIR)).astype(np.int16)
    return image, None if mask is None else resample_mask(mask, grid, straight), straight


def _hounsfield(values: np.ndarray) -> np.ndarray:
    """Round to int16 HU; what is lower than `AIR` or no number becomes `AIR`."""
    if np.issubdtype(values.dtype, np.floating):
        values = np.rint(np.nan_to_num(values, nan=AIR))
    return np.clip(values, AIR, np.iinfo(np.int16).max).astype(np.int16)


# Images ---------------------------------------------------------------------------------------------------------------


def _read_raw_image(path: Path) -> tuple[np.ndarray, Grid, list[int] | None]:
    """Read HU along the file's own axes, their grid, and for DICOM the InstanceNumber of each slice."""
    if path.is_dir():
        return _read_series(path)
    values, grid = _read_file(path)
    if min(grid.shape) < 2:
        raise UserError(f"{path}: has {grid.shape} voxels; a volume has two or more slices, rows and columns")
    return _hounsfield(values), grid, None


def _read_file(path: Path) -> tuple[np.ndarray, Grid]:
    """Read a file of any of the `IMAGE_SUFFIXES`: values with axes (z, y, x) as stored, and their grid."""
    if not path.exists():
        raise UserError(f"{path}: there is no such file or folder")
    if path.name.endswith(NIFTI_SUFFIXES):
        return _read_nifti(path)
    if path.name.endswith(ITK_SUFFIXES):
        return _read_itk(path)
    raise UserError(f"{path}: unknown format; accepted are {', '.join(IMAGE_SUFFIXES)} or a folder")


def _read_itk(path: Path) -> tuple[np.ndarray, Grid]:
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
    affine = _REVERSE @ affine @ _REVERSE
    _usable(path, affine)
    x, y, z = size
    return SimpleITK.GetArrayFromImage(image), Grid((z, y, x), affine)


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
    return _one_line(ValueError(lines[-1] if lines else "no reason given"))


def _credible(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse a volume that no scanner makes, before memory is taken for it."""
    if min(shape) < 1 or math.prod(shape) > LARGEST_VOLUME:
        raise UserError(f"{path}: announces {'x'.join(map(str, shape))} voxels; accepted are up to {LARGEST_VOLUME:,}")


def _read_nifti(path: Path) -> tuple[np.ndarray, Grid]:
    """Read the values of a NIfTI file, slope and intercept applied, with axes (z, y, x) as stored, and their grid.

    Unscaled values keep their type, and are a map of the file where it is not compressed.
    """
    try:
        image = nibabel.load(path)
        if not isinstance(image, nibabel.Nifti1Image):
            raise UserError(f"{path}: holds no NIfTI image; accepted are NIfTI-1 and NIfTI-2")
        header = image.header
        if image.get_data_dtype().kind not in "biuf":
            raise UserError(f"{path}: voxels of type {image.get_data_dtype()}; accepted are integers and real numbers")
        if len(image.shape) < 3 or any(n != 1 for n in image.shape[3:]):
            raise UserError(f"{path}: has shape {image.shape}; accepted are three axes")
        _credible(path, image.shape)
        if not (header["sform_code"] or header["qform_code"]):
            raise UserError(f"{path}: has neither sform nor qform, so its orientation is unknown; write one of them")
        if header.get_xyzt_units()[0] not in ("mm", "unknown"):
            raise UserError(f"{path}: is measured in {header.get_xyzt_units()[0]}; accepted is mm")
        stored: Any = image.dataobj
        scaled = (stored.slope, stored.inter) != (1, 0)
        values = image.get_fdata(dtype=np.float32, caching="unchanged") if scaled else np.asanyarray(stored)
    except (OSError, EOFError, KeyError, ValueError, zlib.error, ImageFileError, HeaderDataError) as error:
        raise UserError(f"{path}: cannot be read as NIfTI ({_one_line(error)}); is it complete?") from error
    affine = _REVERSE @ _RAS_TO_LPS @ np.asarray(image.affine, dtype=np.float64) @ _REVERSE
    _usable(path, affine)
    x, y, z = image.shape[:3]
    return values.reshape((x, y, z), order="F").T, Grid((z, y, x), affine)


class _Slice(NamedTuple):
    """What counts of one DICOM file: its geometry and its stored values, for (slope, intercept) see `rescale`.

    orientation: direction cosines along a row and along a column, (x, y, z) each; position: (x, y, z) in mm.
    """

    size: tuple[int, int]
    spacing: np.ndarray
    orientation: np.ndarray
    position: np.ndarray
    rescale: np.ndarray
    series: str
    instance: int | None
    dataset: pydicom.Dataset


def _read_series(folder: Path) -> tuple[np.ndarray, Grid, list[int] | None]:
    """Read a DICOM series: HU (slice, row, column), slices in order of position, their grid and InstanceNumbers."""
    paths = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".") and p.name != "DICOMDIR")
    slices = [_read_slice(path) for path in paths]
    if len(slices) < 2:
        raise UserError(f"{folder}: has {len(slices)} DICOM slice(s); a volume has two or more")
    # Anonymisation may leave one identifier to each slice: only identifiers that group slices tell of several series.
    series = {one.series for one in slices}
    if 1 < len(series) < len(slices):
        raise UserError(f"{folder}: holds {len(series)} DICOM series; put one series alone into a folder")
    first = slices[0]
    for path, one in zip(paths, slices, strict=True):
        for name in ("size", "spacing", "orientation"):
            here, there = getattr(one, name), getattr(first, name)
            if not np.allclose(here, there, rtol=0, atol=HEADER_TOLERANCE):
                raise UserError(f"{path}: {SLICE_FIELDS[name]} is {list(here)}, but {list(there)} in {paths[0].name}")

    along_row, along_column = np.split(first.orientation, 2)
    positions = np.array([one.position for one in slices])
    heights = positions @ np.cross(along_row, along_column)
    order = np.argsort(heights)
    slices, positions, heights = [slices[i] for i in order], positions[order], heights[order]
    _even(folder, positions, heights)

    between_rows, between_columns = first.spacing
    affine = np.eye(4)
    affine[:3, 0] = (positions[-1] - positions[0]) / (len(slices) - 1)
    affine[:3, 1] = along_column * between_rows
    affine[:3, 2] = along_row * between_columns
    affine[:3, 3] = positions[0]
    affine[:3] = affine[2::-1]
    _usable(folder, affine)

    shape = (len(slices), *first.size)
    _credible(folder, shape)
    values = np.empty(shape, np.int16)
    for k, one in enumerate(slices):
        values[k] = _hounsfield(_pixels(paths[order[k]], one))
    numbers = [one.instance for one in slices if one.instance is not None]
    return values, Grid(shape, affine), numbers if len(numbers) == len(slices) else None


def _read_slice(path: Path) -> _Slice:
    """Read one DICOM file and refuse what is not a plain CT slice."""
    try:
        # From memory: a damaged length makes pydicom ask for gigabytes, which a file would have to be given room for.
        one = pydicom.dcmread(io.BytesIO(path.read_bytes()))
        modality = one.get("Modality")
        if modality != "CT":
            raise UserError(f"{path}: Modality is {modality or 'missing'}; accepted is CT")
        wanted = ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient")
        for name in (*wanted, "RescaleSlope", "RescaleIntercept"):
            if one.get(name) in (None, ""):
                raise UserError(f"{path}: has no {name}; a CT slice needs it")
        if one.get("SamplesPerPixel", 1) != 1 or int(one.get("NumberOfFrames") or 1) != 1:
            raise UserError(f"{path}: holds colours or several frames; accepted is one grey slice a file")
        instance = one.get("InstanceNumber")
        return _Slice(
            (int(one.Rows), int(one.Columns)),
            _numbers(path, one, "PixelSpacing", 2),
            _numbers(path, one, "ImageOrientationPatient", 6),
            _numbers(path, one, "ImagePositionPatient", 3),
            np.concatenate([_numbers(path, one, "RescaleSlope", 1), _numbers(path, one, "RescaleIntercept", 1)]),
            str(one.get("SeriesInstanceUID", "")),
            None if instance is None else int(instance),
            one,
        )
    except InvalidDicomError as error:
        raise UserError(
            f"{path}: is not a DICOM file; a folder holds the slices of one series and nothing else"
        ) from error
    except UNREADABLE as error:
        raise UserError(f"{path}: cannot be read as DICOM ({_one_line(error)}); is it complete?") from error


def _pixels(path: Path, one: _Slice) -> np.ndarray:
    """Return slope times stored values plus intercept, float32 (row, column)."""
    try:
        syntax = one.dataset.file_meta.TransferSyntaxUID
        if syntax.is_compressed and not get_decoder(syntax).is_available:
            raise UserError(
                f"{path}: is compressed ({syntax.name}) and no decoder is installed; pip install pylibjpeg "
                "pylibjpeg-openjpeg pylibjpeg-libjpeg, or store the series uncompressed"
            )
        stored = one.dataset.pixel_array
    except UNREADABLE as error:
        raise UserError(f"{path}: its pixels cannot be read ({_one_line(error)}); is the file complete?") from error
    if stored.shape != one.size:
        raise UserError(f"{path}: has {stored.shape} pixels, but its header says {one.size}")
    slope, intercept = one.rescale.astype(np.float32)
    return stored.astype(np.float32) * slope + intercept


def _even(folder: Path, positions: np.ndarray, heights: np.ndarray) -> None:
    """Refuse slices that are no even stack: `positions` (slice, 3) in mm, sorted by `heights` along their normal."""
    steps = np.diff(heights)
    # A thousandth of a millimetre is the finest that scanners write.
    for k in np.flatnonzero(steps < 1e-3)[:1]:
        raise UserError(
            f"{folder}: several slices at {heights[k]:.3f} mm along the normal; a volume has one a position"
        )
    usual = float(np.median(steps))
    off = np.linalg.norm(positions - np.linspace(positions[0], positions[-1], len(positions)), axis=1).max()
    if off > SPACING_TOLERANCE * usual:
        k = int(np.abs(steps - usual).argmax())
        raise UserError(
            f"{folder}: the slices are up to {off:.3f} mm off an even stack, with {steps[k]:.3f} mm between "
            f"{heights[k]:.3f} and {heights[k + 1]:.3f} mm along the normal where {usual:.3f} mm is usual; "
            "is a slice missing?"
        )


def _numbers(path: Path, one: pydicom.Dataset, name: str, count: int) -> np.ndarray:
    """Return the numbers of an element; there must be `count`, finite all."""
    numbers = np.atleast_1d(np.asarray(one[name].value, dtype=float))
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise UserError(f"{path}: {name} is {numbers.tolist()}; accepted: finite numbers, {count} of them")
    return numbers


# Masks ----------------------------------------------------------------------------------------------------------------


def label_is_empty(path: str | Path) -> bool:
    """Say whether a mask file holds nothing but zeros."""
    return not _read_mask_file(Path(path))[0].any()


def _read_mask(
    path: Path, grid: Grid, raw_grid: Grid, instances: list[int] | None, liver_values: Collection[int]
) -> np.ndarray:
    """Read a mask onto `grid`, the image's; `raw_grid` and `instances` are those of the image as stored."""
    if path.is_dir():
        return _upright(_read_png_masks(path, raw_grid.shape, instances, liver_values), raw_grid)[0]
    mask, mask_grid = _upright(*_read_mask_file(path, liver_values))
    if not mask_grid.matches(grid):
        raise UserError(f"{path}: the mask is not on the grid of its image; mask: {mask_grid}; image: {grid}")
    return mask


def _read_mask_file(path: Path, liver_values: Collection[int] = ()) -> tuple[np.ndarray, Grid]:
    """Read a mask along the file's own axes, bool, and its grid."""
    values, grid = _read_file(path)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise UserError(f"{path}: the mask holds values that are no numbers; accepted are 0 and labels")
    return _liver(values, liver_values), grid


def _liver(values: np.ndarray, liver_values: Collection[int]) -> np.ndarray:
    """Return where a mask of labels says liver: at any of `liver_values`, or, without any, wherever it is not zero."""
    return np.isin(values, sorted(liver_values)) if liver_values else values != 0


def _read_png_masks(
    folder: Path, shape: tuple[int, int, int], instances: list[int] | None, liver_values: Collection[int]
) -> np.ndarray:
    """Read one PNG a slice into a bool array (slice, row, column) of `shape`.

    `instances` are the InstanceNumbers of the slices in the order of the array. The k-th file in natural order of the
    names belongs to the k-th slice in order of InstanceNumber. In the CHAOS challenge this is the order of the DICOM
    file names as well, and it runs from the head to the feet, against the positions.
    """
    paths = sorted((p for p in folder.iterdir() if p.suffix.lower() == ".png"), key=lambda p: natural(p.name))
    if instances is None or len(set(instances)) != len(instances):
        raise UserError(f"{folder}: PNG masks need an image in DICOM slices with an InstanceNumber each, all different")
    if len(paths) != shape[0]:
        raise UserError(f"{folder}: {len(paths)} PNG masks for {shape[0]} slices; there must be one a slice")
    mask = np.empty(shape, bool)
    for path, k in zip(paths, np.argsort(instances), strict=True):
        try:
            with Image.open(path) as picture:
                if len(picture.getbands()) != 1:
                    raise UserError(f"{path}: is a picture of mode {picture.mode}; accepted is one grey channel")
                values = np.asarray(picture)
        except (OSError, SyntaxError, UnidentifiedImageError) as error:
            raise UserError(f"{path}: cannot be read as PNG ({_one_line(error)}); is it complete?") from error
        if values.shape != shape[1:]:
            raise UserError(f"{path}: has {values.shape} rows and columns, but its image has {shape[1:]}")
        mask[k] = _liver(values, liver_values)
    return mask


def natural(name: str) -> list[str | int]:
    """Split a name so that numbers in it compare by value: slice-2 before slice-10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", name)]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


# Resampling -----------------------------------------------------------------------------------------------------------


def _resample_aligned(
    array: np.ndarray, shape: tuple[int, int, int], scale: np.ndarray, offset: np.ndarray, fill: float
) -> np.ndarray:
    """Interpolate axis by axis and slice by slice: target index i lies at source index scale x i + offset."""
    (z_low, z_high, z_part), (y_low, y_high, y_part), (x_low, x_high, x_part) = (
        _neighbours(*axis) for axis in zip(array.shape, shape, scale, offset, strict=True)
    )
    y_part = y_part[:, None]
    result = np.full(shape, fill, np.float32)
    for z, (low, high, part) in enumerate(zip(z_low, z_high, z_part, strict=True)):
        if np.isnan(part):
            continue
        plane = _between(array[low].astype(np.float32), array[high].astype(np.float32), part)
        plane = _between(plane[y_low], plane[y_high], y_part)
        result[z] = _between(np.take(plane, x_low, axis=1), np.take(plane, x_high, axis=1), x_part)
    result[:, np.isnan(y_part[:, 0]), :] = fill
    result[:, :, np.isnan(x_part)] = fill
    return result


def _between(low: np.ndarray, high: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Interpolate in the form that returns equal values unchanged, to the last bit."""
    return low + part * (high - low)


def _neighbours(length: int, target: int, scale: float, offset: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return lower and upper neighbour of each target index and the weight of the upper one, NaN outside the field."""
    position = scale * np.arange(target) + offset
    inside = (position >= -EDGE) & (position <= length - 1 + EDGE)
    position = np.clip(position, 0, length - 1)
    low = np.floor(position).astype(np.intp)
    part = np.where(inside, position - low, np.nan).astype(np.float32)
    return low, np.minimum(low + 1, length - 1), part


def _resample_oblique(array: np.ndarray, shape: tuple[int, int, int], matrix: np.ndarray, fill: float) -> np.ndarray:
    """Interpolate slice by slice: target index (z, y, x, 1) lies at source index matrix x (z, y, x, 1)."""
    if array.dtype == bool:
        array = array.view(np.uint8)
    last = np.asarray(array.shape).reshape(3, 1, 1) - 1
    y, x = np.arange(shape[1])[:, None], np.arange(shape[2])[None, :]
    in_plane = matrix[:3, 1, None, None] * y + matrix[:3, 2, None, None] * x
    result = np.empty(shape, np.float32)
    for z in range(shape[0]):
        position = in_plane + (matrix[:3, 0] * z + matrix[:3, 3])[:, None, None]
        inside = ((position >= -EDGE) & (position <= last + EDGE)).all(axis=0)
        ndimage.map_coordinates(array, position, output=result[z], order=1, mode="nearest")
        result[z][~inside] = fill
    return result


def _nifti(array: np.ndarray, grid: Grid) -> nibabel.Nifti1Image:
    """Wrap an array (z, y, x) on `grid` so that any viewer lays it over the original: RAS affine in sform and qform."""
    image = nibabel.Nifti1Image(array.T, _RAS_TO_LPS @ _REVERSE @ grid.affine @ _REVERSE)
    image.header.set_xyzt_units("mm")
    image.set_sform(image.affine, code=1)
    image.set_qform(image.affine, code=1)
    return image
