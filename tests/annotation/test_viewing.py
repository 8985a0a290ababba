"""Laws of `make view`: every volume of a run can be looked at, with what is known of it, and nothing can be changed."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browsers import browser
from conftest import ROOT, until
from flask.testing import FlaskClient
from rounds import ellipsoid, make_round, scan
from slicesampling import UserError
from slicesampling.annotation.answers import from_runs
from slicesampling.annotation.viewing import Run, make_viewer
from slicesampling.cohort.grids import Grid
from slicesampling.cohort.volumes import write_mask
from slicesampling.jobs.tsv import write_table

TOKEN = "the-key"
SHAPE = (12, 60, 80)
PREDICTED = ellipsoid(SHAPE, 0.05)
ENTROPY = np.linspace(0.1, 0.9, SHAPE[0])


@pytest.fixture
def ended(tmp_path: Path) -> Path:
    """The results of a run of two volumes: predictions of one, queries and uncertainty of the other."""
    make_round(tmp_path, SHAPE)
    results = tmp_path / "results"
    cohort = pd.DataFrame({"volume": ["case 1", "case 2"], "patient": ["a", "b"], "split": ["pool", "test"]})
    write_table(results / "cohort/cohort.tsv", cohort)
    grid = Grid(SHAPE, np.diag([3.0, 1, 1, 1]))
    write_mask(results / "predictions/seed1/uss-1/shard0/case 2.nii.gz", PREDICTED, grid)
    for name, slices in (("uss-1", [3, 7]), ("uss-2", [5]), ("rvs-1", [0, 1])):
        table = pd.DataFrame({"volume": "case 1", "slice": slices, "score": 1.0, "rank": range(len(slices))})
        write_table(results / f"queries/seed1/{name}.tsv", table)
    table = pd.DataFrame({"volume": "case 1", "slice": range(SHAPE[0]), "predictive_entropy": ENTROPY, "variance": 0.0})
    write_table(results / "uncertainty/seed1/initial/slices-shard0.tsv", table.sample(frac=1, random_state=1))
    return results


@pytest.fixture
def client(ended: Path) -> FlaskClient:
    one = make_viewer(Run(ended), TOKEN).test_client()
    assert one.get(f"/?token={TOKEN}").status_code == 302
    return one


def test_all_that_is_known_of_a_volume_is_shown(client: FlaskClient) -> None:
    assert b"View a run" in client.get("/").data
    assert client.get("/api/run").json == {"case 1": "pool", "case 2": "test"}
    known = client.get("/api/volume", query_string={"volume": "case 1"}).json
    assert known is not None
    assert known["shape"] == list(SHAPE)
    assert known["masks"] == ["reference"]
    asked = {(query["seed"], query["strategy"], query["iteration"]): query["slices"] for query in known["asked"]}
    assert asked == {("seed1", "uss", 1): [3, 7], ("seed1", "uss", 2): [5], ("seed1", "rvs", 1): [0, 1]}
    assert known["models"] == ["seed1/initial"]
    for volume, expected in (("case 1", ENTROPY), ("case 2", [])):
        profile = client.get("/api/profile", query_string={"volume": volume, "model": "seed1/initial"}).json
        assert profile == pytest.approx(expected)
    other = client.get("/api/volume", query_string={"volume": "case 2"}).json
    assert other is not None
    assert (other["masks"], other["asked"]) == (["reference", "seed1/uss-1"], [])
    for name, expected in (("reference", ellipsoid(SHAPE)), ("seed1/uss-1", PREDICTED)):
        runs = client.get("/api/mask", query_string={"volume": "case 2", "mask": name}).json
        assert runs is not None
        assert (np.array([from_runs(tuple(plane), SHAPE[1:]) for plane in runs]) == expected).all()
    plane = client.get("/api/plane", query_string={"volume": "case 1", "axis": "axial", "index": 4})
    assert (np.frombuffer(plane.data, "<i2").reshape(SHAPE[1:]) == scan(SHAPE)[4]).all()


def test_only_those_with_the_key_see_it_and_nobody_changes_it(ended: Path, client: FlaskClient) -> None:
    stranger = make_viewer(Run(ended), TOKEN).test_client()
    for path in ("/", "/api/run", "/api/volume?volume=case 1", "/api/mask?volume=case 2&mask=reference"):
        assert stranger.get(path).status_code == 403
        assert client.get(path, headers={"Origin": "http://elsewhere"}).status_code == 403
        assert client.post(path).status_code == 405
    for path in ("volume?volume=../case 1", "volume", "mask?volume=case 2&mask=../../x", "mask?volume=x&mask=reference",
                 "mask?volume=case 1&mask=seed1/uss-1", "profile?volume=case 1&model=../x",
                 "plane?volume=x&axis=axial&index=0"):  # fmt: skip
        answer = client.get(f"/api/{path}")
        assert answer.status_code == 404
        assert str(ended) not in answer.text
    with pytest.raises(UserError, match="holds no volume"):
        Run(ended / "nothing")


@pytest.fixture
def page(ended: Path, tmp_path: Path) -> Iterator[Any]:
    command = [sys.executable, "-u", str(ROOT / "workflow/view.py"), "--results", str(ended), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        driver = browser(tmp_path / "profile")
        try:
            driver.get(process.stdout.readline().split()[-1])
            yield driver
            assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []
        finally:
            driver.quit()
            process.kill()


@pytest.mark.slow
def test_the_page_scrolls_with_reference_and_predictions(page: Any) -> None:
    def run(script: str) -> Any:
        return page.execute_script(f"const {{view, state, shown}} = viewing; {script}")

    def shows(text: str) -> Any:
        return until(lambda: page.find_element("id", "which").text == text and not run("return view.pending"))

    def masks() -> np.ndarray:
        return np.array(run("return view.layers.map((layer) => Array.from(layer.mask))"), bool).reshape(-1, *SHAPE[1:])

    shows(f"case 1 · slice 6 of {SHAPE[0]}")
    assert (masks() == ellipsoid(SHAPE)[[6]]).all()
    page.find_element("tag name", "body").send_keys("\ue013")  # arrow up
    shows(f"case 1 · slice 7 of {SHAPE[0]}")
    assert (np.array(run("return Array.from(view.values)")).reshape(SHAPE[1:]) == scan(SHAPE)[7]).all()
    # The bar: a click goes to a slice; a slice that uss asked for is marked, and one that nobody did is not.
    click = """
        const bar = document.getElementById("slices"), step = (bar.clientHeight - 32) / 12;
        const y = 26 + (11 - %d + 0.5) * step, box = bar.getBoundingClientRect();
        bar.onpointermove({offsetY: y, buttons: 1});
    """
    run(click % 3)
    shows(f"case 1 · slice 3 of {SHAPE[0]}")
    marked = """
        const bar = document.getElementById("slices"), ratio = devicePixelRatio, step = (bar.clientHeight - 32) / 12;
        const x = Math.round((bar.clientWidth - 6) * ratio), y = Math.round((26 + (11 - %d + 0.5) * step) * ratio);
        return bar.getContext("2d").getImageData(x, y, 1, 1).data[3] > 0;
    """
    assert [run(marked % index) for index in range(SHAPE[0])] == [index in (3, 5, 7) for index in range(SHAPE[0])]
    profile = """
        const bar = document.getElementById("slices"), step = (bar.clientHeight - 32) / 12;
        const row = bar.getContext("2d").getImageData(0, (26 + (11 - %d + 0.5) * step) * devicePixelRatio, 88, 1).data;
        return row.filter((_, k) => k %% 4 === 3 && row[k] > 0).length / devicePixelRatio;
    """
    widths = [run(profile % index) for index in range(SHAPE[0]) if index != 3]
    assert widths == sorted(widths)
    assert widths[0] < 15 < 80 < widths[-1]
    page.find_element("id", "volume").send_keys("case 2")
    shows(f"case 2 · slice 6 of {SHAPE[0]}")
    page.find_elements("css selector", "#masks input")[1].click()
    until(lambda: len(masks()) == 2)
    assert (masks() == [ellipsoid(SHAPE)[6], PREDICTED[6]]).all()
    assert re.fullmatch("reference\nseed1/uss-1", page.find_element("id", "masks").text)
