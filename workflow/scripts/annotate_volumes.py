"""Write the ledger of the fully annotated initial set, or of the whole data pool."""

from slicesampling.answers.annotators import annotate_volumes
from slicesampling.cohort.table import initial_set
from slicesampling.domain.records import read_table, write_table
from slicesampling.jobs.job import start

start(snakemake)
reference = read_table(snakemake.input.reference)
volumes = reference["volume"].unique().tolist()
if snakemake.params.size is not None:
    volumes = initial_set(volumes, int(snakemake.wildcards.seed), snakemake.params.size)
write_table(snakemake.output[0], annotate_volumes(reference, volumes))
