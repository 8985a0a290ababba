"""Compare a shard's predictions with the reference masks.

Without predictions, the reference on the common grid takes their place: what a perfect model would reach.
"""

import logging
from pathlib import Path

import pandas as pd
from slicesampling.cohort.grids import resample_mask
from slicesampling.cohort.volumes import load_native_mask, load_preprocessed, read_canonical_mask, sound, volume_folders
from slicesampling.evaluation.metrics import SegmentationMetrics, segmentation_metrics
from slicesampling.jobs.job import start
from slicesampling.jobs.tsv import write_table

start(snakemake)
folders = volume_folders(snakemake.input.volumes)
rows = []
for name in sound(snakemake.params.volumes, folders):
    volume = load_preprocessed(folders[name])
    prediction = volume.mask
    if hasattr(snakemake.input, "predictions"):
        prediction = read_canonical_mask(Path(snakemake.input.predictions) / f"{name}.nii.gz")
    if snakemake.params.grid == "native":
        prediction = resample_mask(prediction, volume.grid, volume.native_grid)
        metrics = segmentation_metrics(prediction, load_native_mask(folders[name]), volume.native_grid.spacing)
    else:
        metrics = segmentation_metrics(prediction, volume.mask, volume.grid.spacing)
    rows.append({"volume": name, **metrics._asdict()})
    logging.info("%s", rows[-1])
write_table(snakemake.output[0], pd.DataFrame(rows, columns=["volume", *SegmentationMetrics._fields]))
