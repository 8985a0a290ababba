"""Laws of the table and the figure of error detection: what they show is what was found, whatever is missing."""

import numpy as np
import pandas as pd
import pytest
from slicesampling.evaluation.error_detection import SCOPES, SCORES
from slicesampling.publication.detection import NO_REFERENCE, error_detection_table
from slicesampling.publication.detection_figure import error_detection_figure
from slicesampling.publication.layout import write_files

COLUMNS = [f"{score}_{scope}" for score in SCORES for scope in SCOPES]


def some_found(strategies=("uss", "rss"), iterations=3, seeds=(1,)) -> pd.DataFrame:
    """Return what would be found: the strategy `rss` is judged in iteration 1 only; each seed finds more errors."""
    rows = []
    for seed in seeds:
        for strategy in strategies:
            for iteration in range(1, 2 if strategy == "rss" else iterations + 1):
                found = {"slices": 100, "picked": 10, "wrong": 1000, "wrong_picked": 100 * iteration * seed}
                names = {"seed": seed, "strategy": strategy, "iteration": iteration, "model": "any"}
                rows.append(names | found | {"wrong_best": 900} | dict.fromkeys(COLUMNS, 0.1 * iteration * seed))
    return pd.DataFrame(rows)


@pytest.mark.parametrize("seeds", [(1,), (1, 2)])
def test_the_table_holds_shares_and_correlations_of_each_choice(seeds, tmp_path) -> None:
    table = error_detection_table(some_found(seeds=seeds))
    assert list(table.display.index) == ["USS, iter. 1", "USS, iter. 2", "USS, iter. 3", "RSS, iter. 1"]
    row = table.display.loc["USS, iter. 2"]
    assert row["Errors [%]"] == f"{20 * np.mean(seeds):.1f} / 10.0 / 90.0"
    assert row["× random"] == f"{2 * np.mean(seeds):.2f}"
    found = f"{0.2 * np.mean(seeds):.2f}"
    assert row["Entropy, slice"] == row["Mutual inf., structure"] == f"{found} / {found}"
    assert ("One seed" in table.note) == (len(seeds) == 1)
    assert len(table.frame) == 4 * len(seeds)
    assert all(path.stat().st_size for path in write_files(table, tmp_path / "table"))


def test_the_figure_shows_means_over_seeds_and_begins_with_the_initial_model() -> None:
    above, *panels = error_detection_figure(some_found(seeds=(1, 2))).axes
    curves = [list(line.get_ydata()) for line in above.lines if len(line.get_xdata()) == 3]
    assert curves == [pytest.approx([1.5, 3.0, 4.5])]
    assert any(list(line.get_ydata()) == pytest.approx([1.5]) for line in above.lines)  # rss, in iteration 1
    for axes in panels:
        heights = [list(line.get_ydata()) for line in axes.lines if line.get_marker() not in ("", "None")]
        assert heights == [pytest.approx([0.15, 0.3, 0.45]), pytest.approx([0.15])]


def test_sixteen_strategies_fit() -> None:
    figure = error_detection_figure(some_found([f"a_strategy_{letter}" for letter in "abcdefghijklmnop"]))
    figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1


def test_without_reference_they_say_so(tmp_path) -> None:
    counts = dict.fromkeys(["slices", "picked", "wrong", "wrong_picked", "wrong_best"], 0)
    found = some_found().assign(**counts, **dict.fromkeys(COLUMNS, np.nan))
    table = error_detection_table(found)
    assert list(table.display.index) == [NO_REFERENCE]
    assert "errors cannot be counted" in table.note
    assert all(path.stat().st_size for path in write_files(table, tmp_path / "table"))
    texts = [text.get_text() for axes in error_detection_figure(found).axes for text in axes.texts]
    assert texts == [NO_REFERENCE] * 5
