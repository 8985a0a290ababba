"""Tell for each model the step of its best validation and how many steps it was trained."""

from pathlib import Path

import pandas as pd
from slicesampling.evaluation.records import model_columns, training_row
from slicesampling.jobs.job import start
from slicesampling.jobs.tsv import write_table

start(snakemake)
rows = []
for path in map(Path, snakemake.input):
    seed = int(path.parents[1].name.removeprefix("seed"))
    history = pd.read_csv(path, sep="\t")
    rows.append({"seed": seed, **model_columns(path.parent.name, snakemake.params.last), **training_row(history)})
write_table(snakemake.output[0], pd.DataFrame(rows))
