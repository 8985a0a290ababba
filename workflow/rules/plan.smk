"""`snakemake plan`: what the whole run will cost, measured on this machine before it is started.

in:  results/cohort/{cohort,volumes}.tsv
out: a table on the terminal and in results/logs/plan.log
"""


rule plan:
    """Measure a few training steps and one tile with this configuration; report jobs, hours and disk of each stage."""
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
        mem_mb=more_each_attempt(16000),
        runtime=more_each_attempt(60),
    params:
        models=MODELS,
        jobs=jobs_in_all(),
        workers=config["compute"]["workers"],
    script:
        "../scripts/plan.py"
