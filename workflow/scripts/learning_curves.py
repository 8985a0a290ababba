"""Draw how each training of a seed went."""

from pathlib import Path

import pandas as pd
from slicesampling.jobs.job import start
from slicesampling.publication.plots import learning_curve_figure
from slicesampling.publication.style import save_figure

start(snakemake)
pngs = [path for path in snakemake.output if path.endswith(".png")]
for history, png in zip(snakemake.input, pngs, strict=True):
    title = f"{Path(png).stem}, seed {snakemake.wildcards.seed}"
    save_figure(learning_curve_figure(pd.read_csv(history, sep="\t"), title), Path(png).with_suffix(""))
