"""Sample a shard of the data pool with Monte Carlo dropout, and write slice profiles and volume scores."""

import logging

import pandas as pd
from slicesampling.annotations import write_ledger
from slicesampling.inference import sample_mean_probability
from slicesampling.job import start
from slicesampling.models import computing_device, load_model
from slicesampling.uncertainty import predictive_entropy, slice_uncertainty, volume_uncertainty
from slicesampling.volumes import load_preprocessed, volume_folders

start(snakemake)
params, wildcards = snakemake.params, snakemake.wildcards
model = load_model(snakemake.input.model, computing_device(params.compute["device"], params.compute["threads"]))
folders = volume_folders(snakemake.input.volumes)
slices, scores = [], []
for name in params.volumes:
    key = (int(wildcards.seed), wildcards.model, name, "uncertainty")
    memory = params.compute["tile_gib"] * 2**30
    mean = sample_mean_probability(
        model.network, load_preprocessed(folders[name]).image, model.window, memory, params.settings["samples"], key
    )
    entropy = predictive_entropy(mean)
    score = volume_uncertainty(entropy, mean[1] > 0.5, params.settings["dilation"])
    profile = slice_uncertainty(entropy)
    slices.append(pd.DataFrame({"volume": name, "slice": range(len(profile)), "predictive_entropy": profile}))
    scores.append({"volume": name, **score._asdict()})
    logging.info("%s: %.5f%s", name, score.predictive_entropy, "" if score.liver_found else " (no liver found)")
write_ledger(snakemake.output.slices, pd.concat(slices))
write_ledger(snakemake.output.volumes, pd.DataFrame(scores))
