"""Evaluate a folder of masks, one file a volume, as the workflow evaluates its own models; see --help."""

import argparse
import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parent / "scripts"))

from slicesampling import UserError
from slicesampling.cohort.kinds import IMAGE_SUFFIXES, image_name
from slicesampling.cohort.volumes import all_volume_folders
from slicesampling.domain.records import write_table
from slicesampling.evaluation.predictions import GRIDS, evaluated_file
from slicesampling.jobs.command import faults_in_one_line

SHOWN = ("dice", "rve", "msd", "hd")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(";")[0] + ".")
    parser.add_argument(
        "folder", type=Path, help="with VOLUME.nii.gz, .nii, .nrrd or .mha: 1 where the structure is, 0 elsewhere"
    )
    parser.add_argument("--to", type=Path, required=True, help="the table of metrics that is written, a row a volume")
    parser.add_argument("--results", type=Path, default=Path("results"), help="of the run that has the references")
    parser.add_argument("--grid", choices=GRIDS, default=GRIDS[0], help="on which metrics are computed")
    options = parser.parse_args()
    with faults_in_one_line():
        run(options)


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


if __name__ == "__main__":
    main()
