"""Record where the results come from."""

import json

from slicesampling.files import write_text
from slicesampling.job import start
from slicesampling.models import fingerprint, origin

start(snakemake)
config = snakemake.params.config
record = {"configuration_sha256": fingerprint(config), **origin(snakemake.params.source), "configuration": config}
write_text(snakemake.output[0], json.dumps(record, indent=2) + "\n")
