"""Draw for each slice of a query what it starts from, and how many people annotate it."""

from slicesampling.answers.rounds import iteration_of, work_list
from slicesampling.jobs.job import start
from slicesampling.jobs.randomness import generator
from slicesampling.jobs.tsv import read_table, write_table

start(snakemake)
name, params = snakemake.wildcards.round, snakemake.params
random = generator(params.seed, name.partition("-")[0], iteration_of(name), "work list")
write_table(snakemake.output[0], work_list(read_table(snakemake.input[0]), params.proposals, params.twice, random))
