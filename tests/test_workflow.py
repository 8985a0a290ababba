"""The real workflow: what would be run, what is run at the smallest size, and what a second run does."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from browsers import browser
from commands import COMMAND
from conftest import FEATURES, ROOT, SMALLEST, Shared, job_counts, snakemake, until
from slicesampling.cohort.scans import read_scan
from slicesampling.cohort.volumes import read_canonical_mask
from slicesampling.domain.labels import Label
from slicesampling.domain.records import read_table
from slicesampling.publication import contents
from slicesampling.query.features import read_features
from slicesampling.query.strategies import STRATEGIES

OWN_STRATEGY = [*SMALLEST, str(ROOT / "tests/own_strategy.yaml")]


@pytest.fixture(scope="session")
def own_run(run: Path, shared: Shared) -> Path:
    """The folder of a finished run with a strategy of one's own, which goes on from the smallest one."""

    def go_on(folder: Path) -> None:
        shutil.copytree(run, folder, dirs_exist_ok=True)
        snakemake(folder, *OWN_STRATEGY)

    return shared("own_run", go_on)


finished_runs = pytest.mark.parametrize(
    ("finished", "strategies"),
    [("run", ["uvs", "uss"]), pytest.param("own_run", [*STRATEGIES], marks=pytest.mark.slow)],
)


@pytest.fixture(scope="session")
def report(run: Path, shared: Shared) -> Path:
    """The report of the finished run."""

    def bundle(folder: Path) -> None:
        shutil.copytree(run, folder, dirs_exist_ok=True)
        snakemake(folder, *SMALLEST, "--report", "report.html")

    return shared("report", bundle) / "report.html"


def test_the_papers_configuration_is_a_few_hundred_jobs(tmp_path: Path) -> None:
    """Asked with the profile for SLURM, which is found by its name."""
    counts = job_counts(snakemake(tmp_path, "--profile", "slurm", "--dry-run", "--quiet", "rules"))
    assert counts["train"] == 1 + 4 * 5 + 4 + 1
    assert counts["uncertainty"] == 8 * (1 + 2 * 4)  # 8 shards; the initial model, and UVS and USS but for the last
    assert counts["query"] == counts["annotate"] == 4 * 5
    assert counts["predict"] == counts["evaluate"] == 4 * counts["train"]
    assert counts["total"] < 500


def test_what_others_wait_for_starts_first(tmp_path: Path) -> None:
    """No job that a training waits for has a lower priority than a training; of those, none that nothing waits for."""
    planned = snakemake(tmp_path, "--dry-run", "--config", "cohort=phantom")
    found: dict[str, dict[str, int]] = {}
    for job in re.split(r"\n(?=(?:local)?rule )", planned):
        rule = re.match(r"(?:local)?rule (\w+):", job)
        model = re.search(r"wildcards: .*model=([\w-]+)", job)
        priority = re.search(r"priority: (\d+)", job)
        if rule:
            found.setdefault(rule[1], {})[model[1] if model else ""] = int(priority[1]) if priority else 0
    trainings, longest = found["train"], max(found["train"].values())
    assert len(trainings) == 1 + 4 * 5 + 4 + 1
    assert {model for model, value in trainings.items() if value == longest} == {
        "initial", *(f"{strategy}-{iteration}" for strategy in ("uvs", "uss") for iteration in range(1, 5))
    }  # fmt: skip
    assert set(found["uncertainty"].values()) == {longest}
    for rule in ("query", "annotate", "slice_budget", "initial_annotations"):
        assert min(found[rule].values()) > longest
    others = {model: value for model, value in trainings.items() if value < longest}
    chains = {model for model in others if model.endswith(("-5", "-converged"))}
    assert min(others[model] for model in chains) > max(others[model] for model in set(others) - chains)
    assert max(found["predict"].values()) == 0


