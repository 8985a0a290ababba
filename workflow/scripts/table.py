"""Make a table, of the paper or beyond it, from the run's records."""

from pathlib import Path

import pandas as pd
from slicesampling.jobs.job import start
from slicesampling.publication import composition, detection, seeds, supplement, tables
from slicesampling.publication.layout import with_strategies, write_files

start(snakemake)
# Ids and reasons stay text; an empty cell of the cohort table is an empty text.
text = {"dtype": {"volume": str, "patient": str, "hard_case": str}, "sep": "\t"}
records = {name: pd.read_csv(path, **text, keep_default_na=name != "cohort") for name, path in snakemake.input.items()}
name = snakemake.params.function
modules = (tables, supplement, detection, seeds, composition)
(make,) = (getattr(module, name) for module in modules if hasattr(module, name))
table = make(**records, **snakemake.params.arguments)
write_files(with_strategies(table, snakemake.params.titles), Path(snakemake.output[0]).with_suffix(""))
