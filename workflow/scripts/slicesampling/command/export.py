"""`slicesampling export`: the masks that a model predicted, on the grids of the original files."""

import argparse
import json
import sys
from pathlib import Path

from .. import UserError
from ..cohort.dicom import LARGEST_SLICE_GAP
from ..cohort.export import export_mask
from ..cohort.volumes import all_volume_folders, load_preprocessed, read_canonical_mask
from ..domain.records import read_table

EPILOG = """example: slicesampling export uss-5-converged --to exported"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="such as uss-5-converged; a folder of results/{predictions,segmentations}/seed*")
    parser.add_argument("--to", type=Path, required=True, help="the folder for VOLUME.nii.gz, and VOLUME.dcm for DICOM")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--largest-slice-gap", type=float, help="mm (default: that of the run)")


def run(options: argparse.Namespace) -> None:
    predictions = options.results / f"predictions/seed{options.seed}"
    segmentations = options.results / f"segmentations/seed{options.seed}"  # of all volumes, in runs with people
    folder = segmentations if (segmentations / options.model).exists() else predictions
    masks = sorted(folder.glob(f"{options.model}/shard*/*.nii.gz"))
    if not masks:
        known = {path.name for path in [*predictions.glob("*"), *segmentations.glob("*")]}
        listed = ", ".join(sorted(known)) or "none"
        raise UserError(f"{predictions}: no predictions of {options.model}; there are those of {listed}")
    cohort = read_table(options.results / "cohort/cohort.tsv")
    images = dict(zip(cohort["volume"], cohort["image"], strict=True))
    folders = all_volume_folders(options.results)
    gap = options.largest_slice_gap or largest_slice_gap(options.results)
    faults = 0
    for path in masks:
        volume = path.name.removesuffix(".nii.gz")
        grid = load_preprocessed(folders[volume]).grid
        try:
            mask = read_canonical_mask(path)
            exported = export_mask(images[volume], mask, grid, options.to / volume, gap)
        except UserError as error:
            print(f"left out: {volume}: {error}", file=sys.stderr)
            faults += 1
            continue
        for file in exported.files:
            print(file)
        for remark in exported.remarks:
            print(remark, file=sys.stderr)
    if faults:
        raise UserError(f"{faults} of {len(masks)} volumes could not be written")


def largest_slice_gap(results: Path) -> float:
    """Return the setting of the run in mm, or the default if the run has not written its provenance yet."""
    try:
        record = json.loads((results / "provenance.json").read_text(encoding="utf-8"))
        return float(record["configuration"]["preprocessing"]["largest_slice_gap"])
    except FileNotFoundError:
        print(
            f"{results} has no provenance.json: gaps of up to {LARGEST_SLICE_GAP:g} mm are interpolated",
            file=sys.stderr,
        )
        return LARGEST_SLICE_GAP
