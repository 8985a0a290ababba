"""Show excluded volumes with their reference mask and the reason."""

from pathlib import Path

from slicesampling.cohort import liver_values
from slicesampling.figures import excluded_cases_figure, save_figure
from slicesampling.job import start
from slicesampling.volumes import preprocess

start(snakemake)
cases = []
for row in snakemake.params.rows:
    volume = preprocess(
        row["image"],
        row["label"],
        snakemake.params.spacing,
        liver_values(row["liver_values"]),
        snakemake.params.largest_slice_gap,
    )
    largest = volume.mask.sum(axis=(1, 2)).argmax()
    cases.append(
        {
            "volume": row["volume"],
            "reason": row["exclude"],
            "image": volume.image[largest],
            "mask": volume.mask[largest].astype(bool),
            "spacing": tuple(volume.grid.spacing[1:]),
        }
    )
save_figure(excluded_cases_figure(cases), Path(snakemake.output[0]).with_suffix(""))
