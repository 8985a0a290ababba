"""Sample a shard of the data pool with Monte Carlo dropout, and write slice profiles and volume scores."""

import logging

import pandas as pd
import torch
from slicesampling.annotations import joined, write_ledger
from slicesampling.inference import sample
from slicesampling.job import start
from slicesampling.models import computing, load_model
from slicesampling.prefetch import read_ahead
from slicesampling.uncertainty import VolumeUncertainty, slice_uncertainty, volume_uncertainty
from slicesampling.volumes import load_preprocessed, sound, volume_folders

start(snakemake)
params, wildcards = snakemake.params, snakemake.wildcards
compute = computing(snakemake.config["compute"])
model = load_model(snakemake.input.model, compute.device)
folders = volume_folders(snakemake.input.volumes)
slices, scores = [], []


def read(name: str) -> torch.Tensor:
    return torch.tensor(load_preprocessed(folders[name]).image, device=compute.device)


for name, image in read_ahead(sound(params.volumes, folders), read, compute.device):
    key = (int(wildcards.seed), wildcards.model, name, "uncertainty")
    sampled = sample(model.network, image, model.window, compute, params.settings["samples"], key)
    score = volume_uncertainty(sampled.entropy, sampled.liver, params.settings["dilation"])
    profile = slice_uncertainty(sampled.entropy)
    slices.append(pd.DataFrame({"volume": name, "slice": range(len(profile)), "predictive_entropy": profile}))
    scores.append({"volume": name, **score._asdict()})
    logging.info("%s: %.5f%s", name, score.predictive_entropy, "" if score.liver_found else " (no liver found)")
write_ledger(snakemake.output.slices, joined(slices, ["volume", "slice", "predictive_entropy"]))
write_ledger(snakemake.output.volumes, pd.DataFrame(scores, columns=["volume", *VolumeUncertainty._fields]))
