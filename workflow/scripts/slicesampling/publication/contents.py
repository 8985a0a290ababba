"""The contents of a publication: title, inputs, caption and function of each table, figure and page.

Rules, report and documentation use this module. Every job of the workflow imports it, so that the functions of tables
and figures are imported only when they are called.
"""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

from .. import STRUCTURE
from ..domain.metrics import METRICS as ALL_METRICS
from .wording import count

# The inputs of tables and figures.
COHORT = {"cohort": "results/cohort/cohort.tsv"}
VOLUMES = {"volumes": "results/cohort/volumes.tsv"}
METRICS = {"metrics": "results/evaluation/metrics.tsv"}
LIMIT = {"limit": "results/evaluation/grid_limit.tsv"}
ANNOTATIONS = {"annotations": "results/evaluation/annotations.tsv"}
TRAINING = {"training": "results/evaluation/training.tsv"}
CALIBRATION = {"calibration": "results/evaluation/calibration.tsv"}
ERRORS = {"found": "results/evaluation/error_detection.tsv"}
COMPOSITION = {"composition": "results/evaluation/composition.tsv"}
CURVES = {"curves": "results/tables/supplement3_learning_curves.csv"}

# The prerequisites of entries, which a run may lack.
STRATEGIES = "several strategies and the model of the whole data pool"
TESTS = "test volumes"
QUERIES = "answered queries"
SCORES = "a strategy that asks for uncertainty"
USS = "uss among the strategies"
AUNET = "the paper's network"

TABLE_FORMATS, FIGURE_FORMATS = ("csv", "md", "tex", "html"), ("png", "pdf")


class Facts(NamedTuple):
    """The facts of a run that captions mention.

    cases: the number of test volumes. many: whether figures show no intervals, because there are many strategies.
    epochs: the most epochs of a training in an iteration; None: no such limit. own: name → title of custom strategies.
    samples: a description of the samples behind the uncertainty. shown: the model in figure 5.
    """

    seeds: tuple[int, ...]
    cases: int
    many: bool
    minutes_per_slice: float
    time_ratio: float
    epochs: int | None
    own: Mapping[str, str]
    candidate_distance: int
    samples: str
    shown: str


class Entry(NamedTuple):
    """A table, figure or page.

    title: of a table, also its caption; caption: returns the caption of a figure or page from the facts of the run.
    make: imports and returns the function that makes it from the records that it `reads` (argument → file) and from
    `arguments`; None: it has its own rule. timed: whether it takes the time model as further arguments. needs: its
    prerequisites.
    """

    title: str = ""
    reads: Mapping[str, str] = {}
    make: Callable[[], Callable[..., Any]] | None = None
    needs: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = {}
    timed: bool = False
    caption: Callable[[Facts], str] | None = None


def category(name: str) -> str:
    """Return the category of a table or figure in the report."""
    if name.startswith("supplement") or not name.startswith(("table", "figure")):
        return "4 Beyond the paper"
    return "2 Tables" if name.startswith("table") else "3 Figures"


def _tables() -> ModuleType:
    from . import tables

    return tables


def _supplement() -> ModuleType:
    from . import supplement

    return supplement


def _seeds() -> ModuleType:
    from . import seeds

    return seeds


def _plots() -> ModuleType:
    from . import plots

    return plots


def _detection() -> ModuleType:
    from . import detection

    return detection


def _detection_figure() -> ModuleType:
    from . import detection_figure

    return detection_figure


def _composition() -> ModuleType:
    from . import composition

    return composition


BEYOND = "Beyond the paper: "

METRIC_TABLES = {metric: f"table{number}_{metric}" for number, metric in enumerate(ALL_METRICS, start=4)}
"""The names of tables 4 to 7, by the metric."""

