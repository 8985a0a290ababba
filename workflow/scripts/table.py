"""Make one of the paper's tables from the run's records."""

from pathlib import Path

import pandas as pd
from slicesampling import tables
from slicesampling.job import start

start(snakemake)
# Ids and reasons stay text; an empty cell of the cohort table is an empty text.
text = {"dtype": {"volume": str, "patient": str, "hard_case": str}, "sep": "\t"}
records = {name: pd.read_csv(path, **text, keep_default_na=name != "cohort") for name, path in snakemake.input.items()}
table = getattr(tables, snakemake.params.function)(**records, **snakemake.params.arguments)
tables.write_table(table, Path(snakemake.output[0]).with_suffix(""))
