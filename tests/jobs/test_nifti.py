"""Law of NIfTI images: however the axes are stored, each value lies at the same place."""

import itertools

import nibabel
import numpy as np
import pytest
from slicesampling.jobs.nifti import nifti_image

ORIENTATIONS = ["".join(codes) for codes in itertools.product("LR", "PA", "SI")] + ["ASL", "IPR"]


@pytest.mark.parametrize("orientation", [None, *ORIENTATIONS])
def test_values_keep_their_places(orientation: str | None) -> None:
    array = np.random.default_rng(1).integers(-1000, 1000, (3, 4, 5), dtype=np.int16)  # (z, y, x)
    affine = np.array([[-0.8, 0, 0, 40], [0, -0.7, 0, 30], [0, 0, 2.5, -100], [0, 0, 0, 1.0]])
    image = nifti_image(array, affine, orientation)
    assert "".join(nibabel.aff2axcodes(image.affine)) == (orientation or "LPS")
    stored = np.asarray(image.dataobj)
    places = np.argwhere(np.ones(stored.shape)) @ image.affine[:3, :3].T + image.affine[:3, 3]
    back = np.rint((places - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T).astype(int)
    np.testing.assert_array_equal(array[back[:, 2], back[:, 1], back[:, 0]], stored.ravel())
    assert image.header.get_xyzt_units()[0] == "mm"
    for affine_of in (image.header.get_sform, image.header.get_qform):
        stored_affine, code = affine_of(coded=True)
        assert code == 1
        np.testing.assert_allclose(stored_affine, image.affine, atol=1e-4)


def test_axes_that_are_not_perpendicular_have_no_qform() -> None:
    affine = np.array([[1, 0, 0.3, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    assert nifti_image(np.zeros((2, 2, 2), np.uint8), affine, perpendicular=False).header["qform_code"] == 0
