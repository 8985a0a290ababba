"""`snakemake plan`: what the whole run will cost, measured on this machine before it is started.

in:  results/cohort/{cohort,volumes}.tsv
out: a table on the terminal and in results/logs/plan.log
"""


def jobs_in_all():
    """The number of jobs of the whole run, as `snakemake -n` counts them for an empty folder."""
    seeds, queries = len(config["seeds"]), len(config["strategies"]) * LAST
    sliced = any(STRATEGIES[name].slices for name in config["strategies"])
    a_seed = 2 + sliced + 2 * queries + 1  # initial and pool ledger, budget, queries and answers, learning curves
    figures = 4 + ("uss" in config["strategies"])
    once = 3 + len(TABLES) + len(PLOTS) + figures + 1  # three summaries; provenance
    cohort = 2 + (config["cohort"] == "phantom")  # check, reference slices
    counts = job_counts(
        config,
        MODELS,
        {name: len(split_volumes(USED, name)) for name in ("pool", "val", "test")},
    )
    return sum(counts.values()) + seeds * a_seed + once + cohort + 1  # all


rule plan:
    """Measure a few training steps and one tile with this configuration, and tell jobs, hours and disk of each stage."""
    input:
        cohort="results/cohort/cohort.tsv",
        volumes="results/cohort/volumes.tsv",
    log:
        "results/logs/plan.log",
    conda:
        "../../envs/environment.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=GPU,
        mem_mb=32000,
        runtime="1h",
    params:
        models=MODELS,
        jobs=jobs_in_all(),
        workers=config["compute"]["workers"],
    script:
        "../scripts/plan.py"
