"""Make a table, of the paper or beyond it, from the run's records."""

from pathlib import Path

import pandas as pd
from slicesampling.jobs.job import start
from slicesampling.publication import composition, supplement, tables
from slicesampling.publication.layout import write_table

start(snakemake)
# Ids and reasons stay text; an empty cell of the cohort table is an empty text.
text = {"dtype": {"volume": str, "patient": str, "hard_case": str}, "sep": "\t"}
records = {name: pd.read_csv(path, **text, keep_default_na=name != "cohort") for name, path in snakemake.input.items()}
modules = (tables, supplement, composition)
module = next(module for module in modules if hasattr(module, snakemake.params.function))
table = getattr(module, snakemake.params.function)(**records, **snakemake.params.arguments)
write_table(table, Path(snakemake.output[0]).with_suffix(""))
