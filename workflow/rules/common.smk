"""The configuration and the cohort, checked; the names of all models; and the functions that find a rule's inputs."""

import sys
from types import SimpleNamespace

sys.path.insert(0, str(Path(workflow.basedir) / "workflow/scripts"))

from slicesampling import UserError
from slicesampling.jobs.cluster import require_slurm, wait_for_earlier_jobs
from slicesampling.jobs.failures import failures
from slicesampling.cohort.table import (
    fail_on,
    read_cohort,
    shard_of,
    split_volumes,
    table_faults,
    used,
)
from slicesampling.configuration import check_configuration, job_counts
from slicesampling.answers.store import Answers
from slicesampling.answers.rounds import progress, waiting
from slicesampling.phantom.sites import plan_cohort
from slicesampling.query.strategies import strategies_of
from slicesampling.learning.networks.kinds import kind_of
from slicesampling.publication.layout import MANY

try:
    check_configuration(
        config, Path(workflow.basedir) / "workflow/schemas/config.schema.yaml"
    )
    PEOPLE = config["annotator"] == "people"
    if config["cohort"] == "phantom":
        COHORT = plan_cohort(config["phantom"], "results/phantom").rename_axis("row")
    else:
        COHORT = read_cohort(config["cohort"])
    if workflow.is_main_process:
        fail_on(
            table_faults(
                COHORT,
                config["initial_volumes"],
                files=config["cohort"] != "phantom",
                data_root=(
                    config["data_root"] if config["cohort"] != "phantom" else None
                ),
                people=PEOPLE,
                # Whoever asks for the page of the cohort looks at what there is; what trains asks for enough.
                sizes="cohort_report" not in sys.argv,
            ),
            config["cohort"],
        )
except UserError as error:
    raise WorkflowError(str(error)) from None

USED = used(COHORT)
LABELLED = set(USED.loc[USED["label"] != "", "volume"])
STRATEGIES = strategies_of(config)
KIND = kind_of(config)
ITERATIONS = range(1, config["iterations"] + 1)
LAST = config["iterations"]
GPU = 1  # devices of a training, uncertainty or prediction job

# Every model has a name: initial, uss-3 (strategy and iteration), uss-5-converged, pool-converged.
ITERATION_MODELS = ["initial"] + [
    f"{strategy}-{iteration}"
    for strategy in config["strategies"]
    for iteration in ITERATIONS
]
CARRIED_ON = [f"{strategy}-{LAST}-converged" for strategy in config["strategies"]]
CONVERGED_MODELS = [*CARRIED_ON, "pool-converged"]
if PEOPLE:  # those that follow from the rounds that people have closed
    ANSWERS = Path(config["people"]["answers"])
    GIVEN = [volume for volume in split_volumes(USED, "pool") if volume in LABELLED]
    try:
        if workflow.is_main_process and ANSWERS.exists():
            Answers(ANSWERS).write_closed()
        PROGRESS = progress(
            config["strategies"][0],
            config["iterations"],
            bool(GIVEN),
            [path.stem for path in (ANSWERS / "closed").glob("*.tsv")],
            (ANSWERS / "finished").exists(),
        )
    except UserError as error:
        raise WorkflowError(str(error)) from None
    ITERATION_MODELS = PROGRESS.models
    LAST = max(len(ITERATION_MODELS) - 1, 0)
    CARRIED_ON = [] if PROGRESS.open else [f"{ITERATION_MODELS[-1]}-converged"]
    CONVERGED_MODELS = CARRIED_ON
MODELS = ITERATION_MODELS + CONVERGED_MODELS


wildcard_constraints:
    seed="|".join(map(str, config["seeds"])),
    model="|".join(MODELS or ["initial"]),
    strategy="|".join(config["strategies"]),
    iteration="|".join(map(str, ITERATIONS)),
    shard=r"\d+",


def more_each_attempt(amount):
    """`amount` (MB or minutes) for the first attempt, twice as much for the second, and so on.

    The amounts in the rules are for the paper's configuration; beside each stands what was measured (CPU, CT of 512 × 512
    pixels). They leave a factor of two or more, because a job that is refused its memory costs more than it saves.
    """
    return lambda wildcards, attempt: attempt * amount


