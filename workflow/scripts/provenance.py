"""Record the provenance of the results."""

import json
from pathlib import Path

from slicesampling.domain.records import read_table
from slicesampling.jobs.files import write_text
from slicesampling.jobs.job import start
from slicesampling.learning.compute import fingerprint, origin
from slicesampling.publication.overview import provenance_page

start(snakemake)
config = snakemake.params.config
training = read_table(snakemake.input.training)
computed = (training["device"] + ", " + training["precision"]).value_counts().sort_index().to_dict()
record = {
    "configuration_sha256": fingerprint(config),
    **origin(snakemake.params.source),
    "trainings_by_device_and_precision": computed,
    "configuration": config,
}
write_text(snakemake.output.record, json.dumps(record, indent=2) + "\n")
write_text(snakemake.output.page, provenance_page(record, Path(snakemake.params.benchmarks)))
