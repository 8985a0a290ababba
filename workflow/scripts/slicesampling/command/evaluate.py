"""`slicesampling evaluate`: metrics of a folder of masks, one file per volume, as for the workflow's own models."""

import argparse
from pathlib import Path

import pandas as pd

from .. import UserError
from ..cohort.kinds import IMAGE_SUFFIXES, image_name
from ..cohort.volumes import all_volume_folders
from ..domain.records import write_table
from ..evaluation.predictions import GRIDS, evaluated_file

EPILOG = """example: slicesampling evaluate masks --to metrics.tsv"""

SHOWN = ("dice", "rve", "msd", "hd")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", type=Path, help="masks VOLUME.nii.gz, .nii, .nrrd or .mha: 1 is the structure, 0 background"
    )
    parser.add_argument("--to", type=Path, required=True, help="the table of metrics to write, one row per volume")
    parser.add_argument("--results", type=Path, default=Path("results"), help="results of the run with the references")
    parser.add_argument("--grid", choices=GRIDS, default=GRIDS[0], help="the grid of the metrics")


def run(options: argparse.Namespace) -> None:
    folders = all_volume_folders(options.results)
    rows = []
    for path in sorted(options.folder.iterdir()):
        volume = image_name(path)
        if not volume:
            continue
        if volume not in folders:
            raise UserError(
                f"{path}: {options.results} has no volume {volume}; it has {', '.join(sorted(folders)[:5])}, …"
            )
        if not (folders[volume] / "native_mask.nii.gz").exists():
            raise UserError(f"{path}: volume {volume} has no reference mask")
        rows.append({"volume": volume, **evaluated_file(path, folders[volume], options.grid)._asdict()})
    if not rows:
        raise UserError(f"{options.folder}: holds no mask; accepted are files that end in {', '.join(IMAGE_SUFFIXES)}")
    table = pd.DataFrame(rows)
    write_table(options.to, table)
    means = ", ".join(f"{name} {table[name].mean():.4g}" for name in SHOWN)
    print(f"{options.to}: {len(table)} volumes, mean {means}")
