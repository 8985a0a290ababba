"""The tables: what they count and compare, how they are laid out, and that each file shows all of it."""

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from slicesampling.domain.metrics import METRICS
from slicesampling.evaluation.statistics import summarise
from slicesampling.publication import layout
from slicesampling.publication.contents import TABLES, made
from slicesampling.publication.layout import Table, write_files
from slicesampling.publication.tables import (
    annotation_table,
    cohort_table,
    converged_table,
    metric_table,
    paper_comparison,
    paper_values,
    regression_table,
    training_table,
)

STRATEGIES = ("uvs", "rvs", "uss", "rss")
MEANS = {
    "by_error": 0.94,
    "bald": 0.93,
    "initial": 0.70,
    "uvs": 0.80,
    "rvs": 0.75,
    "uss": 0.90,
    "rss": 0.85,
    "pool": 0.95,
}


def experiment(strategies=STRATEGIES, iterations=2, volumes=30, seeds=(1,), degenerate=0):
    """Make the metrics of a run in which the strategies' order is known: MEANS, the same in all iterations."""
    models = [("initial", 0, False), *[(name, k, False) for name in strategies for k in range(1, iterations + 1)]]
    models += [(name, iterations, True) for name in strategies] + [("pool", iterations, True)]
    rows = []
    for seed in seeds:
        for strategy, iteration, converged in models:
            for volume in range(volumes):
                quality = MEANS[strategy] + 0.001 * ((volume * 7) % volumes) / volumes + 0.01 * converged
                rows.append(
                    {
                        "seed": seed,
                        "model": f"{strategy}-{iteration}{'-converged' if converged else ''}",
                        "strategy": strategy,
                        "iteration": iteration,
                        "converged": converged,
                        "volume": f"v{volume}",
                        "patient": f"p{volume}",
                        "site": "A",
                        "hard_case": "",
                        "dice": quality,
                        "rve": 100 * (1 - quality),
                        "msd": 10 * (1 - quality),
                        "hd": 200 * (1 - quality),
                        "degenerate": strategy == "initial" and volume < degenerate,
                        "device": "CPU",
                        "precision": "float32",
                    }
                )
    return pd.DataFrame(rows).sample(frac=1, random_state=1)


@pytest.mark.parametrize("make", [lambda *given: metric_table(given[0], "dice", *given[1:]), converged_table])
def test_the_limit_of_the_grid_is_a_last_row_that_changes_no_other(make):
    """It is better than all models, but no model: neither the best nor compared."""
    metrics = experiment()
    limit = metrics[metrics["strategy"] == "pool"].assign(dice=0.99, rve=0.1, msd=0.1, hd=1.0)
    without, empty, whole = make(metrics), make(metrics, limit.head(0)), make(metrics, limit)
    pd.testing.assert_frame_equal(whole.display.iloc[:-1], without.display)
    pd.testing.assert_frame_equal(empty.display, without.display)
    assert whole.display.index[-1] == "limit of the grid"
    assert whole.display.iloc[-1].str.startswith("0.990 (0.990, 0.990)").any()
    assert whole.bold == without.bold
    assert "resampled to the common grid and back" in whole.note
    assert empty.note == without.note
    assert (whole.frame["strategy"] == "limit").sum() == len(whole.frame) - len(without.frame) > 0


def test_a_run_that_mixes_devices_or_precisions_says_so():
    metrics = experiment()
    assert "trained differently" not in metric_table(metrics, "dice").note
    metrics.loc[metrics["model"] == "uss-2", "precision"] = "bfloat16"
    said = "The models were trained differently: CPU in bfloat16, CPU in float32."
    assert said in metric_table(metrics, "dice").note
    assert said not in converged_table(metrics).note
    assert said in training_table(training().assign(precision=["bfloat16"] + ["float32"] * 13)).note


def annotations(seeds=(1,), strategies=STRATEGIES):
    rows = [
        {
            "seed": seed,
            "strategy": name,
            "iteration": k,
            "slices": 100 + 10 * k + seed,
            "structure_slices": 50,
            "patients": 5,
        }
        for seed in seeds
        for name in strategies
        for k in range(3)
    ]
    rows += [
        {"seed": seed, "strategy": "pool", "iteration": 0, "slices": 999, "structure_slices": 444, "patients": 33}
        for seed in seeds
    ]
    return pd.DataFrame(rows)


