"""Convert a shard's volumes to Hounsfield units on the common grid, and record which slices hold liver."""

import logging
from pathlib import Path

import pandas as pd
from slicesampling.cohort.contents import preprocess_row
from slicesampling.cohort.volumes import annotated, save_preprocessed
from slicesampling.domain.records import joined, read_table, write_table
from slicesampling.jobs.files import replacing
from slicesampling.jobs.job import start

start(snakemake)
checked = set(read_table(snakemake.input.checked)["volume"])
tables = []
with replacing(snakemake.output.volumes) as folder:
    for row in snakemake.params.rows:
        if row["volume"] not in checked:
            logging.warning("%s is left out: it is faulty, see results/cohort/cohort.tsv", row["volume"])
            continue
        volume = preprocess_row(row, snakemake.params.settings)
        save_preprocessed(Path(folder) / row["volume"], volume)
        liver = pd.Series((volume.mask == 1).any(axis=(1, 2)).astype(int), dtype="Int64")
        liver[~annotated(volume.mask)] = pd.NA  # unknown without an annotation
        tables.append(pd.DataFrame({"volume": row["volume"], "slice": range(len(liver)), "structure": liver}))
        logging.info("%s: %d slices, %d with liver", row["volume"], len(liver), liver.sum())
write_table(snakemake.output.slices, joined(tables, ["volume", "slice", "structure"]))