@pytest.mark.slow
def test_the_plan_counts_the_jobs_and_the_disk_of_the_run(own_run: Path, tmp_path: Path) -> None:
    run_copy = shutil.copytree(own_run, tmp_path / "run")
    counts = job_counts(snakemake(tmp_path, "--dry-run", "--quiet", "rules", *OWN_STRATEGY))
    output = snakemake(run_copy, "plan", *OWN_STRATEGY)
    rows = re.findall(r"^\| (\w+) +\| +(\d+) \| .* ([\d.e-]+) \|$", output, flags=re.MULTILINE)
    planned = {stage: int(jobs) for stage, jobs, _ in rows}
    assert planned.pop("all") == counts["total"]
    assert sum(planned.values()) == counts["total"]
    counts["evaluate"] += counts.pop("grid_limit")  # the same work
    assert all(planned[stage] == counts[stage] for stage in planned if stage != "others")
    disk = {stage: float(gib) * 2**30 for stage, _, gib in rows}
    for stage, folder in (("preprocess", "preprocessed"), ("train", "models")):
        files = (path for path in (run_copy / "results" / folder).rglob("*.*") if path.suffix != ".tsv")
        found = sum(path.stat().st_size for path in files)
        assert found / 2 < disk[stage] < found * 2
    assert "jobs at a time it takes at least" in (run_copy / "results/logs/plan.log").read_text(encoding="utf-8")


@pytest.mark.slow
def test_neither_jobs_nor_shards_change_a_result(own_run: Path, tmp_path: Path) -> None:
    """The same seed gives the same queries, weights and tables, bit by bit, with one job at a time and other shards."""
    overlay = tmp_path / "shards.yaml"
    overlay.write_text("shards: {preprocessing: 12, uncertainty: 3, test: 2}")  # some of the twelve are empty
    shutil.copytree(own_run / "results/phantom", tmp_path / "results/phantom")
    folders = ("queries/seed1", "tables")
    names = {folder: sorted(path.name for path in (own_run / "results" / folder).iterdir()) for folder in folders}
    tables = [f"results/tables/{name}" for name in names["tables"]]
    snakemake(tmp_path, *tables, "--cores", "1", "--rerun-triggers", "mtime", *OWN_STRATEGY, str(overlay))
    for folder in folders:
        assert names[folder] == sorted(path.name for path in (tmp_path / "results" / folder).iterdir())
        for name in names[folder]:
            first, second = ((place / "results" / folder / name).read_bytes() for place in (own_run, tmp_path))
            assert first == second, name
    models = list((own_run / "results/models/seed1").glob("*/model.pt"))
    assert len(models) == 17
    for path in models:
        other = tmp_path / path.relative_to(own_run)
        first, second = (torch.load(model, weights_only=True)["state"] for model in (path, other))
        assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_every_table_and_figure_is_there(run: Path) -> None:
    tables = {path.name for path in (run / "results/tables").iterdir()}
    assert len(tables) == len(contents.TABLES) * 4 + 1  # and the claims, whose page lies beside the folder
    for path in (run / "results/tables").glob("*.md"):
        assert "nan" not in path.read_text(encoding="utf-8").lower()
    figures = {path.stem for path in (run / "results/figures").glob("*.png")}
    assert figures == {*contents.PLOTS, *contents.FIGURES}
    for path in (run / "results/figures").rglob("*.png"):
        assert path.with_suffix(".pdf").stat().st_size > 1000


@finished_runs
def test_ledgers_add_up(finished: str, strategies: list[str], request: pytest.FixtureRequest) -> None:
    """Initial set: whole volumes; UVS, RVS: whole volumes; USS: exactly N_S; RSS: exactly N_S with liver."""
    run = request.getfixturevalue(finished)
    annotations = run / "results/annotations"
    reference = read_table(annotations / "reference.tsv").set_index(["volume", "slice"])["structure"]
    cohort = read_table(run / "results/cohort/cohort.tsv")
    pool = set(cohort.loc[(cohort["split"] == "pool") & (cohort["exclude"] == ""), "volume"])
    initial = read_table(annotations / "seed1/initial.tsv")
    assert len(set(initial["volume"])) == 1
    budget = int((annotations / "seed1/slice_budget.txt").read_text())
    uvs = read_table(annotations / "seed1/uvs-2.tsv")
    assert budget == max(1, round(uvs.loc[uvs["iteration"] > 0, "structure"].sum() / 2 / 3))
    for name in strategies:
        strategy, before = STRATEGIES[name], initial
        for iteration in (1, 2):
            ledger = read_table(annotations / f"seed1/{name}-{iteration}.tsv")
            pd.testing.assert_frame_equal(ledger.head(len(before)), before)
            added = ledger.iloc[len(before) :]
            if name == "uss":
                assert len(added) == budget
            elif name == "rss":
                assert added["structure"].sum() == budget
            else:
                assert len(set(added["volume"])) == 1
            if not strategy.slices:
                for volume, rows in added.groupby("volume"):
                    assert sorted(rows["slice"]) == list(reference[volume].index)
            assert not ledger.duplicated(["volume", "slice"]).any()
            assert set(ledger["volume"]) <= pool
            assert [reference[key] for key in zip(ledger["volume"], ledger["slice"], strict=True)] == list(
                ledger["structure"]
            )
            before = ledger


