"""Two pages of the report: the findings of a run, and its provenance."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from .. import STRUCTURE
from ..domain.metrics import METRICS
from ..evaluation.statistics import SIGNIFICANCE
from ..query.strategies import is_upper_bound, strategies_in
from .layout import Table, lay_out, number, printed
from .notes import about_empty, about_seed
from .pages import filled
from .wording import count, join


def overview(
    cohort: pd.DataFrame,
    annotations: pd.DataFrame,
    metrics: pd.DataFrame,
    comparisons: pd.DataFrame,
    efficiency: pd.DataFrame,
    picture: bytes,
    synthetic: bool,
    titles: Mapping[str, str],
) -> str:
    """Return the page of the findings: a figure, its limits, the findings in sentences, and their numbers.

    cohort: `volume site split exclude`; annotations, metrics: records of the evaluation; comparisons, efficiency: the
    frames of supplements 2 and 4; picture: the learning curves as PNG; synthetic: whether the volumes are synthetic;
    titles: name → title of each strategy.
    """
    limits = [
        "The volumes are synthetic: the numbers show that the workflow works, and say nothing about patients."
        if synthetic
        else "",
        about_seed(metrics, "the differences"),
    ]
    converged = metrics[metrics["converged"]]
    findings = [
        _best(annotations, converged),
        _differences(comparisons),
        _efficiency(efficiency),
        about_empty(metrics),
        _data(cohort, metrics),
    ]
    return filled(
        "overview.html",
        title="What this run found",
        picture=picture,
        caption=f"Test results against the number of annotated slices with {STRUCTURE}",
        limits=join(*limits),
        findings=filter(None, findings),
        table=_numbers(annotations, converged, titles),
    )


def _annotated(annotations: pd.DataFrame, strategy: str) -> pd.Series:
    """Return the final numbers of annotated slices, means over the seeds."""
    own = annotations[annotations["strategy"] == strategy]
    return own.loc[own["iteration"] == own["iteration"].max(), ["slices", "structure_slices"]].mean()


def _best(annotations: pd.DataFrame, converged: pd.DataFrame) -> str:
    """Return a sentence on the best strategy, its cost, and the data pool model."""
    dice = converged.groupby("strategy")["dice"].mean()
    strategies = [name for name in strategies_in(converged) if not is_upper_bound(name)]
    if not strategies:
        return ""
    best = dice[strategies].idxmax()
    slices = _annotated(annotations, best)["slices"]
    claim = f"{printed(best)} has {'the highest Dice:' if len(strategies) > 1 else 'a Dice of'} {dice[best]:.3f}"
    found = f"Trained until convergence, {claim} with {slices:.0f} annotated slices."
    if "pool" not in dice:
        return found
    whole = _annotated(annotations, "pool")["slices"]
    return f"{found} The model of the whole data pool has {dice['pool']:.3f} with {whole:.0f}."


def _differences(comparisons: pd.DataFrame) -> str:
    """Return sentences on the significant differences between strategies."""
    if comparisons.empty:
        return ""
    pairs = comparisons[(comparisons["first"] != "pool") & (comparisons["second"] != "pool")]
    found = pairs[pairs["p_holm"] < SIGNIFICANCE[-1][0]]
    first_wins = (found["rank_biserial"] > 0) == found["metric"].map(lambda name: METRICS[name].larger_is_better)
    found = found.assign(
        better=found["first"].where(first_wins, found["second"]).map(printed),
        worse=found["second"].where(first_wins, found["first"]).map(printed),
        metric=found["metric"].map(lambda name: METRICS[name].name),
    )
    alike = found.groupby(["better", "worse"], sort=False, as_index=False)["metric"].agg(", ".join)
    alike = alike.groupby(["worse", "metric"], sort=False, as_index=False)["better"].agg(", ".join)
    listed = [f" {row.better} better than {row.worse} in {row.metric}." for row in alike.itertuples()]
    return (
        f"{len(found) or 'None'} of {count(len(pairs), 'difference')} between strategies "
        f"{'are' if len(found) > 1 else 'is'} significant after correction for the number of tests (supplement 2)."
        + "".join(listed)
    )


def _efficiency(efficiency: pd.DataFrame) -> str:
    """Return a sentence on the best strategy over all iterations."""
    rows = efficiency[(efficiency["metric"] == "dice") & (efficiency["cost"] == "minutes")]
    rows = rows[~rows["strategy"].map(is_upper_bound)]
    if len(rows) < 2:
        return ""
    best = printed(rows.loc[rows["area"].idxmax(), "strategy"])
    return f"For the same annotation time, averaged over the iterations, {best} has the highest Dice (supplement 4)."


def _data(cohort: pd.DataFrame, metrics: pd.DataFrame) -> str:
    used = cohort[cohort["exclude"].fillna("") == ""]
    sizes = used["split"].value_counts()
    models = metrics[["seed", "model"]].drop_duplicates()
    return (
        f"{count(len(used), 'volume')} of {count(used['site'].nunique(), 'site')}: {sizes.get('pool', 0)} in the data "
        f"pool, {sizes.get('val', 0)} for validation, {sizes.get('test', 0)} for testing, "
        f"{len(cohort) - len(used)} excluded. {count(len(models), 'model')} with "
        f"{count(metrics['seed'].nunique(), 'seed')} made {count(len(metrics), 'test prediction')}."
    )


def _numbers(annotations: pd.DataFrame, converged: pd.DataFrame, titles: Mapping[str, str]) -> Table:
    """Return the annotated slices and the metrics of each converged model."""
    cells = {}
    for strategy in [*strategies_in(converged), "pool"]:
        rows = converged[converged["strategy"] == strategy]
        if rows.empty:
            continue
        annotated = _annotated(annotations, strategy)
        name = printed(strategy)
        if strategy in titles:
            name = f"{name}: {titles[strategy]}"
        cells[name] = {
            "Annotated slices": number(annotated["slices"], 0),
            f"with {STRUCTURE}": number(annotated["structure_slices"], 0),
        } | {
            about.label: f"{number(rows[about.column].mean(), about.decimals)} "
            f"({number(about.tail(rows[about.column]), about.decimals)})"
            for about in METRICS.values()
        }
    return Table(
        pd.DataFrame(),
        lay_out(cells),
        title="Cost and results of the models trained until convergence",
        note="Mean over the cases; in brackets the 5th percentile of the Dice, the 95th of the errors.",
    )


def provenance_page(record: Mapping[str, Any], benchmarks: Path) -> str:
    """Return the page with configuration, seeds, versions, device, and the time of each stage.

    record: the content of provenance.json; benchmarks: the folder of Snakemake's benchmark files.
    """
    facts = {key: value for key, value in record.items() if key not in ("configuration", "packages")}
    kinds = record["trainings_by_device_and_precision"]
    facts["trainings_by_device_and_precision"] = "; ".join(f"{n} on {name}" for name, n in kinds.items())
    facts = {"seeds": ", ".join(map(str, record["configuration"]["seeds"])), **facts}
    cells = {key.replace("_", " "): {"Value": str(value)} for key, value in facts.items()}
    cells |= {f"package {name}": {"Value": str(version)} for name, version in record["packages"].items()}
    return filled(
        "provenance.html",
        title="Provenance of the results",
        tables=[
            Table(pd.DataFrame(), lay_out(cells), title="Versions, device and seeds"),
            Table(pd.DataFrame(), lay_out(_stages(benchmarks)), title="Time and memory of each stage"),
        ],
        configuration=json.dumps(record["configuration"], indent=2),
    )


def _stages(benchmarks: Path) -> dict[str, dict[str, str]]:
    """Return jobs, hours and memory of each stage, from the files of Snakemake's benchmarks."""
    tables = []
    for path in sorted(benchmarks.rglob("*.tsv")):
        stage = path.relative_to(benchmarks).parts[0].removesuffix(".tsv")
        tables.append(pd.read_csv(path, sep="\t", na_values="-").assign(stage=stage))
    if not tables:
        return {}
    jobs = pd.concat(tables)
    return {
        str(stage).replace("_", " "): {
            "Jobs": str(len(rows)),
            "Hours of jobs": f"{rows['s'].sum() / 3600:.3f}",
            "Longest job [min]": f"{rows['s'].max() / 60:.1f}",
            "Largest memory [MiB]": number(rows["max_rss"].max(), 0),
        }
        for stage, rows in jobs.groupby("stage", sort=False)
    }
