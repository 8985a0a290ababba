"""Show which slices each strategy has had annotated."""

from pathlib import Path

import pandas as pd
from slicesampling.jobs.job import start
from slicesampling.jobs.tsv import read_table
from slicesampling.publication.plots import selection_figure
from slicesampling.publication.style import save_figure

start(snakemake)
cohort = pd.read_csv(snakemake.input.cohort, sep="\t", dtype=str, keep_default_na=False).set_index("volume")
ledgers = {Path(path).stem.split("-")[0]: read_table(path) for path in snakemake.input.ledgers}
figure = selection_figure(ledgers, read_table(snakemake.input.reference), cohort["site"].to_dict())
save_figure(figure, Path(snakemake.output[0]).with_suffix(""))
