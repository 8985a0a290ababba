"""Notes below tables and figures: their comparisons, omissions and limitations."""

from collections.abc import Iterable, Mapping

import pandas as pd

from .. import STRUCTURE
from ..evaluation.statistics import CASES_FOR_PERCENTILE
from ..query.strategies import is_upper_bound
from .wording import count, join

LIMIT = "limit of the grid"
"""The row of the limit of the grid: the reference, resampled to the preprocessed grid and back."""

REGRESSION_WEAKNESS = (
    "The intervals are asymptotic, and treat the strategies' results on one volume as independent: in a simulation of "
    "log-normal errors without effect they contained zero in 91 % of runs with 234 cases per strategy, in 87 % with "
    "120; in 72 % and 79 % if each training shifts all its errors by 10 %."
)

REGRESSION_WITH_SEEDS = (
    "Intervals and p-values are those of a bootstrap over patients and {seeds} seeds. They are widened by the part of "
    "their spread that is due to the seeds: in 25 simulated runs without effect, of 5 seeds and 40 patients, they "
    "contained zero in 100 % if each training shifts all its errors by 10 %, and in 92 % if by 50 %."
)

PATIENTS_FOR_INTERVALS = 100
"""With fewer patients and one seed, intervals of a model's 5th and 95th percentile are too narrow: in a simulation of
log-normal errors, 95 % intervals contained the true percentile in 93 % of runs with 234 patients, in 83 % with 60 and
in 78 % with 30."""

PERCENTILES_WITH_SEEDS = (
    "Intervals of percentiles: in 300 simulated runs with five seeds and 60 patients, those of differences contained "
    "the true value in 99 % of runs if each training shifts all its errors by 10 %, and in 95 % if by 30 %; those of a "
    "single model in 94 % and 87 %."
)

SEEDS_FOR_INTERVALS = 5
"""With fewer seeds, the bootstrap underestimates the variation between seeds: in simulations in which trainings vary
more than, or as much as, patients, intervals of a mean contained the true value in 90 % of runs with four seeds, in
69 % and 85 % with two, and in 95 % with five."""


def mean_over_seeds(table: pd.DataFrame) -> str:
    """Return a note on the number of seeds of a mean, if there are several."""
    seeds = table["seed"].nunique()
    return f"Mean over {seeds} seeds." if seeds > 1 else ""


def about_limit(limit: pd.DataFrame | None) -> str:
    """Return an explanation of the row of the limit, if there is one."""
    if limit is None or limit.empty:
        return ""
    return f"{LIMIT.capitalize()}: the reference itself, resampled to the common grid and back."


def about_tests(metrics: pd.DataFrame, records: Iterable[Mapping[str, object]]) -> str:
    """Return a note on the signed-rank tests: their comparisons, omissions, and false assumptions of independence."""
    sentences, seeds = [about_seed(metrics, "the stars")], metrics["seed"].nunique()
    tested = "Cases" if seeds < 2 else "Patients"
    if seeds > 1:
        sentences.append(
            f"The test counts each patient once, by the mean over {seeds} seeds. It is about these trainings; the "
            "intervals of supplements 1 to 4 cover the variation between trainings."
        )
    equal = max((int(str(record.get("equal", 0))) for record in records), default=0)
    if metrics["strategy"].map(is_upper_bound).any():
        sentences.append("Upper bounds and the data pool's model are not compared.")
    if equal:
        sentences.append(f"{tested} without a difference (at most {equal} in a comparison) are left out of the test.")
    if seeds < 2 and metrics["volume"].nunique() > metrics["patient"].nunique():
        sentences.append(
            "The test treats all cases as independent, even those of one patient: supplement 2 has tests by patient."
        )
    return join(*sentences)


def about_cases(metrics: pd.DataFrame) -> str:
    """Return a note on the number of cases, whether they are few, empty predictions, and different devices."""
    cases = metrics[["seed", "volume"]].drop_duplicates()
    seeds, volumes = cases["seed"].nunique(), cases["volume"].nunique()
    sentences = [f"{count(volumes, 'test volume')}{f', {seeds} seeds: {len(cases)} cases' if seeds > 1 else ''}."]
    if 0 < len(cases) < CASES_FOR_PERCENTILE:
        sentences.append(
            f"With fewer than {CASES_FOR_PERCENTILE} cases the 5th and 95th percentiles lie close to the extreme cases."
        )
    return join(*sentences, about_empty(metrics), about_computing(metrics))


def about_empty(metrics: pd.DataFrame) -> str:
    """Return a note on the number of empty predictions and their metrics."""
    empty = int(metrics["degenerate"].sum())
    if not empty:
        return ""
    return (
        f"{empty} of {count(len(metrics), 'prediction')} found no {STRUCTURE}: Dice 0, RVE 100 %, MSD and HD the "
        "diagonal of the volume; all are counted."
    )


def about_seed(metrics: pd.DataFrame, what: str) -> str:
    """Return the limitation of one seed: `what` then compares one training of each strategy."""
    return f"One seed: {what} compare trainings, not strategies." if metrics["seed"].nunique() < 2 else ""


def about_computing(rows: pd.DataFrame) -> str:
    """Return a note if models were trained on different devices or in different precision; rows: `device precision`."""
    kinds = rows[["device", "precision"]].drop_duplicates().sort_values(["device", "precision"])
    if len(kinds) < 2:
        return ""
    listed = ", ".join(f"{row.device} in {row.precision}" for row in kinds.itertuples())
    return f"The models were trained differently: {listed}. Rounding differs, and may look like an effect."


def about_time(minutes_per_slice: float, ratio: float) -> str:
    """Return a note on the assumed annotation time."""
    return (
        f"Time: {minutes_per_slice:g} min for a {STRUCTURE} slice, 1/{ratio:g} of it in a completely annotated volume, "
        f"none for a slice without {STRUCTURE}."
    )


def about_bootstrap(metrics: pd.DataFrame) -> str:
    """Return a note on the bootstrap and the limitations of its intervals."""
    patients, seeds = metrics["patient"].nunique(), metrics["seed"].nunique()
    drawn = f"{patients} patients" + (f" and {seeds} seeds" if seeds > 1 else "")
    sentences = [f"In brackets: 95 % interval of a paired bootstrap over {drawn}."]
    if seeds > 1:
        sentences.append("It is widened by the part of its spread that is due to the few seeds.")
    if patients < PATIENTS_FOR_INTERVALS:
        sentences.append(
            f"With one seed and fewer than {PATIENTS_FOR_INTERVALS} patients, intervals of a model's 5th and 95th "
            "percentile are too narrow."
            if seeds == 1
            else PERCENTILES_WITH_SEEDS
        )
    if seeds == 1:
        sentences.append("One seed: the intervals do not cover the variation between trainings.")
    elif seeds < SEEDS_FOR_INTERVALS:
        sentences.append(f"With fewer than {SEEDS_FOR_INTERVALS} seeds, intervals are too narrow.")
    return " ".join(sentences)
