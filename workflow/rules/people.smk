"""People annotate: work lists and proposals for them, ledgers of their answers, and what comes of it in the end.

in:  results/queries/, results/models/, results/preprocessed/, results/annotations/reference.tsv,
     people.answers of the configuration: the folder of the people, which no rule writes to
out: results/work_lists/ROUND.tsv, results/proposals/ROUND/VOLUME.nii.gz, results/annotations/seed*/ROUND.tsv,
     results/annotation.html; when the loop has ended results/segmentations/seed*/MODEL/shard*/VOLUME.nii.gz and
     results/review.tsv, the volumes with the most uncertain first
usually includes: a work list and its proposals, a ledger and a model for each closed round; a converged model
"""


localrules:
    annotate,
    first_query,
    work_list,
    review,
    annotation_page,


ROUND = f"initial|{config['strategies'][0]}-[0-9]+"


rule annotate:
    """Write the ledger of what came with masks, and of what people had annotated when round {wildcards.round} was closed."""
    input:
        reference="results/annotations/reference.tsv",
        closed=lambda wildcards: closed_table(wildcards.round),
    output:
        "results/annotations/seed{seed}/{round}.tsv",
    log:
        "results/logs/annotations/seed{seed}/{round}.log",
    wildcard_constraints:
        round=ROUND,
    conda:
        "../../envs/environment.yaml"
    script:
        "../scripts/people_ledger.py"


rule first_query:
    """Without a model, request {params.slices} slices, evenly spaced in {params.volumes} random volumes."""
    input:
        reference="results/annotations/reference.tsv",
    output:
        "results/queries/seed{seed}/initial.tsv",
    log:
        "results/logs/queries/seed{seed}/initial.log",
    conda:
        "../../envs/environment.yaml"
    params:
        volumes=config["initial_volumes"],
        slices=config["people"]["initial_slices"],
    script:
        "../scripts/first_query.py"


rule work_list:
    """Draw which slices start from a proposal ({params.proposals}) and which two people annotate ({params.twice})."""
    input:
        f"results/queries/seed{SHOWN_SEED}/{{round}}.tsv",
    output:
        "results/work_lists/{round}.tsv",
    log:
        "results/logs/work_lists/{round}.log",
    wildcard_constraints:
        round=ROUND,
    conda:
        "../../envs/environment.yaml"
    params:
        seed=SHOWN_SEED,
        # Before there is a model nothing can be proposed.
        proposals=lambda wildcards: (
            0 if wildcards.round == "initial" else config["people"]["proposals"]
        ),
        twice=config["people"]["twice"],
    script:
        "../scripts/work_list.py"


rule proposals:
    """Segment the volumes of a work list in which a slice starts from the model's mask, dropout off."""
    input:
        work_list="results/work_lists/{strategy}-{iteration}.tsv",
        model=lambda wildcards: f"results/models/seed{SHOWN_SEED}/{previous(wildcards)}/model.pt",
        volumes=preprocessed(split_volumes(USED, "pool")),
    output:
        directory("results/proposals/{strategy}-{iteration}"),
    log:
        "results/logs/proposals/{strategy}-{iteration}.log",
    benchmark:
        "results/benchmarks/proposals/{strategy}-{iteration}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=GPU,
        mem_mb=more_each_attempt(16000),  # as `predict`
        runtime=more_each_attempt(4 * 60),
    script:
        "../scripts/proposals.py"


rule segment:
    """Segment a shard of all volumes with {wildcards.model}, and score how uncertain it is of each."""
    input:
        model=rules.train.output.model,
        volumes="results/preprocessed/shard{shard}",
    output:
        masks=directory("results/segmentations/seed{seed}/{model}/shard{shard}"),
        scores=ensure(
            "results/segmentations/seed{seed}/{model}/shard{shard}.tsv", non_empty=True
        ),
    log:
        "results/logs/segmentations/seed{seed}/{model}-shard{shard}.log",
    benchmark:
        "results/benchmarks/segmentations/seed{seed}/{model}-shard{shard}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=GPU,
        mem_mb=more_each_attempt(16000),  # as `uncertainty`
        runtime=more_each_attempt(12 * 60),
    params:
        volumes=lambda wildcards: volumes_in(wildcards.shard, "preprocessing"),
        settings={name: config["uncertainty"][name] for name in ("samples", "dilation")},
    script:
        "../scripts/segment.py"


SEGMENTATIONS = shards(
    "preprocessing",
    "results/segmentations/seed{seed}/{model}/shard{shard}.tsv",
    seed=SHOWN_SEED,
    model=CONVERGED_MODELS,
)


