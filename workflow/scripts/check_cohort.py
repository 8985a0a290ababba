"""Open every volume of the cohort, and fail with a list of all faults."""

import pandas as pd
from slicesampling.annotations import write_ledger
from slicesampling.cohort import check_contents, fail_on, used
from slicesampling.job import start

start(snakemake)
cohort = pd.DataFrame(snakemake.params.cohort).set_index("row")
faults, volumes = check_contents(used(cohort), snakemake.threads)
fail_on(faults, snakemake.params.name)
write_ledger(snakemake.output.cohort, cohort)
write_ledger(snakemake.output.volumes, volumes)
