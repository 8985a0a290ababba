"""The tables beyond the paper, and the page beside the paper."""

import numpy as np
import pandas as pd
import pytest
from slicesampling.domain.metrics import FURTHER_METRICS, METRICS
from slicesampling.evaluation.calibration import BINS
from slicesampling.publication.layout import write_files
from slicesampling.publication.supplement import (
    comparisons_table,
    efficiency_table,
    further_metrics_table,
    groups_table,
    intervals_table,
    learning_curves_table,
)
from slicesampling.publication.tables import paper_comparison, paper_display
from test_tables import MEANS, STRATEGIES, annotations, experiment, training

TIME = {"minutes_per_slice": 1, "ratio": 3}


def whole_experiment(**settings):
    """Add what is measured beyond the paper, some noise, and hard cases."""
    metrics = experiment(**settings)
    random = np.random.default_rng(0)
    metrics["dice"] += random.normal(0, 0.02, len(metrics))
    for name, about in FURTHER_METRICS.items():
        metrics[name] = metrics["dice"] if about.larger_is_better else 10 * (1 - metrics["dice"])
    metrics["components"] = 1
    metrics["site"] = np.where(metrics["volume"].str[-1] < "5", "A", "B")
    metrics["hard_case"] = np.where(metrics["volume"].isin(["v1", "v2"]), "motion", "")
    return metrics


def spent(strategies=STRATEGIES, seeds=(1,)):
    table = annotations(seeds, strategies)
    return table.assign(structure_slices=30 + 10 * table["iteration"])


def calibration(metrics):
    models = metrics[["model"]].drop_duplicates()["model"]
    return pd.concat(
        [
            pd.DataFrame({"bin": range(BINS), "voxels": 10, "probability": 5.0, "structure": 4}).assign(model=model)
            for model in models
        ]
    )


def six_tables(metrics, strategies=STRATEGIES, seeds=(1,)):
    counted = spent(strategies, seeds)
    return [
        intervals_table(metrics),
        comparisons_table(metrics),
        learning_curves_table(metrics, counted, **TIME),
        efficiency_table(metrics, counted, **TIME),
        groups_table(metrics),
        further_metrics_table(metrics, calibration(metrics)),
    ]


@pytest.mark.parametrize(
    ("strategies", "volumes", "seeds"), [(STRATEGIES, 30, (1,)), (("rss",), 1, (1,)), (("uvs", "bald"), 8, (1, 2))]
)
def test_each_says_what_it_holds_and_where_it_is_weak(strategies, volumes, seeds, tmp_path):
    metrics = whole_experiment(strategies=strategies, volumes=volumes, seeds=seeds)
    for table in six_tables(metrics, strategies, seeds):
        assert table.display.map(lambda cell: isinstance(cell, str) and cell != "").all(axis=None)
        assert "test volume" in table.note
        assert f"{volumes} test volume" in table.note
        assert ("fewer than 20 cases" in table.note) == (volumes * len(seeds) < 20)
        assert "nan" not in table.note
        assert all(path.stat().st_size for path in write_files(table, tmp_path / "table"))
    notes = intervals_table(metrics).note
    assert f"bootstrap over {volumes} patients" in notes
    assert ("One seed" in notes) == (seeds == (1,))
    assert ("and 2 seeds" in notes) == (seeds == (1, 2))


def test_intervals_hold_their_estimates_and_narrow_with_more_patients():
    few, many = (intervals_table(whole_experiment(volumes=count)).frame for count in (20, 120))
    for frame in (few, many):
        means = frame[frame["statistic"] == "mean"]
        assert (means["lower"] <= means["value"]).all()
        assert (means["value"] <= means["upper"]).all()
        assert set(frame["metric"]) == set(METRICS | FURTHER_METRICS)
        assert set(frame["model"]) == set(whole_experiment()["model"])
    width = [(frame["upper"] - frame["lower"])[frame["statistic"] == "mean"].mean() for frame in (few, many)]
    assert width[1] < 0.6 * width[0]


def test_comparisons_find_the_planted_order_and_correct_for_all_tests():
    table = comparisons_table(whole_experiment(volumes=40))
    frame = table.frame
    assert len(frame) == 4 * 10
    dice = frame[frame["metric"] == "dice"].set_index(["first", "second"])
    assert dice.loc[("uvs", "uss"), "mean_difference"] == pytest.approx(MEANS["uvs"] - MEANS["uss"], abs=0.02)
    assert (dice["mean_lower"] < dice["mean_difference"]).all()
    assert (np.sign(dice["rank_biserial"]) == np.sign(dice["mean_difference"])).all()
    assert (frame["p_holm"] >= frame["p_value"]).all()
    assert frame["p_holm"].min() == pytest.approx(len(frame) * frame["p_value"].min())
    assert dice.loc[("uvs", "uss"), "p_holm"] < 0.001
    assert "selected by the data" in table.note