rule review:
    """List all segmented volumes for review, the most uncertain first."""
    input:
        scores=SEGMENTATIONS,
        cohort="results/cohort/cohort.tsv",
    output:
        "results/review.tsv",
    log:
        "results/logs/review.log",
    conda:
        "../../envs/environment.yaml"
    script:
        "../scripts/review.py"


# What needs neither a second strategy nor a model of the whole data pool, and test volumes only where there are some.
PEOPLES_TABLES = ["table1_cohort", "table3_training_steps"]
PEOPLES_FIGURES = [*(["figure1_network"] if DRAWN else []), "figure3_excluded_cases"]
if LAST > 0:
    PEOPLES_FIGURES += ["selected_slices"]
if TESTED:
    PEOPLES_TABLES += ["table4_dice", "table5_rve", "table6_msd", "table7_hd"]
    PEOPLES_TABLES += ["supplement1_intervals", "supplement6_further_metrics"]
    PEOPLES_FIGURES += ["calibration"]
if TESTED and LAST > 0:
    PEOPLES_FIGURES += ["figure4_iterations", "figure5_probability_maps"]
FILLED = [
    *expand(
        "results/tables/{table}.{format}", table=PEOPLES_TABLES, format=TABLE_FORMATS
    ),
    *expand(
        "results/figures/{figure}.{format}",
        figure=[
            *PEOPLES_FIGURES,
            *(f"learning_curves/seed{SHOWN_SEED}/{model}" for model in MODELS),
        ],
        format=FIGURE_FORMATS,
    ),
]
LEFT_OUT = [
    name
    for name in (
        *TABLES,
        *PLOTS,
        "figure2_uncertainty_profile",
        "figure5_probability_maps",
        "figure6_cases",
        "selected_slices",
        "overview",
        "claims",
        "this_run_and_the_paper",
    )
    if name not in (*PEOPLES_TABLES, *PEOPLES_FIGURES)
]


rule annotation_page:
    """Show what annotation took, what the models reach by it, and what another {params.more} slices would bring."""
    input:
        reference="results/annotations/reference.tsv",
        closed=[str(ANSWERS / "closed" / f"{name}.tsv") for name in PROGRESS.closed],
        ledgers=expand(
            f"results/annotations/seed{SHOWN_SEED}/{{model}}.tsv",
            model=PROGRESS.models,
        ),
        histories=expand(
            f"results/models/seed{SHOWN_SEED}/{{model}}/history.tsv",
            model=PROGRESS.models,
        ),
        metrics=shards(
            "test",
            f"results/evaluation/seed{SHOWN_SEED}/{{model}}/shard{{shard}}.tsv",
            model=PROGRESS.models,
        ),
        review=[] if PROGRESS.open else "results/review.tsv",
    output:
        page=report(
            "results/annotation.html",
            category="1 Overview",
            labels={"page": "annotation by people"},
            caption="../report/annotation.rst",
        ),
        figure="results/figures/annotation_minutes.png",
        print="results/figures/annotation_minutes.pdf",
        rounds="results/evaluation/annotation_rounds.tsv",
        times="results/evaluation/annotation_times.tsv",
    log:
        "results/logs/annotation_page.log",
    conda:
        "../../envs/environment.yaml"
    params:
        answers=str(ANSWERS),
        closed=PROGRESS.closed,
        models=PROGRESS.models,
        more=(
            config["slices_per_iteration"]
            if STRATEGIES[SHOWN_STRATEGY].slices
            else config["volumes_per_iteration"]
        ),
        ratio=config["annotation_time_ratio"],
        left_out=[] if PROGRESS.open else LEFT_OUT,
    script:
        "../scripts/annotation_page.py"


def people_targets():
    """What can be made of the rounds that are closed, and the work list of the one that is open; or all, in the end."""
    targets = ["results/cohort_report.html"]
    if PROGRESS.models:
        targets.append("results/annotation.html")
    if PROGRESS.open is None:
        return [*targets, *SEGMENTATIONS, *FILLED, "results/provenance.json"]
    targets.append(f"results/work_lists/{PROGRESS.open}.tsv")
    if PROGRESS.open != "initial":
        targets.append(f"results/proposals/{PROGRESS.open}")
    return targets


def where_people_are():
    """Return the line that says at which point the run is."""
    if PROGRESS.open is None:
        return "People have ended the loop: the models are trained until convergence, and all volumes are segmented."
    if Path(f"results/work_lists/{PROGRESS.open}.tsv").exists():
        return waiting("results/work_lists", Answers(ANSWERS), PROGRESS.open)
    closed = len(PROGRESS.closed)
    rounds = (
        "1 round of annotation is"
        if closed == 1
        else f"{closed} rounds of annotation are"
    )
    return f"{rounds} closed; this run makes the work list of the next one."


if workflow.is_main_process:
    logger.info(where_people_are())


onsuccess:
    logger.info(where_people_are())
