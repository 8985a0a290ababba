"""Draw a figure that needs nothing but tables of results."""

from pathlib import Path

from slicesampling.domain.records import read_table
from slicesampling.jobs.job import start
from slicesampling.publication import detection_figure, plots
from slicesampling.publication.style import save_figure

start(snakemake)
records = {name: read_table(path) for name, path in snakemake.input.items()}
name = snakemake.params.function
(draw,) = (getattr(module, name) for module in (plots, detection_figure) if hasattr(module, name))
figure = draw(**records, **snakemake.params.arguments)
save_figure(figure, Path(snakemake.output[0]).with_suffix(""))
