"""Write the ledger in which the initial set, or the whole data pool, is annotated."""

from slicesampling.annotation.ledger import annotate_volumes, read_ledger, write_ledger
from slicesampling.cohort.table import initial_set
from slicesampling.jobs.job import start

start(snakemake)
reference = read_ledger(snakemake.input.reference)
volumes = reference["volume"].unique().tolist()
if snakemake.params.size is not None:
    volumes = initial_set(volumes, int(snakemake.wildcards.seed), snakemake.params.size)
write_ledger(snakemake.output[0], annotate_volumes(reference, volumes))
