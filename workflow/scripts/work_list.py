"""Draw for each slice of a query whether it starts from a proposal, and how many people annotate it."""

from slicesampling.answers.rounds import work_list
from slicesampling.domain.models import Model
from slicesampling.domain.records import read_table, write_table
from slicesampling.jobs.job import start
from slicesampling.jobs.randomness import generator

start(snakemake)
params = snakemake.params
model = Model.parse(snakemake.wildcards.round)
random = generator(params.seed, model.strategy, model.iteration, "work list")
write_table(snakemake.output[0], work_list(read_table(snakemake.input[0]), params.proposals, params.twice, random))
