"""The tables that need several seeds, and the figure of the pairwise penalties: they show what the statistics say."""

import numpy as np
import pandas as pd
import pytest
from slicesampling.evaluation.seeds import penalties, penalty_matrix
from slicesampling.publication import plots
from slicesampling.publication.layout import write_files
from slicesampling.publication.seeds import areas_table, same_strategy_table, spreads_table
from trainings import simulated_annotations, simulated_metrics

FOUR = ("uvs", "rvs", "uss", "rss")
DOZEN = (*FOUR, *(f"own_strategy_{number}" for number in range(8)))


def areas(metrics):
    strategies = tuple(name for name in metrics["strategy"].unique() if name not in ("initial", "pool"))
    seeds, last = metrics["seed"].nunique(), metrics["iteration"].max()
    return areas_table(metrics, simulated_annotations(strategies, seeds, last), minutes_per_slice=2, ratio=3)


def three_tables(strategies=FOUR, seeds=5, **settings):
    metrics = simulated_metrics(strategies, seeds=seeds, **settings)
    return [
        areas(metrics),
        spreads_table(metrics),
        same_strategy_table(metrics),
    ]


@pytest.mark.parametrize("strategies", [FOUR, ("uss",), pytest.param(DOZEN, marks=pytest.mark.slow)])
@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_any_strategies_and_seeds_give_every_table(strategies, seeds, tmp_path):
    for number, table in enumerate(three_tables(strategies, seeds, volumes=14, iterations=1), start=8):
        assert table.display.map(lambda cell: isinstance(cell, str) and cell != "").all(axis=None)
        assert {name.upper() for name in strategies} <= set(table.display.index)
        assert ("One seed: this table needs several" in table.note) == (seeds == 1)
        assert "nan" not in table.note + table.display.to_csv()
        csv = write_files(table, tmp_path / "table")[0]
        assert list(pd.read_csv(csv)) == list(table.frame)
        assert (len(table.frame) > 0) == (seeds > 1 or number == 8) or strategies == ("uss",)


def test_areas_lie_between_the_seeds_and_count_the_seeds_won():
    table = areas(simulated_metrics(better={"uss": 0.1}))
    frame = table.frame[(table.frame["metric"] == "dice") & (table.frame["quantity"] == "area over iteration")]
    for strategy, rows in frame.groupby("strategy"):
        by_seed, (whole,) = rows.loc[rows["seed"] != "all", "value"], rows.loc[rows["seed"] == "all", "value"]
        assert len(by_seed) == 5
        assert by_seed.mean() == pytest.approx(whole)
        ends = [float(end) for end in table.display.loc[strategy.upper(), "of single seeds"].split("–")]
        assert ends == pytest.approx([by_seed.min(), by_seed.max()], abs=6e-4)
    assert table.display["Largest in"].to_dict() == {"UVS": "0 of 5", "RVS": "0 of 5", "USS": "5 of 5", "RSS": "0 of 5"}


def test_area_over_iterations_is_the_trapezoid_of_the_printed_curve():
    metrics = simulated_metrics()
    table = areas(metrics)
    by_seed = table.frame[(table.frame["metric"] == "rve") & (table.frame["quantity"] == "mean")]
    for row in by_seed[(by_seed["seed"] != "all") & (by_seed["iteration"] > 0)].itertuples():
        own = metrics[(metrics["model"] == f"{row.strategy}-{row.iteration}") & (metrics["seed"] == row.seed)]
        assert row.value == pytest.approx(own["rve"].mean())
    rows = table.frame[(table.frame["metric"] == "hd") & (table.frame["seed"] == "all")]
    for _, own in rows.groupby("strategy"):
        heights = own.loc[own["quantity"] == "mean"].sort_values("iteration")["value"].to_numpy(dtype=float)
        area = own.loc[own["quantity"] == "area over iteration", "value"].item()
        assert area == pytest.approx(np.trapezoid(heights) / 3)


def test_intervals_of_areas_widen_where_trainings_shift():
    width = []
    for training in (0.0, 0.05):
        metrics = simulated_metrics(FOUR, training=training, volumes=60)
        frame = areas(metrics).frame
        rows = frame[(frame["quantity"] == "area over iteration") & (frame["seed"] == "all")]
        width.append((rows["upper"] - rows["lower"])[rows["metric"] == "dice"].mean())
    assert width[1] > 2 * width[0]


@pytest.mark.slow
def test_spreads_and_rates_are_those_planted():
    _, spreads, rates = three_tables(seeds=4, training=0.02, noise=0.0)
    assert (spreads.display["Dice: rest"] == "0.0000").all()
    means = simulated_metrics(FOUR, seeds=4, training=0.02, noise=0.0).groupby(["model", "seed"])["dice"].mean()
    printed = spreads.display.loc["USS", "Dice: seeds"]
    assert float(printed) == pytest.approx(means["uss-3-converged"].std(), abs=6e-5)
    assert rates.display.loc["in all", "Dice p < 0.001"] == "96 (100 %)"  # 4 strategies × 4 models × 6 pairs
    assert rates.display.loc["data pool", "Pairs"] == "6"
    alike = same_strategy_table(simulated_metrics(seeds=3, training=0, noise=0))
    assert set(alike.display.loc["in all"]) == {"48", "0 (0 %)"}


@pytest.mark.parametrize("strategies", [FOUR, DOZEN])
def test_the_figure_of_penalties_shows_their_matrices(strategies):
    metrics = simulated_metrics(strategies, better={"uss": 0.1, "rss": 0.01})
    figure = plots.penalties_figure(metrics, "dice")
    for axes, column in zip(figure.axes, ("p_value", "p_holm"), strict=True):
        matrix = penalty_matrix(penalties(metrics), "dice", list(strategies), column)
        expected = [*matrix.to_numpy().ravel(), *matrix.mean()]
        shown = [text.get_text() for text in axes.texts]
        assert shown == ["–" if np.isnan(share) else f"{100 * share:.0f}" for share in expected]
        assert [label.get_text() for label in axes.get_xticklabels()] == [name.upper() for name in strategies]
    uss, uvs = strategies.index("uss"), strategies.index("uvs")
    assert figure.axes[0].texts[uss * len(strategies) + uvs].get_text() == "100"


def test_the_figure_of_one_seed_says_what_it_needs():
    (text,) = plots.penalties_figure(simulated_metrics(seeds=1), "dice").texts
    assert "Several seeds" in text.get_text()
