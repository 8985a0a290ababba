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
        unpack(lambda wildcards: TABLES[wildcards.table][2]),
    output:
        expand("results/tables/{{table}}.{format}", format=TABLE_FORMATS[:-1]),
        report(
            "results/tables/{table}.html",
            category=lambda wildcards: (
                "4 Beyond the paper"
                if wildcards.table.startswith("supplement")
                else "2 Tables"
            ),
            labels={"table": "{table}"},
            caption="../report/table.rst",
        ),
    log:
        "results/logs/tables/{table}.log",
    wildcard_constraints:
        table="|".join(TABLES),
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(60),
    params:
        function=lambda wildcards: TABLES[wildcards.table][0],
        arguments=lambda wildcards: TABLES[wildcards.table][1],
        titles=OWN_TITLES,
    script:
        "../scripts/table.py"


rule network_figure:
    """Figure 1: the network, drawn from its own description."""
    output:
        report(
            "results/figures/figure1_network.png",
            category="3 Figures",
            labels={"figure": "figure1_network"},
            caption="../report/figure1_network.rst",
        ),
        "results/figures/figure1_network.pdf",
    log:
        "results/logs/figures/figure1_network.log",
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(60),
    params:
        network=config["network"],
        patch=config["training"]["patch"],
    script:
        "../scripts/network_figure.py"


rule uncertainty_profile_figure:
    """Figure 2: the slice-level uncertainty of the volume with the most slices in the first query, and its candidates."""
    input:
        slices=shards(
            "uncertainty",
            f"results/uncertainty/seed{SHOWN_SEED}/initial/slices-shard{{shard}}.tsv",
        ),
        query=f"results/queries/seed{SHOWN_SEED}/uss-1.tsv",
        ledger=f"results/annotations/seed{SHOWN_SEED}/initial.tsv",
        volumes=preprocessed(split_volumes(USED, "pool")),
    output:
        report(
            "results/figures/figure2_uncertainty_profile.png",
            category="3 Figures",
            labels={"figure": "figure2_uncertainty_profile"},
            caption="../report/figure2_uncertainty_profile.rst",
        ),
        "results/figures/figure2_uncertainty_profile.pdf",
    log:
        "results/logs/figures/figure2_uncertainty_profile.log",
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(60),
    params:
        measure=lambda wildcards: STRATEGIES["uss"].column,
        candidate_distance=config["uncertainty"]["candidate_distance"],
    script:
        "../scripts/uncertainty_profile_figure.py"


EXCLUDED = COHORT[
    (COHORT["exclude"] != "") & (COHORT["image"] != "") & (COHORT["label"] != "")
].head(4)


rule excluded_cases_figure:
    """Figure 3: the largest liver slice of up to four excluded volumes, with the reference mask and the reason."""
    input:
        raw(list(EXCLUDED["volume"])),
    output:
        report(
            "results/figures/figure3_excluded_cases.png",
            category="3 Figures",
            labels={"figure": "figure3_excluded_cases"},
            caption="../report/figure3_excluded_cases.rst",
        ),
        "results/figures/figure3_excluded_cases.pdf",
    log:
        "results/logs/figures/figure3_excluded_cases.log",
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(60),
    params:
        rows=EXCLUDED.to_dict("records"),
        settings=config["preprocessing"],
    script:
        "../scripts/excluded_cases_figure.py"


rule plot:
    """Figures 4 and 7, the learning curves, the calibration and the error detection, from the tables of results."""
    input:
        unpack(lambda wildcards: PLOTS[wildcards.plot][2]),
    output:
        report(
            "results/figures/{plot}.png",
            category=lambda wildcards: (
                "3 Figures"
                if wildcards.plot.startswith("figure")
                else "4 Beyond the paper"
            ),
            labels={"figure": "{plot}"},
            caption="../report/plot.rst",
        ),
        "results/figures/{plot}.pdf",
    log:
        "results/logs/figures/{plot}.log",
    wildcard_constraints:
        plot="|".join(PLOTS),
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(60),
    params:
        cases=len(split_volumes(USED, "test")),  # for the caption, as what follows
        titles=OWN_TITLES,
        many=len(STRATEGIES) > MANY,
        function=lambda wildcards: PLOTS[wildcards.plot][0],
        arguments=lambda wildcards: PLOTS[wildcards.plot][1],
    script:
        "../scripts/plot.py"


rule probability_maps_figure:
    """Figure 5: mean probability and predictive entropy on four slices of the test volume that is segmented worst."""
    input:
        metrics="results/evaluation/metrics.tsv",
        model=f"results/models/seed{SHOWN_SEED}/{SHOWN_STRATEGY}-{LAST}-converged/model.pt",
        volumes=preprocessed(split_volumes(USED, "test")),
    output:
        report(
            "results/figures/figure5_probability_maps.png",
            category="3 Figures",
            labels={"figure": "figure5_probability_maps"},
            caption="../report/figure5_probability_maps.rst",
        ),
        "results/figures/figure5_probability_maps.pdf",
    log:
        "results/logs/figures/figure5_probability_maps.log",
    conda:
        "../../envs/environment.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=GPU,
        mem_mb=more_each_attempt(16000),
        runtime=more_each_attempt(2 * 60),
    params:
        seed=SHOWN_SEED,
        model=f"{SHOWN_STRATEGY}-{LAST}-converged",
        samples=config["uncertainty"]["samples"],
        title=KIND.samples(config),
    script:
        "../scripts/probability_maps_figure.py"


