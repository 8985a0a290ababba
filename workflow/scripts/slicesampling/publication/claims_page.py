"""The page of the paper's claims, and this run's verdicts on them."""

from typing import Any

import numpy as np
import pandas as pd

from .. import STRUCTURE
from ..domain.metrics import METRICS, Metric
from ..evaluation.claims import (
    CLAIMS,
    MARGINS,
    OPEN,
    POOL_SHARE,
    SEEDS_FOR_VERDICT,
    SLICES_SHARE,
    Claim,
)
from ..query.strategies import STRATEGIES
from .contents import METRIC_TABLES
from .layout import MISSING, NO_BREAK_SPACE, Table, lay_out, number, printed, printed_iteration
from .pages import filled
from .tables import paper_values
from .wording import join

PAPER_LAST = 5
"""The paper's last iteration."""

FALSE_VERDICTS = (
    "Rate of false verdicts: in a simulation of strategies that do not differ, in which trainings vary far more than "
    "patients, the interval of one difference excluded zero in 8 % of 700 runs with five seeds and in 6 % of 400 runs "
    "with ten; “best” held in none and in 0.5 %, and did not hold in 9 % and 5 %."
)


def claims_page(verdicts: pd.DataFrame, metrics: pd.DataFrame, synthetic: bool) -> str:
    """Return the page: each claim by the Dice with the paper's value, then by all metrics, and the rules of verdicts.

    verdicts: from `evaluation.claims.judge`; metrics: the records that it used; synthetic: whether the volumes are.
    """
    seeds, patients = metrics["seed"].nunique(), metrics["patient"].nunique()
    limits = [
        "The volumes are synthetic: verdicts apply to them, and say nothing about patients." if synthetic else "",
        f"{'One seed' if seeds == 1 else f'{seeds} seeds'}: no claim can be judged. A verdict needs "
        f"{SEEDS_FOR_VERDICT} seeds: the interval of one covers patients but no trainings, that of few says little "
        "about other trainings."
        if seeds < SEEDS_FOR_VERDICT
        else "",
    ]
    return filled(
        "claims.html",
        title="The paper's claims",
        limits=join(*limits),
        rules=[*_rules(), FALSE_VERDICTS],
        tables=[
            Table(
                verdicts,
                lay_out(_by_dice(verdicts), "Claim"),
                title="Each claim of the abstract and section VI, judged by the Dice",
                note=f"In brackets the 95 % interval over {patients} patients"
                + (f" and {seeds} seeds." if seeds > 1 else " only.")
                + " Differences: the strategy of the claim minus the other; of several others the decisive one, whose "
                "interval reaches furthest to the other side (paper: the closest mean).",
            ),
            Table(
                verdicts,
                lay_out(_by_metric(verdicts), "Claim"),
                title="The same by each metric",
                note="In Dice and in the units of the errors; smaller errors are better. Robustness: the 5th "
                "percentile of the Dice, the 95th of the errors.",
            ),
        ],
    )


def _rules() -> list[str]:
    margins = ", ".join(f"{about.name} {MARGINS[name]:g} {about.unit}".strip() for name, about in METRICS.items())
    return [
        "Best, worst, better, most robust: the claim “holds” if the intervals of the differences to all other "
        "strategies of the paper, or in all iterations of the claim, lie on the claimed side of zero. It “does not "
        f"hold” if one of them, corrected for their number (Bonferroni), lies on the other side; else it is “{OPEN}”.",
        "No difference: the claim “holds” if the interval lies within a margin on both sides of zero, “does not hold” "
        f"if it lies outside; else it is “{OPEN}”. Margins: {margins}, the differences between USS and the next best "
        "strategy in the paper's table 8.",
        "Fewest slices: as for “worst”, by the numbers of annotated slices; intervals by Student's t over seeds.",
        f"Hard cases: the share of annotated slices with {STRUCTURE} from volumes that the cohort table names as hard "
        "cases, minus that of the data pool; interval by Student's t over seeds.",
        f"Share of the data pool: the claim “holds” if the interval lies at or above {100 * POOL_SHARE:.0f} % with at "
        f"most {100 * SLICES_SHARE:.0f} % of the slices (rounded), “does not hold” if it lies below with at least as "
        f"many; else it is “{OPEN}”.",
        "Intervals of metrics are from a paired bootstrap that draws patients and seeds independently. They are "
        "widened by the part of their spread that is due to the few seeds (expanded percentile interval, Hesterberg "
        "2015, doi:10.1080/00031305.2015.1089789).",
    ]


