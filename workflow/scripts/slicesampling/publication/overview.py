"""The two pages of the report that tell about a run: what came out in words, and where it comes from."""

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ..annotation.strategies import STRATEGIES, strategies_in
from ..evaluation.statistics import METRICS, summarise
from .layout import Table, count, document, lay_out, number, page_table

NAMES = {name: f"{strategy.title} ({name.upper()})" for name, strategy in STRATEGIES.items()}


def overview(
    cohort: pd.DataFrame,
    annotations: pd.DataFrame,
    metrics: pd.DataFrame,
    comparisons: pd.DataFrame,
    efficiency: pd.DataFrame,
    synthetic: bool,
) -> str:
    """Return the page that says in words what the run found.

    cohort: `volume site split exclude`; annotations and metrics: the records of the evaluation; comparisons and
    efficiency: the frames of supplements 2 and 4; synthetic: whether the volumes are.
    """
    paragraphs = []
    if synthetic:
        paragraphs.append(
            "<strong>The volumes of this run are synthetic.</strong> Its numbers show that the workflow works; they "
            "say nothing about patients."
        )
    paragraphs += map(
        html.escape,
        [_data(cohort, metrics), *_findings(annotations, metrics), _differences(comparisons), _cost(efficiency)],
    )
    failed = int(metrics["degenerate"].sum())
    if failed:
        paragraphs.append(f"{failed} of {count(len(metrics), 'prediction')} found no liver; all of them are counted.")
    body = "".join(f"<p>{text}</p>" for text in paragraphs if text)
    return document("Overview", f"<h1>What this run found</h1>{body}")


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


def _findings(annotations: pd.DataFrame, metrics: pd.DataFrame) -> list[str]:
    """Return a sentence for each strategy, and one for the data pool."""
    converged = metrics[metrics["converged"]]
    pool = annotations[annotations["strategy"] == "pool"]
    sentences = []
    for strategy in [*strategies_in(converged), "pool"]:
        rows = converged[converged["strategy"] == strategy]
        if rows.empty:
            continue
        texts = []
        for about in METRICS.values():
            summary = summarise(rows[about.column])
            tail = summary.p5 if about.larger_is_better else summary.p95
            unit = f" {about.unit}" if about.unit else ""
            texts.append(
                f"{about.name} {number(summary.mean, about.decimals)}{unit} ({number(tail, about.decimals)}{unit})"
            )
        if strategy == "pool":
            start = "The model of the whole data pool reached"
        else:
            own = annotations[annotations["strategy"] == strategy]
            own = own[own["iteration"] == own["iteration"].max()]
            share = 100 * own["slices"].mean() / pool["slices"].mean()
            start = (
                f"With {own['slices'].mean():.0f} annotated slices ({share:.1f} % of the data pool; "
                f"{own['liver_slices'].mean():.0f} with liver), {NAMES.get(strategy, strategy.upper())} reached"
            )
        sentences.append(f"{start} {', '.join(texts)}.")
    if sentences:
        sentences[0] += " Means of the converged models; in brackets the 5th (Dice) or 95th percentile."
    return sentences


def _differences(comparisons: pd.DataFrame) -> str:
    """Say which pairs of strategies differ beyond chance."""
    if comparisons.empty:
        return ""
    pairs = comparisons[(comparisons["first"] != "pool") & (comparisons["second"] != "pool")]
    proven = []
    for row in pairs[pairs["p_holm"] < 0.05].to_dict("records"):
        about = METRICS[row["metric"]]
        first_wins = (row["rank_biserial"] > 0) == about.larger_is_better
        better, worse = (row["first"], row["second"]) if first_wins else (row["second"], row["first"])
        proven.append(f"{better.upper()} over {worse.upper()} in {about.name}")
    if not proven:
        return (
            f"None of {count(len(pairs), 'difference')} between strategies is significant after correction for the "
            "number of tests (supplement 2)."
        )
    return (
        f"{len(proven)} of {count(len(pairs), 'difference')} between strategies are significant after correction for "
        f"the number of tests (supplement 2): {'; '.join(proven)}."
    )


def _cost(efficiency: pd.DataFrame) -> str:
    """Say what share of the data pool model's Dice each strategy reached, and who was best over the way."""
    if "share_of_pool" not in efficiency:
        return ""
    rows = efficiency[(efficiency["metric"] == "dice") & (efficiency["cost"] == "minutes")]
    shares = ", ".join(f"{row.strategy.upper()} {100 * row.share_of_pool:.1f} %" for row in rows.itertuples())
    best = rows.loc[rows["area"].idxmax(), "strategy"].upper()
    return (
        f"Share of the data pool model's Dice after the last iteration (limited epochs): {shares}. Averaged over "
        f"annotation time {best} had the highest Dice (supplement 4)."
    )


def provenance_page(record: Mapping[str, Any], benchmarks: Path) -> str:
    """Return the page that tells configuration, seeds, versions, device, and the time of each stage.

    record: what provenance.json holds; benchmarks: the folder of Snakemake's benchmark files.
    """
    facts = {key: value for key, value in record.items() if key not in ("configuration", "packages")}
    kinds = record["trainings_by_device_and_precision"]
    facts["trainings_by_device_and_precision"] = "; ".join(f"{n} on {name}" for name, n in kinds.items())
    facts = {"seeds": ", ".join(map(str, record["configuration"]["seeds"])), **facts}
    cells = {key.replace("_", " "): {"Value": str(value)} for key, value in facts.items()}
    cells |= {f"package {name}": {"Value": str(version)} for name, version in record["packages"].items()}
    origin = Table("provenance", "Where the results come from", pd.DataFrame(), lay_out(cells))
    stages = Table("stages", "Time and memory of each stage", pd.DataFrame(), lay_out(_stages(benchmarks)))
    configuration = html.escape(json.dumps(record["configuration"], indent=2))
    body = page_table(origin) + page_table(stages) + f"<h2>Configuration</h2><pre>{configuration}</pre>"
    return document("Provenance", body)


def _stages(benchmarks: Path) -> dict[str, dict[str, str]]:
    """Return jobs, hours and memory of each stage, by the files of Snakemake's benchmarks."""
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