def test_metrics_cover_every_model_and_test_volume(run: Path) -> None:
    metrics = pd.read_csv(run / "results/evaluation/metrics.tsv", sep="\t")
    assert len(metrics) == 8 * 3
    assert metrics.groupby("model")["volume"].nunique().eq(3).all()
    assert metrics[["dice", "rve", "msd", "hd"]].notna().all().all()
    limit = pd.read_csv(run / "results/evaluation/grid_limit.tsv", sep="\t")
    assert set(limit["volume"]) == set(metrics["volume"])
    assert limit["dice"].between(0.85, 1).all()  # voxels of 8 and 12 mm
    for table in ("table4_dice", "table8_converged"):
        assert "limit of the grid" in (run / f"results/tables/{table}.md").read_text()
    record = json.loads((run / "results/provenance.json").read_text())
    assert record["configuration"]["seeds"] == [1]
    assert record["packages"]["torch"] == torch.__version__
    assert sum(record["trainings_by_device_and_precision"].values()) == 8


@finished_runs
def test_a_converged_model_is_the_training_of_the_last_iteration_carried_on(
    finished: str, strategies: list[str], request: pytest.FixtureRequest
) -> None:
    """Same weights and order, so the same validations as far as the iteration goes; its last one may fall between."""
    run = request.getfixturevalue(finished)
    columns = ["step", "epoch", "loss", "validation_jaccard", "validation_dice"]
    for strategy in strategies:
        model = run / f"results/models/seed1/{strategy}-2"
        iteration, converged = (
            pd.read_csv(folder / "history.tsv", sep="\t")[columns]
            for folder in (model, model.with_name(f"{model.name}-converged"))
        )
        shared = iteration[iteration["step"] % 10 == 0]
        assert 0 < len(shared) < len(converged)
        pd.testing.assert_frame_equal(converged.head(len(shared)), shared)
        log = (run / f"results/logs/models/seed1/{strategy}-2-converged.log").read_text()
        assert f"continuing after step {iteration['step'].iloc[-1]}" in log


@pytest.mark.slow
def test_a_second_run_does_nothing_and_a_lost_figure_is_made_alone(run_copy: Path) -> None:
    assert "Nothing to be done" in snakemake(run_copy, *SMALLEST)
    figure = run_copy / "results/figures/figure4_iterations.png"
    content = figure.read_bytes()
    figure.unlink()
    assert job_counts(snakemake(run_copy, *SMALLEST)) == {"plot": 1, "all": 1, "total": 2}
    assert figure.read_bytes() == content


