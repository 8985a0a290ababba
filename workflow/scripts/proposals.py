"""Segment the volumes of a work list in which a slice starts from the model's mask."""

import logging

import torch
from slicesampling.cohort.volumes import load_preprocessed, volume_folders, write_mask
from slicesampling.jobs.files import replacing
from slicesampling.jobs.job import start
from slicesampling.jobs.tsv import read_table
from slicesampling.learning.inference import LIVER, Predictor
from slicesampling.learning.models import computing, load_model

start(snakemake)
compute = computing(snakemake.config["compute"])
model = load_model(snakemake.input.model, compute.device)
folders = volume_folders(snakemake.input.volumes)
asked = read_table(snakemake.input.work_list)
predict = Predictor(model.network, model.window, compute)
with replacing(snakemake.output[0]) as folder:
    folder.mkdir()
    for name in asked.loc[asked["start"] == "proposal", "volume"].unique():
        volume = load_preprocessed(folders[name])
        probability = predict(torch.tensor(volume.image, device=compute.device))
        write_mask(folder / f"{name}.nii.gz", (probability > LIVER).cpu().numpy(), volume.grid)
        logging.info("%s segmented", name)
