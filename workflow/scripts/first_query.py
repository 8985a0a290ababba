"""Choose the slices that people annotate before the first model is trained."""

from slicesampling.answers.rounds import first_query
from slicesampling.domain.records import read_table, write_table
from slicesampling.jobs.job import start
from slicesampling.jobs.randomness import generator

start(snakemake)
pool = read_table(snakemake.input.reference)[["volume", "slice"]]
random = generator(int(snakemake.wildcards.seed), "initial", 0, "query")
write_table(snakemake.output[0], first_query(pool, snakemake.params.volumes, snakemake.params.slices, random))
