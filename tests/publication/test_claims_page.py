"""The page of the paper's claims."""

import re

import numpy as np
import pandas as pd
import pytest
from markupsafe import escape
from slicesampling.evaluation.claims import CLAIMS, FAILS, HOLDS, OPEN, judge
from slicesampling.publication.claims_page import claims_page
from slicesampling.publication.layout import NO_BREAK_SPACE
from test_tables import STRATEGIES, annotations, experiment


def page_of(seeds=(1, 2, 3, 4, 5), strategies=STRATEGIES, synthetic=False, hard=True):
    """Make the page of a run in which USS is the best in every model, and RVS the worst."""
    metrics = experiment(seeds=seeds, strategies=strategies)
    spent = pd.concat([annotations(seeds, strategies)])
    rows = [(s, name, "all hard cases" if hard else "all", share)
            for s in seeds for name, share in (("uss", 0.3 + s / 100), ("pool", 0.2))]  # fmt: skip
    sets = pd.DataFrame(rows, columns=["seed", "strategy", "part", "share"])
    return claims_page(judge(metrics, spent, sets, np.random.default_rng(0)), metrics, synthetic)


def row_of(page, statement):
    """Return the cells of a claim's row in the first table."""
    row = re.search(rf'<th scope="row">{re.escape(str(escape(statement)))}</th>(.*?)</tr>', page, flags=re.DOTALL)
    return re.findall(r"<td[^>]*>(.*?)</td>", row[1].replace(NO_BREAK_SPACE, " "), flags=re.DOTALL)


def test_each_claim_is_a_row_with_the_papers_figure_and_a_verdict():
    page = page_of()
    rows = {claim.name: row_of(page, claim.statement) for claim in CLAIMS}
    assert all(cells[0] in (HOLDS, FAILS, OPEN) for cells in rows.values())
    assert rows["best_converged"][1] == "0.005\nagainst UVS"  # .964 and .959
    assert rows["best_last"][1] == "0.004\nagainst UVS"
    assert rows["robust"][1] == "0.016\nagainst UVS"  # .946 and .930
    assert rows["robust_pool"][1] == "0.001\nagainst the data pool"
    assert rows["worst_first"][1] == "−0.005\nagainst RVS"  # .932 and .937
    assert rows["share"][1].startswith("99.7 %")
    assert rows["fewest"][1] == "−1320 slices\nagainst RSS"  # 2410 and 3730
    assert rows["pool_better"][1] == "−0.003\nagainst the data pool"  # .964 and .967
    assert rows["rss_later"][1] == "0.001\nagainst RSS\nin iteration 4"  # .958 and .957
    assert rows["best_converged"][2].startswith("0.050 [0.050, 0.050]\nagainst RSS")
    assert rows["best_converged"][0] == rows["hard_cases"][0] == HOLDS
    assert rows["rss_worst"][0] == rows["worst_first"][0] == FAILS
    assert "nan" not in page.lower().replace("nance", "")


def test_one_seed_tells_nothing_and_says_why():
    page = page_of(seeds=(1,), synthetic=True)
    assert {row_of(page, claim.statement)[0] for claim in CLAIMS} == {OPEN}
    assert "One seed: no claim can be judged." in page
    assert "The volumes are synthetic" in page
    assert "30 patients only" in page
    assert "no claim can be judged" not in page_of()


@pytest.mark.parametrize("strategies", [("rvs",), ("uss", "bald")])
def test_a_run_of_some_strategies(strategies):
    page = page_of(strategies=strategies, hard=False)
    statement = next(claim.statement for claim in CLAIMS if claim.name == "volumes_equal")
    assert row_of(page, statement)[0] == "not in this run"
