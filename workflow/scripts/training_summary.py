"""List for each model the step of its best validation and the number of its training steps."""

from pathlib import Path

import pandas as pd
from slicesampling.domain.records import read_table, write_table
from slicesampling.evaluation.summaries import model_columns, training_row
from slicesampling.jobs.job import start

start(snakemake)
rows = [
    {**model_columns(Path(path).parent, snakemake.params.last), **training_row(read_table(path))}
    for path in snakemake.input
]
write_table(snakemake.output[0], pd.DataFrame(rows))
