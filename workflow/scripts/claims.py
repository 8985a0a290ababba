"""Judge the paper's claims by this run, as a table and as a page."""

from slicesampling.domain.records import read_table
from slicesampling.evaluation.claims import judge
from slicesampling.jobs import randomness
from slicesampling.jobs.files import write_text
from slicesampling.jobs.job import start
from slicesampling.publication.claims_page import claims_page

start(snakemake)
records = {name: read_table(path) for name, path in snakemake.input.items()}
verdicts = judge(**records, random=randomness.generator("bootstrap"))
write_text(snakemake.output.table, verdicts.to_csv(index=False))
write_text(snakemake.output.page, claims_page(verdicts, records["metrics"], snakemake.params.synthetic))
