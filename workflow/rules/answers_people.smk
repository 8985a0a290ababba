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


PROGRESS = EXPERIMENT.progress
ROUND = f"initial|{config['strategies'][0]}-[0-9]+"


rule annotate:
    """Write the ledger of what came with masks, and of what people had annotated when round {wildcards.round} was closed."""
    input:
        reference=REFERENCE,
    output:
        "results/annotations/seed{seed}/{round}.tsv",
    log:
        "results/logs/annotations/seed{seed}/{round}.log",
    wildcard_constraints:
        round=ROUND,
    params:
        answers=config["people"]["answers"],
        closed=lambda wildcards: EXPERIMENT.closed_round(Model.parse(wildcards.round)),
    script:
        "../scripts/people_ledger.py"


rule first_query:
    """Without a model, request {params.slices} slices, evenly spaced in {params.volumes} random volumes."""
    input:
        reference=REFERENCE,
    output:
        "results/queries/seed{seed}/initial.tsv",
    log:
        "results/logs/queries/seed{seed}/initial.log",
    params:
        volumes=config["initial_volumes"],
        slices=config["people"]["initial_slices"],
    script:
        "../scripts/first_query.py"


rule work_list:
    """Draw which slices start from a proposal ({params.proposals}) and which two people annotate ({params.twice})."""
    input:
        f"results/queries/seed{EXPERIMENT.shown_seed}/{{round}}.tsv",
    output:
        "results/work_lists/{round}.tsv",
    log:
        "results/logs/work_lists/{round}.log",
    wildcard_constraints:
        round=ROUND,
    params:
        seed=EXPERIMENT.shown_seed,
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
        model=lambda wildcards: (
            f"{model_folder(EXPERIMENT.shown_seed, asked_model(wildcards))}/model.pt"
        ),
        volumes=EXPERIMENT.preprocessed(EXPERIMENT.volumes["uncertainty"]),
    output:
        directory("results/proposals/{strategy}-{iteration}"),
    log:
        "results/logs/proposals/{strategy}-{iteration}.log",
    benchmark:
        "results/benchmarks/proposals/{strategy}-{iteration}.tsv"
    threads: config["compute"]["threads"]
    resources:
        **APPLIES,
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
    threads: config["compute"]["threads"]
    resources:
        **APPLIES,
        runtime=more_each_attempt(12 * 60),
    params:
        volumes=volumes_of("preprocessing"),
        settings={name: config["uncertainty"][name] for name in ("samples", "dilation")},
    script:
        "../scripts/segment.py"


rule review:
    """List all segmented volumes for review, the most uncertain first."""
    input:
        scores=EXPERIMENT.segmentations(),
        cohort="results/cohort/cohort.tsv",
    output:
        "results/review.tsv",
    log:
        "results/logs/review.log",
    script:
        "../scripts/review.py"


rule annotation_page:
    """Show what annotation took, what the models reach by it, and what another {params.more} slices would bring."""
    input:
        reference=REFERENCE,
        ledgers=expand(
            f"results/annotations/seed{EXPERIMENT.shown_seed}/{{model}}.tsv",
            model=PROGRESS.models,
        ),
        histories=expand(
            f"results/models/seed{EXPERIMENT.shown_seed}/{{model}}/history.tsv",
            model=PROGRESS.models,
        ),
        metrics=of_shards(
            "test",
            f"results/evaluation/seed{EXPERIMENT.shown_seed}/{{model}}/shard{{shard}}.tsv",
            model=PROGRESS.models,
        ),
        review=[] if PROGRESS.open else "results/review.tsv",
    output:
        page=listed("annotation", "results/annotation.html"),
        figure="results/figures/annotation_minutes.png",
        print="results/figures/annotation_minutes.pdf",
        rounds="results/evaluation/annotation_rounds.tsv",
        times="results/evaluation/annotation_times.tsv",
    log:
        "results/logs/annotation_page.log",
    params:
        answers=config["people"]["answers"],
        closed=PROGRESS.closed,
        models=PROGRESS.models,
        more=(
            config["slices_per_iteration"]
            if EXPERIMENT.strategies[EXPERIMENT.shown_strategy].slices
            else config["volumes_per_iteration"]
        ),
        ratio=config["annotation_time_ratio"],
        left_out=[] if PROGRESS.open else EXPERIMENT.left_out,
        caption=EXPERIMENT.caption("annotation"),
    script:
        "../scripts/annotation_page.py"


if workflow.is_main_process:
    logger.info(where_people_are(PROGRESS, config["people"]["answers"]))


onsuccess:
    logger.info(where_people_are(PROGRESS, config["people"]["answers"]))