def test_another_way_to_compute_reruns_nothing_but_the_record_of_it(run: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("compute: {tile_gib: 0.5, threads: 2, precision: bfloat16, checkpoint_minutes: 1}")
    counts = job_counts(snakemake(run, *SMALLEST, str(overlay), "--dry-run"))
    assert counts == {"provenance": 1, "all": 1, "total": 2}


@pytest.mark.slow
def test_a_changed_custom_strategy_reruns_only_its_queries_and_what_follows_from_them(
    own_run: Path, tmp_path: Path
) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("custom_strategies: {core: {unit: slice, rule: k_centre, foreground: 1}}")
    output = snakemake(own_run, *OWN_STRATEGY, str(overlay), "--dry-run")
    jobs = re.findall(r"^(?:local)?rule (\w+):\n((?:    .*\n)+)", output, flags=re.MULTILINE)
    models = [
        (rule, re.findall(r"wildcards: .*\b(?:strategy|model)=([a-z]+)", text))
        for rule, text in jobs
        if rule in ("query", "annotate", "train", "uncertainty", "features", "predict", "evaluate")
    ]
    assert all(strategies == ["core"] for _, strategies in models), models
    ran = [rule for rule, _ in models]
    counts = {"query": 2, "annotate": 2, "train": 3, "uncertainty": 1, "features": 1, "predict": 3, "evaluate": 3}
    assert {rule: ran.count(rule) for rule in counts} == counts


@pytest.mark.slow
def test_own_strategies_are_told_in_full(own_run: Path) -> None:
    title = "slices by features, rule k_centre, foreground 0.5"
    for name in ("tables/table8_converged.md", "tables/table4_dice.html", "overview.html"):
        assert f"CORE: {title}" in (own_run / "results" / name).read_text(encoding="utf-8").replace("\\", ""), name
    query = read_table(own_run / "results/queries/seed1/core-1.tsv")
    assert len(query) == int((own_run / "results/annotations/seed1/slice_budget.txt").read_text())


def test_the_uncertainty_stage_counts_right_and_wrong_voxels(run: Path) -> None:
    """Every slice of the data pool has its counts, and as many are wrong as the reference and the prediction allow."""
    shards = sorted((run / "results/uncertainty/seed1/initial").glob("slices-shard*.tsv"))
    slices = pd.concat([read_table(path) for path in shards]).set_index(["volume", "slice"])
    reference = read_table(run / "results/annotations/reference.tsv").set_index(["volume", "slice"])
    assert set(slices.index) == set(reference.index)
    empty = ~reference.loc[slices.index, "structure"].astype(bool)
    assert (slices["wrong_voxels"][empty] == slices["structure_voxels"][empty]).all()


def test_every_slice_of_the_pool_has_its_features(run: Path) -> None:
    slices = read_table(run / "results/annotations/reference.tsv")
    features = read_features([run / FEATURES], slices)
    assert len(features) == len(slices)
    assert np.isfinite(features).all()


def test_the_report_bundles_all_of_it(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    for name in ("table9_quantile_regression.html", "figure6_cases.png", "uss-2-converged.png", "provenance.html"):
        assert name in text


@pytest.mark.slow
def test_the_report_opens_in_a_browser_without_network(report: Path, tmp_path: Path) -> None:
    """It opens on the learning curves, each figure and page loads, tables are sorted and filtered, no host is asked."""
    driver = browser(tmp_path / "profile")
    try:
        driver.get(report.as_uri())
        curves, graph = first(driver, "//main//img"), first(driver, "//*[@id='rulegraph']")
        until(lambda: driver.execute_script("return arguments[0].naturalWidth", curves) > 100)
        assert 0 < curves.location["y"] < 200
        assert curves.location["y"] < first(driver, "//main//li").location["y"] < graph.location["y"]
        shown: dict[str, int] = {}
        source = None
        for category in ("1 Overview", "2 Tables", "3 Figures", "4 Beyond the paper", "5 Trainings"):
            first(driver, f"//a[normalize-space()='{category}']").click()
            first(driver, "//nav//tbody/tr")
            for number in range(len(driver.find_elements("css selector", "nav tbody tr"))):
                row = driver.find_elements("css selector", "nav tbody tr")[number]
                name = row.text
                row.find_element("tag name", "a").click()
                element, source = until(lambda: displayed(driver, source))  # noqa: B023
                if element.tag_name == "img":
                    until(lambda: driver.execute_script("return arguments[0].naturalWidth", element) > 100)  # noqa: B023
                else:
                    driver.switch_to.frame(element)
                    text = first(driver, "//body").text
                    assert len(text) > 50
                    assert "NaN" not in text
                    if name == "table8_converged":
                        check_sorting_and_filtering(driver)
                    driver.switch_to.default_content()
                shown[category] = number + 1
            first(driver, "//a[normalize-space()='Results']").click()
        assert shown == {"1 Overview": 5, "2 Tables": 9, "3 Figures": 7, "4 Beyond the paper": 17, "5 Trainings": 8}
        assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []
        events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        asked = [event["request"]["url"] for event in sent]
        assert not [url for url in asked if url.startswith(("http", "ws"))]
    finally:
        driver.quit()


def first(driver: Any, path: str) -> Any:
    return until(lambda: [found for found in driver.find_elements("xpath", path) if found.is_displayed()])[0]


def displayed(driver: Any, before: str | None) -> tuple[Any, str] | None:
    """Return the image or page that the report shows, and its content, unless it is still the one before."""
    for element in driver.find_elements("css selector", "div.h-screen > div > img, div.h-screen iframe"):
        source = element.get_attribute("src")
        if source and source != before:
            return element, source
    return None


def check_sorting_and_filtering(driver: Any) -> None:
    def rows() -> list[str]:
        return [row.text for row in driver.find_elements("css selector", "tbody tr") if row.is_displayed()]

    before = rows()
    head = driver.find_elements("css selector", "thead th")[1]
    head.click()
    ascending = rows()
    dice = [float(re.findall(r"\d\.\d{3}", row)[0]) for row in ascending]
    assert dice == sorted(dice)
    head.click()
    assert rows() == ascending[::-1]
    assert sorted(before) == sorted(ascending)
    head.click()
    assert rows() == before
    driver.find_element("tag name", "input").send_keys("uss")
    assert [row.split()[0] for row in rows()] == ["USS"]


@pytest.mark.slow
def test_a_second_snakemake_in_the_same_folder_says_so(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "results/phantom", tmp_path / "results/phantom")
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(tmp_path)]
    first = subprocess.Popen(
        [*command, "--cores", "1", *SMALLEST],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        start_new_session=True,
    )
    try:
        until(lambda: (tmp_path / "results/logs").exists() or first.poll() is not None)
        # As the profiles have it; without, what the first has begun may be told before the lock.
        assert "Directory cannot be locked" in snakemake(tmp_path, *SMALLEST, "--rerun-incomplete", code=1)
    finally:
        # Not by SIGTERM, which Snakemake 9.27 waits for itself to handle if it arrives while jobs are selected.
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()


@pytest.mark.slow
def test_predictions_go_back_to_the_files_they_were_made_from(run: Path, tmp_path: Path) -> None:
    """The command of the README, on NIfTI and DICOM: what it writes lies voxel for voxel on each test volume."""
    command = [sys.executable, "-m", COMMAND, "export", "uss-2-converged", "--to", str(tmp_path)]
    done = subprocess.run(command, cwd=run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    cohort = read_table(run / "results/cohort/cohort.tsv")
    images = cohort[cohort["split"] == "test"].set_index("volume")["image"]
    assert {path.name.split(".")[0] for path in tmp_path.iterdir()} == set(images.index)
    assert len(list(tmp_path.glob("*.dcm"))) == 1
    for path in tmp_path.iterdir():
        image = run / images[path.name.split(".")[0]]
        exported = read_scan(image, Label.single(path)).mask
        prediction = next(
            run.glob(f"results/predictions/seed1/uss-2-converged/shard*/{path.name.split('.')[0]}.nii.gz")
        )
        assert exported.any() == read_canonical_mask(prediction).any()
    none = [*command[:4], "none", *command[5:]]
    done = subprocess.run(none, cwd=run, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no predictions of none; there are those of initial, pool-converged, uss-1, uss-2" in done.stderr


@pytest.mark.slow
def test_the_cohort_page_opens_in_a_browser(run: Path, tmp_path: Path) -> None:
    """By itself, as a file, with no host reachable: no error, and every thumbnail is drawn."""
    driver = browser(tmp_path / "profile")
    try:
        driver.get((run / "results/cohort_report.html").as_uri())
        sizes = driver.execute_script("return [...document.images].map(image => image.naturalWidth)")
        assert len(sizes) > 3
        assert min(sizes) > 100
        loaded = driver.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
        assert [name for name in loaded if not name.startswith("data:")] == []
        assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []
        driver.save_screenshot(str(tmp_path / "cohort_report.png"))
    finally:
        driver.quit()
