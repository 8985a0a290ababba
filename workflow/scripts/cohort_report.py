"""Show every volume of the cohort on one page."""

from slicesampling.cohort.volumes import load_preprocessed, volume_folders
from slicesampling.domain.records import read_table
from slicesampling.jobs.files import write_text
from slicesampling.jobs.job import start
from slicesampling.publication.cohort_report import cohort_page

start(snakemake)
cohort = read_table(snakemake.input.cohort)
volumes = read_table(snakemake.input.volumes)
folders = volume_folders(snakemake.input.preprocessed)
write_text(snakemake.output[0], cohort_page(cohort, volumes, lambda name: load_preprocessed(folders[name])))
