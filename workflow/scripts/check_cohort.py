"""Open every volume of the cohort, fail with a list of all faults, and warn of what is odd."""

import logging

import pandas as pd
from slicesampling.annotations import write_ledger
from slicesampling.cohort import check_contents, fail_on, used
from slicesampling.job import start
from slicesampling.plausibility import warnings_of

start(snakemake)
cohort = pd.DataFrame(snakemake.params.cohort).set_index("row")
faults, volumes = check_contents(used(cohort), snakemake.threads)
fail_on(faults, snakemake.params.name)
for volume, warning in warnings_of(volumes).itertuples(index=False):
    logging.warning("%s: %s", volume, warning)
write_ledger(snakemake.output.cohort, cohort)
write_ledger(snakemake.output.volumes, volumes)
