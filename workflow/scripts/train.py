"""Train one model from scratch on the slices that its ledger lists."""

import logging
import os
import signal
from pathlib import Path

import pandas as pd
from slicesampling.answers.annotators import annotated_masks
from slicesampling.cohort.volumes import available, load_preprocessed, volume_folders
from slicesampling.domain.models import Model
from slicesampling.domain.records import read_table, write_table
from slicesampling.jobs.cluster import place, requeue
from slicesampling.jobs.files import own
from slicesampling.jobs.job import start
from slicesampling.learning.checkpoint import Terminated
from slicesampling.learning.networks.interface import Task, train
from slicesampling.learning.patches import AnnotatedVolume
from slicesampling.learning.processes import launched
from slicesampling.learning.progress import ProgressReport
from slicesampling.query.ledger import annotated_slices

terminal = start(snakemake)
params, wildcards = snakemake.params, snakemake.wildcards
checkpoint = Path(params.checkpoint)
model = Model.parse(wildcards.model)
begun = checkpoint.with_stem(str(model.begun))  # a converged model continues that training
if not launched():
    # The processes of this training inherit the lock, because they may outlive this one.
    os.set_inheritable(own(checkpoint.with_suffix(".owner"), place()), True)
ledger = read_table(snakemake.input.ledger)
folders = volume_folders(snakemake.input.volumes)
mask_of = annotated_masks(params.answers, params.closed)
annotated = []
for name, slices in annotated_slices(ledger).items():
    volume = load_preprocessed(folders[name])
    annotated.append(AnnotatedVolume(name, volume.image, mask_of(name, volume.mask), slices))
report = ProgressReport(wildcards.model, terminal)
task = Task(
    network=params.network,
    training=params.training,
    end=params.end,
    compute=snakemake.config["compute"],  # no parameter on purpose: another way to compute repeats no training
    annotated=annotated,
    ledger=ledger.to_csv(),
    validation=available(params.validation, folders),
    folders=folders,
    key=(int(wildcards.seed), model.ledger, "training"),  # the same when trained until convergence
    checkpoint=checkpoint,
    begun_checkpoint=begun,
    model=Path(snakemake.output.model),
    script=__real_file__,  # Snakemake's copy of this script, which holds its inputs
    progress=report,
)
try:
    history = train(task)
except Terminated:
    logging.info("terminated; the next attempt continues from here")
    if report.first is not None:  # without any progress the next attempt would not get further
        requeue()
    signal.raise_signal(signal.SIGTERM)  # with its default effect
if history:
    write_table(snakemake.output.history, pd.DataFrame(history))
