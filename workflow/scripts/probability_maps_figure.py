"""Show probability and entropy on slices from high to low uncertainty, in the test volume with the lowest Dice."""

from pathlib import Path

import numpy as np
from slicesampling.cohort.volumes import load_preprocessed, volume_folders
from slicesampling.domain.records import read_table
from slicesampling.jobs.job import start
from slicesampling.learning.compute import computing
from slicesampling.learning.networks.interface import load_model
from slicesampling.learning.uncertainty import slice_uncertainty
from slicesampling.publication.figures import probability_figure
from slicesampling.publication.style import save_figure

PANELS = 4

start(snakemake)
params = snakemake.params
metrics = read_table(snakemake.input.metrics)
rows = metrics[(metrics["seed"] == params.seed) & (metrics["model"] == params.model)]
name = rows.sort_values(["dice", "volume"])["volume"].iloc[0]
volume = load_preprocessed(volume_folders(snakemake.input.volumes)[name])
# Neither an input nor a parameter on purpose: another way to compute does not repeat the job.
compute = computing(snakemake.config["compute"])
model = load_model(snakemake.input.model, compute)
key = (params.seed, params.model, name, "uncertainty")
sampled = model.sample(volume.image, params.samples, key, keep_mean=True)
profile = slice_uncertainty(sampled.measures["predictive_entropy"])
mean, entropy = sampled.mean_probability.cpu().numpy(), sampled.measures["predictive_entropy"].cpu().numpy()
liver = np.flatnonzero((mean[1] > 0.5).any(axis=(1, 2)) | volume.mask.any(axis=(1, 2)))
ranked = sorted(liver, key=lambda index: -profile[index])
chosen = [ranked[i] for i in np.unique(np.linspace(0, len(ranked) - 1, PANELS).round().astype(int))]
panels = [
    {
        "volume": name,
        "index": int(index),
        "uncertainty": profile[index],
        "image": volume.image[index],
        "probability": mean[1, index],
        "entropy": entropy[index],
        "spacing": tuple(volume.grid.spacing[1:]),
    }
    for index in chosen
]
save_figure(probability_figure(panels), Path(snakemake.output[0]).with_suffix(""))
