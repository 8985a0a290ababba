"""From CT volumes to the tables and figures of an uncertainty slice sampling experiment; see README.md."""

import atexit
from pathlib import Path
from snakemake.utils import min_version

min_version("9.27")  # takes functions as priorities


configfile: Path(workflow.basedir) / "config/config.yaml"


container: "envs/slicesampling.sif"  # only where apptainer is asked for, see envs/README.md


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/cohort.smk"
include: "workflow/rules/annotation.smk"
include: "workflow/rules/learning.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/publication.smk"
include: "workflow/rules/plan.smk"


if PEOPLE:

    include: "workflow/rules/people.smk"

else:

    include: "workflow/rules/simulated.smk"


rule all:
    default_target: True
    input:
        people_targets() if PEOPLE else publications(),


rule tables:
    """Every table, figure and page that needs only the records in results/evaluation."""
    input:
        from_records(),


onerror:
    # The last that a user sees: after all that Snakemake has to say.
    atexit.register(print, "", failures(log), sep="\n", file=sys.stderr)