def training(seeds=(1,), strategies=STRATEGIES):
    metrics = experiment(strategies, volumes=1, seeds=seeds)
    steps = metrics[["seed", "model", "strategy", "iteration", "converged", "device", "precision"]].copy()
    steps["best_step"] = 1000 * (steps["iteration"] + 1) * np.where(steps["converged"], 10, 1) * steps["seed"]
    steps["steps"] = steps["best_step"] + 1000
    return steps


COHORT = pd.DataFrame(
    {
        "volume": ["a1", "a2", "a3", "b1", "b2"],
        "patient": ["p1", "p1", "p2", "p3", "p4"],
        "site": ["A", "A", "A", "B", "B"],
        "split": ["pool", "pool", "test", "val", "pool"],
        "exclude": ["", "", "", "", "vena cava in the mask"],
    }
)
VOLUMES = pd.DataFrame(
    {
        "volume": ["a1", "a2", "a3", "b1"],
        "slices": [170, 376, 200, 81],
        "rows": 512,
        "columns": [512, 512, 512, 256],
        "spacing_z": [0.8, 1.6, 1.0, 2.0],
        "spacing_y": [0.5, 0.81, 0.6, 0.7],
        "spacing_x": [0.5, 0.81, 0.6, 0.7],
        "structure_slices": 50,
        "structure_ml": 1500.0,
        "resampled_ml": 1500.0,
    }
)


@pytest.fixture(scope="module")
def nine_tables():
    metrics = experiment()
    return [
        cohort_table(COHORT, VOLUMES),
        annotation_table(annotations()),
        training_table(training()),
        *[metric_table(metrics, metric) for metric in METRICS],
        converged_table(metrics),
        regression_table(metrics),
    ]


def test_table_1_counts_used_volumes_and_gives_ranges_in_x_y_z():
    table = cohort_table(COHORT, VOLUMES)
    assert table.display.loc["A"].tolist() == ["3 (2/0/1)", "[0.5–0.8]×[0.5–0.8]×[0.8–1.6]", "512×512×[170–376]"]
    assert table.display.loc["B"].tolist() == ["1 (0/1/0)", "0.7×0.7×2.0", "256×512×81"]
    assert "In all 4 volumes (2/1/1)" in table.note
    assert "1 of B excluded" in table.note
    assert table.frame.set_index("site").loc["A", "spacing_x_max"] == 0.81


def test_table_1_without_exclusions_and_with_a_site_that_is_all_excluded():
    plain = cohort_table(COHORT.drop(columns="exclude").iloc[:4], VOLUMES)
    assert "excluded" not in plain.note
    gone = cohort_table(COHORT.assign(exclude=["", "", "", "bad", "bad"]), VOLUMES)
    assert gone.display.loc["B"].tolist() == ["0 (0/0/0)", "–×–×–", "–×–×–"]


def test_table_1_misses_no_measurement():
    with pytest.raises(ValueError, match="no measurements of b1"):
        cohort_table(COHORT, VOLUMES.iloc[:3])


def ledger(rows):
    return pd.DataFrame(rows, columns=["volume", "slice", "iteration", "structure"])


def test_tables_2_and_3_average_seeds_and_say_so():
    table = annotation_table(annotations(seeds=(1, 3)))
    assert table.display.loc["iter. 2", "USS"] == "122/50/5"
    assert "Mean over 2 seeds" in table.note
    assert "Mean" not in annotation_table(annotations()).note
    steps = training_table(training(seeds=(1, 3)))
    assert steps.display.loc["iter. 2", "USS"] == "6\u00a0000"
    assert "Mean over 2 seeds" in steps.note


def test_table_3_layout():
    table = training_table(training())
    assert table.display["RSS"].to_dict() == {
        "initial": "1\u00a0000",
        "iter. 1": "2\u00a0000",
        "iter. 2": "3\u00a0000",
        "iter. 2 (converged)": "30\u00a0000",
        "data pool": "30\u00a0000",
    }


