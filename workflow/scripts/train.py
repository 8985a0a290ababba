"""Train one model from scratch on what its ledger says is annotated."""

import logging
import signal
from pathlib import Path

import pandas as pd
from slicesampling.annotations import annotated_slices, read_ledger, write_ledger
from slicesampling.checkpoint import Checkpoint, Terminated
from slicesampling.job import ProgressReport, start
from slicesampling.models import build_network, computing, fingerprint, home_of_data, save_model
from slicesampling.patches import AnnotatedVolume, TrainingSet
from slicesampling.processes import group, launch
from slicesampling.training import Settings, ValidationVolume, train
from slicesampling.volumes import load_preprocessed, volume_folders

terminal = start(snakemake)
params, wildcards, settings = snakemake.params, snakemake.wildcards, snakemake.config["compute"]
launch(__real_file__, settings["training_processes"])  # where Snakemake has put this script, with its inputs
compute = computing(settings)
ledger = read_ledger(snakemake.input.ledger)
folders = volume_folders(snakemake.input.volumes)
training = {name: (load_preprocessed(folders[name]), slices) for name, slices in annotated_slices(ledger).items()}
annotated = [AnnotatedVolume(name, volume.image, volume.mask, slices) for name, (volume, slices) in training.items()]
validation = [load_preprocessed(folders[name]) for name in params.validation]
size = sum(volume.image.nbytes + volume.mask.nbytes for volume in annotated)
parts = (ledger.to_csv(), params.network, params.training, params.end)
checkpoint = Checkpoint(Path(params.checkpoint), fingerprint(*parts), settings["checkpoint_minutes"])
try:
    run = train(
        build_network(params.network, compute.device),
        TrainingSet(annotated, tuple(params.training["patch"]), home_of_data(settings["training_data"], compute, size)),
        [ValidationVolume(volume.image, volume.mask) for volume in validation],
        Settings(**params.training, **params.end),
        compute,
        key=(int(wildcards.seed), wildcards.model, "training"),
        checkpoint=checkpoint,
        progress=ProgressReport(wildcards.model, terminal) if group().rank == 0 else lambda now: None,
    )
except Terminated:
    logging.info("asked to end; the next attempt goes on here")
    signal.raise_signal(signal.SIGTERM)  # now with its usual effect
if group().rank == 0:
    save_model(snakemake.output.model, params.network, params.training["window"], run)
    write_ledger(snakemake.output.history, pd.DataFrame(run["history"]))
    checkpoint.discard()
