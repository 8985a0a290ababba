"""Segment a shard of the test volumes on the preprocessed grid, and count voxels for the calibration."""

import logging

import torch
from slicesampling.cohort.volumes import available, load_preprocessed, volume_folders, write_mask
from slicesampling.domain.records import joined, write_table
from slicesampling.evaluation.calibration import COUNTS, reliability
from slicesampling.jobs.files import replacing
from slicesampling.jobs.job import start
from slicesampling.learning.compute import computing
from slicesampling.learning.inference import LIVER
from slicesampling.learning.networks.interface import load_model
from slicesampling.learning.prefetch import read_ahead

start(snakemake)
# Neither an input nor a parameter on purpose: another way to compute does not repeat the job.
compute = computing(snakemake.config["compute"])
model = load_model(snakemake.input.model, compute)
folders = volume_folders(snakemake.input.volumes)
counts = []


def read(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    volume = load_preprocessed(folders[name])
    return torch.tensor(volume.image, device=compute.device), torch.tensor(volume.mask == 1, device=compute.device)


with replacing(snakemake.output.masks) as folder:
    folder.mkdir()
    for name, (image, reference) in read_ahead(available(snakemake.params.volumes, folders), read, compute.device):
        probability = model.probability(image)
        write_mask(
            folder / f"{name}.nii.gz", (probability > LIVER).cpu().numpy(), load_preprocessed(folders[name]).grid
        )
        counts.append(reliability(probability, reference, snakemake.params.dilation).assign(volume=name))
        logging.info("%s segmented", name)
write_table(snakemake.output.calibration, joined(counts, ["bin", *COUNTS, "volume"]))
