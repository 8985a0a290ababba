"""The paper's nine tables from the run's data, and the values that the paper prints in them.

A table's frame holds the results at full precision in long form; its display has the paper's layout and rounding.
Strategies have the paper's order in any run.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from .. import STRUCTURE
from ..domain.metrics import METRICS, Metric
from ..domain.records import read_table
from ..evaluation.statistics import (
    COVARIATES,
    SIGNIFICANCE,
    Summary,
    paired,
    quantile_regression,
    summarise,
    wilcoxon_against_best,
)
from ..jobs import randomness
from ..query.strategies import STRATEGIES, by_strategies, is_upper_bound, strategies_in
from .contents import TABLES, made
from .layout import (
    INITIAL,
    MISSING,
    POOL,
    Table,
    lay_out,
    number,
    p_value_text,
    printed,
    printed_iteration,
    thousands,
    with_interval,
)
from .notes import (
    LIMIT,
    REGRESSION_WEAKNESS,
    REGRESSION_WITH_SEEDS,
    about_cases,
    about_computing,
    about_limit,
    about_seed,
    about_tests,
    mean_over_seeds,
)
from .pages import filled
from .wording import count, join

LEGEND = (
    "Mean (5th, 95th percentile). Bold: best mean among the strategies of a {group}. Significantly worse than the best "
    "(one-sided Wilcoxon signed-rank test): * p < 0.05, ** p < 0.01, *** p < 0.001."
)

PAPER_TABLES = Path(__file__).with_name("paper_tables.tsv")
PAPER = "Chlebus et al. 2022, doi:10.1109/ACCESS.2022.3141021"


# --- the nine tables ---------------------------------------------------------------------------------------------


def cohort_table(cohort: pd.DataFrame, volumes: pd.DataFrame) -> Table:
    """Table 1: volumes by split, voxel sizes (mm) and resolutions of each site, both as x × y × z on the native grid.

    cohort: `volume site split` and, if volumes are excluded, `exclude`; volumes: one row per used volume, with
    `slices rows columns spacing_z spacing_y spacing_x`. Raise ValueError if a used volume has no measurements.
    """
    excluded = _excluded(cohort)
    used = cohort[~excluded][["volume", "site", "split"]].merge(volumes, on="volume", how="left", validate="1:1")
    unmeasured = used.loc[used["slices"].isna(), "volume"].tolist()
    if unmeasured:
        raise ValueError(f"volumes: no measurements of {', '.join(map(str, unmeasured))}")

    measured = {"spacing": ["spacing_x", "spacing_y", "spacing_z"], "resolution": ["columns", "rows", "slices"]}
    records, cells = [], {}
    for site in cohort["site"].unique():
        rows = used[used["site"] == site]
        counts = {split: int((rows["split"] == split).sum()) for split in ("pool", "val", "test")}
        ranges = {
            f"{column}_{end}": value
            for column in [*measured["spacing"], *measured["resolution"]]
            for end, value in (("min", rows[column].min()), ("max", rows[column].max()))
        }
        number_excluded = int((excluded & (cohort["site"] == site)).sum())
        records.append({"site": site, "volumes": len(rows), **counts, "excluded": number_excluded, **ranges})
        cells[str(site)] = {
            "Volumes (pool/val/test)": f"{len(rows)} ({'/'.join(map(str, counts.values()))})",
            "Voxel size [mm]": "×".join(_range(rows[column], 1) for column in measured["spacing"]),
            "Resolution": "×".join(_range(rows[column], 0) for column in measured["resolution"]),
        }
    totals = "/".join(str((used["split"] == split).sum()) for split in ("pool", "val", "test"))
    notes = [f"In all {count(len(used), 'volume')} ({totals}). Voxel size and resolution: x × y × z."]
    notes += [f"{record['excluded']} of {record['site']} excluded." for record in records if record["excluded"]]
    return Table(pd.DataFrame(records), lay_out(cells, "Data set"), note=" ".join(notes))


def annotation_table(annotations: pd.DataFrame) -> Table:
    """Table 2: annotated slices / annotated slices with liver / patients, by strategy and iteration.

    annotations: `seed strategy iteration slices structure_slices patients`; iteration 0 is the initial set, strategy
    `pool` the data pool. Several seeds are averaged.
    """
    counts = ["slices", "structure_slices", "patients"]
    pool = annotations["strategy"] == "pool"

    def cell(rows: pd.DataFrame) -> str:
        if rows.empty:
            return MISSING
        return "/".join(str(round(value)) for value in rows[counts].mean())

    added = annotations[~pool]
    display = _iteration_layout(
        strategies_in(added),
        initial=cell(added[added["iteration"] == 0]),
        rows={printed_iteration(k): _by_strategy(added[added["iteration"] == k], cell) for k in _iterations(added)},
        pool=cell(annotations[pool & (annotations["iteration"] == annotations.loc[pool, "iteration"].max())]),
    )
    return Table(
        annotations[["seed", "strategy", "iteration", *counts]].reset_index(drop=True),
        display,
        note=join(f"Annotated slices / annotated slices with {STRUCTURE} / patients.", mean_over_seeds(annotations)),
        spanning=frozenset({INITIAL, POOL}),
    )


def training_table(training: pd.DataFrame) -> Table:
    """Table 3: training steps of the best model in validation, by strategy and iteration.

    training: `seed model strategy iteration converged best_step steps device precision`. Several seeds are averaged.
    """
    stopped = training[~training["converged"]]
    converged = training[training["converged"]]

    def cell(rows: pd.DataFrame) -> str:
        return MISSING if rows.empty else thousands(rows["best_step"].mean())

    rows = {printed_iteration(k): _by_strategy(stopped[stopped["iteration"] == k], cell) for k in _iterations(stopped)}
    if strategies_in(converged):
        rows[f"{printed_iteration(_last(converged))} (converged)"] = _by_strategy(converged, cell)
    display = _iteration_layout(
        strategies_in(training),
        initial=cell(stopped[stopped["strategy"] == "initial"]),
        rows=rows,
        pool=cell(converged[converged["strategy"] == "pool"]),
    )
    return Table(
        training[["seed", "model", "strategy", "iteration", "converged", "best_step", "steps"]].reset_index(drop=True),
        display,
        note=join(
            "Step of the best model by the validation Jaccard index.",
            mean_over_seeds(training),
            about_computing(training),
        ),
        spanning=frozenset({INITIAL, POOL}),
    )


def metric_table(metrics: pd.DataFrame, metric: str, limit: pd.DataFrame | None = None) -> Table:
    """Tables 4 to 7: one metric by strategy and iteration, with the initial and the data pool model.

    metrics: `seed strategy iteration converged volume degenerate device precision` and the metric's column, one row per
    model and case; of the converged models only the data pool's is shown. limit: `degenerate` and the metric's column,
    one row per test volume, for the limit of the grid; it may be empty.
    """
    about = METRICS[metric]
    shown = metrics[~metrics["converged"] | (metrics["strategy"] == "pool")]
    initial = described(shown[shown["strategy"] == "initial"], about)
    whole = described(shown[shown["strategy"] == "pool"], about)
    records = [{"strategy": "initial", "iteration": 0, **initial}] if initial else []
    rows: dict[str, dict[str, str]] = {}
    bold = set()
    for iteration in _iterations(shown):
        label = printed_iteration(iteration)
        compared = _compared(shown[shown["iteration"] == iteration], about)
        records += [{"strategy": name, "iteration": iteration, **record} for name, record in compared.items()]
        rows[label] = {name: summary_cell(record, about) for name, record in compared.items()}
        bold |= {(label, printed(name)) for name, record in compared.items() if record["best"]}
    records += [{"strategy": "pool", "iteration": _last(shown), **whole}] if whole else []
    display = _iteration_layout(strategies_in(shown), summary_cell(initial, about), rows, summary_cell(whole, about))
    if limit is not None and len(limit):
        best = described(limit, about)
        records.append({"strategy": "limit", "iteration": _last(shown), **best})
        display.loc[LIMIT] = summary_cell(best, about)
    return Table(
        pd.DataFrame(records),
        display,
        note=join(LEGEND.format(group="row"), about_limit(limit), about_tests(shown, records), about_cases(shown)),
        bold=frozenset(bold),
        spanning=frozenset({INITIAL, POOL, LIMIT}),
    )


def converged_table(metrics: pd.DataFrame, limit: pd.DataFrame | None = None) -> Table:
    """Table 8: all metrics of the models trained until convergence; the data pool model is not compared.

    metrics, limit: see `metric_table`, with the columns of all metrics.
    """
    shown = metrics[metrics["converged"]]
    rows, pool = shown[by_strategies(shown)], shown[shown["strategy"] == "pool"]
    records, bold = [], set()
    cells: dict[str, dict[str, str]] = {printed(name): {} for name in [*strategies_in(rows), "pool"]}
    for about in METRICS.values():
        for strategy, record in _compared(rows, about).items():
            records.append({"metric": about.column, "strategy": strategy, **record})
            cells[printed(strategy)][about.label] = summary_cell(record, about)
            if record["best"]:
                bold.add((printed(strategy), about.label))
        whole = described(pool, about)
        if whole:
            records.append({"metric": about.column, "strategy": "pool", **whole})
        cells[POOL][about.label] = summary_cell(whole, about)
        if limit is not None and len(limit):
            best = described(limit, about)
            records.append({"metric": about.column, "strategy": "limit", **best})
            cells.setdefault(LIMIT, {})[about.label] = summary_cell(best, about)
    return Table(
        pd.DataFrame(records),
        lay_out(cells),
        note=join(LEGEND.format(group="column"), about_limit(limit), about_tests(shown, records), about_cases(shown)),
        bold=frozenset(bold),
    )


def regression_table(metrics: pd.DataFrame) -> Table:
    """Table 9: the effects of uncertainty and slice sampling on the bad end of each metric, converged models.

    metrics: see `converged_table`. Only the paper's strategies are compared, of which the table needs two.
    """
    paper = [name for name in strategies_in(metrics) if name in STRATEGIES]
    own = len(strategies_in(metrics)) > len(paper)
    compared = metrics[metrics["converged"] & metrics["strategy"].isin(paper if len(paper) > 1 else [])]
    records: list[dict[str, object]] = []
    cells: dict[str, dict[str, str]] = {name: {} for name in COVARIATES}
    notes: dict[str, list[str]] = {}  # the metrics that each note is about
    for about in METRICS.values():
        random = randomness.generator("bootstrap")
        result = quantile_regression(compared, about.column, about.tail_quantile, random)
        for covariate, row in zip(COVARIATES, result.coefficients.to_dict("records"), strict=True):
            records.append(
                {
                    "metric": about.column,
                    "quantile": about.tail_quantile,
                    "covariate": covariate,
                    **row,
                    "cases": result.cases,
                    "note": result.note,
                }
            )
            cells[covariate] |= _effect_cells(row, about)
        if result.note and len(compared):
            notes.setdefault(result.note.replace(f"the {about.tail_quantile:g} quantile", "the quantile"), []).append(
                about.name
            )
    seeds = compared["seed"].nunique()
    return Table(
        pd.DataFrame(records),
        lay_out({name.replace("_", " ").capitalize(): row for name, row in cells.items()}),
        note=join(
            "Converged models. In brackets: 95 % confidence interval.",
            f"Only the paper's strategies are compared: {', '.join(map(str.upper, paper))}." if own else "",
            REGRESSION_WITH_SEEDS.format(seeds=seeds) if seeds > 1 else REGRESSION_WEAKNESS,
            about_seed(compared, "the effects"),
            *(f"{', '.join(names)}: {text}." for text, names in notes.items()),
            about_cases(compared),
        )
        if len(compared)
        else f"This table needs two of {', '.join(map(str.upper, STRATEGIES))}; the run has "
        f"{paper[0].upper() if paper else 'none'} of them.",
    )


def paper_values() -> pd.DataFrame:
    """Return the values that the paper prints in tables 2 to 9: `table row column quantity value`, units as printed.

    The quantity `p_below` is the level of the printed stars or of "< 0.001".
    """
    return read_table(PAPER_TABLES, comment="#")


def paper_display(name: str) -> pd.DataFrame:
    """Return one of tables 2 to 9 with the paper's values in the layout of this run's: rows × columns of text."""
    values = paper_values()
    cells: dict[str, dict[str, str]] = {}
    columns = [name.upper() for name in STRATEGIES]
    for (row, column), found in values[values["table"] == name].groupby(["row", "column"], sort=False):
        value = found.set_index("quantity")["value"].to_dict()
        texts = {str(column): ""}
        if name == "table2_annotations":
            texts[str(column)] = "/".join(f"{value[kind]:.0f}" for kind in ("slices", "structure_slices", "patients"))
        elif name == "table3_training_steps":
            texts[str(column)] = thousands(value["best_step"])
        elif name == "table9_quantile_regression":
            about = next(metric for metric in METRICS.values() if metric.label == column)
            texts = _effect_cells({"p_value": value.get("p_below", 0) / 2, **value}, about)
        else:
            about = next(
                metric for metric in METRICS.values() if metric.label == column or name.endswith(metric.column)
            )
            marks = next((marks for level, marks in SIGNIFICANCE if value.get("p_below") == level), "")
            texts[str(column)] = summary_cell({**value, "stars": marks}, about)
        if "all" in texts:
            texts = dict.fromkeys(columns, texts["all"])
        cells.setdefault(str(row), {}).update(texts)
    return lay_out(cells)


def paper_comparison(
    annotations: pd.DataFrame,
    training: pd.DataFrame,
    metrics: pd.DataFrame,
) -> str:
    """Return a page with tables 2 to 9, the values of this run above those of the paper."""
    records = {"annotations": annotations, "training": training, "metrics": metrics}
    # Without the limit of the grid, which the paper does not report.
    ours = [
        made(name, {argument: records[argument] for argument in TABLES[name].reads if argument in records})
        for name in TABLES
        if name.startswith("table") and name != "table1_cohort"
    ]
    return filled(
        "tables.html",
        title="This run and the paper",
        note=f"Each cell shows this run and, below it in blue, the value printed in the paper ({PAPER}).",
        tables=[
            replace(table, title=f"Table {number}: {table.title}", below=paper_display(table.name))
            for number, table in enumerate(ours, start=2)
        ],
    )


# --- rows, columns and cells -------------------------------------------------------------------------------------


def _iterations(table: pd.DataFrame) -> range:
    """Return the iterations after the initial one."""
    return range(1, _last(table) + 1)


def _last(table: pd.DataFrame) -> int:
    rows = table.loc[by_strategies(table), "iteration"]
    return int(rows.max()) if len(rows) else 0


def _by_strategy(table: pd.DataFrame, cell: Callable[[pd.DataFrame], str]) -> dict[str, str]:
    return {name: cell(table[table["strategy"] == name]) for name in strategies_in(table)}


def _iteration_layout(
    strategies: Iterable[str], initial: str, rows: Mapping[str, Mapping[str, str]], pool: str
) -> pd.DataFrame:
    """Return the layout of tables 2 to 7: initial, the rows between, data pool; one column per strategy."""
    cells = {INITIAL: dict.fromkeys(strategies, initial), **rows, POOL: dict.fromkeys(strategies, pool)}
    return lay_out(cells).rename(columns=printed)


def described(rows: pd.DataFrame, about: Metric) -> dict[str, object]:
    """Return cases, mean and percentiles of one model's cases; an empty dictionary without cases."""
    if rows.empty:
        return {}
    return {"cases": len(rows), **summarise(rows[about.column])._asdict(), "degenerate": int(rows["degenerate"].sum())}


