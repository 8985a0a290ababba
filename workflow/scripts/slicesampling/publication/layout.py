"""A table as text, and its four files: CSV at full precision; Markdown, LaTeX and HTML as it is printed."""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ..jobs.files import replacing, write_text

MISSING = "–"
NO_BREAK_SPACE = "\u00a0"

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
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem; color: #222; background: #fff; }
.wide { overflow-x: auto; margin-top: .8rem; }
table { border-collapse: collapse; border-top: 2px solid #222; border-bottom: 2px solid #222; }
caption { caption-side: top; text-align: left; font-weight: 600; padding-bottom: .6rem; }
th, td { padding: .35rem .9rem; text-align: center; white-space: nowrap; font-variant-numeric: tabular-nums; }
thead th { border-bottom: 1px solid #222; }
thead th[tabindex] { cursor: pointer; user-select: none; }
thead th[aria-sort=ascending]::after { content: " ▲"; font-size: .7em; }
thead th[aria-sort=descending]::after { content: " ▼"; font-size: .7em; }
tbody th { text-align: left; font-weight: 400; }
tbody tr:hover { background: #f4f4f4; }
td:only-of-type:not([colspan]) { text-align: left; white-space: normal; overflow-wrap: anywhere; }
td.words { text-align: left; white-space: normal; min-width: 16rem; }
.paper { display: block; color: #1a5fb4; }
input { font: inherit; padding: .2rem .5rem; width: 16rem; }
p { max-width: 60rem; color: #555; font-size: 13px; }
h1 ~ p { color: #222; font-size: 15px; }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; font-size: 12px; }
"""

SCRIPT = """
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0], original = [...body.rows];
  const text = (row, column) => {
    const cell = row.cells[Math.min(column, row.cells.length - 1)];
    return (cell.firstChild ? cell.firstChild.textContent : "").trim();
  };
  const value = words =>
    parseFloat(words.replace("−", "-").replace(/^[<>≤] */, "").replace(/(\\d)\u00a0(?=\\d)/g, "$1"));
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.tabIndex = 0;
    head.title = "sort";
    const sort = () => {
      const next = {none: "ascending", ascending: "descending", descending: "none"}[head.ariaSort || "none"];
      for (const other of table.tHead.rows[0].cells) other.ariaSort = "none";
      head.ariaSort = next;
      const sign = next === "descending" ? -1 : 1;
      const order = (one, two) => {
        const [a, b] = [value(text(one, column)), value(text(two, column))];
        if (isNaN(a) || isNaN(b))
          return isNaN(a) && isNaN(b) ? sign * text(one, column).localeCompare(text(two, column)) : isNaN(a) - isNaN(b);
        return sign * (a - b);
      };
      body.append(...(next === "none" ? original : [...original].sort(order)));
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
  });
  const filter = document.createElement("input");
  filter.type = "search";
  filter.placeholder = "show rows that contain …";
  filter.setAttribute("aria-label", "show rows that contain");
  filter.addEventListener("input", () => {
    for (const row of original) row.hidden = !row.textContent.toLowerCase().includes(filter.value.toLowerCase());
  });
  table.parentNode.before(filter);
}
"""
"""Sorts a table by the column whose head is clicked (again: descending; again: as it was), and filters its rows."""


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


# --- cells and notes ---------------------------------------------------------------------------------------------


def lay_out(cells: Mapping[str, Mapping[str, str]], corner: str = "") -> pd.DataFrame:
    """Turn row → column → text into a table of text; `corner` names the rows."""
    table = pd.DataFrame.from_dict(cells, orient="index", dtype=object).fillna(MISSING)
    table.index.name = corner
    return table


def number(value: float, decimals: int) -> str:
    """Return `value` rounded, with a true minus sign, never "-0.0", and the missing mark for NaN."""
    if np.isnan(value):
        return MISSING
    text = f"{value:.{decimals}f}"
    return text.replace("-", "−") if float(text) else text.removeprefix("-")


def thousands(value: float) -> str:
    """Return `value` as a whole number with a gap before each three digits."""
    return f"{round(value):,}".replace(",", NO_BREAK_SPACE)


def p_value_text(value: float) -> str:
    return "< 0.001" if value < 0.001 else number(value, 3)


def join(*sentences: str) -> str:
    return " ".join(sentence for sentence in sentences if sentence)


def count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


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
        r"\centering\small" if len(columns) <= 5 else r"\centering\scriptsize",
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
    """Return the table as a self-contained HTML page, to be sorted and filtered."""
    return document(table.title, page_table(table))


def comparison_page(title: str, note: str, pairs: Sequence[tuple[Table, pd.DataFrame]]) -> str:
    """Return a page of tables, each with the text of another one of the same layout below that of its own cells."""
    return document(title, f"<p>{html.escape(note)}</p>" + "\n".join(page_table(*pair) for pair in pairs))


def document(title: str, body: str) -> str:
    """Return a self-contained HTML page; `body` is HTML."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{html.escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
{body}
<script>{SCRIPT}</script>
</body>
</html>
"""


def page_table(table: Table, other: pd.DataFrame | None = None) -> str:
    """Return the table and its note as HTML; `other`: a display whose cells stand below those of the table."""
    display = table.display
    if other is not None:
        rows = [*display.index, *(row for row in other.index if row not in display.index)]
        display = display.reindex(sorted(rows, key=list(other.index).index) if set(rows) == set(other.index) else rows)
        display = display.fillna(MISSING)
    columns = list(display.columns)

    def text_of(text: str, bold: bool) -> str:
        bare, marks = _split_stars(text)
        printed = f"<strong>{html.escape(bare)}</strong>" if bold else html.escape(bare)
        return printed + (f"<sup>{marks}</sup>" if marks else "")

    def cell(row: str, column: str, span: int = 1) -> str:
        printed = text_of(display.loc[row, column], (row, column) in table.bold)
        if other is not None:
            there = other.loc[row, column] if row in other.index and column in other.columns else MISSING
            printed = f'<span>{printed}</span><span class="paper">{text_of(there, False)}</span>'
        return f'<td colspan="{span}">{printed}</td>' if span > 1 else f"<td>{printed}</td>"

    def cells(row: str) -> str:
        if row in table.spanning:
            return cell(row, columns[0], len(columns)) if columns else ""
        return "".join(cell(row, column) for column in columns)

    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in columns)
    body = "\n".join(f'<tr><th scope="row">{html.escape(row)}</th>{cells(row)}</tr>' for row in display.index)
    return f"""<div class="wide">
<table>
<caption>{html.escape(table.title)}</caption>
<thead><tr><th>{html.escape(str(table.display.index.name or ""))}</th>{head}</tr></thead>
<tbody>
{body}
</tbody>
</table>
</div>
<p>{html.escape(table.note)}</p>"""


def _split_stars(text: str) -> tuple[str, str]:
    """Split the stars from the end of a cell."""
    bare = text.rstrip("*")
    return bare, text[len(bare) :]


def _markdown_text(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|~#])", r"\\\1", text)


def _tex_text(text: str) -> str:
    return "".join(TEX.get(character, character) for character in text)