def volumes_in(shard, stage):
    """The used volumes of a stage's shard: preprocessing works on all, uncertainty on the pool, test on what can be tested."""
    volumes = {
        "preprocessing": list(USED["volume"]),
        "uncertainty": split_volumes(USED, "pool"),
        "test": [name for name in split_volumes(USED, "test") if name in LABELLED],
    }[stage]
    return shard_of(volumes, int(shard), config["shards"][stage])


def preprocessed(volumes):
    """The folders of preprocessed shards that hold `volumes`."""
    order = {volume: position for position, volume in enumerate(USED["volume"])}
    shards = {order[volume] % config["shards"]["preprocessing"] for volume in volumes}
    return [f"results/preprocessed/shard{shard}" for shard in sorted(shards)]


def raw(volumes):
    """The files or folders that the cohort table names for `volumes`; the synthetic cohort is one folder."""
    if config["cohort"] == "phantom":
        return ["results/phantom"]
    rows = COHORT[COHORT["volume"].isin(volumes)]
    return [*rows["image"], *filter(None, rows["label"])]


def shards(stage, pattern, **wildcards):
    """`pattern` for each shard of a stage that holds any volume, and for all values of other wildcards."""
    filled = [
        shard for shard in range(config["shards"][stage]) if volumes_in(shard, stage)
    ]
    return expand(pattern, shard=filled, **wildcards)


def previous(wildcards):
    """The model, and so the ledger, that a query starts from."""
    iteration = int(wildcards.iteration)
    return "initial" if iteration == 1 else f"{wildcards.strategy}-{iteration - 1}"


def training_ledger(wildcards):
    """The ledger that a model is trained on."""
    return f"results/annotations/seed{wildcards.seed}/{wildcards.model.removesuffix('-converged')}.tsv"


def closed_table(model):
    """The table of all that people had annotated when the round before a model was closed; none without people."""
    path = (
        f"{config['people']['answers']}/closed/{model.removesuffix('-converged')}.tsv"
    )
    return path if PEOPLE and Path(path).exists() else []


def query_inputs(wildcards):
    """What a query needs: of the model before it, or the budget of slices, only what its strategy uses."""
    strategy, folder = STRATEGIES[wildcards.strategy], f"seed{wildcards.seed}"
    model = f"results/uncertainty/{folder}/{previous(wildcards)}"
    inputs = {
        "reference": "results/annotations/reference.tsv",
        "ledger": f"results/annotations/{folder}/{previous(wildcards)}.tsv",
    }
    if strategy.columns:
        inputs["scores"] = shards(
            "uncertainty", f"{model}/{strategy.unit}s-shard{{shard}}.tsv"
        )
    if strategy.how.features:
        inputs["features"] = shards(
            "uncertainty", f"{model}/features-shard{{shard}}.npz"
        )
    if strategy.slices:
        inputs["budget"] = f"results/annotations/{folder}/slice_budget.txt"
    if PEOPLE:
        inputs["closed"] = closed_table(previous(wildcards))
    return inputs


if workflow.is_main_process and KIND.unread:
    logger.info(
        f"network.kind is {config['network']['kind']}: not read are keys of other networks, {', '.join(KIND.unread)}"
    )

QUERIES = [
    SimpleNamespace(seed=seed, strategy=strategy, iteration=iteration)
    for seed in config["seeds"]
    for strategy in config["strategies"]
    for iteration in ITERATIONS
]
# The models whose uncertainty a query asks for: only those can be compared with their errors.
SCORED_MODELS = list(
    dict.fromkeys(
        previous(query) for query in QUERIES if "scores" in query_inputs(query)
    )
)


def waited_for(wildcards):
    """The priority of a training and of its model's uncertainty: the longer the chain of jobs behind it, the earlier.

    First the models whose uncertainty decides what is annotated next, then the long trainings that end a chain. The
    other models of iterations are short, nothing waits for them, and they fill the gaps.
    """
    ends_a_chain = wildcards.model in CONVERGED_MODELS or (
        f"{wildcards.model}-converged" in CONVERGED_MODELS
    )
    return 2 if wildcards.model in SCORED_MODELS else int(ends_a_chain)


