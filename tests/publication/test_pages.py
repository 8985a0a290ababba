"""Laws of every page: what is put in is shown and never read as HTML, and nothing is asked of anybody."""

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from slicesampling.cohort.grids import Grid
from slicesampling.cohort.table import Fault
from slicesampling.cohort.volumes import Preprocessed
from slicesampling.publication.cohort_report import cohort_page, fault_page
from slicesampling.publication.layout import Table, write_files
from slicesampling.publication.overview import provenance_page
from slicesampling.publication.pages import filled, together
from test_overview import COHORT, PICTURE, page_of
from test_supplement import whole_experiment

GRID = Grid((4, 8, 8), np.eye(4))
VOLUME = Preprocessed(np.zeros((4, 8, 8), np.int16), np.ones((4, 8, 8), np.uint8), GRID, GRID)
EVIL = "<b>&\"'{{ 7 * 7 }}"


def table_page(folder: Path) -> str:
    display = pd.DataFrame({EVIL: [EVIL]}, index=pd.Index([EVIL], name=EVIL))
    table = Table(pd.DataFrame(), display, title=EVIL, note=EVIL, bold=frozenset({(EVIL, EVIL)}))
    return write_files(table, folder / "t")[-1].read_text(encoding="utf-8")


def comparison_page(folder: Path) -> str:
    display = pd.DataFrame({EVIL: [EVIL]}, index=[EVIL])
    table = Table(pd.DataFrame(), display, title=EVIL, spanning=frozenset({EVIL}), below=display)
    return filled("tables.html", title=EVIL, note=EVIL, tables=[table, table])


def overview_page(folder: Path) -> str:
    texts = {"title": EVIL, "caption": EVIL, "limits": EVIL, "findings": [EVIL]}
    display = pd.DataFrame({EVIL: [EVIL]}, index=[EVIL])
    return filled("overview.html", **texts, picture=PICTURE, table=Table(pd.DataFrame(), display, title=EVIL))


def a_provenance_page(folder: Path) -> str:
    record = {"trainings_by_device_and_precision": {EVIL: 1}, "packages": {EVIL: EVIL}, EVIL: EVIL}
    (folder / f"{EVIL}.tsv").write_text("s\tmax_rss\n1\t1\n")
    return provenance_page(record | {"configuration": {"seeds": [1], EVIL: EVIL}}, folder)


def a_cohort_page(folder: Path) -> str:
    sizes = {"slices": 1, "rows": 2, "columns": 3, "spacing_z": 1.0, "spacing_y": 1.0, "spacing_x": 1.0}
    plausible = {
        "air_hu": -1000.0,
        "structure_hu": 60.0,
        "structure_ml": 1500.0,
        "resampled_ml": 1500.0,
        "soft_tissue": 1.0,
        "second_component": 0.0,
    }
    read = {"touches": "", "digest": "", "file_patient": 0, "remarks": json.dumps([EVIL])}
    volumes = pd.DataFrame([{"volume": EVIL} | sizes | plausible | read])
    cohort = pd.DataFrame({"volume": [EVIL, "x"], "patient": EVIL, "site": EVIL, "split": EVIL, "exclude": ["", EVIL]})
    return cohort_page(cohort, volumes, lambda _: VOLUME)


def a_fault_page(folder: Path) -> str:
    cohort = pd.DataFrame({"volume": [EVIL, "x"]}, index=[2, 3])
    return fault_page([Fault(2, "image", EVIL, EVIL), Fault(2, EVIL, "", "")], cohort)


PAGES: list[Callable[[Path], str]] = [
    *(table_page, comparison_page, overview_page, a_provenance_page, a_cohort_page, a_fault_page)
]


@pytest.mark.parametrize("page", PAGES)
def test_whatever_is_put_in_is_shown_as_it_is(page: Callable[[Path], str], tmp_path: Path) -> None:
    text = page(tmp_path)
    assert "<b>" not in text
    assert text.count("&lt;b&gt;&amp;&#34;&#39;{{ 7 * 7 }}") >= 4


def test_a_cell_of_a_dense_table_breaks_before_its_bracket_and_is_escaped() -> None:
    assert together("0.9 (0.8, 1.0)") == '0.9 <span class="together">(0.8, 1.0)</span>'
    assert str(together("> 2 (> 1 [<b>])")).count("<") == 6
    assert together("<b>") == "&lt;b&gt;"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_needs_nothing_but_itself(page: Callable[[Path], str], tmp_path: Path) -> None:
    sources = re.findall(r"""(?:src|href|url|import|fetch)\b\s*[=(]\s*["']?([^"'>]{5})""", page(tmp_path))
    assert set(sources) <= {"data:"}
    assert "http" not in page(tmp_path)


def test_a_picture_is_inside_the_page_in_short_lines() -> None:
    """The overview gets into Snakemake's report through docutils, which refuses lines beyond 10 000 characters."""
    page = page_of(whole_experiment(), COHORT)
    (source,) = re.findall(r'<img src="data:image/png;base64,([^"]*)"', page)
    assert base64.b64decode(source) == PICTURE
    assert max(map(len, page.splitlines())) < 10_000
