"""Evaluate a shard's predictions, or without predictions the limit of the grid, against the reference masks."""

import logging
from pathlib import Path

import pandas as pd
from slicesampling.cohort.volumes import available, read_canonical_mask, volume_folders
from slicesampling.domain.records import write_table
from slicesampling.evaluation.metrics import SegmentationMetrics
from slicesampling.evaluation.predictions import evaluated
from slicesampling.jobs.job import start

start(snakemake)
folders = volume_folders(snakemake.input.volumes)
rows = []
for name in available(snakemake.params.volumes, folders):
    prediction = None
    if hasattr(snakemake.input, "predictions"):
        prediction = read_canonical_mask(Path(snakemake.input.predictions) / f"{name}.nii.gz")
    rows.append({"volume": name, **evaluated(folders[name], prediction, snakemake.params.grid)._asdict()})
    logging.info("%s", rows[-1])
write_table(snakemake.output[0], pd.DataFrame(rows, columns=["volume", *SegmentationMetrics._fields]))