AT_ONCE = 3  # the priority of jobs of seconds, for which trainings wait

# What the notes and captions say of strategies that are not the paper's.
OWN_TITLES = {
    name: strategy.title
    for name, strategy in STRATEGIES.items()
    if name in config["combinations"]
}
METRICS_TABLE = {"metrics": "results/evaluation/metrics.tsv"}
# On the preprocessed grid a perfect model loses nothing.
GRID_LIMIT = (
    shards("test", "results/evaluation/grid_limit/shard{shard}.tsv")
    if config["evaluation"]["grid"] == "native"
    else []
)
LIMITED_TABLE = METRICS_TABLE | {"limit": "results/evaluation/grid_limit.tsv"}
ANNOTATIONS_TABLE = {"annotations": "results/evaluation/annotations.tsv"}
CALIBRATION_TABLE = {"calibration": "results/evaluation/calibration.tsv"}
ERRORS_TABLE = {"found": "results/evaluation/error_detection.tsv"}
ANNOTATION_TIME = {
    "minutes_per_slice": config["annotation_minutes_per_slice"],
    "ratio": config["annotation_time_ratio"],
    # What a table cannot tell of its strategies.
    "sliced": [name for name in STRATEGIES if STRATEGIES[name].slices],
}
# Each table: the function of a module of publication that makes it, its further arguments, and the records it reads.
TABLES = {
    "table1_cohort": (
        "cohort_table",
        {},
        {
            "cohort": "results/cohort/cohort.tsv",
            "volumes": "results/cohort/volumes.tsv",
        },
    ),
    "table2_annotations": (
        "annotation_table",
        {},
        ANNOTATIONS_TABLE,
    ),
    "table3_training_steps": (
        "training_table",
        {},
        {"training": "results/evaluation/training.tsv"},
    ),
    "table4_dice": ("metric_table", {"metric": "dice"}, LIMITED_TABLE),
    "table5_rve": ("metric_table", {"metric": "rve"}, LIMITED_TABLE),
    "table6_msd": ("metric_table", {"metric": "msd"}, LIMITED_TABLE),
    "table7_hd": ("metric_table", {"metric": "hd"}, LIMITED_TABLE),
    "table8_converged": ("converged_table", {}, LIMITED_TABLE),
    "table9_quantile_regression": ("regression_table", {}, METRICS_TABLE),
    "supplement1_intervals": ("intervals_table", {}, METRICS_TABLE),
    "supplement2_comparisons": ("comparisons_table", {}, METRICS_TABLE),
    "supplement3_learning_curves": (
        "learning_curves_table",
        ANNOTATION_TIME,
        METRICS_TABLE | ANNOTATIONS_TABLE,
    ),
    "supplement4_efficiency": (
        "efficiency_table",
        ANNOTATION_TIME,
        METRICS_TABLE | ANNOTATIONS_TABLE,
    ),
    "supplement5_groups": ("groups_table", {}, METRICS_TABLE),
    "supplement6_further_metrics": (
        "further_metrics_table",
        {},
        METRICS_TABLE | CALIBRATION_TABLE,
    ),
    **(
        {"supplement7_error_detection": ("error_detection_table", {}, ERRORS_TABLE)}
        if SCORED_MODELS
        else {}
    ),
    "supplement8_relative_efficiency": (
        "relative_efficiency_table",
        ANNOTATION_TIME,
        METRICS_TABLE | ANNOTATIONS_TABLE,
    ),
    "supplement9_areas": (
        "areas_table",
        ANNOTATION_TIME,
        METRICS_TABLE | ANNOTATIONS_TABLE,
    ),
    "supplement10_spread": ("spreads_table", {}, METRICS_TABLE),
    "supplement11_same_strategy": ("same_strategy_table", {}, METRICS_TABLE),
    "supplement12_penalties": ("penalties_table", {}, METRICS_TABLE),
    "supplement13_composition": (
        "composition_table",
        {},
        {"composition": "results/evaluation/composition.tsv"},
    ),
}
TABLE_FORMATS = ["csv", "md", "tex", "html"]
FIGURE_FORMATS = ["png", "pdf"]

