"""The paper's tables and figures and those beyond it, each from the run's own data.

in:  results/cohort/, results/evaluation/, results/annotations/, results/uncertainty/, results/models/,
     results/predictions/, results/preprocessed/
out: results/tables/*.{csv,md,tex,html}, results/figures/*.{png,pdf}, results/this_run_and_the_paper.html,
     results/overview.html, results/claims.html, results/provenance.{json,html}
"""


localrules:
    paper_comparison,
    overview,
    claims,
    provenance,


rule table:
    """Lay out a table, of the paper or beyond it, from the run's records: full precision as CSV, rounded as Markdown, LaTeX, HTML."""
    input:
        unpack(lambda wildcards: contents.TABLES[wildcards.table].reads),
    output:
        expand("results/tables/{{table}}.{format}", format=contents.TABLE_FORMATS[:-1]),
        report(
            "results/tables/{table}.html",
            category=lambda wildcards: contents.category(wildcards.table),
            labels={"table": "{table}"},
            caption="../report/caption.rst",
        ),
    log:
        "results/logs/tables/{table}.log",
    wildcard_constraints:
        table="|".join(contents.TABLES),
    resources:
        **LIGHT,
    params:
        arguments=lambda wildcards: EXPERIMENT.arguments(wildcards.table),
        titles=EXPERIMENT.own_titles,
        caption=lambda wildcards: EXPERIMENT.caption(wildcards.table),
    script:
        "../scripts/table.py"


rule network_figure:
    """Figure 1: the network, drawn from its own description."""
    output:
        listed("figure1_network", "results/figures/figure1_network.png"),
        "results/figures/figure1_network.pdf",
    log:
        "results/logs/figures/figure1_network.log",
    resources:
        **LIGHT,
    params:
        network=config["network"]["aunet"],
        caption=EXPERIMENT.caption("figure1_network"),
    script:
        "../scripts/network_figure.py"


rule uncertainty_profile_figure:
    """Figure 2: the slice-level uncertainty of the volume with the most slices in the first query, and its candidates."""
    input:
        slices=of_shards(
            "uncertainty",
            f"results/uncertainty/seed{EXPERIMENT.shown_seed}/initial/slices-shard{{shard}}.tsv",
        ),
        query=f"results/queries/seed{EXPERIMENT.shown_seed}/uss-1.tsv",
        ledger=f"results/annotations/seed{EXPERIMENT.shown_seed}/initial.tsv",
        volumes=EXPERIMENT.preprocessed(EXPERIMENT.volumes["uncertainty"]),
    output:
        listed(
            "figure2_uncertainty_profile",
            "results/figures/figure2_uncertainty_profile.png",
        ),
        "results/figures/figure2_uncertainty_profile.pdf",
    log:
        "results/logs/figures/figure2_uncertainty_profile.log",
    resources:
        **LIGHT,
    params:
        measure=lambda wildcards: EXPERIMENT.strategies["uss"].column,
        candidate_distance=config["uncertainty"]["candidate_distance"],
        caption=EXPERIMENT.caption("figure2_uncertainty_profile"),
    script:
        "../scripts/uncertainty_profile_figure.py"


rule excluded_cases_figure:
    """Figure 3: the largest liver slice of up to four excluded volumes, with the reference mask and the reason."""
    input:
        EXPERIMENT.files_of(EXPERIMENT.shown_exclusions),
    output:
        listed("figure3_excluded_cases", "results/figures/figure3_excluded_cases.png"),
        "results/figures/figure3_excluded_cases.pdf",
    log:
        "results/logs/figures/figure3_excluded_cases.log",
    resources:
        **LIGHT,
    params:
        rows=EXPERIMENT.rows_of(EXPERIMENT.shown_exclusions),
        settings=config["preprocessing"],
        caption=EXPERIMENT.caption("figure3_excluded_cases"),
    script:
        "../scripts/excluded_cases_figure.py"


rule plot:
    """Figures 4 and 7, the learning curves, the calibration and the error detection, from the tables of results."""
    input:
        unpack(lambda wildcards: contents.PLOTS[wildcards.plot].reads),
    output:
        report(
            "results/figures/{plot}.png",
            category=lambda wildcards: contents.category(wildcards.plot),
            labels={"figure": "{plot}"},
            caption="../report/caption.rst",
        ),
        "results/figures/{plot}.pdf",
    log:
        "results/logs/figures/{plot}.log",
    wildcard_constraints:
        plot="|".join(contents.PLOTS),
    resources:
        **LIGHT,
    params:
        caption=lambda wildcards: EXPERIMENT.caption(wildcards.plot),
    script:
        "../scripts/plot.py"


rule probability_maps_figure:
    """Figure 5: mean probability and predictive entropy on four slices of the test volume that is segmented worst."""
    input:
        metrics="results/evaluation/metrics.tsv",
        model=f"{model_folder(EXPERIMENT.shown_seed, EXPERIMENT.shown_model)}/model.pt",
        volumes=EXPERIMENT.preprocessed(EXPERIMENT.volumes["test"]),
    output:
        listed(
            "figure5_probability_maps", "results/figures/figure5_probability_maps.png"
        ),
        "results/figures/figure5_probability_maps.pdf",
    log:
        "results/logs/figures/figure5_probability_maps.log",
    threads: config["compute"]["threads"]
    resources:
        **APPLIES,
        runtime=more_each_attempt(2 * 60),
    params:
        seed=EXPERIMENT.shown_seed,
        model=str(EXPERIMENT.shown_model),
        samples=config["uncertainty"]["samples"],
        caption=EXPERIMENT.caption("figure5_probability_maps"),
    script:
        "../scripts/probability_maps_figure.py"