@pytest.mark.parametrize("metric", METRICS)
def test_tables_4_to_7_mark_the_best_and_the_worse(metric):
    metrics = experiment()
    table = metric_table(metrics, metric)
    assert list(table.display.columns) == ["UVS", "RVS", "USS", "RSS"]
    assert list(table.display.index) == ["initial", "iter. 1", "iter. 2", "data pool"]
    assert table.bold == {("iter. 1", "USS"), ("iter. 2", "USS")}
    for row in ("iter. 1", "iter. 2"):
        assert [cell.endswith("***") for cell in table.display.loc[row]] == [True, True, False, True]
    values = metrics.query("strategy == 'rvs' and iteration == 1")[metric]
    row = table.frame.query("strategy == 'rvs' and iteration == 1").iloc[0]
    assert tuple(row[["mean", "p5", "p95"]]) == summarise(values)
    assert row["cases"] == 30
    pool = table.frame[table.frame["strategy"] == "pool"].iloc[0]
    assert pool["mean"] == pytest.approx(metrics.loc[metrics["strategy"] == "pool", metric].mean())


def test_metric_cells_are_rounded_as_in_the_paper():
    rows = experiment(volumes=1, iterations=1)
    expected = {"dice": "0.900 (0.900, 0.900)", "rve": "10.00 (10.00, 10.00)", "msd": "1.00 (1.00, 1.00)"}
    expected["hd"] = "20.0 (20.0, 20.0)"
    for metric, text in expected.items():
        assert metric_table(rows, metric).display.loc["iter. 1", "USS"] == text


def test_the_largest_p_value_without_a_star_gets_none():
    table = metric_table(experiment(volumes=4, iterations=1), "dice")
    assert table.frame.loc[table.frame["strategy"] == "rvs", "p_value"].tolist() == [1 / 2**4]
    assert not any("*" in cell for cell in table.display.loc["iter. 1"])


def test_converged_models_stay_out_of_tables_4_to_7():
    metrics = experiment()
    worse = metrics.assign(dice=metrics["dice"].where(~metrics["converged"] | (metrics["strategy"] == "pool"), 0.0))
    pd.testing.assert_frame_equal(metric_table(metrics, "dice").display, metric_table(worse, "dice").display)


def test_table_8_compares_the_strategies_and_leaves_the_data_pool_out():
    table = converged_table(experiment())
    assert list(table.display.index) == ["UVS", "RVS", "USS", "RSS", "data pool"]
    assert list(table.display.columns) == ["Dice", "RVE [%]", "MSD [mm]", "HD [mm]"]
    assert table.bold == {("USS", column) for column in table.display.columns}
    assert [cell.endswith("***") for cell in table.display["Dice"]] == [True, True, False, True, False]
    assert table.display.loc["data pool", "Dice"].startswith("0.960 ")


def test_table_9_finds_the_planted_effects():
    table = regression_table(experiment(volumes=100))
    assert list(table.display.index) == ["Intercept", "Uncertainty sampling", "Slice sampling"]
    frame = table.frame.set_index(["metric", "covariate"])
    for metric, scale in (("dice", 1), ("rve", -100), ("msd", -10), ("hd", -200)):
        assert frame.loc[(metric, "uncertainty_sampling"), "coefficient"] == pytest.approx(0.05 * scale, rel=0.02)
        assert frame.loc[(metric, "slice_sampling"), "coefficient"] == pytest.approx(0.10 * scale, rel=0.02)
    cell = table.display.loc["Slice sampling", "RVE [%] 0.95 quantile"]
    assert re.fullmatch(r"−10\.0\d \[−\d+\.\d\d, −\d+\.\d\d\]|−9\.9\d \[−\d+\.\d\d, −\d+\.\d\d\]", cell)
    assert table.display.loc["Slice sampling", "RVE p-value"] == "< 0.001"


def test_table_9_says_what_it_cannot_tell():
    table = regression_table(experiment(("uss", "uvs"), volumes=50))
    assert table.display.loc["Uncertainty sampling", "Dice 0.05 quantile"] == "–"
    assert table.display.loc["Uncertainty sampling", "Dice p-value"] == "–"
    assert "uncertainty sampling is the same for all strategies" in table.note


def test_table_9_compares_the_paper_s_strategies_alone():
    alone, beside = (regression_table(experiment(names)) for names in (STRATEGIES, (*STRATEGIES, "bald")))
    pd.testing.assert_frame_equal(beside.display, alone.display)
    assert "Only the paper's strategies are compared: UVS, RVS, USS, RSS." in beside.note
    assert "Only" not in alone.note


@pytest.mark.parametrize(("names", "has"), [(("uss", "bald"), "USS"), (("bald",), "none")])
def test_table_9_cannot_be_made_of_fewer_than_two_of_them(names, has):
    table = regression_table(experiment(names))
    assert (table.display == "–").all(axis=None)
    assert table.note == f"This table needs two of UVS, RVS, USS, RSS; the run has {has} of them."


