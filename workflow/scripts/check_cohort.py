"""Open every volume of the cohort, fail with a list of faults or exclude those, and warn of what is odd."""

import logging

import pandas as pd
from slicesampling.cohort.contents import check_contents
from slicesampling.cohort.plausibility import warnings_of
from slicesampling.cohort.table import fail_on, used, without_faulty
from slicesampling.jobs.job import start
from slicesampling.jobs.tsv import write_table

start(snakemake)
cohort = pd.DataFrame(snakemake.params.cohort).set_index("row")
faults, volumes = check_contents(
    used(cohort), snakemake.threads, snakemake.params.largest_slice_gap, tuple(snakemake.params.spacing)
)
if snakemake.params.on_fault == "exclude":
    people = snakemake.config["annotator"] == "people"
    cohort = without_faulty(cohort, faults, snakemake.params.initial_volumes, people)
    for fault in faults:
        logging.warning("excluded: %s", fault)
fail_on(faults if snakemake.params.on_fault == "stop" else [], snakemake.params.name)
for volume, warning in warnings_of(volumes, cohort).itertuples(index=False):
    logging.warning("%s: %s", volume, warning)
write_table(snakemake.output.cohort, cohort)
write_table(snakemake.output.volumes, volumes)
