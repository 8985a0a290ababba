"""Segment those volumes of a work list in which any slice starts from the model's mask."""

from slicesampling.cohort.volumes import volume_folders
from slicesampling.domain.records import read_table
from slicesampling.jobs.files import replacing
from slicesampling.jobs.job import start
from slicesampling.learning.compute import computing
from slicesampling.learning.networks.interface import load_model, write_proposals

start(snakemake)
# Neither an input nor a parameter on purpose: another way to compute does not repeat the job.
compute = computing(snakemake.config["compute"])
model = load_model(snakemake.input.model, compute)
asked = read_table(snakemake.input.work_list)
names = asked.loc[asked["start"] == "proposal", "volume"].unique()
with replacing(snakemake.output[0]) as folder:
    folder.mkdir()
    write_proposals(model, names, volume_folders(snakemake.input.volumes), folder)