def test_with_several_seeds_each_patient_is_tested_once():
    """Seeds that repeat the first change no star; seeds whose differences cancel out leave none."""
    one, random = experiment(), np.random.default_rng(0)
    one[list(METRICS)] += random.normal(0, 0.01, (len(one), len(METRICS)))
    repeated = pd.concat([one.assign(seed=seed) for seed in (1, 2, 3)])
    for table in (lambda metrics: metric_table(metrics, "hd"), converged_table):
        columns = ["mean", "p_value", "stars", "equal"]
        pd.testing.assert_frame_equal(table(one).frame[columns], table(repeated).frame[columns])
        assert "counts each patient once, by the mean over 3 seeds" in table(repeated).note
        assert "counts each patient once" not in table(one).note
    mirrored = pd.concat([one, one.assign(seed=2, strategy=one["strategy"].replace({"uss": "uvs", "uvs": "uss"}))])
    frame = metric_table(mirrored[mirrored["strategy"].isin(["uvs", "uss"])], "dice").frame
    assert frame["p_value"].dropna().tolist() == [1.0, 1.0]
    assert frame["equal"].max() == 30


def test_table_9_says_where_its_intervals_come_from():
    one, several = (regression_table(experiment(volumes=40, seeds=seeds)).note for seeds in ((1,), (1, 2)))
    assert "One seed: the effects compare trainings" in one
    assert "asymptotic" in one
    assert "bootstrap over patients and 2 seeds" in several
    assert "asymptotic" not in several


def test_notes_on_cases():
    few = metric_table(experiment(volumes=5, degenerate=2), "dice").note
    assert "5 test volumes." in few
    assert "fewer than 20 cases" in few
    assert "2 of 50 predictions found no liver" in few
    many = metric_table(experiment(volumes=20, seeds=(1, 2)), "dice").note
    assert "20 test volumes, 2 seeds: 40 cases." in many
    assert "fewer" not in many
    assert "no liver" not in many


