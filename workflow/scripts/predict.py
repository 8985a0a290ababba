"""Segment a shard of the test volumes, on the preprocessed grid."""

import logging

from slicesampling.files import replacing
from slicesampling.inference import predict
from slicesampling.job import start
from slicesampling.models import computing_device, load_model
from slicesampling.volumes import load_preprocessed, volume_folders, write_mask

start(snakemake)
compute = snakemake.params.compute
model = load_model(snakemake.input.model, computing_device(compute["device"], compute["threads"]))
folders = volume_folders(snakemake.input.volumes)
with replacing(snakemake.output[0]) as folder:
    folder.mkdir()
    for name in snakemake.params.volumes:
        volume = load_preprocessed(folders[name])
        probability = predict(model.network, volume.image, model.window, compute["tile_gib"] * 2**30)
        write_mask(folder / f"{name}.nii.gz", probability[1] > 0.5, volume.grid)
        logging.info("%s segmented", name)
