"""Made-up volumes and files for the tests of reading, resampling and storing them."""

from pathlib import Path

import nibabel
import numpy as np
import pydicom
from PIL import Image
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    RTStructureSetStorage,
    generate_uid,
)
from slicesampling.cohort.grids import Grid
from slicesampling.cohort.scans import read_scan
from slicesampling.domain.labels import Label

REVERSE = np.array([[0.0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
LPS = np.diag([-1.0, -1, 1, 1])
CANONICAL = (1.5, 1.0, 1.0)

IDENTITY = {
    "PatientName": "Nobody^Real",
    "PatientID": "17",
    "PatientBirthDate": "",
    "PatientSex": "O",
    "StudyInstanceUID": "1.2.30",
    "StudyDate": "20200101",
    "StudyTime": "120000",
    "StudyID": "1",
    "AccessionNumber": "",
    "ReferringPhysicianName": "",
    "FrameOfReferenceUID": "1.2.31",
    "PositionReferenceIndicator": "",
}
"""What the standard wants of every slice."""


def ras(grid: Grid) -> np.ndarray:
    """Return the NIfTI affine (x, y, z in RAS) of a grid."""
    return LPS @ REVERSE @ grid.affine @ REVERSE


def grid_of(shape, spacing, origin=(0.0, 0.0, 0.0)) -> Grid:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return Grid(shape, affine)


def rotated(grid: Grid, degrees: float, axes: tuple[int, int]) -> Grid:
    """Turn a grid about the world's origin in the plane of two world axes (of z, y, x)."""
    angle, turn = np.radians(degrees), np.eye(4)
    turn[np.ix_(axes, axes)] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return Grid(grid.shape, turn @ grid.affine)


def world(grid: Grid) -> np.ndarray:
    """Return the voxel centres (3, z, y, x) of a grid in mm."""
    indices = np.indices(grid.shape).reshape(3, -1)
    return (grid.affine[:3, :3] @ indices + grid.affine[:3, 3:]).reshape(3, *grid.shape)


def ball(grid: Grid, centre, radius: float) -> np.ndarray:
    return np.linalg.norm(world(grid) - np.reshape(centre, (3, 1, 1, 1)), axis=0) <= radius


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def write_nifti(path: Path, array: np.ndarray, grid: Grid) -> Path:
    image = nibabel.Nifti1Image(array.T, ras(grid))
    nibabel.save(image, path)
    return path


def write_dicom(path: Path, pixels: np.ndarray, position, instance: int, **changes) -> None:
    """Write one CT slice; `position` (x, y, z) in mm; `changes` replace elements, None removes them."""
    one = pydicom.Dataset()
    one.file_meta = pydicom.dataset.FileMetaDataset()
    one.file_meta.TransferSyntaxUID = changes.pop("TransferSyntaxUID", ExplicitVRLittleEndian)
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = CTImageStorage
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = generate_uid()
    one.SeriesInstanceUID = "1.2.3"
    one.Modality = "CT"
    one.InstanceNumber = instance
    one.ImagePositionPatient = [float(p) for p in position]
    one.ImageOrientationPatient = [1.0, 0, 0, 0, 1, 0]
    one.PixelSpacing = [0.8, 0.7]
    one.SliceThickness = 9.0  # wrong on purpose: the positions count
    one.Rows, one.Columns = pixels.shape
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
    one.RescaleSlope, one.RescaleIntercept = 1, -1024
    one.PixelData = pixels.astype("<i2").tobytes()
    for name, value in changes.items():
        if value is None:
            delattr(one, name)
        else:
            setattr(one, name, value)
    one.save_as(path, enforce_file_format=True)


def write_series(folder: Path, hu: np.ndarray, *, spacing: float = 2.5, downwards=False, names=None, **changes) -> Path:
    """Write HU (z, y, x) as a series from z = 10 mm; `downwards`: InstanceNumber falls while z grows."""
    folder.mkdir()
    for k, plane in enumerate(hu):
        instance = len(hu) - k if downwards else k + 1
        name = names[k] if names else f"i{instance:04d}.dcm"
        write_dicom(folder / name, plane + 1024, (-40, -60, 10 + spacing * k), instance, **changes)
    return folder


def write_pngs(folder: Path, masks: np.ndarray) -> Path:
    """Write masks in the order of the file names, which is no alphabetical one."""
    folder.mkdir()
    for k, mask in enumerate(masks):
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"liver-{k}.png")
    return folder


def read_image(path: Path, **options) -> tuple[np.ndarray, Grid]:
    scan = read_scan(path, **options)
    return scan.image, scan.grid


def read_case(image: Path, mask: Path | None, values=()) -> tuple[np.ndarray, np.ndarray | None, Grid]:
    scan = read_scan(image, mask and Label.single(mask, values))
    return scan.image, scan.mask, scan.grid


def write_structures(
    path: Path, regions: dict[int, list[np.ndarray]], names: dict[int, str] | None = None, series: str = "1.2.3"
) -> Path:
    """Write a structure set of closed planar contours (point, xyz in mm) on a series."""
    one = pydicom.Dataset()
    one.file_meta = pydicom.dataset.FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    one.Modality = "RTSTRUCT"
    one.StructureSetROISequence = [item(ROINumber=n, ROIName=(names or {}).get(n, "liver")) for n in regions]
    study = item(RTReferencedSeriesSequence=[item(SeriesInstanceUID=series)])
    one.ReferencedFrameOfReferenceSequence = [item(RTReferencedStudySequence=[study])]
    one.ROIContourSequence = [
        item(
            ReferencedROINumber=number,
            ContourSequence=[
                item(
                    ContourGeometricType="CLOSED_PLANAR",
                    NumberOfContourPoints=len(points),
                    ContourData=[f"{c:.6g}" for c in points.ravel()],
                )
                for points in contours
            ],
        )
        for number, contours in regions.items()
    ]
    one.save_as(path, enforce_file_format=True)
    return path


def item(**elements) -> pydicom.Dataset:
    one = pydicom.Dataset()
    for name, value in elements.items():
        setattr(one, name, value)
    return one


def rectangle(z: float, left: float, right: float, front: float, back: float) -> np.ndarray:
    return np.array([(left, front, z), (right, front, z), (right, back, z), (left, back, z)])


def write_enhanced(path: Path, hu: np.ndarray, *, spacing: float = 2.5, order=None, **changes) -> Path:
    """Write HU (z, y, x) as `write_series` does, in one file of enhanced CT; `order`: of the frames, as indices z."""
    order = range(len(hu)) if order is None else order
    one = pydicom.Dataset()
    one.file_meta = pydicom.dataset.FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = EnhancedCTImageStorage
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = generate_uid()
    one.SeriesInstanceUID, one.Modality, one.InstanceNumber = "1.2.3", "CT", 1
    one.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    one.NumberOfFrames, one.Rows, one.Columns = hu.shape
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
    one.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[item(PixelSpacing=[0.8, 0.7], SliceThickness=9.0)],
            PlaneOrientationSequence=[item(ImageOrientationPatient=[1.0, 0, 0, 0, 1, 0])],
            PixelValueTransformationSequence=[item(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")],
        )
    ]
    places = [item(ImagePositionPatient=[-40.0, -60.0, 10 + spacing * z]) for z in order]
    one.PerFrameFunctionalGroupsSequence = [item(PlanePositionSequence=[place]) for place in places]
    one.PixelData = (hu[list(order)] + 1024).astype("<i2").tobytes()
    for name, value in changes.items():
        setattr(one, name, value)
    one.save_as(path, enforce_file_format=True)
    return path
