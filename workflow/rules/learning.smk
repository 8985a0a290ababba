"""Training and uncertainty: annotations → model → uncertainty, for each seed, strategy and iteration.

in:  results/preprocessed/, results/annotations/seed*/LEDGER.tsv
out: results/models/seed*/MODEL/{model.pt,history.tsv},
     results/uncertainty/seed*/MODEL/{slices-shard*.tsv,volumes-shard*.tsv,features-shard*.npz}
usually includes: 1 initial, strategies × iterations, strategies + 1 converged models a seed
"""


rule train:
    """Train {wildcards.model} from scratch on its ledger; it ends by {params.end}.

    A converged model is the training of the last iteration carried on, and goes on where that one ended.
    """
    input:
        ledger=lambda wildcards: ledger(wildcards.seed, model_of(wildcards)),
        begun=lambda wildcards: EXPERIMENT.begun(wildcards.seed, model_of(wildcards)),
        volumes=EXPERIMENT.preprocessed(
            [*EXPERIMENT.volumes["uncertainty"], *EXPERIMENT.volumes["validation"]]
        ),
    output:
        model=ensure("results/models/seed{seed}/{model}/model.pt", non_empty=True),
        history=ensure("results/models/seed{seed}/{model}/history.tsv", non_empty=True),
    log:
        "results/logs/models/seed{seed}/{model}.log",
    benchmark:
        "results/benchmarks/models/seed{seed}/{model}.tsv"
    priority: training_priority
    threads: config["compute"]["threads"]
    resources:
        gpu=GPU * config["compute"]["training_processes"],
        # Volumes are maps of their files and take no memory of their own; a small network and its validation took 5.3 GB
        # without a GPU. The time is that of a turn: a longer training continues in the next turn.
        mem_mb=more_each_attempt(32000),
        runtime=24 * 60,
    params:
        # Not an output: it must survive a failure, so that the next attempt continues where this one stopped.
        checkpoint="results/checkpoints/seed{seed}/{model}.pt",
        validation=EXPERIMENT.volumes["validation"],
        answers=config["people"]["answers"],
        closed=lambda wildcards: EXPERIMENT.closed_round(model_of(wildcards)),
        network=EXPERIMENT.network.settings,
        training=EXPERIMENT.network.training,
        end=lambda wildcards: EXPERIMENT.network.ends[
            "converged" if model_of(wildcards).converged else "iteration"
        ],
    script:
        "../scripts/train.py"


rule uncertainty:
    """Score a shard of the pool by {params.title}; write profiles of slices and scores of volumes."""
    input:
        model=rules.train.output.model,
        volumes=preprocessed("uncertainty"),
    output:
        slices=ensure(
            "results/uncertainty/seed{seed}/{model}/slices-shard{shard}.tsv",
            non_empty=True,
        ),
        volumes=ensure(
            "results/uncertainty/seed{seed}/{model}/volumes-shard{shard}.tsv",
            non_empty=True,
        ),
    log:
        "results/logs/uncertainty/seed{seed}/{model}-shard{shard}.log",
    benchmark:
        "results/benchmarks/uncertainty/seed{seed}/{model}-shard{shard}.tsv"
    priority: training_priority
    threads: config["compute"]["threads"]
    resources:
        **APPLIES,
        runtime=more_each_attempt(12 * 60),
    params:
        volumes=volumes_of("uncertainty"),
        settings={name: config["uncertainty"][name] for name in ("samples", "dilation")},
        title=EXPERIMENT.network.samples,
    script:
        "../scripts/uncertainty.py"


rule features:
    """Average the network's deepest features over each slice of a shard of the pool, for the strategies that choose by them."""
    input:
        model=rules.train.output.model,
        volumes=preprocessed("uncertainty"),
    output:
        ensure(
            "results/uncertainty/seed{seed}/{model}/features-shard{shard}.npz",
            non_empty=True,
        ),
    log:
        "results/logs/features/seed{seed}/{model}-shard{shard}.log",
    benchmark:
        "results/benchmarks/features/seed{seed}/{model}-shard{shard}.tsv"
    priority: training_priority
    threads: config["compute"]["threads"]
    resources:
        **APPLIES,  # it is the deterministic part of `uncertainty`
        runtime=more_each_attempt(4 * 60),
    params:
        volumes=volumes_of("uncertainty"),
    script:
        "../scripts/features.py"
