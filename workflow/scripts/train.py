"""Train one model from scratch on what its ledger says is annotated."""

import logging
from pathlib import Path

import pandas as pd
from slicesampling.annotations import annotated_slices, read_ledger, write_ledger
from slicesampling.job import start
from slicesampling.models import build_network, computing_device, fingerprint, save_model
from slicesampling.patches import AnnotatedVolume, TrainingSet
from slicesampling.training import Settings, ValidationVolume, train
from slicesampling.volumes import load_preprocessed, volume_folders

start(snakemake)
params, wildcards = snakemake.params, snakemake.wildcards
ledger = read_ledger(snakemake.input.ledger)
folders = volume_folders(snakemake.input.volumes)
training = {name: (load_preprocessed(folders[name]), slices) for name, slices in annotated_slices(ledger).items()}
validation = [load_preprocessed(folders[name]) for name in params.validation]
training_set = TrainingSet(
    (AnnotatedVolume(name, volume.image, volume.mask, slices) for name, (volume, slices) in training.items()),
    tuple(params.training["patch"]),
)
device = computing_device(params.compute["device"], params.compute["threads"])
run = train(
    build_network(params.network, device),
    training_set,
    [ValidationVolume(volume.image, volume.mask) for volume in validation],
    Settings(**params.training, **params.end, memory=params.compute["tile_gib"] * 2**30),
    key=(int(wildcards.seed), wildcards.model, "training"),
    checkpoint=Path(params.checkpoint),
    fingerprint=fingerprint(ledger.to_csv(), params.network, params.training, params.end),
    progress=lambda row: logging.info("%s", ", ".join(f"{name} {value:.5g}" for name, value in row.items())),
)
save_model(snakemake.output.model, params.network, params.training["window"], run)
write_ledger(snakemake.output.history, pd.DataFrame(run["history"]))
Path(params.checkpoint).unlink(missing_ok=True)