rule cases_figure:
    """Figure 6: outlines of the converged models on cases chosen by rule: hardest, largest disagreement, typical, …"""
    input:
        metrics="results/evaluation/metrics.tsv",
        predictions=of_shards(
            "test",
            f"results/predictions/seed{EXPERIMENT.shown_seed}/{{model}}/shard{{shard}}",
            model=EXPERIMENT.converged_models,
        ),
        volumes=EXPERIMENT.preprocessed(EXPERIMENT.volumes["test"]),
    output:
        listed("figure6_cases", "results/figures/figure6_cases.png"),
        "results/figures/figure6_cases.pdf",
    log:
        "results/logs/figures/figure6_cases.log",
    resources:
        **LIGHT,
    params:
        seed=EXPERIMENT.shown_seed,
        caption=EXPERIMENT.caption("figure6_cases"),
    script:
        "../scripts/cases_figure.py"


rule selection_figure:
    """Show which slices were annotated for each strategy, by volume and iteration."""
    input:
        ledgers=[ledger(EXPERIMENT.shown_seed, model) for model in EXPERIMENT.ledgers],
        reference=REFERENCE,
        cohort="results/cohort/cohort.tsv",
    output:
        listed("selected_slices", "results/figures/selected_slices.png"),
        "results/figures/selected_slices.pdf",
    log:
        "results/logs/figures/selected_slices.log",
    resources:
        **LIGHT,
    params:
        caption=EXPERIMENT.caption("selected_slices"),
    script:
        "../scripts/selection_figure.py"


rule learning_curves:
    """The loss and the validation indices of each training of a seed, against the step."""
    input:
        expand(
            "results/models/seed{{seed}}/{model}/history.tsv", model=EXPERIMENT.models
        ),
    output:
        [
            report(
                f"results/figures/learning_curves/seed{{seed}}/{model}.png",
                category="5 Trainings",
                labels={"seed": "{seed}", "model": str(model)},
                caption="../report/caption.rst",
            )
            for model in EXPERIMENT.models
        ],
        expand(
            "results/figures/learning_curves/seed{{seed}}/{model}.pdf",
            model=EXPERIMENT.models,
        ),
    log:
        "results/logs/figures/learning_curves_seed{seed}.log",
    resources:
        **LIGHT,
    params:
        caption=contents.LEARNING_CURVES,
    script:
        "../scripts/learning_curves.py"


rule paper_comparison:
    """Tables 2 to 9, the values of this run above those that the paper prints."""
    input:
        metrics="results/evaluation/metrics.tsv",
        annotations="results/evaluation/annotations.tsv",
        training="results/evaluation/training.tsv",
    output:
        listed("this_run_and_the_paper", "results/this_run_and_the_paper.html"),
    log:
        "results/logs/paper_comparison.log",
    params:
        caption=EXPERIMENT.caption("this_run_and_the_paper"),
    script:
        "../scripts/paper_comparison.py"


rule overview:
    """Show the learning curves, and state the findings in words, with the numbers of the run."""
    input:
        cohort="results/cohort/cohort.tsv",
        annotations="results/evaluation/annotations.tsv",
        metrics="results/evaluation/metrics.tsv",
        comparisons="results/tables/supplement2_comparisons.csv",
        efficiency="results/tables/supplement4_efficiency.csv",
        picture="results/figures/performance_slices.png",
    output:
        listed("overview", "results/overview.html"),
    log:
        "results/logs/overview.log",
    params:
        synthetic=EXPERIMENT.synthetic,
        titles={
            name: strategy.title for name, strategy in EXPERIMENT.strategies.items()
        },
        caption=EXPERIMENT.caption("overview"),
    script:
        "../scripts/overview.py"


rule claims:
    """Judge each claim of the paper by the metrics and the annotated sets of this run."""
    input:
        metrics="results/evaluation/metrics.tsv",
        annotations="results/evaluation/annotations.tsv",
        composition="results/evaluation/composition.tsv",
    output:
        page=listed("claims", "results/claims.html"),
        table="results/tables/claims.csv",
    log:
        "results/logs/claims.log",
    params:
        synthetic=EXPERIMENT.synthetic,
        caption=EXPERIMENT.caption("claims"),
    script:
        "../scripts/claims.py"


rule provenance:
    """Record where the results come from: configuration, seeds, versions, source revision, machine, time of stages."""
    input:
        metrics="results/evaluation/metrics.tsv" if EXPERIMENT.volumes["test"] else [],
        training="results/evaluation/training.tsv",
    output:
        record="results/provenance.json",
        page=listed("provenance", "results/provenance.html"),
    log:
        "results/logs/provenance.log",
    params:
        config=config,
        source=str(workflow.current_basedir.get_path_or_uri(secret_free=True)),
        benchmarks="results/benchmarks",
        caption=EXPERIMENT.caption("provenance"),
    script:
        "../scripts/provenance.py"
