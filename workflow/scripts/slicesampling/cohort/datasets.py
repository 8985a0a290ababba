"""Published data sets with a layout of their own: paths of images and masks, values of the liver, and citations.

Each is a description, which `find_published` interprets. Layouts and label values are from the publications of the data
sets. Those of AbdomenCT-1K and BTCV could not be confirmed, and none was tested on the data themselves.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .. import UserError
from .cases import Case, Found
from .masks import label_holds


class DataSet(NamedTuple):
    """A data set of NIfTI files.

    parts: patterns of images and masks (see `importers.find_pairs`) and their split, "" to be drawn. liver: the value
    of the liver in the masks. partly: whether the liver is missing or not annotated in some cases, so that masks are
    opened. left_out: returns the reason why a case cannot be used, by its name, or an empty text. same: other data sets
    that share scans with this one.
    """

    parts: tuple[tuple[str, str, str], ...]
    liver: int
    cite: str
    partly: bool = False
    left_out: Callable[[str], str] = lambda name: ""
    same: str = ""


def _mr_of_amos(name: str) -> str:
    return "AMOS numbers from 500 on are MR" if not name.isdigit() or int(name) >= 500 else ""


PUBLISHED = {
    "amos": DataSet(
        (
            ("imagesTr/amos_{volume}.nii.gz", "labelsTr/amos_{volume}.nii.gz", ""),
            ("imagesVa/amos_{volume}.nii.gz", "labelsVa/amos_{volume}.nii.gz", "test"),
        ),
        6,
        "Ji et al. 2022, AMOS, arXiv:2206.08023",
        left_out=_mr_of_amos,
    ),
    "flare22": DataSet(
        (("images/FLARE22_Tr_{volume}_0000.nii.gz", "labels/FLARE22_Tr_{volume}.nii.gz", ""),),
        1,
        "Ma et al. 2024, FLARE22, doi:10.1016/S2589-7500(24)00154-7",
        same="the pancreas task of the Medical Segmentation Decathlon",
    ),
    "flare23": DataSet(
        (("imagesTr2200/{volume}_0000.nii.gz", "labelsTr2200/{volume}.nii.gz", ""),),
        1,
        "the FLARE23 challenge, https://codalab.lisn.upsaclay.fr/competitions/12239",
        partly=True,
        same="many public data sets, among them LiTS and the Medical Segmentation Decathlon",
    ),
    "abdomenct1k": DataSet(
        (("*/Case_{volume}_0000.nii.gz", "Mask/Case_{volume}.nii.gz", ""),),
        1,
        "Ma et al. 2022, AbdomenCT-1K, doi:10.1109/TPAMI.2021.3100536",
        same="LiTS, KiTS, and the spleen and pancreas tasks of the Medical Segmentation Decathlon",
    ),
    "ctorg": DataSet(
        (("volume-{volume}.nii.gz", "labels-{volume}.nii.gz", ""),),
        1,
        "Rister et al. 2020, CT-ORG, doi:10.1038/s41597-020-00715-8",
        partly=True,
        same="LiTS",
    ),
    "word": DataSet(
        (
            ("imagesTr/word_{volume}.nii.gz", "labelsTr/word_{volume}.nii.gz", ""),
            ("imagesVal/word_{volume}.nii.gz", "labelsVal/word_{volume}.nii.gz", "val"),
            ("imagesTs/word_{volume}.nii.gz", "labelsTs/word_{volume}.nii.gz", "test"),
        ),
        1,
        "Luo et al. 2022, WORD, doi:10.1016/j.media.2022.102642",
    ),
    "btcv": DataSet(
        (("img/img{volume}.nii.gz", "label/label{volume}.nii.gz", ""),),
        6,
        "Landman et al. 2015, MICCAI multi-atlas labeling beyond the cranial vault, doi:10.7303/syn3193805",
    ),
}


def find_published(name: str, root: Path, pairs: Callable[[Path, str, str], Found]) -> Found:
    """Find the cases of one of `PUBLISHED` in `root`, or in a folder in it. pairs: `importers.find_pairs`."""
    data_set = PUBLISHED[name]
    found: list[Found] = []
    for place in [root, *sorted(path for path in root.iterdir() if path.is_dir())]:
        found = [pairs(place, image, label) for image, label, _ in data_set.parts]
        if any(part.cases for part in found):
            break
    cases: list[Case] = []
    left_out = [line for part in found for line in part.left_out]
    for part, (_, _, split) in zip(found, data_set.parts, strict=True):
        for case in part.cases:
            assert case.label is not None
            (only,) = case.label.structures
            reason = data_set.left_out(case.name)
            if not reason and data_set.partly:
                try:
                    reason = "" if label_holds(only.path, data_set.liver) else "its mask holds no liver"
                except UserError as error:
                    reason = str(error)
            if reason:
                left_out.append(f"{case.image}: {reason}")
            else:
                cases.append(case._replace(label=case.label.with_values([data_set.liver]), split=split))
    decided = [f"please cite {data_set.cite}"]
    if data_set.same:
        decided.append(f"it holds scans of {data_set.same}: do not use both, or let the check find duplicates")
    return Found(cases, left_out, tuple(decided) if cases else ())
