"""Sample a model's predictions for a shard of the data pool; write slice profiles and volume scores."""

import logging

import pandas as pd
import torch
from slicesampling.cohort.volumes import available, load_preprocessed, volume_folders
from slicesampling.domain.records import joined, write_table
from slicesampling.jobs.job import start
from slicesampling.learning.compute import computing
from slicesampling.learning.networks.interface import load_model
from slicesampling.learning.prefetch import read_ahead
from slicesampling.learning.uncertainty import (
    COUNTS,
    slice_columns,
    slice_counts,
    slice_profiles,
    structure_region,
    volume_columns,
    volume_scores,
)

start(snakemake)
params, wildcards = snakemake.params, snakemake.wildcards
# Neither an input nor a parameter on purpose: another way to compute does not repeat the job.
compute = computing(snakemake.config["compute"])
model = load_model(snakemake.input.model, compute)
folders = volume_folders(snakemake.input.volumes)
slices, volumes = [], []


def read(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    volume = load_preprocessed(folders[name])
    return torch.tensor(volume.image, device=compute.device), torch.tensor(volume.mask, device=compute.device)


for name, (image, reference) in read_ahead(available(params.volumes, folders), read, compute.device):
    key = (int(wildcards.seed), wildcards.model, name, "uncertainty")
    sampled = model.sample(image, params.settings["samples"], key)
    region = structure_region(sampled.liver, params.settings["dilation"])
    columns = slice_profiles(sampled.measures, region)
    score = volume_scores(columns, region)
    counts = slice_counts(sampled.liver, reference)  # missing on slices that are not annotated
    rows = pd.DataFrame({"volume": name, "slice": range(len(image)), **counts, **columns})
    slices.append(rows.astype(dict.fromkeys(COUNTS, "Int64")))
    volumes.append({"volume": name, **score, "structure_found": region is not None})
    logging.info("%s: %.5f%s", name, score["predictive_entropy"], "" if region is not None else " (no liver found)")
write_table(snakemake.output.slices, joined(slices, ["volume", "slice", *COUNTS, *slice_columns()]))
write_table(snakemake.output.volumes, pd.DataFrame(volumes, columns=["volume", *volume_columns(), "structure_found"]))
