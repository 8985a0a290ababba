"""Segment a shard of the test volumes, on the preprocessed grid."""

import logging

import numpy as np
from slicesampling.files import replacing
from slicesampling.inference import predict
from slicesampling.job import start
from slicesampling.models import computing, load_model
from slicesampling.prefetch import read_ahead
from slicesampling.volumes import load_preprocessed, volume_folders, write_mask

start(snakemake)
compute = computing(snakemake.config["compute"])
model = load_model(snakemake.input.model, compute.device)
folders = volume_folders(snakemake.input.volumes)


def read(name: str) -> np.ndarray:
    return np.array(load_preprocessed(folders[name]).image)


with replacing(snakemake.output[0]) as folder:
    folder.mkdir()
    for name, image in read_ahead(snakemake.params.volumes, read):
        liver = predict(model.network, image, model.window, compute)
        write_mask(folder / f"{name}.nii.gz", liver.cpu().numpy(), load_preprocessed(folders[name]).grid)
        logging.info("%s segmented", name)
