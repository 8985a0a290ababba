"""The pages that tell about a run: what came out, what it cannot show, and where it comes from."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from slicesampling.domain.metrics import METRICS
from slicesampling.publication.overview import overview, provenance_page
from slicesampling.query.strategies import STRATEGIES
from test_supplement import six_tables, spent, whole_experiment

PICTURE = b"\x89PNG of the learning curves" * 100
COHORT = pd.DataFrame(
    {
        "volume": ["a", "b", "c"],
        "site": ["A", "A", "B"],
        "split": ["pool", "test", "val"],
        "exclude": ["", None, "bad"],
    }
)


def page_of(metrics: pd.DataFrame, cohort: pd.DataFrame = COHORT, synthetic: bool = False) -> str:
    strategies, seeds = tuple(metrics["strategy"].unique()), tuple(metrics["seed"].unique())
    _, comparisons, _, efficiency, *_ = six_tables(metrics, strategies, seeds)
    frames = {"comparisons": comparisons.frame, "efficiency": efficiency.frame}
    titles = {name: STRATEGIES[name].title if name in STRATEGIES else f"what {name} is" for name in strategies}
    told = {"picture": PICTURE, "synthetic": synthetic, "titles": titles}
    return overview(cohort, spent(strategies).assign(slices=100), metrics, **frames, **told)


def test_the_findings_and_their_numbers() -> None:
    metrics = whole_experiment(volumes=40)
    page = page_of(metrics, synthetic=True)
    converged = metrics[metrics["converged"]].groupby("strategy")["dice"]
    best, whole = converged.mean()["uss"], converged.mean()["pool"]
    assert f"Trained until convergence, USS has the highest Dice: {best:.3f} with 100 annotated slices." in page
    assert f"The model of the whole data pool has {whole:.3f} with 100." in page
    assert f"<td>{best:.3f} ({np.percentile(converged.get_group('uss'), 5):.3f})</td>" in page
    assert "USS: uncertainty slice sampling" in page
    assert "24 differences between strategies are significant" in page
    assert "UVS, USS, RSS better than RVS in Dice, RVE, MSD, HD." in page
    assert "averaged over the iterations, UVS has the highest Dice" in page  # whose slices cost a third
    assert "2 volumes of 1 site: 1 in the data pool, 0 for validation, 1 for testing, 1 excluded" in page


def test_equal_strategies_do_not_differ() -> None:
    metrics = whole_experiment(volumes=8)
    for name in METRICS:
        metrics[name] = metrics["volume"].str[1:].astype(int) / 10
    assert "None of 24 differences between strategies is significant" in page_of(metrics)


def test_it_leads_with_the_picture_and_what_it_cannot_show() -> None:
    page = page_of(whole_experiment(), synthetic=True)
    places = [page.index(text) for text in ("<img", "volumes are synthetic", "One seed: ", "Trained until", "<table")]
    assert places == sorted(places)
    several = page_of(whole_experiment(volumes=8, seeds=(1, 2)))
    assert "One seed" not in several
    assert "synthetic" not in several


@pytest.mark.parametrize(("strategies", "count"), [(["uss"], 1), (["uss", "rss"], 2)])
def test_few_strategies_without_a_data_pool(strategies: list[str], count: int) -> None:
    metrics = whole_experiment()
    page = page_of(metrics[metrics["strategy"].isin(strategies)])
    assert ("USS has a Dice of" in page) == (count == 1)
    assert ("the highest Dice" in page) == (count == 2)
    assert "data pool has" not in page
    assert "nan" not in page.replace(PICTURE.decode("latin-1"), "")


def test_strategies_of_ones_own_are_told_in_full() -> None:
    page = page_of(whole_experiment(strategies=("uss", "bald"), volumes=8))
    assert "BALD: what bald is" in page
    assert "USS: uncertainty slice sampling" in page


def test_provenance_adds_up_the_stages(tmp_path: Path) -> None:
    for name, seconds in (("models/seed1/uss-1", 1800), ("models/seed1/uss-2", 3600), ("check_cohort", 36)):
        path = tmp_path / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0\t100.2\n")
    record = {
        "source_revision": "abc",
        "trainings_by_device_and_precision": {"NVIDIA H200, bfloat16": 2},
        "packages": {"torch": "2"},
        "configuration": {"seeds": [1, 2], "name": "<b>"},
    }
    page = provenance_page(json.loads(json.dumps(record)), tmp_path)
    assert "<td>2</td><td>1.500</td><td>60.0</td><td>100</td>" in page
    assert "<td>1</td><td>0.010</td>" in page
    assert "1, 2" in page
    assert "2 on NVIDIA H200, bfloat16" in page
    assert "<b>" not in page
    assert "package torch" in page
