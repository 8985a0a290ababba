"""Measure a few steps and one tile on this machine, and tell what the whole run will cost."""

import logging

from slicesampling import UserError
from slicesampling.domain.records import read_table
from slicesampling.jobs.job import start
from slicesampling.learning.compute import computing
from slicesampling.plan import describe, estimate, measure

terminal = start(snakemake)
config, params = snakemake.config, snakemake.params
if config["annotator"] == "people":
    raise UserError("plan: counts the whole simulated experiment; accepted: annotator simulated, such as in an overlay")
compute = computing(config["compute"])
cohort = read_table(snakemake.input.cohort)
volumes = read_table(snakemake.input.volumes).merge(
    cohort[["volume", "split", "image", "label", "liver_values"]], on="volume"
)
size = volumes["slices"] * volumes["rows"] * volumes["columns"]
typical = volumes.loc[(size - size.median()).abs().idxmin()]
measured = measure(config, compute, typical.astype(str).to_dict())
logging.info("measured on %s: %s", typical["volume"], measured)
text = describe(estimate(config, measured, params.models, volumes, params.jobs), measured, params.workers)
logging.info("\n%s", text)
print(text, file=terminal)