TABLES: dict[str, Entry] = {
    "table1_cohort": Entry("Data sets", COHORT | VOLUMES, lambda: _tables().cohort_table),
    "table2_annotations": Entry(
        f"Annotated slices, annotated slices with {STRUCTURE}, and patients, over the iterations",
        ANNOTATIONS,
        lambda: _tables().annotation_table,
        (STRATEGIES,),
    ),
    "table3_training_steps": Entry(
        "Training steps of the models used for the evaluation", TRAINING, lambda: _tables().training_table
    ),
    **{
        name: Entry(
            f"{ALL_METRICS[metric].label} of the models over the iterations",
            METRICS | LIMIT,
            lambda: _tables().metric_table,
            (TESTS,),
            {"metric": metric},
        )
        for metric, name in METRIC_TABLES.items()
    },
    "table8_converged": Entry(
        "Evaluation of the models trained until convergence",
        METRICS | LIMIT,
        lambda: _tables().converged_table,
        (STRATEGIES, TESTS),
    ),
    "table9_quantile_regression": Entry(
        "Effect of uncertainty (against random) and slice (against volume) sampling: quantile regression",
        METRICS,
        lambda: _tables().regression_table,
        (STRATEGIES, TESTS),
    ),
    "supplement1_intervals": Entry(
        f"{BEYOND}means and percentiles of the converged models with 95 % bootstrap intervals",
        METRICS,
        lambda: _supplement().intervals_table,
        (TESTS,),
    ),
    "supplement2_comparisons": Entry(
        f"{BEYOND}differences between the converged models, with 95 % bootstrap intervals",
        METRICS,
        lambda: _supplement().comparisons_table,
        (STRATEGIES, TESTS),
    ),
    "supplement3_learning_curves": Entry(
        f"{BEYOND}mean performance against the annotation spent, with 95 % bootstrap intervals",
        METRICS | ANNOTATIONS,
        lambda: _supplement().learning_curves_table,
        (STRATEGIES, TESTS),
        timed=True,
    ),
    "supplement4_efficiency": Entry(
        f"{BEYOND}annotation efficiency, by the area under the learning curves and the data pool model",
        METRICS | ANNOTATIONS,
        lambda: _supplement().efficiency_table,
        (STRATEGIES, TESTS),
        timed=True,
    ),
    "supplement5_groups": Entry(
        f"{BEYOND}the converged models by site and by kind of hard case, mean Dice and HD",
        METRICS,
        lambda: _supplement().groups_table,
        (STRATEGIES, TESTS),
    ),
    "supplement6_further_metrics": Entry(
        f"{BEYOND}further metrics of the converged models",
        METRICS | CALIBRATION,
        lambda: _supplement().further_metrics_table,
        (TESTS,),
    ),
    "supplement7_error_detection": Entry(
        f"{BEYOND}error detection by uncertainty",
        ERRORS,
        lambda: _detection().error_detection_table,
        (STRATEGIES, SCORES),
    ),
    "supplement8_areas": Entry(
        f"{BEYOND}learning curves of the Dice and the area under them, over all seeds and by seed",
        METRICS | ANNOTATIONS,
        lambda: _seeds().areas_table,
        (STRATEGIES, TESTS),
        timed=True,
    ),
    "supplement9_spread": Entry(
        f"{BEYOND}spread between seeds and between cases",
        METRICS,
        lambda: _seeds().spreads_table,
        (STRATEGIES, TESTS),
    ),
    "supplement10_same_strategy": Entry(
        f"{BEYOND}how often one strategy, trained twice, differs",
        METRICS,
        lambda: _seeds().same_strategy_table,
        (STRATEGIES, TESTS),
    ),
    "supplement11_composition": Entry(
        f"{BEYOND}composition of the annotated sets after the last iteration and of the data pool",
        COMPOSITION,
        lambda: _composition().composition_table,
        (STRATEGIES,),
    ),
}


def _own(facts: Facts) -> str:
    """Return a description of the custom strategies."""
    return "".join(f" {name.upper()}: {title}." for name, title in facts.own.items())


def _boxes(facts: Facts) -> str:
    seeds = " and seed" if len(facts.seeds) > 1 else ""
    return (
        " Boxes span the quartiles. Line: median; marker: mean; caps: 5th and 95th percentile. Each box has one value "
        f"for each of {facts.cases} test volumes{seeds}.{_own(facts)}"
    )


def _performance(facts: Facts, cost: str) -> str:
    if facts.many:
        shown = " (left), and the 5th percentile of the Dice index and the 95th percentile of the errors (right)."
    else:
        drawn = "patients and seeds" if len(facts.seeds) > 1 else "patients"
        shown = (
            f", with 95 % intervals of a bootstrap over {drawn}. Dotted: the 5th percentile of the Dice index and the "
            "95th percentile of the errors."
        )
    limit = f" Models of at most {facts.epochs} epochs." if facts.epochs else ""
    return (
        f"Mean of each metric over {facts.cases} test volumes against the {cost}{shown}{limit} Dashed: the model of "
        f"the whole data pool, trained until convergence.{_own(facts)}"
    )


