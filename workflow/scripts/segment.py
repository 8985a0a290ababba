"""Segment a shard of all volumes on the preprocessed grid, and score the model's uncertainty about each."""

import logging

import numpy as np
import pandas as pd
import torch
from slicesampling.cohort.volumes import available, load_preprocessed, volume_folders, write_mask
from slicesampling.domain.records import write_table
from slicesampling.jobs.files import replacing
from slicesampling.jobs.job import start
from slicesampling.learning.compute import computing
from slicesampling.learning.inference import LIVER
from slicesampling.learning.networks.interface import load_model
from slicesampling.learning.uncertainty import slice_profiles, structure_region, volume_scores

start(snakemake)
params, wildcards = snakemake.params, snakemake.wildcards
# Neither an input nor a parameter on purpose: another way to compute does not repeat the job.
compute = computing(snakemake.config["compute"])
model = load_model(snakemake.input.model, compute)
folders = volume_folders([snakemake.input.volumes])
rows = []
with replacing(snakemake.output.masks) as folder:
    folder.mkdir()
    for name in available(params.volumes, folders):
        volume = load_preprocessed(folders[name])
        image = torch.tensor(volume.image, device=compute.device)
        liver = (model.probability(image) > LIVER).cpu().numpy()
        write_mask(folder / f"{name}.nii.gz", liver, volume.grid)
        key = (int(wildcards.seed), wildcards.model, name, "uncertainty")
        sampled = model.sample(image, params.settings["samples"], key)
        region = structure_region(sampled.liver, params.settings["dilation"])
        profiles = slice_profiles(sampled.measures, region)
        score = volume_scores(profiles, region)["predictive_entropy"]
        row = {"volume": name, "uncertainty": score, "structure_ml": liver.sum() * np.prod(volume.grid.spacing) / 1000}
        rows.append(row | {"most_uncertain_slice": int(profiles["predictive_entropy"].argmax())})
        logging.info("%s: %.5f", name, score)
columns = ["volume", "uncertainty", "structure_ml", "most_uncertain_slice"]
write_table(snakemake.output.scores, pd.DataFrame(rows, columns=columns))
