"""Open every volume of the cohort, stop on faults or exclude faulty volumes, and warn of implausible values."""

import logging
from pathlib import Path

import pandas as pd
from slicesampling.cohort.contents import check_contents
from slicesampling.cohort.plausibility import warnings_of
from slicesampling.cohort.table import fail_on, used, without_faulty
from slicesampling.domain.records import write_table
from slicesampling.jobs.files import write_text
from slicesampling.jobs.job import start
from slicesampling.publication.cohort_report import fault_page

start(snakemake)
cohort = pd.DataFrame(snakemake.params.cohort).set_index("row")
faults, volumes = check_contents(
    used(cohort), snakemake.threads, snakemake.params.largest_slice_gap, tuple(snakemake.params.spacing)
)
if snakemake.params.on_fault == "exclude":
    cohort = without_faulty(cohort, faults, snakemake.params.initial_volumes, snakemake.params.people)
    for fault in faults:
        logging.warning("excluded: %s", fault)
page = Path(snakemake.params.page)
page.unlink(missing_ok=True)
if faults and snakemake.params.on_fault == "stop":
    write_text(page, fault_page(faults, cohort))
    fail_on(faults, f"{snakemake.params.name}, see {page}")
for volume, warning in warnings_of(volumes, cohort).itertuples(index=False):
    logging.warning("%s: %s", volume, warning)
write_table(snakemake.output.cohort, cohort)
write_table(snakemake.output.volumes, volumes)