PLOTS: dict[str, Entry] = {
    "figure4_iterations": Entry(
        reads=METRICS,
        make=lambda: _plots().iterations_figure,
        needs=(TESTS, QUERIES),
        caption=lambda facts: (
            "Test results over the active-learning iterations, with the initial and the data pool model for reference "
            f"(Fig. 4).{_boxes(facts)}"
        ),
    ),
    "figure7_converged": Entry(
        reads=METRICS,
        make=lambda: _plots().converged_figure,
        needs=(STRATEGIES, TESTS),
        caption=lambda facts: (
            "Models of the last iteration after limited epochs (left) and until convergence (right), with the data "
            f"pool model for reference (Fig. 7).{_boxes(facts)}"
        ),
    ),
    "performance_slices": Entry(
        reads=CURVES | METRICS,
        make=lambda: _plots().performance_figure,
        needs=(STRATEGIES, TESTS),
        arguments={"cost": "structure_slices"},
        caption=lambda facts: _performance(facts, f"number of annotated slices with {STRUCTURE}"),
    ),
    "performance_minutes": Entry(
        reads=CURVES | METRICS,
        make=lambda: _plots().performance_figure,
        needs=(STRATEGIES, TESTS),
        arguments={"cost": "minutes"},
        caption=lambda facts: _performance(
            facts,
            f"time spent on annotation ({facts.minutes_per_slice:g} min a {STRUCTURE} slice, 1/{facts.time_ratio:g} of "
            "that in volumes that are annotated whole)",
        ),
    ),
    "calibration": Entry(
        reads=CALIBRATION,
        make=lambda: _plots().calibration_figure,
        needs=(TESTS,),
        caption=lambda facts: (
            f"Reliability of the {STRUCTURE} probability on {facts.cases} test volumes, near the {STRUCTURE}: the "
            f"share of voxels that are {STRUCTURE} against the predicted probability. Iterations run from light to "
            "dark; the converged model and the data pool model are dashed. Below: expected calibration error of each "
            f"model, 15 bins, all voxels pooled.{_own(facts)}"
        ),
    ),
    "error_detection": Entry(
        reads=ERRORS,
        make=lambda: _detection_figure().error_detection_figure,
        needs=(STRATEGIES, SCORES),
        caption=lambda facts: (
            "Error detection by uncertainty. Above: the share of all wrong voxels of the data pool in the picked "
            "slices, divided by that in as many random slices. Below: Spearman's rank correlation of the "
            "predictive entropy of a slice, averaged over the whole slice or over the predicted structure, with its "
            "wrong voxels, over the whole pool and within each volume (mean over volumes). Only slices that were not "
            "annotated before count, with the scores and segmentations of the previous model; in iteration 1 this is "
            "the initial model for all strategies. Strategies that use no uncertainty have no values of their own."
            + (f" Means over {len(facts.seeds)} seeds." if len(facts.seeds) > 1 else "")
            + _own(facts)
        ),
    ),
    "pairwise_penalties": Entry(
        reads=METRICS,
        make=lambda: _plots().penalties_figure,
        needs=(STRATEGIES, TESTS),
        arguments={"metric": "dice"},
        caption=lambda facts: (
            "Pairwise penalty matrix: in what percentage of the iterations the strategy of the row has a better mean "
            f"Dice index than that of the column, by paired t-tests over {count(len(facts.seeds), 'seed')}, without "
            "correction (left) and with Holm's correction for all pairs and iterations (right). Below: the mean of "
            "each column, the rate at which a strategy is beaten. After Ash et al. 2020 (arXiv:1906.03671) and "
            f"nnActive (arXiv:2511.19183).{_own(facts)}"
        ),
    ),
}
"""The figures that need only records."""

WINDOW = "Window: 50 ± 200 HU."

