"""Write the ledger in which some volumes are annotated as a whole."""

from slicesampling.annotations import annotate_volumes, read_ledger, write_ledger
from slicesampling.job import start

start(snakemake)
reference = read_ledger(snakemake.input.reference)
write_ledger(snakemake.output[0], annotate_volumes(reference, snakemake.params.volumes))
