"""Draw the learning curve of each training of a seed."""

from pathlib import Path

from slicesampling.domain.records import read_table
from slicesampling.jobs.job import start
from slicesampling.publication.plots import learning_curve_figure
from slicesampling.publication.style import save_figure

start(snakemake)
pngs = [path for path in snakemake.output if path.endswith(".png")]
for history, png in zip(snakemake.input, pngs, strict=True):
    title = f"{Path(png).stem}, seed {snakemake.wildcards.seed}"
    save_figure(learning_curve_figure(read_table(history), title), Path(png).with_suffix(""))
