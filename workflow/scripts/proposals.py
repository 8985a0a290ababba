"""Segment the volumes of a work list in which a slice starts from the model's mask."""

from slicesampling.cohort.volumes import volume_folders
from slicesampling.jobs.files import replacing
from slicesampling.jobs.job import start
from slicesampling.jobs.tsv import read_table
from slicesampling.learning.inference import write_proposals
from slicesampling.learning.models import computing, load_model

start(snakemake)
compute = computing(snakemake.config["compute"])
model = load_model(snakemake.input.model, compute.device)
asked = read_table(snakemake.input.work_list)
names = asked.loc[asked["start"] == "proposal", "volume"].unique()
with replacing(snakemake.output[0]) as folder:
    folder.mkdir()
    write_proposals(model, names, volume_folders(snakemake.input.volumes), compute, folder)
