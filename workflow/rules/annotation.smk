"""What is annotated: the initial set, what a query asks for, and the answers, for each seed and strategy.

in:  results/annotations/reference.tsv,
     results/uncertainty/seed*/MODEL/{slices-shard*.tsv,volumes-shard*.tsv,features-shard*.npz}
out: results/annotations/seed*/{LEDGER.tsv,slice_budget.txt}, results/queries/seed*/STRATEGY-ITERATION.tsv
usually includes: initial and pool ledger, a budget of slices, strategies × iterations queries and answers a seed
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
        strategy=lambda wildcards: STRATEGIES[wildcards.strategy]._asdict(),
        volumes=config["volumes_per_iteration"],
        candidate_distance=config["uncertainty"]["candidate_distance"],
        # Of no other strategy, so that a further iteration leaves the queries before it as they are.
        iterations=lambda wildcards: (
            LAST if STRATEGIES[wildcards.strategy].scheduled else None
        ),
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
