"""The active-learning loop: annotations → model → uncertainty → query → annotations, for each seed and strategy.

in:  results/preprocessed/, results/annotations/reference.tsv
out: results/annotations/seed*/LEDGER.tsv, results/models/seed*/MODEL/{model.pt,history.tsv},
     results/uncertainty/seed*/MODEL/{slices,volumes}-shard*.tsv, results/queries/seed*/STRATEGY-ITERATION.tsv
usually includes: 1 initial, strategies × iterations, strategies + 1 converged models a seed
"""


localrules:
    initial_annotations,
    pool_annotations,
    slice_budget,
    query,
    annotate,


rule initial_annotations:
    """Annotate all slices of the {params.size} volumes that every strategy starts from, or (None) of all."""
    input:
        reference="results/annotations/reference.tsv",
    output:
        "results/annotations/seed{seed}/initial.tsv",
    log:
        "results/logs/annotations/seed{seed}/initial.log",
    conda:
        "../../envs/environment.yaml"
    params:
        size=config["initial_volumes"],
    script:
        "../scripts/annotate_volumes.py"


use rule initial_annotations as pool_annotations with:
    output:
        "results/annotations/seed{seed}/pool.tsv",
    log:
        "results/logs/annotations/seed{seed}/pool.log",
    params:
        size=None,


rule slice_budget:
    """Set how many slices uss and rss add: {params.slices} (auto: liver slices a uvs iteration adds / {params.ratio})."""
    input:
        lambda wildcards: (
            f"results/annotations/seed{wildcards.seed}/uvs-{LAST}.tsv"
            if config["slices_per_iteration"] == "auto"
            else []
        ),
    output:
        "results/annotations/seed{seed}/slice_budget.txt",
    log:
        "results/logs/annotations/seed{seed}/slice_budget.log",
    conda:
        "../../envs/environment.yaml"
    params:
        slices=config["slices_per_iteration"],
        ratio=config["annotation_time_ratio"],
    script:
        "../scripts/slice_budget.py"


rule query:
    """Request annotations: {wildcards.strategy}, iteration {wildcards.iteration}."""
    input:
        unpack(query_inputs),
    output:
        "results/queries/seed{seed}/{strategy}-{iteration}.tsv",
    log:
        "results/logs/queries/seed{seed}/{strategy}-{iteration}.log",
    conda:
        "../../envs/environment.yaml"
    params:
        volumes=config["volumes_per_iteration"],
        measure=config["uncertainty"]["measure"],
        candidate_distance=config["uncertainty"]["candidate_distance"],
    script:
        "../scripts/query.py"


rule annotate:
    """Answer a query from the reference masks, as the simulated annotator; another annotator can replace this rule."""
    input:
        query=rules.query.output[0],
        ledger=lambda wildcards: f"results/annotations/seed{wildcards.seed}/{previous(wildcards)}.tsv",
        reference="results/annotations/reference.tsv",
        budget=lambda wildcards: (
            f"results/annotations/seed{wildcards.seed}/slice_budget.txt"
            if STRATEGIES[wildcards.strategy].until_liver
            else []
        ),
    output:
        "results/annotations/seed{seed}/{strategy}-{iteration}.tsv",
    log:
        "results/logs/annotations/seed{seed}/{strategy}-{iteration}.log",
    conda:
        "../../envs/environment.yaml"
    script:
        "../scripts/annotate.py"


rule train:
    """Train {wildcards.model} from scratch on its ledger: {params.end} (epochs, patience), Adam, weighted soft Dice."""
    input:
        ledger=training_ledger,
        volumes=preprocessed(
            [*split_volumes(USED, "pool"), *split_volumes(USED, "val")]
        ),
    output:
        model=ensure("results/models/seed{seed}/{model}/model.pt", non_empty=True),
        history=ensure("results/models/seed{seed}/{model}/history.tsv", non_empty=True),
    log:
        "results/logs/models/seed{seed}/{model}.log",
    benchmark:
        "results/benchmarks/models/seed{seed}/{model}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=GPU * config["compute"]["training_processes"],
        # Volumes are maps of their files and take no memory of their own; a small network and its validation took 5.3 GB
        # without a GPU. The time is that of a turn: a longer training continues in the next turn.
        mem_mb=more_each_attempt(32000),
        runtime=24 * 60,
    params:
        # Not an output: it must survive a failure, so that the next attempt continues where this one stopped.
        checkpoint="results/checkpoints/seed{seed}/{model}.pt",
        validation=split_volumes(USED, "val"),
        network=config["network"],
        training={
            name: value
            for name, value in config["training"].items()
            if name not in ("iteration", "converged")
        },
        end=lambda wildcards: config["training"][
            "converged" if wildcards.model.endswith("-converged") else "iteration"
        ],
    script:
        "../scripts/train.py"


rule uncertainty:
    """Draw {params.settings[samples]} Monte Carlo dropout samples of a shard of the pool; write profiles and scores."""
    input:
        model=rules.train.output.model,
        volumes=lambda wildcards: preprocessed(
            volumes_in(wildcards.shard, "uncertainty")
        ),
    output:
        slices=ensure(
            "results/uncertainty/seed{seed}/{model}/slices-shard{shard}.tsv",
            non_empty=True,
        ),
        volumes=ensure(
            "results/uncertainty/seed{seed}/{model}/volumes-shard{shard}.tsv",
            non_empty=True,
        ),
    log:
        "results/logs/uncertainty/seed{seed}/{model}-shard{shard}.log",
    benchmark:
        "results/benchmarks/uncertainty/seed{seed}/{model}-shard{shard}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=GPU,
        # 6.1 GiB for 1160 slices without a GPU, where feature maps are in the same memory. Its time on a GPU has not been
        # measured; `snakemake plan` does that on yours.
        mem_mb=more_each_attempt(16000),
        runtime=more_each_attempt(12 * 60),
    params:
        volumes=lambda wildcards: volumes_in(wildcards.shard, "uncertainty"),
        settings={name: config["uncertainty"][name] for name in ("samples", "dilation")},
    script:
        "../scripts/uncertainty.py"
