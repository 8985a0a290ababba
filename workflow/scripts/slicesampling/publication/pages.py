"""Templates of pages in HTML, and of tables in LaTeX and Markdown. All inserted values are escaped."""

import base64
import re
from collections.abc import Callable
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

TEX = str.maketrans(
    {
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
        "[": "{[}",  # at the start of a row, LaTeX would read a bracket or star as an argument of the \\ before it
        "*": "{*}",
        "×": r"$\times$",
        "–": "--",
        "−": r"$-$",
        "†": r"\textdagger{}",
        "\u00a0": "~",
    }
)
"""Characters that need escaping in LaTeX."""


def _environment(escape: Callable[[str], str] | None = None, **options: Any) -> Environment:
    """Return an environment of templates; `escape` replaces HTML's escaping. Values marked as safe are not escaped."""
    if escape:
        options["finalize"] = lambda value: value if hasattr(value, "__html__") else escape(str(value))
    loader = PackageLoader("slicesampling.publication")
    return Environment(
        loader=loader,
        autoescape=escape is None,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )


ENVIRONMENTS = {
    "html": _environment(),
    "md": _environment(lambda text: re.sub(r"([\\`*_\[\]<>|~#])", r"\\\1", text)),
    "tex": _environment(  # braces mean something else in LaTeX
        lambda text: text.translate(TEX),
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
    ),
}
# In lines of 76 characters, because docutils, which includes the overview in the report, refuses long lines.
ENVIRONMENTS["html"].filters["png"] = lambda image: f"data:image/png;base64,{base64.encodebytes(image).decode()}"


def together(text: str) -> Markup:
    """Return the text of a cell of a dense table, which may break before a bracket but not within it."""
    parts = re.split(r"([(\[][^()\[\]]*[)\]]|\(?[<>] \S+)", text)
    return Markup().join(
        Markup('<span class="together">{}</span>').format(part) if number % 2 else part
        for number, part in enumerate(parts)
    )


ENVIRONMENTS["html"].filters["together"] = together


def filled(template: str, **values: Any) -> str:
    """Return a filled template, with values escaped by the rules of its suffix."""
    return ENVIRONMENTS[template.rsplit(".", 1)[1]].get_template(template).render(values)
