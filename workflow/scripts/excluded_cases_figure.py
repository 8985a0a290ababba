"""Show excluded volumes with their reference mask and the reason."""

from pathlib import Path

from slicesampling.cohort.contents import preprocess_row
from slicesampling.jobs.job import start
from slicesampling.publication.figures import excluded_cases_figure
from slicesampling.publication.style import save_figure

start(snakemake)
cases = []
for row in snakemake.params.rows:
    volume = preprocess_row(row, snakemake.params.settings)
    largest = (volume.mask == 1).sum(axis=(1, 2)).argmax()
    cases.append(
        {
            "volume": row["volume"],
            "reason": row["exclude"],
            "image": volume.image[largest],
            "mask": volume.mask[largest] == 1,
            "spacing": tuple(volume.grid.spacing[1:]),
        }
    )
save_figure(excluded_cases_figure(cases), Path(snakemake.output[0]).with_suffix(""))
