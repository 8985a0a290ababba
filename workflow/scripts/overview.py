"""Say in words what the run found."""

from pathlib import Path

import pandas as pd
from slicesampling.jobs.files import write_text
from slicesampling.jobs.job import start
from slicesampling.publication.overview import overview

start(snakemake)
text = {"volume": str, "patient": str, "exclude": str}
records = {
    name: pd.read_csv(path, sep="," if Path(path).suffix == ".csv" else "\t", dtype=text)
    for name, path in snakemake.input.items()
    if name != "picture"
}
picture = Path(snakemake.input.picture).read_bytes()
write_text(snakemake.output[0], overview(**records, picture=picture, **snakemake.params))
