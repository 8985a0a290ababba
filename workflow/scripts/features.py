"""Average the network's deepest features over each slice of a shard of the data pool."""

import numpy as np
import torch
from slicesampling.cohort.volumes import available, load_preprocessed, volume_folders
from slicesampling.jobs.job import start
from slicesampling.learning.compute import computing
from slicesampling.learning.networks.interface import load_model
from slicesampling.learning.prefetch import read_ahead
from slicesampling.query.features import write_features

start(snakemake)
# Neither an input nor a parameter on purpose: another way to compute does not repeat the job.
compute = computing(snakemake.config["compute"])
model = load_model(snakemake.input.model, compute)
folders = volume_folders(snakemake.input.volumes)
features: dict[str, np.ndarray] = {}


def read(name: str) -> torch.Tensor:
    return torch.tensor(load_preprocessed(folders[name]).image, device=compute.device)


for name, image in read_ahead(available(snakemake.params.volumes, folders), read, compute.device):
    features[name] = model.slice_features(image)
write_features(snakemake.output[0], features)
