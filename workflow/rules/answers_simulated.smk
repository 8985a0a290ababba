"""The simulated annotator: the initial set, and the answers to queries, from the reference masks.

in:  results/annotations/reference.tsv, results/queries/seed*/STRATEGY-ITERATION.tsv
out: results/annotations/seed*/LEDGER.tsv
usually includes: initial and pool ledger, strategies × iterations answers a seed
"""


localrules:
    initial_annotations,
    pool_annotations,
    annotate,


rule initial_annotations:
    """Annotate all slices of the {params.size} volumes that every strategy starts from, or (None) of all."""
    input:
        reference=REFERENCE,
    output:
        "results/annotations/seed{seed}/initial.tsv",
    log:
        "results/logs/annotations/seed{seed}/initial.log",
    priority: AT_ONCE
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


rule annotate:
    """Answer a query from the reference masks, as the simulated annotator."""
    input:
        query=rules.query.output[0],
        ledger=lambda wildcards: ledger(wildcards.seed, asked_model(wildcards)),
        reference=REFERENCE,
        budget=lambda wildcards: (
            EXPERIMENT.budget(wildcards.seed)
            if EXPERIMENT.strategies[wildcards.strategy].until_liver
            else []
        ),
    output:
        "results/annotations/seed{seed}/{strategy}-{iteration}.tsv",
    log:
        "results/logs/annotations/seed{seed}/{strategy}-{iteration}.log",
    priority: AT_ONCE
    script:
        "../scripts/annotate.py"