FIGURES: dict[str, Entry] = {
    "figure1_network": Entry(
        needs=(AUNET,),
        caption=lambda facts: (
            "The anisotropic U-Net of this run, drawn from the model itself: channels on each level, sizes (x×y×z) of "
            "the feature maps for the training patch, convolutions, pooling, skip connections and dropout (Fig. 1)."
        ),
    ),
    "figure2_uncertainty_profile": Entry(
        needs=(STRATEGIES, USS),
        caption=lambda facts: (
            "Slice-level uncertainty, computed with the initial model, of the pool volume with the most slices in the "
            "first query of USS. Dots: candidates, which are the local maxima at least "
            f"{facts.candidate_distance} slices apart. Below: the slices at three candidates (Fig. 2). {WINDOW}"
        ),
    ),
    "figure3_excluded_cases": Entry(
        caption=lambda facts: (
            f"Volumes that the cohort table excludes: the slice with the most {STRUCTURE}, with the reference mask, "
            f"and the reason (Fig. 3). {WINDOW}"
        ),
    ),
    "figure5_probability_maps": Entry(
        needs=(TESTS, QUERIES),
        caption=lambda facts: (
            f"CT, mean {STRUCTURE} probability and predictive entropy of {facts.samples} of model {facts.shown}. The "
            "slices, from high to low slice-level uncertainty, are from the test volume with the model's lowest Dice "
            "(Fig. 5)."
        ),
    ),
    "figure6_cases": Entry(
        needs=(STRATEGIES, TESTS),
        caption=lambda facts: (
            "Outlines of the converged models and the reference on volumes that are selected by rule from "
            f"{facts.cases} test volumes: the hardest one, the one with the largest disagreement between strategies, "
            "those on which each strategy leads, one on which the data pool model falls behind, and a typical one. The "
            "slice is the one on which the models disagree most. The metrics are those of the whole volume (Fig. 6)."
            f"{_own(facts)}"
        ),
    ),
    "selected_slices": Entry(
        needs=(QUERIES,),
        caption=lambda facts: (
            "Slices of the data pool that were annotated for each strategy; the colour shows the iteration. Grey: "
            f"{STRUCTURE} that was not annotated. Each row is a volume, from feet (left) to head (right). Seed "
            f"{facts.seeds[0]}.{_own(facts)}"
        ),
    ),
}
"""The figures that need images, models or queries."""

LEARNING_CURVES = (
    "Training loss (mean since the previous validation) and validation indices of one training. The mark shows the "
    "best validation, whose weights are kept."
)
"""The caption of the figure of each training."""

PAGES_OF_RECORDS: dict[str, Entry] = {
    "overview": Entry(
        "findings",
        needs=(STRATEGIES, TESTS),
        caption=lambda facts: (
            "The learning curves, their limits, the findings in a few sentences, and the cost and results of each "
            "converged model."
        ),
    ),
    "claims": Entry(
        "the paper's claims",
        needs=(STRATEGIES, TESTS),
        caption=lambda facts: (
            "The claims of the paper's abstract and section VI: the paper's value, that of this run with its "
            "interval, and whether the claim holds, by the rules at the end of the page."
        ),
    ),
    "this_run_and_the_paper": Entry(
        "this run and the paper",
        needs=(STRATEGIES, TESTS),
        caption=lambda facts: (
            "Tables 2 to 9: each cell shows the value of this run, and below it the value printed by Chlebus et al. "
            "2022."
        ),
    ),
}
"""The pages that need only records; their titles are those in the report."""

PAGES: dict[str, Entry] = {
    "cohort_report": Entry(
        "cohort",
        caption=lambda facts: (
            "Every volume in the three planes with the largest area of the reference mask, which is outlined; "
            "measurements on the native grid; and warnings. Volumes with the most warnings come first. "
            f"{WINDOW}"
        ),
    ),
    "provenance": Entry(
        "provenance",
        caption=lambda facts: (
            "Seeds, versions, source revision, device, time and memory of each stage, and the whole configuration with "
            "its digest."
        ),
    ),
    "annotation": Entry(
        "annotation by people",
        caption=lambda facts: (
            "The slices that people have annotated, the time spent, the results of the models, and a prediction for a "
            "further round."
        ),
    ),
}
"""The other pages."""

ALL = TABLES | PLOTS | FIGURES | PAGES_OF_RECORDS | PAGES


def caption(name: str, facts: Facts) -> str:
    """Return the caption of a table, figure or page."""
    entry = ALL[name]
    if entry.caption is not None:
        return entry.caption(facts)
    return f"{entry.title}. The CSV file of the same name in results/tables has full precision."


def made(name: str, records: Mapping[str, Any], further: Mapping[str, Any] | None = None) -> Any:
    """Return a table with its name and title, or a figure, from its records; further: additional arguments."""
    entry = ALL[name]
    assert entry.make is not None
    result = entry.make()(**records, **entry.arguments, **(further or {}))
    return result.named(name, entry.title) if name in TABLES else result
