"""The experiment of this configuration, checked; what rules say alike; and what happens before the first job."""

from slicesampling import UserError
from slicesampling.answers.rounds import where_people_are
from slicesampling.configuration import check_configuration, lay_defaults
from slicesampling.domain.models import Model
from slicesampling.experiment import AT_ONCE, REFERENCE, Query, ledger, model_folder
from slicesampling.experiment import read_experiment
from slicesampling.jobs.cluster import require_slurm, wait_for_earlier_jobs
from slicesampling.jobs.failures import failures
from slicesampling.publication import contents

try:
    # A module skips `configfile`.
    lay_defaults(config, workflow.source_path("../../config/config.yaml"))
    check_configuration(config, workflow.source_path("../schemas/config.schema.yaml"))
    EXPERIMENT = read_experiment(config)
    if workflow.is_main_process:
        EXPERIMENT.check_table()
except UserError as error:
    raise WorkflowError(str(error)) from None

GPU = 1  # devices of a training, uncertainty or prediction job


wildcard_constraints:
    seed="|".join(map(str, EXPERIMENT.seeds)),
    model="|".join(map(str, EXPERIMENT.models)) or "initial",
    strategy="|".join(config["strategies"]),
    iteration="|".join(map(str, EXPERIMENT.iterations)),
    shard=r"\d+",


def more_each_attempt(amount):
    """`amount` (MB or minutes) for the first attempt, twice as much for the second, and so on.

    The amounts in the rules are for the paper's configuration; beside each stands what was measured (CPU, CT of 512 × 512
    pixels). They leave a factor of two or more, because a job that is refused its memory costs more than it saves.
    """
    return lambda wildcards, attempt: attempt * amount


# Resources of a job that lays out numbers or draws a figure.
LIGHT = {"mem_mb": more_each_attempt(4000), "runtime": more_each_attempt(60)}
# Resources of a job that applies a model. It takes 3.7 GB without a GPU, where feature maps are in the same memory, and 7.6 GB if
# it samples. Its time on a GPU has not been measured; `snakemake plan` does that on yours.
APPLIES = {"gpu": GPU, "mem_mb": more_each_attempt(16000)}


def of_shards(stage, pattern, **values):
    """`pattern` for each shard of a stage that holds any volume, and for all values of other wildcards."""
    return expand(pattern, shard=EXPERIMENT.shards(stage), **values)


def model_of(wildcards):
    return Model.parse(wildcards.model)


def asked_model(wildcards):
    """The model, and so the ledger, that a query starts from."""
    return Model(wildcards.strategy, int(wildcards.iteration)).previous


def training_priority(wildcards):
    """How early a training and its model's uncertainty start: the more jobs wait for them, the earlier."""
    return EXPERIMENT.training_priority(model_of(wildcards))


def preprocessed(stage):
    """The preprocessed shards that hold the volumes of a job's shard of `stage`."""
    return lambda wildcards: EXPERIMENT.preprocessed(
        EXPERIMENT.volumes_in(stage, wildcards.shard)
    )


def volumes_of(stage):
    """The volumes of a job's shard of `stage`."""
    return lambda wildcards: EXPERIMENT.volumes_in(stage, wildcards.shard)


def listed(name, path):
    """A table, figure or page in the report, under the category and the names that its contents give it."""
    return report(
        path,
        category="1 Overview" if path.count("/") == 1 else contents.category(name),
        labels=(
            {"page": contents.ALL[name].title}
            if path.count("/") == 1
            else {"figure": name}
        ),
        caption="../report/caption.rst",
    )


def enough_volumes(wildcards):
    """No file, but the end of Snakemake where the cohort is too small for the experiment: before the first job.

    The page of the cohort can be made of any number of volumes; so this is not asked with the rest of the table.
    """
    try:
        EXPERIMENT.check_sizes()
    except UserError as error:  # of an input function Snakemake would print a traceback
        sys.exit(f"error: {error}")
    return []


STARTED = []


def before_jobs_start():
    """Refuse SLURM where there is none, and wait once for SLURM jobs that a killed run has left in this folder."""
    if not STARTED:
        STARTED.append(True)
        if workflow.executor_plugin.name == "slurm":
            require_slurm()
        wait_for_earlier_jobs(Path.cwd(), logger.warning)


IN_MODULE = workflow.modifier.parent_modifier is not None


def before_the_first_job(wildcards):
    """No file, but in a module, where Snakemake ignores `onstart`, what that does; a locked folder Snakemake refuses."""
    locked = any(Path(".snakemake/locks").glob("*"))
    if IN_MODULE and workflow.is_main_process and not workflow.dryrun and not locked:
        try:
            before_jobs_start()
        except UserError as error:
            sys.exit(f"error: {error}")
    return []


onstart:
    try:
        before_jobs_start()
    except UserError as error:
        raise WorkflowError(str(error)) from None
