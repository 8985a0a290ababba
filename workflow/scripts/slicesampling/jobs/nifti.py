"""Arrays as NIfTI images."""

import nibabel
import numpy as np


def nifti_image(
    array: np.ndarray, affine: np.ndarray, orientation: str | None = None, perpendicular: bool = True
) -> nibabel.Nifti1Image:
    """Return an array (z, y, x) as a NIfTI image, with the same affine in sform and qform, in mm.

    affine: from indices (x, y, z) to mm towards right, front and head (RAS), as NIfTI defines it. The stored axes are
    reordered to `orientation`, such as "LPS". A qform cannot represent axes that are not `perpendicular`.
    """
    image = nibabel.Nifti1Image(array.T, affine)
    if orientation:
        codes = nibabel.orientations.axcodes2ornt
        turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(affine), codes(orientation))
        image = image.as_reoriented(turn)
    image.header.set_xyzt_units("mm")
    image.set_sform(image.affine, code=1)
    image.set_qform(image.affine, code=int(perpendicular))
    return image