def _compared(rows: pd.DataFrame, about: Metric) -> dict[str, dict[str, object]]:
    """Return each strategy's summary and its comparison with the best; a single strategy is never marked as the best.

    Upper bounds have a summary but no comparison.
    """
    names = [name for name in strategies_in(rows) if not is_upper_bound(name)]
    records = {
        name: {**described(rows[rows["strategy"] == name], about), "best": False, "p_value": np.nan, "stars": ""}
        for name in strategies_in(rows)
    }
    if names:
        compared = rows[rows["strategy"].isin(names)]
        values = paired(compared, about.column)[names]
        patients = None
        if len(rows["seed"].unique()) > 1:
            owner = rows.drop_duplicates("volume").set_index("volume")["patient"]
            patients = owner[values.index.get_level_values("volume")]
        comparison = wilcoxon_against_best(values, about.larger_is_better, patients)
        for name, row in comparison.iterrows():
            best = bool(row["best"]) and len(names) > 1
            records[str(name)] |= {"best": best, **row[["p_value", "stars", "equal"]].to_dict()}
    return records


def summary_cell(record: Mapping[str, object], about: Metric) -> str:
    if not record:
        return MISSING
    summary = Summary(*(float(str(record[name])) for name in Summary._fields))
    mean, lower, upper = (number(value, about.decimals) for value in summary)
    return f"{mean} ({lower}, {upper}){record.get('stars', '')}"


def _effect_cells(row: Mapping[str, float], about: Metric) -> dict[str, str]:
    """Return the coefficient with its interval, and the p-value, by their columns of table 9."""
    estimate, bounds = row["coefficient"], (row["lower"], row["upper"])
    known = not np.isnan(row["lower"])
    return {
        f"{about.label} {about.tail_quantile:g} quantile": with_interval(estimate, bounds, about.decimals)
        if known
        else number(estimate, about.decimals),
        f"{about.name} p-value": p_value_text(row["p_value"]),
    }


def _range(values: pd.Series, decimals: int) -> str:
    """Return "[0.5–0.8]", or one number if both ends are equal in print."""
    if values.empty:
        return MISSING
    lower, upper = number(values.min(), decimals), number(values.max(), decimals)
    return lower if lower == upper else f"[{lower}–{upper}]"


def _excluded(cohort: pd.DataFrame) -> pd.Series:
    if "exclude" not in cohort:
        return pd.Series(False, index=cohort.index)
    return cohort["exclude"].fillna("").astype(str).str.strip() != ""
