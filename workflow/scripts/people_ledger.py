"""Write the ledger of the slices that came with masks and of those that people annotated before a round closed."""

from slicesampling.answers.annotators import annotate_volumes
from slicesampling.answers.rounds import people_ledger
from slicesampling.answers.store import Answers
from slicesampling.domain.records import read_table, write_table
from slicesampling.jobs.job import start

start(snakemake)
reference = read_table(snakemake.input.reference).dropna(subset="structure")
given = annotate_volumes(reference, reference["volume"])
params = snakemake.params
closed = Answers(params.answers).closed_table(params.closed) if params.closed else None
write_table(snakemake.output[0], people_ledger(given, closed))
