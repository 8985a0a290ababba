"""What is to be annotated next, for each seed and strategy; who answers is in answers_simulated.smk or answers_people.smk.

in:  results/annotations/reference.tsv,
     results/uncertainty/seed*/MODEL/{slices-shard*.tsv,volumes-shard*.tsv,features-shard*.npz}
out: results/annotations/seed*/slice_budget.txt, results/queries/seed*/STRATEGY-ITERATION.tsv
usually includes: a budget of slices, strategies × iterations queries a seed
"""


localrules:
    slice_budget,
    query,


rule slice_budget:
    """Set how many slices uss and rss add: {params.slices} (auto: liver slices a uvs iteration adds / {params.ratio})."""
    input:
        lambda wildcards: EXPERIMENT.budget_inputs(wildcards.seed),
    output:
        "results/annotations/seed{seed}/slice_budget.txt",
    log:
        "results/logs/annotations/seed{seed}/slice_budget.log",
    priority: AT_ONCE
    params:
        slices=config["slices_per_iteration"],
        ratio=config["annotation_time_ratio"],
    script:
        "../scripts/slice_budget.py"


rule query:
    """Request annotations: {wildcards.strategy}, iteration {wildcards.iteration}."""
    input:
        unpack(
            lambda wildcards: EXPERIMENT.query_inputs(
                Query(
                    int(wildcards.seed), wildcards.strategy, int(wildcards.iteration)
                )
            )
        ),
    output:
        "results/queries/seed{seed}/{strategy}-{iteration}.tsv",
    log:
        "results/logs/queries/seed{seed}/{strategy}-{iteration}.log",
    priority: AT_ONCE
    params:
        strategy=lambda wildcards: EXPERIMENT.strategies[wildcards.strategy]._asdict(),
        # The answers of people: no slice is queried again, also where people could not tell the structure.
        answers=config["people"]["answers"],
        closed=lambda wildcards: EXPERIMENT.closed_round(asked_model(wildcards)),
        volumes=config["volumes_per_iteration"],
        candidate_distance=config["uncertainty"]["candidate_distance"],
        # Only for strategies that use it, so that a further iteration leaves earlier queries unchanged.
        iterations=lambda wildcards: (
            config["iterations"]
            if EXPERIMENT.strategies[wildcards.strategy].scheduled
            else None
        ),
    script:
        "../scripts/query.py"