def test_comparisons_tell_of_identical_results_and_of_too_few():
    metrics = whole_experiment(volumes=4)
    same = metrics["strategy"].isin(["uvs", "rvs"]) & metrics["converged"]
    for about in METRICS.values():
        metrics.loc[same, about.column] = metrics.loc[same, "volume"].str[1:].astype(float)
    note = comparisons_table(metrics).note
    assert "Identical in all patients, so p = 1 and no effect size: Dice of UVS and RVS" in note
    assert "no difference can be significant" in note
    metrics.loc[same & (metrics["strategy"] == "uvs") & (metrics["volume"] == "v0"), "dice"] = 0.123
    assert "some patients have no difference" in comparisons_table(metrics).note


def test_learning_curves_hold_the_means_of_the_run():
    metrics = whole_experiment()
    frame = learning_curves_table(metrics, spent(), **TIME).frame.set_index(["metric", "strategy", "iteration"])
    for strategy, iteration in (("uss", 2), ("rvs", 1)):
        rows = metrics[(metrics["strategy"] == strategy) & (metrics["iteration"] == iteration) & ~metrics["converged"]]
        found = frame.loc[("hd", strategy, iteration)]
        assert found["mean"] == pytest.approx(rows["hd"].mean())
        assert found["tail"] == pytest.approx(np.percentile(rows["hd"], 95))
        assert found["structure_slices"] == 30 + 10 * iteration
        assert found["minutes"] == pytest.approx(10 + 10 * iteration * (1 if strategy == "uss" else 1 / 3))
    initial = metrics.loc[metrics["strategy"] == "initial", "dice"].mean()
    for strategy in STRATEGIES:
        assert frame.loc[("dice", strategy, 0), "mean"] == pytest.approx(initial)


def test_efficiency_ranks_the_planted_order():
    table = efficiency_table(whole_experiment(volumes=60), spent(), **TIME)
    frame = table.frame[table.frame["metric"] == "dice"]
    slices = frame[frame["cost"] == "structure_slices"].set_index("strategy")
    assert list(slices["area"].sort_values().index) == ["rvs", "uvs", "rss", "uss"]
    assert slices.loc["uss", "share_of_pool"] == pytest.approx(MEANS["uss"] / (MEANS["pool"] + 0.01), abs=0.02)
    assert np.isnan(slices.loc["rvs", "to_0.95"])
    assert table.display.loc["Dice: RVS", "Slices to 95\u00a0%"] == "> 50"
    without = efficiency_table(whole_experiment()[lambda rows: rows["strategy"] != "pool"], spent(), **TIME)
    assert "share_of_pool" not in without.frame


def test_groups_are_those_of_the_cohort():
    table = groups_table(whole_experiment())
    assert list(table.display.index[-3:]) == ["no hard case", "all hard cases", "hard case: motion"]
    assert table.display.loc["hard case: motion", "Volumes"] == "2"
    rows = table.frame[(table.frame["strategy"] == "uss") & (table.frame["metric"] == "dice")].set_index("group")
    assert rows.loc["no hard case", "cases"] + rows.loc["all hard cases", "cases"] == 30
    plain = groups_table(whole_experiment().assign(hard_case=np.nan))
    assert "names no hard cases" in plain.note


def test_calibration_stands_beside_the_further_metrics():
    metrics = whole_experiment()
    table = further_metrics_table(metrics, calibration(metrics))
    assert table.display.loc["USS", "ECE"] == "0.1000"
    assert table.display.loc["data pool", "Components"] == "1.0"


def test_the_papers_tables_as_it_prints_them():
    assert paper_display("table2_annotations").loc["iter. 5", "USS"] == "2410/1292/160"
    assert paper_display("table3_training_steps").loc["iter. 5 (converged)", "RSS"] == "465\u00a0000"
    assert paper_display("table8_converged").loc["UVS", "Dice"] == "0.959 (0.930, 0.977)***"
    nine = paper_display("table9_quantile_regression")
    assert nine.loc["Intercept", "Dice 0.05 quantile"] == "0.920 [0.914, 0.925]"
    assert nine.loc["Intercept", "Dice p-value"] == "< 0.001"
    assert set(paper_display("table4_dice").columns) == {name.upper() for name in STRATEGIES}
    assert len(set(paper_display("table4_dice").loc["initial"])) == 1


def test_this_run_stands_above_the_paper():
    page = paper_comparison(annotations(), training(), experiment(iterations=2))
    for text in ("Table 2: ", "Table 9: ", "0.959 (0.930, 0.977)", "2410/1292/160", "10.1109/ACCESS.2022.3141021"):
        assert text in page
    assert page.count('class="paper"') > 100


def test_how_far_intervals_of_percentiles_hold_depends_on_the_number_of_seeds():
    alone, several = (intervals_table(whole_experiment(seeds=seeds)).note for seeds in ((1,), (1, 2, 3, 4, 5)))
    assert "5th and 95th percentile are too narrow" in alone
    assert "too narrow" not in several
    assert "simulated runs with five seeds" in several
