"""Draw how one training went."""

from pathlib import Path

import pandas as pd
from slicesampling.figures import learning_curve_figure, save_figure
from slicesampling.job import start

start(snakemake)
title = f"{snakemake.wildcards.model}, seed {snakemake.wildcards.seed}"
history = pd.read_csv(snakemake.input[0], sep="\t")
save_figure(learning_curve_figure(history, title), Path(snakemake.output[0]).with_suffix(""))
