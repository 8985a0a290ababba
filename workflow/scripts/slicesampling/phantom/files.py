"""Files of the synthetic multi-site abdominal CT cohort, in the formats of real data sets.

No voxel is from a patient. Every volume depends only on (seed, volume).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from ..jobs.files import replacing
from ..jobs.nifti import nifti_image
from ..jobs.randomness import generator
from .scanner import Grid, render_row
from .shapes import LIVER, VENA_CAVA, Array
from .sites import EXCLUSIONS, SITES, Row


def reference_mask(labels: Array, exclude: str) -> Array:
    """Return the reference mask, uint8 (z, y, x): 0 outside, 1 liver, 2 tumour.

    It is correct if `exclude` is empty, and has the fault that one of the `EXCLUSIONS` describes otherwise.
    """
    mask = np.where(labels == VENA_CAVA, 0, labels).astype(np.uint8)
    if exclude == EXCLUSIONS[0]:
        liver_slices = np.any(mask > 0, axis=(1, 2), keepdims=True)
        return np.where((labels == VENA_CAVA) & liver_slices, LIVER, mask).astype(np.uint8)
    if exclude == EXCLUSIONS[1]:
        # Drawn on few slices and copied to the next ones, truncated, with straight edges.
        every = max(2, len(mask) // 12)
        held = mask[np.arange(len(mask)) // every * every]
        side = max(2, mask.shape[1] // 24)
        rows, columns = (np.arange(n) // side * side + side // 2 for n in mask.shape[1:])
        return held[:, rows.clip(max=mask.shape[1] - 1)][:, :, columns.clip(max=mask.shape[2] - 1)]
    return mask


def write_volume(row: Row, settings: Mapping[str, Any]) -> None:
    """Write image and label of a row of `plan_cohort`, each by rename; the same row always gives the same bytes.

    NIfTI sites: int16 with the site's slope, intercept and orientation, label uint8. DICOM sites: a CT series with
    shuffled file names, and one PNG mask per slice; the masks' names ascend from head to feet, like InstanceNumber.
    """
    hu, labels, grid = render_row(row, settings)
    site = SITES[row["site"]]
    mask = reference_mask(labels, row["exclude"] if isinstance(row["exclude"], str) else "")
    if row["site"] != "lits":
        mask = (mask > 0).astype(np.uint8)
    if site.file_format == "dicom":
        with replacing(row["image"]) as folder:
            _write_series(folder, hu, grid, row, settings)
        with replacing(row["label"]) as folder:
            folder.mkdir()
            for number, plane in enumerate(mask[::-1]):
                Image.fromarray(plane > 0).save(folder / f"liver_GT_{number:03d}.png")
        return
    for plane in hu:  # in place, because a whole-body scan has half a gigabyte
        plane[:] = np.rint((plane - np.float32(site.intercept)) / np.float32(site.slope))
    for path, array, slope, intercept in (
        (row["image"], hu, site.slope, site.intercept),
        (row["label"], mask, 1, 0),
    ):
        with replacing(path) as temporary:
            nibabel.save(_scaled_nifti(array, grid, site.orientation, slope, intercept), temporary)


def _scaled_nifti(array: Array, grid: Grid, orientation: str, slope: float, intercept: float) -> nibabel.Nifti1Image:
    """Return stored values (z, y, x) as a NIfTI image, with the scale to HU."""
    dz, dy, dx = grid.spacing
    oz, oy, ox = grid.origin
    affine = np.array([[-dx, 0, 0, -ox], [0, -dy, 0, -oy], [0, 0, dz, oz], [0, 0, 0, 1]], float)  # NIfTI is RAS
    image = nifti_image(array, affine, orientation)
    image.header.set_slope_inter(slope, intercept)
    return image


def _write_series(folder: Path, hu: Array, grid: Grid, row: Row, settings: Mapping[str, Any]) -> None:
    """Write one CT Image Storage file per slice into `folder`."""
    site = SITES[row["site"]]
    folder.mkdir()
    key = (str(settings["seed"]), str(settings["matrix"]), row["volume"])
    study, series, frame = (generate_uid(entropy_srcs=[*key, name]) for name in ("study", "series", "frame"))
    slices = len(hu)
    names = generator(settings["seed"], row["volume"], "file names").permutation(slices)
    dz, dy, dx = grid.spacing
    oz, oy, ox = grid.origin
    for number in range(slices):  # from head to feet
        index = slices - 1 - number
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[*key, "slice", str(number)])
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        slide = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        slide.SOPClassUID = CTImageStorage
        slide.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        slide.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
        slide.Modality = "CT"
        slide.PatientName = f"PHANTOM^{row['volume'].upper()}"
        slide.PatientID = row["patient"]
        slide.PatientBirthDate = slide.PatientSex = ""
        slide.StudyInstanceUID, slide.SeriesInstanceUID, slide.FrameOfReferenceUID = study, series, frame
        slide.StudyDate = slide.StudyTime = slide.StudyID = slide.AccessionNumber = slide.ReferringPhysicianName = ""
        slide.PositionReferenceIndicator = slide.Manufacturer = ""
        slide.SeriesDescription = "Synthetic CT"
        slide.SeriesNumber, slide.AcquisitionNumber, slide.InstanceNumber = 1, 1, number + 1
        slide.PatientPosition = "HFS"
        slide.KVP = 120
        slide.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        slide.ImagePositionPatient = [round(ox, 4), round(oy, 4), round(oz + dz * index, 4)]
        slide.SliceLocation = round(oz + dz * index, 4)
        slide.SliceThickness = round(dz, 4)
        slide.PixelSpacing = [round(dy, 6), round(dx, 6)]
        slide.SamplesPerPixel = 1
        slide.PhotometricInterpretation = "MONOCHROME2"
        slide.Rows, slide.Columns = hu.shape[1:]
        slide.BitsAllocated, slide.BitsStored, slide.HighBit, slide.PixelRepresentation = 16, 16, 15, 0
        slide.RescaleIntercept, slide.RescaleSlope, slide.RescaleType = site.intercept, site.slope, "HU"
        slide.WindowCenter, slide.WindowWidth = 50, 400
        stored = np.rint((hu[index] - np.float32(site.intercept)) / np.float32(site.slope))
        slide.PixelData = stored.clip(0, None).astype("<u2").tobytes()
        pydicom.dcmwrite(folder / f"i{names[number]:04d}.dcm", slide, enforce_file_format=True)
