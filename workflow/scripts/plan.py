"""Time a few steps and one tile on this machine, and estimate the cost of the whole run."""

import logging

import pandas as pd
from slicesampling import UserError
from slicesampling.domain.records import read_table
from slicesampling.experiment import Experiment
from slicesampling.jobs.job import start
from slicesampling.learning.compute import computing
from slicesampling.plan import describe, estimate, measure, planned_jobs

terminal = start(snakemake)
config, params = snakemake.config, snakemake.params
if config["annotator"] == "people":
    raise UserError("plan: annotator is people; accepted: simulated, for example in an overlay")
compute = computing(config["compute"])
cohort = read_table(snakemake.input.cohort)
volumes = read_table(snakemake.input.volumes).merge(
    cohort[["volume", "split", "image", "label", "liver_values"]], on="volume"
)
size = volumes["slices"] * volumes["rows"] * volumes["columns"]
typical = volumes.loc[(size - size.median()).abs().idxmin()]
measured = measure(config, compute, typical.astype(str).to_dict())
logging.info("measured on %s: %s", typical["volume"], measured)
experiment = Experiment(config, pd.DataFrame(params.cohort).set_index("row"))
jobs = planned_jobs(params.snakefile, config, params.folder)
text = describe(estimate(experiment, measured, volumes, jobs), measured, params.workers)
logging.info("\n%s", text)
print(text, file=terminal)
