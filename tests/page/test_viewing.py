"""Laws of `make view`: every volume of a run can be looked at, with what is known of it, and nothing can be changed."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browsers import browser
from commands import COMMAND
from conftest import HANGS, SMALLEST, until
from flask.testing import FlaskClient
from rounds import ellipsoid, make_round, scan
from slicesampling import UserError
from slicesampling.answers.store import from_runs
from slicesampling.cohort.grids import Grid
from slicesampling.cohort.volumes import write_mask
from slicesampling.command.view import entropy_maps
from slicesampling.configuration import read_configuration
from slicesampling.domain.records import read_table, write_table
from slicesampling.page.viewing import HIGHEST_ENTROPY, KEPT_MAPS, Maps, Run, make_viewer
from slicesampling.page.work import Refused

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


@pytest.mark.parametrize("model", ["seed1/initial", "seed1/uss-1"])
def test_a_map_is_what_the_run_has_measured(run: Path, model: str) -> None:
    """The mean of each slice is the one in the table that the query read."""
    results = run / "results"
    entropy = entropy_maps(results, read_configuration(SMALLEST[1:]))
    table = read_table(results / f"uncertainty/{model}/slices-shard0.tsv")
    volume = table["volume"].iloc[0]
    made = entropy(model, volume)
    expected = table.loc[table["volume"] == volume, "predictive_entropy"].to_numpy()
    np.testing.assert_allclose(made.mean(axis=(1, 2)), expected, rtol=1e-5)
    client = make_viewer(Run(results, lambda *_: made), TOKEN).test_client()
    client.get(f"/?token={TOKEN}")
    known = client.get("/api/volume", query_string={"volume": volume}).json
    assert known is not None
    assert model in known["sampled"]
    which = {"volume": volume, "model": model, "index": 3}
    answer = until(lambda: (got := client.get("/api/entropy", query_string=which)).status_code == 200 and got)
    shown = np.frombuffer(answer.data, np.uint8).reshape(made.shape[1:]) * (HIGHEST_ENTROPY / 255)
    np.testing.assert_allclose(shown, made[3], atol=HIGHEST_ENTROPY / 500)
    for other in ({"model": "seed1/../initial"}, {"index": len(made)}, {"index": -1}, {"index": "x"}):
        assert client.get("/api/entropy", query_string=which | other).status_code == 404


def test_a_run_without_models_has_no_maps(client: FlaskClient) -> None:
    assert client.get("/api/volume", query_string={"volume": "case 1"}).json["sampled"] == []  # type: ignore[index]
    assert client.get("/api/entropy?volume=case 1&model=seed1/initial&index=0").status_code == 404


def test_the_map_that_is_asked_for_last_is_made_next_and_no_other() -> None:
    begun, go_on = [], threading.Event()

    def make(model: str, volume: str) -> np.ndarray:
        begun.append(volume)
        assert go_on.wait(HANGS)
        return np.full((1, 1, 1), 0.0 if volume == "a" else 1.0)  # more than there can be is shown as the highest

    maps = Maps(make)
    assert maps.get("model", "a") is None
    until(lambda: begun == ["a"])
    assert [maps.get("model", volume) for volume in "bc"] == [None, None]
    go_on.set()
    assert until(lambda: maps.get("model", "c")) == 255
    found = maps.get("model", "a")
    assert found is not None
    assert found == 0
    assert begun == ["a", "c"]
    for volume in range(KEPT_MAPS - 1):
        until(lambda volume=volume: maps.get("model", str(volume)) is not None)
    assert maps.get("model", "a") is not None
    assert maps.get("model", "c") is None  # not looked at for the longest time, so no longer kept


def test_a_model_that_cannot_be_sampled_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    tries = []

    def make(model: str, volume: str) -> np.ndarray:
        tries.append(model)
        raise UserError("model.pt: is damaged")

    maps = Maps(make)
    assert maps.get("model", "a") is None
    until(lambda: "model.pt: is damaged" in caplog.text)
    for _ in range(2):
        with pytest.raises(Refused, match="could not be sampled"):
            until(lambda: maps.get("model", "a"))
    assert tries == ["model"]
    assert "Traceback" not in caplog.text


@contextmanager
def opened(tmp_path: Path, *options: str) -> Iterator[Any]:
    command = [sys.executable, "-u", "-m", COMMAND, "view", "--port", "0", *options]
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


@pytest.fixture
def page(ended: Path, tmp_path: Path) -> Iterator[Any]:
    with opened(tmp_path, "--results", str(ended)) as driver:
        yield driver


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


@pytest.mark.slow
def test_masks_that_are_shown_together_have_different_colours(run: Path, tmp_path: Path) -> None:
    """Whichever they are of the many that there are, and the same colour as long as they are shown."""
    with opened(tmp_path, "--results", str(run / "results")) as page:
        until(lambda: page.execute_script("return viewing.state.volume"))
        test = page.find_element("css selector", "optgroup[label=test] option").get_attribute("value")
        page.find_element("id", "volume").send_keys(test)
        boxes = until(lambda: (found := page.find_elements("css selector", "#masks input"))[8:] and found)

        def colours() -> list[str]:
            return page.execute_script("return viewing.view.layers.map((layer) => layer.colour.join())")

        boxes[7].click()
        boxes[3].click()
        until(lambda: len(colours()) == 3)
        before = colours()
        assert len(set(before)) == 3
        boxes[0].click()
        until(lambda: colours() == before[1:])


@pytest.mark.slow
def test_the_page_shows_where_a_model_is_uncertain(run: Path, tmp_path: Path) -> None:
    """Entropy lies above the slice, follows it, and goes when it is switched off."""
    with opened(tmp_path, "--results", str(run / "results"), "--configfile", *SMALLEST[1:]) as page:

        def heat() -> list[int] | None:
            layer = "viewing.view.layers.find((layer) => layer.values)"
            return page.execute_script(f"return {layer} ? Array.from({layer}.values) : null")

        def choose(model: str) -> None:
            page.execute_script(
                'const one = document.getElementById("entropy"); one.value = arguments[0];'
                'one.dispatchEvent(new Event("change"))',
                model,
            )

        until(lambda: page.execute_script("return viewing.state.volume"))
        assert heat() is None
        choose("seed1/uss-2-converged")
        first = until(heat)
        assert max(first) > 0
        page.find_element("tag name", "body").send_keys("\ue013")  # arrow up
        until(lambda: heat() != first)
        page.save_screenshot(str(tmp_path / "entropy.png"))
        choose("")
        until(lambda: heat() is None)