CURVES_TABLE = {"curves": "results/tables/supplement3_learning_curves.csv"}
# Figures that need nothing but tables of results: the function of publication.plots, its further arguments, the tables.
PLOTS = {
    "figure4_iterations": ("iterations_figure", {}, METRICS_TABLE),
    "figure7_converged": ("converged_figure", {}, METRICS_TABLE),
    "performance_slices": (
        "performance_figure",
        {"cost": "structure_slices"},
        CURVES_TABLE | METRICS_TABLE,
    ),
    "performance_minutes": (
        "performance_figure",
        {"cost": "minutes"},
        CURVES_TABLE | METRICS_TABLE,
    ),
    "calibration": ("calibration_figure", {}, CALIBRATION_TABLE),
    **(
        {"error_detection": ("error_detection_figure", {}, ERRORS_TABLE)}
        if SCORED_MODELS
        else {}
    ),
    "pairwise_penalties": (
        "penalties_figure",
        {"metric": "dice"},
        {"penalties": "results/tables/supplement12_penalties.csv"},
    ),
}

SHOWN_SEED = config["seeds"][0]
# Figure 1 draws the paper's network.
DRAWN = config["network"]["kind"] == "aunet"
# The strategy whose model figure 5 shows: the paper's proposal where it is run.
SHOWN_STRATEGY = "uss" if "uss" in config["strategies"] else config["strategies"][0]


def from_records():
    """All tables, figures and pages that are made from the records in results/evaluation alone."""
    return [
        *expand("results/tables/{table}.{format}", table=TABLES, format=TABLE_FORMATS),
        *expand("results/figures/{plot}.{format}", plot=PLOTS, format=FIGURE_FORMATS),
        "results/this_run_and_the_paper.html",
        "results/overview.html",
        "results/claims.html",
    ]


# Whether any test volume has a mask: with people none needs one.
TESTED = bool(shards("test", "{shard}"))


def publications():
    """All tables, figures and pages that this configuration can fill."""
    figures = [
        *(["figure1_network"] if DRAWN else []),
        *(["figure2_uncertainty_profile"] if "uss" in config["strategies"] else []),
        "figure3_excluded_cases",
        "figure5_probability_maps",
        "figure6_cases",
        "selected_slices",
        *(
            f"learning_curves/seed{seed}/{model}"
            for seed in config["seeds"]
            for model in MODELS
        ),
    ]
    return [
        *from_records(),
        *expand(
            "results/figures/{figure}.{format}", figure=figures, format=FIGURE_FORMATS
        ),
        "results/cohort_report.html",
        "results/provenance.json",
    ]


def jobs_in_all():
    """The number of jobs of the whole run, as `snakemake -n` counts them for an empty folder."""
    seeds, queries = len(config["seeds"]), len(config["strategies"]) * LAST
    sliced = any(STRATEGIES[name].slices for name in config["strategies"])
    a_seed = (
        2 + sliced + 2 * queries + 1
    )  # initial and pool ledger, budget, queries and answers, learning curves
    figures = 4 + DRAWN + ("uss" in config["strategies"])
    summaries = 4 + bool(SCORED_MODELS)
    once = summaries + len(TABLES) + len(PLOTS) + figures + 5  # five pages
    cohort = 2 + (config["cohort"] == "phantom")  # check, reference slices
    counts = job_counts(
        config,
        MODELS,
        {name: len(split_volumes(USED, name)) for name in ("pool", "val", "test")},
    )
    return sum(counts.values()) + seeds * a_seed + once + cohort + 1  # all


onstart:
    try:
        if workflow.executor_plugin.name == "slurm":
            require_slurm()
    except UserError as error:
        raise WorkflowError(str(error)) from None
    wait_for_earlier_jobs(Path.cwd(), logger.warning)
