"""Write the synthetic cohort's images and masks."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from slicesampling.jobs.files import replacing
from slicesampling.jobs.job import start
from slicesampling.phantom.files import write_volume
from slicesampling.phantom.sites import plan_cohort

start(snakemake)
settings = snakemake.params.settings
forked = multiprocessing.get_context("fork")  # a process started afresh would run this script once more
with replacing(snakemake.output[0]) as folder, ProcessPoolExecutor(snakemake.threads, forked) as pool:
    rows = plan_cohort(settings, str(folder)).to_dict("records")
    for row, _ in zip(rows, pool.map(partial(write_volume, settings=settings), rows), strict=True):
        print(f"{row['volume']} written", flush=True)
