"""Show every volume of the cohort on one page."""

import pandas as pd
from slicesampling.cohort.volumes import load_preprocessed, volume_folders
from slicesampling.jobs.files import write_text
from slicesampling.jobs.job import start
from slicesampling.publication.cohort_report import cohort_page

start(snakemake)
text = {"dtype": {"volume": str, "touches": str}, "sep": "\t"}
cohort = pd.read_csv(snakemake.input.cohort, sep="\t", dtype=str, keep_default_na=False)
volumes = pd.read_csv(snakemake.input.volumes, **text).fillna({"touches": ""})
folders = volume_folders(snakemake.input.preprocessed)
write_text(snakemake.output[0], cohort_page(cohort, volumes, lambda name: load_preprocessed(folders[name])))
