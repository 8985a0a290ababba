"""The paper's nine tables, from the run's own data, each written as CSV, Markdown, LaTeX and HTML.

The CSV holds what was computed, at full precision and in long form; the other three are laid out and rounded as the
paper prints them. Strategies stand in the paper's order, whatever the order or subset of the run.
"""

import html
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from .files import replacing, write_text
from .statistics import (
    COVARIATES,
    LOWER_PERCENTILE,
    METRICS,
    Metric,
    Summary,
    paired,
    quantile_regression,
    summarise,
    wilcoxon_against_best,
)
from .strategies import STRATEGIES

MISSING = "–"
INITIAL, POOL = "initial", "data pool"
NO_BREAK_SPACE = "\u00a0"

CASES_FOR_PERCENTILE = 100 // LOWER_PERCENTILE
"""With fewer cases the 5th and 95th percentiles lie between the extreme case and the one next to it."""

LEGEND = (
    "Mean (5th, 95th percentile). Bold: best mean among the strategies of a {group}. Significantly worse than the best "
    "(one-sided Wilcoxon signed-rank test): * p < 0.05, ** p < 0.01, *** p < 0.001."
)

PAPER_TABLES = Path(__file__).parents[2] / "resources" / "paper_tables.tsv"

TEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "[": "{[}",  # a bracket or star at the start of a row would be read as belonging to the \\ before it
    "*": "{*}",
    "×": r"$\times$",
    "–": "--",
    "−": r"$-$",
    NO_BREAK_SPACE: "~",
}
"""What LaTeX would not print as it stands."""

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem; color: #222; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; border-top: 2px solid #222; border-bottom: 2px solid #222; }
caption { caption-side: top; text-align: left; font-weight: 600; padding-bottom: .6rem; }
th, td { padding: .35rem .9rem; text-align: center; white-space: nowrap; font-variant-numeric: tabular-nums; }
thead th { border-bottom: 1px solid #222; }
tbody th { text-align: left; font-weight: 400; }
p { max-width: 60rem; color: #555; font-size: 13px; }
"""


@dataclass(frozen=True)
class Table:
    """One table of the paper.

    frame: the data at full precision, long form. display: the cells as text, rows and columns as in the paper; stars
    stand at the end of a cell. bold: (row, column) labels of the cells in bold print. spanning: labels of rows whose
    one value holds for all columns (it stands in each of them). note: what one must know to read it.
    """

    name: str
    title: str
    frame: pd.DataFrame
    display: pd.DataFrame
    note: str = ""
    bold: frozenset[tuple[str, str]] = field(default_factory=frozenset)
    spanning: frozenset[str] = field(default_factory=frozenset)


# --- the nine tables ---------------------------------------------------------------------------------------------


def cohort_table(cohort: pd.DataFrame, volumes: pd.DataFrame) -> Table:
    """Table 1: volumes by split, voxel sizes (mm) and resolutions of each site, both as x × y × z on the native grid.

    cohort: `volume site split` and, where volumes are excluded, `exclude`; volumes: one row a used volume, with
    `slices rows columns spacing_z spacing_y spacing_x`. Raises ValueError where a used volume was not measured.
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
    notes = [f"In all {_count(len(used), 'volume')} ({totals}). Voxel size and resolution: x × y × z."]
    notes += [f"{record['excluded']} of {record['site']} excluded." for record in records if record["excluded"]]
    return Table("table1_cohort", "Data sets", pd.DataFrame(records), _display(cells, "Data set"), note=" ".join(notes))


def annotation_table(annotations: pd.DataFrame) -> Table:
    """Table 2: annotated slices / annotated slices with liver / patients, by strategy and iteration.

    annotations: `seed strategy iteration slices liver_slices patients`, iteration 0 being the initial set, strategy
    `pool` the data pool. Several seeds are averaged.
    """
    counts = ["slices", "liver_slices", "patients"]
    pool = annotations["strategy"] == "pool"

    def cell(rows: pd.DataFrame) -> str:
        if rows.empty:
            return MISSING
        return "/".join(str(round(value)) for value in rows[counts].mean())

    added = annotations[~pool]
    display = _iteration_layout(
        _strategies(added),
        initial=cell(added[added["iteration"] == 0]),
        rows={f"iter. {k}": _by_strategy(added[added["iteration"] == k], cell) for k in _iterations(added)},
        pool=cell(annotations[pool & (annotations["iteration"] == annotations.loc[pool, "iteration"].max())]),
    )
    return Table(
        "table2_annotations",
        "Annotated slices, annotated slices with liver, and patients, over the iterations",
        annotations[["seed", "strategy", "iteration", *counts]].reset_index(drop=True),
        display,
        note=_join("Annotated slices / annotated slices with liver / patients.", _mean_over_seeds(annotations)),
        spanning=frozenset({INITIAL, POOL}),
    )


def training_table(training: pd.DataFrame) -> Table:
    """Table 3: training steps of the best model by the validation, by strategy and iteration.

    training: `seed model strategy iteration converged best_step steps`. Several seeds are averaged.
    """
    stopped = training[~training["converged"]]
    converged = training[training["converged"]]

    def cell(rows: pd.DataFrame) -> str:
        return MISSING if rows.empty else f"{round(rows['best_step'].mean()):,}".replace(",", NO_BREAK_SPACE)

    rows = {f"iter. {k}": _by_strategy(stopped[stopped["iteration"] == k], cell) for k in _iterations(stopped)}
    if _strategies(converged):
        rows[f"iter. {_last(converged)} (converged)"] = _by_strategy(converged, cell)
    display = _iteration_layout(
        _strategies(training),
        initial=cell(stopped[stopped["strategy"] == "initial"]),
        rows=rows,
        pool=cell(converged[converged["strategy"] == "pool"]),
    )
    return Table(
        "table3_training_steps",
        "Training steps of the models used for the evaluation",
        training.reset_index(drop=True),
        display,
        note=_join("Step of the best model by the validation Jaccard index.", _mean_over_seeds(training)),
        spanning=frozenset({INITIAL, POOL}),
    )


def metric_table(metrics: pd.DataFrame, metric: str) -> Table:
    """Tables 4 to 7: one metric by strategy and iteration, with the initial and the data pool model.

    metrics: `seed strategy iteration converged volume degenerate` and the metric's column, one row a model and case;
    of the converged models only the data pool's is shown.
    """
    about = METRICS[metric]
    shown = metrics[~metrics["converged"] | (metrics["strategy"] == "pool")]
    initial = _described(shown[shown["strategy"] == "initial"], about)
    whole = _described(shown[shown["strategy"] == "pool"], about)
    records = [{"strategy": "initial", "iteration": 0, **initial}] if initial else []
    rows: dict[str, dict[str, str]] = {}
    bold = set()
    for iteration in _iterations(shown):
        label = f"iter. {iteration}"
        compared = _compared(shown[shown["iteration"] == iteration], about)
        records += [{"strategy": name, "iteration": iteration, **record} for name, record in compared.items()]
        rows[label] = {name: _summary_cell(record, about) for name, record in compared.items()}
        bold |= {(label, name.upper()) for name, record in compared.items() if record["best"]}
    records += [{"strategy": "pool", "iteration": _last(shown), **whole}] if whole else []
    display = _iteration_layout(_strategies(shown), _summary_cell(initial, about), rows, _summary_cell(whole, about))
    position = list(METRICS).index(metric) + 4
    return Table(
        f"table{position}_{metric}",
        f"{about.label} of the models over the iterations",
        pd.DataFrame(records),
        display,
        note=_join(LEGEND.format(group="row"), _about_cases(shown)),
        bold=frozenset(bold),
        spanning=frozenset({INITIAL, POOL}),
    )


def converged_table(metrics: pd.DataFrame) -> Table:
    """Table 8: all metrics of the models trained until convergence; the data pool model is not compared.

    metrics: as for `metric_table`, with the columns of all metrics.
    """
    shown = metrics[metrics["converged"]]
    rows, pool = shown[shown["strategy"].isin(list(STRATEGIES))], shown[shown["strategy"] == "pool"]
    records, bold = [], set()
    cells: dict[str, dict[str, str]] = {name: {} for name in [*map(str.upper, _strategies(rows)), POOL]}
    for about in METRICS.values():
        for strategy, record in _compared(rows, about).items():
            records.append({"metric": about.column, "strategy": strategy, **record})
            cells[strategy.upper()][about.label] = _summary_cell(record, about)
            if record["best"]:
                bold.add((strategy.upper(), about.label))
        described = _described(pool, about)
        if described:
            records.append({"metric": about.column, "strategy": "pool", **described})
        cells[POOL][about.label] = _summary_cell(described, about)
    return Table(
        "table8_converged",
        "Evaluation of the models trained until convergence",
        pd.DataFrame(records),
        _display(cells),
        note=_join(LEGEND.format(group="column"), _about_cases(shown)),
        bold=frozenset(bold),
    )


def regression_table(metrics: pd.DataFrame) -> Table:
    """Table 9: what uncertainty sampling and slice sampling change at the bad end of each metric, converged models.

    metrics: as for `converged_table`.
    """
    records: list[dict[str, object]] = []
    cells: dict[str, dict[str, str]] = {name: {} for name in COVARIATES}
    notes = []
    for about in METRICS.values():
        result = quantile_regression(metrics, about.column, about.tail_quantile)
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
            estimate = _number(row["coefficient"], about.decimals)
            interval = f" [{_number(row['lower'], about.decimals)}, {_number(row['upper'], about.decimals)}]"
            cells[covariate][f"{about.label} {about.tail_quantile:g} quantile"] = estimate + (
                "" if np.isnan(row["lower"]) else interval
            )
            cells[covariate][f"{about.name} p-value"] = _p_value(row["p_value"])
        if result.note:
            notes.append(f"{about.name}: {result.note}.")
    shown = metrics[metrics["converged"] & metrics["strategy"].isin(list(STRATEGIES))]
    return Table(
        "table9_quantile_regression",
        "Effect of uncertainty (against random) and slice (against volume) sampling: quantile regression",
        pd.DataFrame(records),
        _display({name.replace("_", " ").capitalize(): row for name, row in cells.items()}),
        note=_join("Converged models. In brackets: 95 % confidence interval.", *notes, _about_cases(shown)),
    )


def paper_values() -> pd.DataFrame:
    """Return the values that the paper prints in tables 2 to 9: `table row column quantity value`, units as printed.

    Significance is the quantity `p_below`: the level that the printed stars or "< 0.001" stand for.
    """
    return pd.read_csv(PAPER_TABLES, sep="\t", comment="#")


# --- rows, columns and cells -------------------------------------------------------------------------------------


def _strategies(table: pd.DataFrame) -> list[str]:
    """Return the strategies that `table` holds, in the paper's order."""
    present = set(table["strategy"])
    return [name for name in STRATEGIES if name in present]


def _iterations(table: pd.DataFrame) -> range:
    """Return the iterations after the initial one."""
    return range(1, _last(table) + 1)


def _last(table: pd.DataFrame) -> int:
    rows = table.loc[table["strategy"].isin(list(STRATEGIES)), "iteration"]
    return int(rows.max()) if len(rows) else 0


def _by_strategy(table: pd.DataFrame, cell: Callable[[pd.DataFrame], str]) -> dict[str, str]:
    return {name: cell(table[table["strategy"] == name]) for name in _strategies(table)}


def _iteration_layout(
    strategies: Iterable[str], initial: str, rows: Mapping[str, Mapping[str, str]], pool: str
) -> pd.DataFrame:
    """Lay out a table of the form of tables 2 to 7: initial, the rows between, data pool; one column a strategy."""
    cells = {INITIAL: dict.fromkeys(strategies, initial), **rows, POOL: dict.fromkeys(strategies, pool)}
    return _display(cells).rename(columns=str.upper)


def _display(cells: Mapping[str, Mapping[str, str]], corner: str = "") -> pd.DataFrame:
    """Turn row → column → text into a table of text; `corner` names the rows."""
    table = pd.DataFrame.from_dict(cells, orient="index", dtype=object).fillna(MISSING)
    table.index.name = corner
    return table


def _described(rows: pd.DataFrame, about: Metric) -> dict[str, object]:
    """Return cases, mean and percentiles of one model's cases; nothing without cases."""
    if rows.empty:
        return {}
    return {"cases": len(rows), **summarise(rows[about.column])._asdict(), "degenerate": int(rows["degenerate"].sum())}


def _compared(rows: pd.DataFrame, about: Metric) -> dict[str, dict[str, object]]:
    """Return for each strategy its description, and its comparison with the best; one strategy is never the best."""
    names = _strategies(rows)
    if not names:
        return {}
    rows = rows[rows["strategy"].isin(names)]
    comparison = wilcoxon_against_best(paired(rows, about.column)[names], about.larger_is_better)
    return {
        name: {
            **_described(rows[rows["strategy"] == name], about),
            "best": bool(comparison.loc[name, "best"]) and len(names) > 1,
            "p_value": comparison.loc[name, "p_value"],
            "stars": comparison.loc[name, "stars"],
        }
        for name in names
    }


def _summary_cell(record: Mapping[str, object], about: Metric) -> str:
    if not record:
        return MISSING
    summary = Summary(*(float(str(record[name])) for name in Summary._fields))
    mean, lower, upper = (_number(value, about.decimals) for value in summary)
    return f"{mean} ({lower}, {upper}){record.get('stars', '')}"


def _number(value: float, decimals: int) -> str:
    """Return `value` rounded, with a true minus sign, never "-0.0", and the missing mark for NaN."""
    if np.isnan(value):
        return MISSING
    text = f"{value:.{decimals}f}"
    return text.replace("-", "−") if float(text) else text.removeprefix("-")


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else _number(value, 3)


def _range(values: pd.Series, decimals: int) -> str:
    """Return "[0.5–0.8]", or one number where both ends are printed alike."""
    if values.empty:
        return MISSING
    lower, upper = _number(values.min(), decimals), _number(values.max(), decimals)
    return lower if lower == upper else f"[{lower}–{upper}]"


def _excluded(cohort: pd.DataFrame) -> pd.Series:
    if "exclude" not in cohort:
        return pd.Series(False, index=cohort.index)
    return cohort["exclude"].fillna("").astype(str).str.strip() != ""


# --- notes -------------------------------------------------------------------------------------------------------


def _join(*sentences: str) -> str:
    return " ".join(sentence for sentence in sentences if sentence)


def _count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


def _mean_over_seeds(table: pd.DataFrame) -> str:
    seeds = table["seed"].nunique()
    return f"Mean over {seeds} seeds." if seeds > 1 else ""


def _about_cases(metrics: pd.DataFrame) -> str:
    """Say how many cases there are, whether they are few, and how many predictions were empty."""
    cases = metrics[["seed", "volume"]].drop_duplicates()
    seeds, volumes = cases["seed"].nunique(), cases["volume"].nunique()
    sentences = [f"{_count(volumes, 'test volume')}{f', {seeds} seeds: {len(cases)} cases' if seeds > 1 else ''}."]
    if 0 < len(cases) < CASES_FOR_PERCENTILE:
        sentences.append(
            f"With fewer than {CASES_FOR_PERCENTILE} cases the 5th and 95th percentiles lie close to the extreme cases."
        )
    empty = int(metrics["degenerate"].sum())
    if empty:
        sentences.append(
            f"{empty} of {_count(len(metrics), 'prediction')} found no liver: Dice 0, RVE 100 %, MSD and HD the "
            "diagonal of the volume; all are counted."
        )
    return " ".join(sentences)


# --- files -------------------------------------------------------------------------------------------------------


def write_table(table: Table, stem: str | Path) -> list[Path]:
    """Write `stem`.csv (full precision), .md, .tex and .html; return the four paths."""
    paths = [Path(f"{stem}.{suffix}") for suffix in ("csv", "md", "tex", "html")]
    with replacing(paths[0]) as temporary:
        table.frame.to_csv(temporary, index=False)
    for path, text in zip(paths[1:], (markdown(table), latex(table), page(table)), strict=True):
        write_text(path, text)
    return paths


def markdown(table: Table) -> str:
    """Return the table as Markdown; Markdown spans no cells, so a spanning row repeats its value."""

    def cell(row: str, column: str) -> str:
        text = _markdown_text(table.display.loc[row, column])
        return f"**{text}**" if (row, column) in table.bold else text

    columns = list(table.display.columns)
    lines = [
        [_markdown_text(str(table.display.index.name or "")), *map(_markdown_text, columns)],
        ["---", *["---:"] * len(columns)],
        *[[_markdown_text(row), *[cell(row, column) for column in columns]] for row in table.display.index],
    ]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"**{_markdown_text(table.title)}**\n\n{body}\n\n{_markdown_text(table.note)}\n"


def latex(table: Table) -> str:
    """Return the table as LaTeX for the package booktabs."""
    columns = list(table.display.columns)

    def cell(row: str, column: str) -> str:
        text, marks = _split_stars(table.display.loc[row, column])
        printed = _tex_text(text)
        printed = rf"\textbf{{{printed}}}" if (row, column) in table.bold else printed
        return printed + (rf"\textsuperscript{{{marks}}}" if marks else "")

    def cells(row: str) -> list[str]:
        if row in table.spanning and len(columns) > 1:
            return [rf"\multicolumn{{{len(columns)}}}{{c}}{{{cell(row, columns[0])}}}"]
        return [cell(row, column) for column in columns]

    lines = [
        r"\begin{table}",
        r"\centering\small",
        rf"\caption{{{_tex_text(table.title)}}}",
        rf"\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{l{'c' * len(columns)}}}",
        r"\toprule",
        " & ".join([_tex_text(str(table.display.index.name or "")), *map(_tex_text, columns)]) + r" \\",
        r"\midrule",
        *[" & ".join([_tex_text(row), *cells(row)]) + r" \\" for row in table.display.index],
        r"\bottomrule",
        r"\end{tabular}",
        rf"\par\smallskip {_tex_text(table.note)}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def page(table: Table) -> str:
    """Return the table as a self-contained HTML page."""
    columns = list(table.display.columns)

    def cell(row: str, column: str, span: int) -> str:
        text, marks = _split_stars(table.display.loc[row, column])
        printed = html.escape(text)
        printed = f"<strong>{printed}</strong>" if (row, column) in table.bold else printed
        printed += f"<sup>{marks}</sup>" if marks else ""
        return f'<td colspan="{span}">{printed}</td>' if span > 1 else f"<td>{printed}</td>"

    def cells(row: str) -> str:
        if row in table.spanning:
            return cell(row, columns[0], len(columns)) if columns else ""
        return "".join(cell(row, column, 1) for column in columns)

    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in columns)
    body = "\n".join(f'<tr><th scope="row">{html.escape(row)}</th>{cells(row)}</tr>' for row in table.display.index)
    title, note = html.escape(table.title), html.escape(table.note)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
<div class="wide">
<table>
<caption>{title}</caption>
<thead><tr><th>{html.escape(str(table.display.index.name or ""))}</th>{head}</tr></thead>
<tbody>
{body}
</tbody>
</table>
</div>
<p>{note}</p>
</body>
</html>
"""


def _split_stars(text: str) -> tuple[str, str]:
    """Split the stars from the end of a cell."""
    bare = text.rstrip("*")
    return bare, text[len(bare) :]


def _markdown_text(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|~#])", r"\\\1", text)


def _tex_text(text: str) -> str:
    return "".join(TEX.get(character, character) for character in text)
