"""Raw CT volumes in; checked volumes on one grid out.

in:  the files that the cohort table names (or nothing: the synthetic cohort)
out: results/cohort/volumes.tsv, results/preprocessed/shard*/VOLUME/{image.nii,mask.nii,native_grid.json},
     results/annotations/reference.tsv (which slices of the data pool hold structure), results/cohort_report.html
"""


localrules:
    reference_slices,


rule phantom_cohort:
    """Make the synthetic cohort: {params.settings[matrix]} pixels a side, seed {params.settings[seed]}."""
    output:
        directory("results/phantom"),
    log:
        "results/logs/phantom_cohort.log",
    benchmark:
        "results/benchmarks/phantom_cohort.tsv"
    threads: 16
    resources:
        # A thread takes 0.4 GB, and 35 s a volume: 18 minutes for 484.
        mem_mb=more_each_attempt(16000),
        runtime=more_each_attempt(2 * 60),
    params:
        settings=config.get("phantom"),
    script:
        "../scripts/phantom_cohort.py"


rule check_cohort:
    """Open every volume before anything else runs; list all faults and stop, or exclude the faulty volumes."""
    input:
        files=EXPERIMENT.files_of(EXPERIMENT.volumes["preprocessing"]),
        ready=before_the_first_job,
    output:
        cohort=ensure("results/cohort/cohort.tsv", non_empty=True),
        volumes=ensure("results/cohort/volumes.tsv", non_empty=True),
    log:
        "results/logs/check_cohort.log",
    benchmark:
        "results/benchmarks/check_cohort.tsv"
    retries: 0  # another attempt would find the same faults
    threads: 8
    resources:
        # A thread takes 1.5 GB for 600 slices, twice that for the longest CT of 1160, and 5 s a volume.
        mem_mb=more_each_attempt(32000),
        runtime=more_each_attempt(60),
    params:
        cohort=EXPERIMENT.cohort.reset_index().to_dict("list"),
        name=config["cohort"],
        people=EXPERIMENT.people,
        largest_slice_gap=config["preprocessing"]["largest_slice_gap"],
        spacing=config["preprocessing"]["spacing"],
        on_fault=config["on_fault"],
        initial_volumes=config["initial_volumes"],
        # Not an output: it is written where the job fails, and outputs of a failed job are deleted.
        page="results/faults.html",
    script:
        "../scripts/check_cohort.py"


rule preprocess:
    """Read a shard's volumes, convert to HU, resample to {params.settings[spacing]} mm (z y x), record the native grid."""
    input:
        raw=lambda wildcards: EXPERIMENT.files_of(
            EXPERIMENT.volumes_in("preprocessing", wildcards.shard)
        ),
        checked=ancient("results/cohort/volumes.tsv"),
    output:
        volumes=directory("results/preprocessed/shard{shard}"),
        slices=ensure("results/preprocessed/shard{shard}.tsv", non_empty=True),
    log:
        "results/logs/preprocess/shard{shard}.log",
    benchmark:
        "results/benchmarks/preprocess/shard{shard}.tsv"
    resources:
        # 1.2 GB for 600 slices, 1.9 GB and 10 s for 1160; a shard has 21 volumes.
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(60),
    params:
        rows=lambda wildcards: EXPERIMENT.rows_of(
            EXPERIMENT.volumes_in("preprocessing", wildcards.shard)
        ),
        settings=config["preprocessing"],
    script:
        "../scripts/preprocess.py"


rule reference_slices:
    """Collect which slices of the data pool contain liver, as the simulated annotator sees them."""
    input:
        shards=of_shards("preprocessing", "results/preprocessed/shard{shard}.tsv"),
        enough=enough_volumes,
    output:
        REFERENCE,
    log:
        "results/logs/reference_slices.log",
    params:
        pool=EXPERIMENT.volumes["uncertainty"],
    script:
        "../scripts/reference_slices.py"


rule cohort_report:
    """Show every volume in three planes with its mask, measurements and warnings, on one page."""
    input:
        cohort="results/cohort/cohort.tsv",
        volumes="results/cohort/volumes.tsv",
        preprocessed=EXPERIMENT.preprocessed(EXPERIMENT.volumes["preprocessing"]),
    output:
        listed("cohort_report", "results/cohort_report.html"),
    log:
        "results/logs/cohort_report.log",
    resources:
        **LIGHT,
    params:
        caption=EXPERIMENT.caption("cohort_report"),
    script:
        "../scripts/cohort_report.py"