rule cases_figure:
    """Figure 6: outlines of the converged models on cases chosen by rule: hardest, largest disagreement, typical, …"""
    input:
        metrics="results/evaluation/metrics.tsv",
        predictions=shards(
            "test",
            f"results/predictions/seed{SHOWN_SEED}/{{model}}/shard{{shard}}",
            model=CONVERGED_MODELS,
        ),
        volumes=preprocessed(split_volumes(USED, "test")),
    output:
        report(
            "results/figures/figure6_cases.png",
            category="3 Figures",
            labels={"figure": "figure6_cases"},
            caption="../report/figure6_cases.rst",
        ),
        "results/figures/figure6_cases.pdf",
    log:
        "results/logs/figures/figure6_cases.log",
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(60),
    params:
        seed=SHOWN_SEED,
        cases=len(split_volumes(USED, "test")),  # for the caption, as what follows
        titles=OWN_TITLES,
    script:
        "../scripts/cases_figure.py"


rule selection_figure:
    """Show which slices were annotated for each strategy, by volume and iteration."""
    input:
        ledgers=expand(
            f"results/annotations/seed{SHOWN_SEED}/{{strategy}}-{LAST}.tsv",
            strategy=config["strategies"],
        ),
        reference="results/annotations/reference.tsv",
        cohort="results/cohort/cohort.tsv",
    output:
        report(
            "results/figures/selected_slices.png",
            category="4 Beyond the paper",
            labels={"figure": "selected_slices"},
            caption="../report/selected_slices.rst",
        ),
        "results/figures/selected_slices.pdf",
    log:
        "results/logs/figures/selected_slices.log",
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(60),
    params:
        titles=OWN_TITLES,  # for the caption
    script:
        "../scripts/selection_figure.py"


rule learning_curves:
    """The loss and the validation indices of each training of a seed, against the step."""
    input:
        expand("results/models/seed{{seed}}/{model}/history.tsv", model=MODELS),
    output:
        [
            report(
                f"results/figures/learning_curves/seed{{seed}}/{model}.png",
                category="5 Trainings",
                labels={"seed": "{seed}", "model": model},
                caption="../report/learning_curves.rst",
            )
            for model in MODELS
        ],
        expand("results/figures/learning_curves/seed{{seed}}/{model}.pdf", model=MODELS),
    log:
        "results/logs/figures/learning_curves_seed{seed}.log",
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=more_each_attempt(60),
    script:
        "../scripts/learning_curves.py"


rule paper_comparison:
    """Tables 2 to 9, the values of this run above those that the paper prints."""
    input:
        metrics="results/evaluation/metrics.tsv",
        annotations="results/evaluation/annotations.tsv",
        training="results/evaluation/training.tsv",
    output:
        report(
            "results/this_run_and_the_paper.html",
            category="1 Overview",
            labels={"page": "this run and the paper"},
            caption="../report/paper_comparison.rst",
        ),
    log:
        "results/logs/paper_comparison.log",
    conda:
        "../../envs/environment.yaml"
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
        report(
            "results/overview.html",
            category="1 Overview",
            labels={"page": "findings"},
            caption="../report/overview.rst",
        ),
    log:
        "results/logs/overview.log",
    conda:
        "../../envs/environment.yaml"
    params:
        synthetic=config["cohort"] == "phantom",
        titles={name: strategy.title for name, strategy in STRATEGIES.items()},
    script:
        "../scripts/overview.py"


rule claims:
    """Judge each claim of the paper by the metrics and the annotated sets of this run."""
    input:
        metrics="results/evaluation/metrics.tsv",
        annotations="results/evaluation/annotations.tsv",
        composition="results/evaluation/composition.tsv",
    output:
        page=report(
            "results/claims.html",
            category="1 Overview",
            labels={"page": "the paper's claims"},
            caption="../report/claims.rst",
        ),
        table="results/tables/claims.csv",
    log:
        "results/logs/claims.log",
    conda:
        "../../envs/environment.yaml"
    params:
        synthetic=config["cohort"] == "phantom",
    script:
        "../scripts/claims.py"


rule provenance:
    """Record where the results come from: configuration, seeds, versions, source revision, machine, time of stages."""
    input:
        metrics="results/evaluation/metrics.tsv" if TESTED else [],
        training="results/evaluation/training.tsv",
    output:
        record="results/provenance.json",
        page=report(
            "results/provenance.html",
            category="1 Overview",
            labels={"page": "provenance"},
            caption="../report/provenance.rst",
        ),
    log:
        "results/logs/provenance.log",
    conda:
        "../../envs/environment.yaml"
    params:
        config=config,
        source=str(workflow.basedir),
        benchmarks="results/benchmarks",
    script:
        "../scripts/provenance.py"