def _by_dice(verdicts: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Return a row for each claim: the verdict, the paper's value, this run's value, and a remark."""
    cells = {}
    for claim in CLAIMS:
        row = verdicts[(verdicts["claim"] == claim.name) & verdicts["metric"].fillna("").isin(["", "dice"])].iloc[0]
        cells[claim.statement] = {
            "Verdict": _unbroken(row["verdict"]),
            "Paper": _paper(claim, METRICS["dice"]),
            "This run": _estimate(claim, row, METRICS["dice"]),
            "Remark": row["remark"] if isinstance(row["remark"], str) and row["remark"] else MISSING,
        }
    return cells


def _by_metric(verdicts: pd.DataFrame) -> dict[str, dict[str, str]]:
    cells: dict[str, dict[str, str]] = {}
    for claim in CLAIMS:
        for row in verdicts[verdicts["claim"] == claim.name].to_dict("records"):
            if claim.kind in ("rank", "equal"):
                about = METRICS[row["metric"]]
                figure = _estimate(claim, row, about)
                verdict = _unbroken(row["verdict"])
                text = verdict if figure == MISSING else f"{verdict}\n{figure}"
                cells.setdefault(claim.statement, {})[about.label] = text
    return cells


def _estimate(claim: Claim, row: Any, about: Metric) -> str:
    """Return the estimate of this run with its interval and the other strategy."""
    if not isinstance(row["rival"], str) or np.isnan(row["estimate"]):
        return MISSING
    numbers = [row[name] for name in ("estimate", "lower", "upper")]
    if claim.kind in ("share", "composition"):
        numbers = [100 * value for value in numbers]
        decimals, unit = 1, " %" if claim.kind == "share" else " points"
    elif claim.kind == "fewest":
        decimals, unit = 0, " slices"
    else:
        decimals, unit = about.decimals, ""
    estimate, lower, upper = (number(value, decimals) for value in numbers)
    interval = "" if np.isnan(row["lower"]) else f" [{lower}, {upper}]"
    other = "" if claim.kind == "share" else f"\nagainst {_printed(row['rival'])}"
    return _unbroken(f"{estimate}{unit}{interval}{other}")


def _paper(claim: Claim, about: Metric) -> str:
    """Return the paper's value from its printed tables, which have none on hard cases."""
    if claim.kind == "composition":
        return _unbroken("stated,\nno value")
    values = paper_values().set_index(["table", "quantity", "row", "column"])["value"]
    quantity = f"p{round(100 * about.tail_quantile)}" if claim.tail else "mean"

    def value(strategy: str, iteration: int) -> float:
        if claim.kind == "fewest":
            return float(values["table2_annotations", "slices", printed_iteration(iteration), strategy.upper()])
        if claim.models == "converged":
            return float(values["table8_converged", quantity, printed(strategy), about.label])
        return float(values[METRIC_TABLES[about.column], quantity, printed_iteration(iteration), strategy.upper()])

    if claim.kind == "share":
        share = value(claim.subject, PAPER_LAST) / value("pool", PAPER_LAST)
        return _unbroken(f"{number(100 * share, 1)} %\nwith 4 % of the slices")
    iterations = {"first": [1], "later": range(2, PAPER_LAST + 1)}.get(claim.models, [PAPER_LAST])
    side = 1 if claim.kind != "fewest" and about.larger_is_better == claim.best else -1
    differences = {
        (name, iteration): value(claim.subject, iteration) - value(name, iteration)
        for name in claim.rivals
        for iteration in iterations
    }
    rival, iteration = closest = min(differences, key=lambda pair: side * differences[pair])
    decimals, unit = (0, " slices") if claim.kind == "fewest" else (about.decimals, "")
    told = f"\nin iteration {iteration}" if claim.models == "later" else ""
    return _unbroken(f"{number(differences[closest], decimals)}{unit}\nagainst {_printed(rival)}{told}")


def _printed(strategy: str) -> str:
    return "the data pool" if strategy not in STRATEGIES else strategy.upper()


def _unbroken(text: str) -> str:
    """Return a text that breaks only at its line ends."""
    return text.replace(" ", NO_BREAK_SPACE)
