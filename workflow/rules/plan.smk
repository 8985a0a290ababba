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
    threads: config["compute"]["threads"]
    resources:
        **APPLIES,
        runtime=more_each_attempt(60),
    params:
        # Snakemake counts the jobs, as if nothing had been made.
        snakefile=str(workflow.main_snakefile),
        folder=str(Path.cwd()),
        cohort=EXPERIMENT.cohort.reset_index().to_dict("list"),
        workers=config["compute"]["workers"],
    script:
        "../scripts/plan.py"
