"""Draw a figure that needs nothing but tables of results."""

from pathlib import Path

import pandas as pd
from slicesampling import figures
from slicesampling.job import start

start(snakemake)
records = {name: pd.read_csv(path, sep="\t", dtype={"volume": str}) for name, path in snakemake.input.items()}
figure = getattr(figures, snakemake.params.function)(**records)
figures.save_figure(figure, Path(snakemake.output[0]).with_suffix(""))
