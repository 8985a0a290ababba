"""Train one model from scratch on what its ledger says is annotated."""

import inspect
import logging
import os
import signal
from pathlib import Path

import pandas as pd
from slicesampling.annotation.annotators import annotated_masks
from slicesampling.annotation.ledger import annotated_slices
from slicesampling.cohort.volumes import load_preprocessed, sound, volume_folders
from slicesampling.jobs.cluster import place, requeue
from slicesampling.jobs.files import own
from slicesampling.jobs.job import start
from slicesampling.jobs.tsv import read_table, write_table
from slicesampling.learning import inference, network, patches, training
from slicesampling.learning.checkpoint import Checkpoint, Terminated
from slicesampling.learning.models import build_network, computing, fingerprint, save_model
from slicesampling.learning.patches import AnnotatedVolume, TrainingSet
from slicesampling.learning.processes import group, launch, launched
from slicesampling.learning.progress import ProgressReport

terminal = start(snakemake)
params, wildcards, settings = snakemake.params, snakemake.wildcards, snakemake.config["compute"]
checkpoint_path = Path(params.checkpoint)
begun = checkpoint_path.with_stem(wildcards.model.removesuffix("-converged"))  # a converged model carries it on
if not launched():
    owned = own(checkpoint_path.with_suffix(".owner"), place())
    os.set_inheritable(owned, settings["training_processes"] > 1)  # torchrun then takes the place of this process
launch(__real_file__, settings["training_processes"])  # where Snakemake has put this script, with its inputs
compute = computing(settings)
ledger = read_table(snakemake.input.ledger)
folders = volume_folders(snakemake.input.volumes)
mask_of = annotated_masks(snakemake.config["people"]["answers"], snakemake.input.answers or None)
annotated = []
for name, slices in annotated_slices(ledger).items():
    volume = load_preprocessed(folders[name])
    annotated.append(AnnotatedVolume(name, volume.image, mask_of(name, volume.mask), slices))
validation = [load_preprocessed(folders[name]) for name in sound(params.validation, folders)]
belongs_to = fingerprint(
    *(ledger.to_csv(), params.network, params.training),  # not its end: a longer one goes on where a shorter ended
    *(inspect.getsource(module) for module in (inference, network, patches, training)),
    *(array for volume in [*annotated, *validation] for array in (volume.image, volume.mask)),
)
report = ProgressReport(wildcards.model, terminal)
try:
    run = training.train(
        build_network(params.network, compute.device),
        TrainingSet(annotated, tuple(params.training["patch"])),
        [training.ValidationVolume(volume.image, volume.mask) for volume in validation],
        training.Settings(**params.training, **params.end),
        compute,
        key=(int(wildcards.seed), begun.stem, "training"),
        checkpoint=Checkpoint(checkpoint_path, belongs_to, settings["checkpoint_minutes"], begun),
        progress=report if group().rank == 0 else lambda now: None,
    )
except Terminated:
    logging.info("asked to end; the next attempt goes on here")
    if report.first is not None:  # without a step the next attempt would get no farther
        requeue()
    signal.raise_signal(signal.SIGTERM)  # now with its usual effect
if group().rank == 0:
    save_model(snakemake.output.model, params.network, params.training["window"], run)
    write_table(snakemake.output.history, pd.DataFrame(run["history"]))