@pytest.mark.parametrize("strategies", [("uss",), ("rss", "uvs"), ("bald", "rvs", "uss"), STRATEGIES])
@pytest.mark.parametrize("iterations", [1, 6])
@pytest.mark.parametrize("volumes", [1, 3])
def test_any_subset_of_strategies_and_few_cases(strategies, iterations, volumes, tmp_path):
    metrics = experiment(strategies, iterations, volumes)
    made = [metric_table(metrics, metric) for metric in METRICS] + [converged_table(metrics), regression_table(metrics)]
    made += [
        annotation_table(annotations(strategies=strategies)),
        training_table(training(strategies=strategies)),
    ]
    ordered = [name.upper() for name in (*STRATEGIES, "bald") if name in strategies]
    assert list(made[0].display.columns) == ordered
    assert len(made[0].display) == iterations + 2
    if len(strategies) == 1:
        assert not made[0].bold
    for table in made:
        assert table.display.map(lambda cell: isinstance(cell, str) and cell != "").all(axis=None)
        for path in write_files(table, tmp_path / "table")[1:]:
            shown = re.sub(r"<(script|style)>.*?</\1>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
            assert not re.search(r"\b(nan|None|inf)\b", shown, re.IGNORECASE)


def test_a_strategy_of_one_s_own_stands_beside_the_paper_s():
    page = paper_comparison(
        annotations(strategies=(*STRATEGIES, "bald")), training(), experiment((*STRATEGIES, "bald"))
    )
    assert "BALD" in page


@pytest.mark.parametrize("make", [lambda metrics: metric_table(metrics, "dice"), converged_table])
def test_an_upper_bound_has_a_dagger_and_is_neither_the_best_nor_compared(make):
    """It changes nothing of the others."""
    without, beside = make(experiment()), make(experiment((*STRATEGIES, "by_error")))
    shown = beside.display if "USS" in beside.display.columns else beside.display.T
    others = without.display if "USS" in without.display.columns else without.display.T
    pd.testing.assert_frame_equal(shown.drop(columns="BY_ERROR†"), others)
    assert not shown["BY_ERROR†"].str.contains("*", regex=False).any()
    assert beside.bold == without.bold
    assert "Upper bounds and the data pool's model are not compared." in beside.note
    assert beside.notes.endswith("† upper bound, not for use: it looks into the reference before it asks.")
    assert without.notes == without.note
    alone = make(experiment(("uss", "by_error")))
    assert not alone.bold


def test_models_that_are_not_there_are_dashes():
    metrics = experiment()
    metrics = metrics[~metrics["strategy"].isin(["initial", "pool"])]
    metrics = metrics[~((metrics["strategy"] == "uss") & (metrics["iteration"] == 1))]
    table = metric_table(metrics, "dice")
    assert set(table.display.loc["initial"]) == set(table.display.loc["data pool"]) == {"–"}
    assert table.display.loc["iter. 1", "USS"] == "–"
    assert ("iter. 1", "RSS") in table.bold
    assert converged_table(metrics).display.loc["data pool", "HD [mm]"] == "–"


@pytest.mark.parametrize("position", range(9))
def test_csv_keeps_every_digit(position, nine_tables, tmp_path):
    table = nine_tables[position]
    csv = write_files(table, tmp_path / "nested/table")[0]
    written = pd.read_csv(csv, dtype=str, keep_default_na=False)
    assert list(written) == list(table.frame)
    assert len(written) == len(table.frame) > 0
    for column, values in table.frame.items():
        if pd.api.types.is_float_dtype(values):
            np.testing.assert_array_equal([float(cell or "nan") for cell in written[column]], values)
        else:
            assert written[column].tolist() == ["" if value is np.nan else str(value) for value in values]


class Cells(HTMLParser):
    """Collect the text of each cell of a page, and what was bold or raised."""

    def __init__(self):
        super().__init__()
        self.rows, self.strong, self.raised, self.spans = [], [], [], []
        self.within = []

    def handle_starttag(self, tag, attrs):
        self.within.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.spans.append(int(dict(attrs).get("colspan", 1)))

    def handle_endtag(self, tag):
        assert self.within.pop() == tag, "tags must nest"

    def handle_data(self, data):
        if {"td", "th"} & set(self.within):
            self.rows[-1][-1] += data
        if "strong" in self.within:
            self.strong.append(data)
        if "sup" in self.within:
            self.raised.append(data)

    def handle_startendtag(self, tag, attrs):
        pass


def read_page(path):
    text = path.read_text(encoding="utf-8")
    reader = Cells()
    reader.feed(text.replace('<meta charset="utf-8">', '<meta charset="utf-8"/>').removeprefix("<!DOCTYPE html>"))
    return reader


@pytest.mark.parametrize("position", range(9))
def test_all_files_show_every_cell(position, nine_tables, tmp_path):
    table = nine_tables[position]
    _, md, tex, page = write_files(table, tmp_path / "table")
    reader = read_page(page)
    expected = [
        [row, table.display.loc[row].iloc[0]] if row in table.spanning else [row, *table.display.loc[row]]
        for row in table.display.index
    ]
    assert reader.rows == [[table.display.index.name or "", *table.display.columns], *expected]
    assert sorted(reader.strong) == sorted(table.display.loc[row, column].rstrip("*") for row, column in table.bold)
    assert len(reader.raised) == sum(cell.endswith("*") for cell in table.display.to_numpy().ravel())

    lines = [line for line in md.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    assert {len(row) for row in cells} == {1 + len(table.display.columns)}
    plain = [[re.sub(r"\\(.)", r"\1", re.sub(r"(?<!\\)\*\*", "", cell)).strip() for cell in row] for row in cells]
    assert plain[2:] == [[row, *table.display.loc[row]] for row in table.display.index]

    latex = tex.read_text(encoding="utf-8")
    rows = latex.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert len(rows) == len(table.display)
    assert all(row.endswith(r" \\") for row in rows)
    for label, row in zip(table.display.index, rows, strict=True):
        assert len(re.findall(r"(?<!\\)&", row)) == (1 if label in table.spanning else len(table.display.columns))
    assert latex.count(r"\textbf{") == len(table.bold)


def test_spanning_cells_cover_all_columns(tmp_path):
    table = metric_table(experiment(), "dice")
    *_, tex, page = write_files(table, tmp_path / "t")
    assert read_page(page).spans.count(4) == 2
    assert tex.read_text(encoding="utf-8").count(r"\multicolumn{4}{c}{") == 2


def test_names_from_the_data_cannot_break_a_file(tmp_path):
    name = r"<b>A&B</b> 50% $x_1$ #2 {~^\} | `c` **d** [e]"
    display = pd.DataFrame({"Volumes": [name]}, index=pd.Index([name], name="Data set"))
    frame = pd.DataFrame({"site": [name], "text": ['"quoted", with comma']})
    table = Table(frame, display, title=name, note=name)
    csv, md, tex, page = write_files(table, tmp_path / "t")
    assert pd.read_csv(csv).iloc[0].tolist() == [name, '"quoted", with comma']
    assert read_page(page).rows[1] == [name, name]
    assert "<b>" not in page.read_text(encoding="utf-8")
    row = next(line for line in md.read_text(encoding="utf-8").splitlines() if line.startswith(r"| \<b"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 3
    latex = tex.read_text(encoding="utf-8")
    expected = (
        r"\textless{}b\textgreater{}A\&B\textless{}/b\textgreater{} 50\% \$x\_1\$ \#2 "
        r"\{\textasciitilde{}\textasciicircum{}\textbackslash{}\} | `c` {*}{*}d{*}{*} {[}e]"
    )
    assert latex.count(expected) == 4, "title, row, cell and note"


def test_what_one_seed_what_the_tests_leave_out_and_count_twice_is_said():
    plain = metric_table(experiment(), "dice").note
    assert "One seed: the stars compare trainings, not strategies." in plain
    assert "One seed: the stars" in converged_table(experiment()).note
    assert "One seed" not in metric_table(experiment(seeds=(1, 2)), "dice").note
    assert "without a difference" not in plain
    assert "independent" not in plain
    alike = experiment()
    alike.loc[alike["strategy"].isin(["uss", "rss"]) & (alike["volume"] == "v3"), "dice"] = 0.5
    assert "without a difference (at most 1 in a comparison)" in metric_table(alike, "dice").note
    paired_volumes = experiment().assign(patient=lambda rows: rows["volume"].str[:2])
    assert "all cases as independent" in metric_table(paired_volumes, "dice").note
    assert "all cases as independent" in converged_table(experiment().assign(patient="one")).note


def test_a_number_is_never_minus_nothing():
    assert layout.number(-0.0004, 3) == "0.000"
    assert layout.number(-0.0006, 3) == "−0.001"
    assert layout.number(float("nan"), 3) == "–"


def test_the_paper_s_values():
    values = paper_values()
    assert not values.isna().any(axis=None)
    assert not values.duplicated(["table", "row", "column", "quantity"]).any()
    value = values.set_index(["table", "row", "column", "quantity"])["value"]
    # The text of the paper states these beside its tables.
    assert [value["table8_converged", "USS", metric.label, "mean"] for metric in METRICS.values()] == [
        0.964,
        4.2,
        1.35,
        23.4,
    ]
    assert value["table8_converged", "data pool", "Dice", "p5"] == 0.945
    assert value["table8_converged", "data pool", "MSD [mm]", "p95"] == 2.03
    assert value["table3_training_steps", "iter. 5 (converged)", "RSS", "best_step"] == 465000
    slices = [value["table2_annotations", "iter. 5", name, "slices"] for name in ("UVS", "RVS", "USS", "RSS")]
    assert slices == [8121, 8641, 2410, 3730]
    assert [round(100 * count / value["table2_annotations", "data pool", "all", "slices"]) for count in slices] == [
        13,
        14,
        4,
        6,
    ]
    assert [value["table4_dice", "initial", "all", name] for name in ("mean", "p5", "p95")] == [0.925, 0.837, 0.965]


def test_the_paper_s_values_lie_where_the_run_s_tables_have_them():
    metrics = experiment(iterations=5)
    records = {"annotations": annotations(), "training": training(), "metrics": metrics}
    ours = {
        name: made(name, {record: records[record] for record in TABLES[name].reads if record in records}).display
        for name in TABLES
        if name.startswith("table") and name != "table1_cohort"
    }
    values = paper_values()
    assert set(values["table"]) == set(ours)
    for name in ("table4_dice", "table5_rve", "table6_msd", "table7_hd", "table8_converged"):
        rows = values[values["table"] == name]
        assert list(rows["row"].unique()) == list(ours[name].index)
        assert set(rows["column"]) - {"all"} == set(ours[name].columns)
    regression = values[values["table"] == "table9_quantile_regression"]
    assert list(regression["row"].unique()) == list(ours["table9_quantile_regression"].index)
