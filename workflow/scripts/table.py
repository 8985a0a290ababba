"""Make a table, of the paper or beyond it, from the run's records."""

from pathlib import Path

import pandas as pd
from slicesampling.jobs.job import start
from slicesampling.publication import supplement, tables
from slicesampling.publication.layout import with_strategies, write_table

start(snakemake)
# Ids and reasons stay text; an empty cell of the cohort table is an empty text.
text = {"dtype": {"volume": str, "patient": str, "hard_case": str}, "sep": "\t"}
records = {name: pd.read_csv(path, **text, keep_default_na=name != "cohort") for name, path in snakemake.input.items()}
module = supplement if snakemake.wildcards.table.startswith("supplement") else tables
table = getattr(module, snakemake.params.function)(**records, **snakemake.params.arguments)
write_table(with_strategies(table, snakemake.params.titles), Path(snakemake.output[0]).with_suffix(""))
