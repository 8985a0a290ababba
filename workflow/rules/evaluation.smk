"""Test predictions of every model, and their agreement with the reference masks.

in:  results/models/, results/preprocessed/, results/annotations/, results/uncertainty/
out: results/predictions/seed*/MODEL/shard*/VOLUME.nii.gz (on the preprocessed grid),
     results/evaluation/{metrics,grid_limit,calibration,training,annotations,composition,error_detection}.tsv
"""


localrules:
    metrics,
    training_summary,
    annotation_summary,
    composition,
    error_detection,


rule predict:
    """Segment a shard of the test volumes with {wildcards.model}, dropout off."""
    input:
        model=rules.train.output.model,
        volumes=preprocessed("test"),
    output:
        masks=directory("results/predictions/seed{seed}/{model}/shard{shard}"),
        calibration=ensure(
            "results/calibration/seed{seed}/{model}/shard{shard}.tsv", non_empty=True
        ),
    log:
        "results/logs/predictions/seed{seed}/{model}-shard{shard}.log",
    benchmark:
        "results/benchmarks/predictions/seed{seed}/{model}-shard{shard}.tsv"
    threads: config["compute"]["threads"]
    resources:
        **APPLIES,
        runtime=more_each_attempt(4 * 60),
    params:
        volumes=volumes_of("test"),
        dilation=config["uncertainty"]["dilation"],
    script:
        "../scripts/predict.py"


rule evaluate:
    """Compare a shard's predictions with the reference masks, on the {params.grid} grid."""
    input:
        predictions=rules.predict.output.masks,
        volumes=preprocessed("test"),
    output:
        ensure("results/evaluation/seed{seed}/{model}/shard{shard}.tsv", non_empty=True),
    log:
        "results/logs/evaluation/seed{seed}/{model}-shard{shard}.log",
    benchmark:
        "results/benchmarks/evaluation/seed{seed}/{model}-shard{shard}.tsv"
    resources:
        # 0.5 GB and 8 s a volume of 300 to 600 slices; a shard has 59 volumes.
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(2 * 60),
    params:
        volumes=volumes_of("test"),
        grid=config["evaluation"]["grid"],
    script:
        "../scripts/evaluate.py"


use rule evaluate as grid_limit with:
    # What a perfect model would reach: the reference, to the preprocessed grid and back.
    input:
        volumes=preprocessed("test"),
    output:
        ensure("results/evaluation/grid_limit/shard{shard}.tsv", non_empty=True),
    log:
        "results/logs/evaluation/grid_limit-shard{shard}.log",
    benchmark:
        "results/benchmarks/evaluation/grid_limit-shard{shard}.tsv"


rule metrics:
    """Put the metrics of all models and test volumes into one table, and each model's calibration into another."""
    input:
        # On the preprocessed grid a perfect model loses nothing.
        grid_limit=(
            of_shards("test", "results/evaluation/grid_limit/shard{shard}.tsv")
            if config["evaluation"]["grid"] == "native"
            else []
        ),
        shards=of_shards(
            "test",
            "results/evaluation/seed{seed}/{model}/shard{shard}.tsv",
            seed=EXPERIMENT.seeds,
            model=EXPERIMENT.models,
        ),
        calibration=of_shards(
            "test",
            "results/calibration/seed{seed}/{model}/shard{shard}.tsv",
            seed=EXPERIMENT.seeds,
            model=EXPERIMENT.models,
        ),
        cohort="results/cohort/cohort.tsv",
        training="results/evaluation/training.tsv",
    output:
        metrics="results/evaluation/metrics.tsv",
        grid_limit="results/evaluation/grid_limit.tsv",
        calibration="results/evaluation/calibration.tsv",
    log:
        "results/logs/evaluation/metrics.log",
    params:
        last=EXPERIMENT.last,
    script:
        "../scripts/metrics.py"


rule training_summary:
    """Find for each model the step of its best validation, and how many steps it was trained."""
    input:
        expand(
            "results/models/seed{seed}/{model}/history.tsv",
            seed=EXPERIMENT.seeds,
            model=EXPERIMENT.models,
        ),
    output:
        "results/evaluation/training.tsv",
    log:
        "results/logs/evaluation/training.log",
    params:
        last=EXPERIMENT.last,
    script:
        "../scripts/training_summary.py"


rule annotation_summary:
    """Count for each seed, strategy and iteration the annotated slices, those with liver, and the patients."""
    input:
        ledgers=expand(
            "results/annotations/seed{seed}/{ledger}.tsv",
            seed=EXPERIMENT.seeds,
            ledger=[*EXPERIMENT.ledgers, "pool"],
        ),
        cohort="results/cohort/cohort.tsv",
    output:
        "results/evaluation/annotations.tsv",
    log:
        "results/logs/evaluation/annotations.log",
    params:
        last=EXPERIMENT.last,
    script:
        "../scripts/annotation_summary.py"


rule composition:
    """Count patients, sites, hard cases and ends of the organ in each annotated set after the last iteration."""
    input:
        ledgers=expand(
            "results/annotations/seed{seed}/{ledger}.tsv",
            seed=EXPERIMENT.seeds,
            ledger=EXPERIMENT.ledgers,
        ),
        reference=REFERENCE,
        cohort="results/cohort/cohort.tsv",
    output:
        "results/evaluation/composition.tsv",
    log:
        "results/logs/evaluation/composition.log",
    script:
        "../scripts/composition.py"


rule error_detection:
    """Compare each slice's uncertainty with its wrong voxels, and count the errors in the slices that queries picked."""
    input:
        slices=of_shards(
            "uncertainty",
            "results/uncertainty/seed{seed}/{model}/slices-shard{shard}.tsv",
            seed=EXPERIMENT.seeds,
            model=EXPERIMENT.scored_models,
        ),
        ledgers=expand(
            "results/annotations/seed{seed}/{ledger}.tsv",
            seed=EXPERIMENT.seeds,
            ledger=EXPERIMENT.ledgers,
        ),
    output:
        ensure("results/evaluation/error_detection.tsv", non_empty=True),
    log:
        "results/logs/evaluation/error_detection.log",
    params:
        last=EXPERIMENT.last,
    script:
        "../scripts/error_detection.py"
