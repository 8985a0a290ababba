"""Show which slices were annotated for each strategy."""

from pathlib import Path

from slicesampling.domain.models import seed_and_model
from slicesampling.domain.records import read_table
from slicesampling.jobs.job import start
from slicesampling.publication.plots import selection_figure
from slicesampling.publication.style import save_figure

start(snakemake)
cohort = read_table(snakemake.input.cohort).set_index("volume")
ledgers = {seed_and_model(path)[1].strategy: read_table(path) for path in snakemake.input.ledgers}
figure = selection_figure(ledgers, read_table(snakemake.input.reference), cohort["site"].to_dict())
save_figure(figure, Path(snakemake.output[0]).with_suffix(""))
