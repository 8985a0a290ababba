"""Laws of the page in a real browser: what pointer, pen, fingers and keys draw is what is saved, to a pixel."""

import itertools
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsers import browser
from commands import COMMAND
from conftest import until
from matplotlib.path import Path as Outline
from rounds import ellipsoid, make_round, scan
from scipy import ndimage
from selenium.webdriver.common.action_chains import ActionChains
from slicesampling.answers.store import Answer, Answers, from_runs, to_runs

SHAPE = (12, 160, 200)
MASK = ellipsoid(SHAPE)
SLICES = [
    ("case 1", 5, "empty", 2),
    ("case 2", 6, "proposal", 1),
    ("case 1", 0, "empty", 1),
    ("case 2", 11, "empty", 1),
]

pytestmark = pytest.mark.slow

Points = list[tuple[int, int]]


class Server:
    """The command on a port that stays, in a folder with one round."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, "0"
        make_round(folder, SHAPE, slices=SLICES)
        people = {"annotator": "people", "people": {"answers": "annotations", "reserved_minutes": 20}}
        (folder / "people.yaml").write_text(json.dumps(people), encoding="utf-8")
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", COMMAND, "annotate", "--directory", str(self.folder)]
        options = ["--configfile", str(self.folder / "people.yaml"), "--port", self.port]
        self.process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.address = self.process.stdout.readline().split()[-1]
        self.port = re.findall(r":(\d+)/", self.address)[0]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    @property
    def answers(self) -> list[Answer]:
        return list(Answers(self.folder / "annotations").all.values())


class Page:
    """The page as an annotator uses it."""

    def __init__(self, driver: Any, server: Server, name: str = "Anna") -> None:
        self.driver, self.server = driver, server
        driver.get(server.address)
        self.call_me(name)

    def call_me(self, name: str) -> None:
        field = until(lambda: [f for f in self.driver.find_elements("id", "given") if f.is_displayed()])[0]
        field.clear()
        field.send_keys(name + "\n")
        self.ready()

    def run(self, script: str, *values: Any) -> Any:
        return self.driver.execute_script(f"const {{view, tools, host, Drawing}} = annotating; {script}", *values)

    def ready(self) -> None:
        """Wait for a slice that can be drawn on, or for the list."""
        until(lambda: self.run("return host.editable() && !view.pending || overview.open"))

    def keys(self, text: str) -> None:
        ActionChains(self.driver).send_keys(text).perform()

    def tool(self, name: str) -> None:
        self.driver.find_element("css selector", f"[data-tool={name}]").click()

    def press(self, element: str) -> None:
        self.driver.find_element("id", element).click()

    @property
    def mask(self) -> np.ndarray:
        return np.array(self.run("return Array.from(host.drawing.mask)"), bool).reshape(SHAPE[1:])

    @property
    def shown(self) -> str:
        return str(self.driver.find_element("id", "which").text)

    @property
    def saved(self) -> str:
        return str(self.driver.find_element("id", "saved").text)

    def place(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the slice lies on the screen: CSS pixels of its upper left corner, and of one of its pixels (x, y)."""
        box, (ox, oy, kx, ky, ratio) = self.run(
            "const box = view.above.getBoundingClientRect(); "
            "return [[box.left, box.top], [view.ox, view.oy, view.kx, view.ky, view.ratio]]"
        )
        return np.array(box) + np.array([ox, oy]) / ratio, np.array([kx, ky]) / ratio

    def screen(self, points: Any) -> Points:
        """The whole CSS pixels next to points (x, y) of the slice."""
        corner, size = self.place()
        return [(int(x), int(y)) for x, y in np.rint(np.asarray(points) * size + corner)]

    def slice(self, points: Points) -> np.ndarray:
        """Points (x, y) of the slice that lie under CSS pixels."""
        corner, size = self.place()
        return np.asarray((np.asarray(points) - corner) / size)

    def mouse(self, kind: str, point: tuple[int, int], **more: Any) -> None:
        given = {"type": kind, "x": point[0], "y": point[1], "button": "left", "buttons": 1, "clickCount": 1} | more
        self.driver.execute_cdp_cmd("Input.dispatchMouseEvent", given)

    def drag(self, points: Points, **more: Any) -> None:
        self.mouse("mousePressed", points[0], **more)
        for point in points[1:]:
            self.mouse("mouseMoved", point, **more)
        self.mouse("mouseReleased", points[-1], **more)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    one = Server(tmp_path)
    try:
        yield one
    finally:
        one.kill()


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    one = browser(tmp_path_factory.mktemp("profile"))
    try:
        yield one
    finally:
        one.quit()


@pytest.fixture
def page(driver: Any, server: Server) -> Iterator[Page]:
    one = Page(driver, server)
    yield one
    faults = [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert [fault for fault in faults if "Uncaught" in fault["message"]] == []


def inside(points: np.ndarray) -> np.ndarray:
    """Pixels of a slice whose centres lie within an outline (x, y)."""
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    return Outline(points).contains_points(np.column_stack([x.ravel() + 0.5, y.ravel() + 0.5])).reshape(x.shape)


def brushed(points: np.ndarray, size: float) -> np.ndarray:
    """Pixels whose centres lie within a stroke of a round brush along points (x, y)."""
    centres = np.stack(np.meshgrid(np.arange(SHAPE[2]) + 0.5, np.arange(SHAPE[1]) + 0.5), axis=-1)
    reached = np.zeros(SHAPE[1:], bool)
    for a, b in itertools.pairwise(points):
        part = np.clip((centres - a) @ (b - a) / max((b - a) @ (b - a), 1e-12), 0, 1)[..., None]
        reached |= np.linalg.norm(centres - a - part * (b - a), axis=-1) <= size / 2
    return reached


def outline(mask: np.ndarray, points: int = 80) -> np.ndarray:
    """The outline of a convex structure (x, y), by the ellipse that it is."""
    y, x = np.nonzero(mask)
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    half = np.array([np.ptp(x) + 1, np.ptp(y) + 1]) / 2
    return np.array([x.min(), y.min()]) + half + half * np.column_stack([np.cos(angle), np.sin(angle)])


def test_a_whole_round(page: Page) -> None:
    """The reference's contour, eraser, undo, polygon, "no liver", "cannot tell", two people, and the end."""
    assert page.shown.startswith("case 1 · slice 5")
    # The reference's contour on a slice that starts empty.
    page.tool("contour")
    way = page.screen(outline(MASK[5]))
    page.drag(way)
    drawn = inside(page.slice(way))
    assert (page.mask == drawn).all()
    assert 2 * (drawn & MASK[5]).sum() / (drawn.sum() + MASK[5].sum()) > 0.98
    # Erased along a line, undone, done again.
    page.keys("e")
    cut = page.screen([(70, 60), (75, 70), (95, 82)])
    page.drag(cut)
    size = page.run("return tools.size")
    erased = drawn & ~brushed(page.slice(cut), size)
    assert (page.mask == erased).all()
    page.press("undo")
    assert (page.mask == drawn).all()
    page.press("redo")
    assert (page.mask == erased).all()
    # A polygon, closed on its first point, one of whose points is moved before it is filled.
    page.keys("p")
    corners = page.screen([(130, 90), (170, 95), (160, 130), (125, 120)])
    for point in [*corners, corners[0]]:
        page.drag([point])
    moved = page.screen([(185, 88)])[0]
    page.drag([corners[1], moved])
    corners[1] = moved
    assert (page.mask == erased).all()
    page.keys("\n")
    expected = erased | inside(page.slice(corners))
    assert (page.mask == expected).all()
    page.press("done")
    until(lambda: page.shown.startswith("case 2 · slice 6"))
    (answer,) = page.server.answers
    assert (answer.mask == expected).all()
    assert (answer.annotator, answer.start, answer.changed) == ("Anna", "empty", expected.sum())
    assert 0 < answer.seconds < 600

    # The model's mask is where the next one starts; without it, and with it again.
    page.ready()
    proposal = ellipsoid(SHAPE, 0.03)[6]
    assert (page.mask == proposal).all()
    page.keys("s")
    assert not page.mask.any()
    page.keys("s")
    page.keys("b")
    stroke = page.screen([(20, 20), (60, 24)])
    page.drag(stroke)
    page.keys("l")
    assert (page.mask == proposal).all()
    page.keys("\n")
    until(lambda: page.shown.startswith("case 1 · slice 0"))
    answer = page.server.answers[-1]
    assert (answer.mask == proposal).all()
    assert (answer.start, answer.changed) == ("proposal", 0)

    # No liver, with one key.
    page.ready()
    page.keys("n")
    until(lambda: page.shown.startswith("case 2 · slice 11"))
    assert page.server.answers[-1].answer == "no structure"
    # Cannot tell, with a comment.
    page.ready()
    page.keys("u")
    until(lambda: page.driver.find_element("id", "reason").is_displayed())
    page.driver.find_element("id", "reason").send_keys("blurred")
    page.driver.find_element("css selector", "#why .main").click()
    until(lambda: page.run("return overview.open"))
    assert (page.server.answers[-1].answer, page.server.answers[-1].comment) == ("cannot tell", "blurred")
    assert "1 waits for a second person" in page.driver.find_element("id", "summary").text

    # The second person sees nothing of the first, and closes the round.
    page.driver.find_element("css selector", "#overview [data-close]").click()
    page.press("name")
    page.call_me("Ben")
    assert page.shown.startswith("case 1 · slice 5")
    assert not page.mask.any()
    page.tool("contour")
    page.drag(way)
    page.press("done")
    until(lambda: "All that was asked for is in" in page.driver.find_element("id", "summary").text)
    assert (page.server.answers[-1].mask == drawn).all()
    assert page.server.answers[-1].annotator == "Ben"
    table = page.driver.find_element("css selector", "#summary table").text
    assert re.search(r"Anna 4 .*\nBen 1 ", table)
    assert (page.server.folder / "annotations/closed/uss-1.tsv").exists()
    dice = 2 * (drawn & expected).sum() / (drawn.sum() + expected.sum())
    assert f"{dice:.3f}" in page.driver.find_element("id", "summary").text
    # Nothing was asked of another host.
    events = [json.loads(entry["message"])["message"] for entry in page.driver.get_log("performance")]
    urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    web = [url for url in urls if url.startswith(("http", "ws"))]
    assert len(web) > 10
    assert [url for url in web if not url.startswith(f"http://localhost:{page.server.port}/")] == []


def test_the_round_is_ended_early_from_the_list(page: Page) -> None:
    page.press("list")
    assert not page.driver.find_element("id", "enough").is_displayed()  # nothing is answered yet
    page.driver.find_element("css selector", "#overview [data-close]").click()
    page.press("none")
    until(lambda: len(page.server.answers) == 1)
    for chosen in ("cancel", "end"):
        page.ready()
        if not page.driver.find_element("id", "overview").is_displayed():
            page.press("list")
        assert not (page.server.folder / "annotations/closed").exists()
        until(lambda: page.driver.find_element("id", "enough").is_displayed())
        page.press("enough")
        left = until(lambda: page.driver.find_element("id", "left").text)
        assert left.startswith("No answer yet: 3 of 4 slices. One answer where two people were asked: 1.")
        page.driver.find_element("css selector", f"#end [value={chosen}]").click()
    until(lambda: "The round has ended with 0 of 4 slices" in page.driver.find_element("id", "summary").text)
    assert not page.driver.find_element("id", "enough").is_displayed()
    assert (page.server.folder / "annotations/closed/uss-1.tsv").exists()


def test_nothing_is_lost_by_a_reload_or_a_killed_server(page: Page) -> None:
    page.tool("contour")
    page.drag(page.screen(outline(MASK[5], 30)))
    drawn = page.mask
    assert drawn.any()
    # At once, before the draft's time has come.
    page.driver.refresh()
    page.ready()
    assert (page.mask == drawn).all()
    page.server.kill()
    page.keys("b")
    page.drag(page.screen([(140, 30), (160, 40)]))
    further = page.mask
    assert (further != drawn).any()
    until(lambda: page.driver.find_element("id", "trouble").is_displayed())
    assert "nothing is lost" in page.driver.find_element("id", "trouble").text
    page.server.start()
    until(lambda: page.saved == "Draft saved")
    assert not page.driver.find_element("id", "trouble").is_displayed()
    page.driver.refresh()
    page.ready()
    assert (page.mask == further).all()
    # An answer that is given while nobody listens is given as soon as somebody does.
    page.server.kill()
    page.press("done")
    until(lambda: page.driver.find_element("id", "trouble").is_displayed())
    page.server.start()
    until(lambda: page.shown.startswith("case 2"))
    (answer,) = page.server.answers
    assert (answer.mask == further).all()


def test_what_the_browser_alone_has_kept_comes_back(page: Page) -> None:
    page.server.kill()
    page.drag(page.screen([(60, 60), (90, 80)]))
    drawn = page.mask
    until(lambda: page.saved == "Not saved")
    page.run(
        "window.onbeforeunload = null; addEventListener('beforeunload', (e) => e.stopImmediatePropagation(), true)"
    )
    page.driver.get("about:blank")
    page.server.start()
    page.driver.get(page.server.address)
    page.ready()
    assert (page.mask == drawn).all()


def test_the_brush_keeps_within_a_range_of_hounsfield_units(page: Page) -> None:
    page.run("tools.low = 90; tools.high = 115; tools.size = 40")
    page.keys("hb")
    way = page.screen([(50, 50), (120, 90), (130, 70)])
    page.drag(way)
    image = scan(SHAPE)[5]
    assert (page.mask == (brushed(page.slice(way), 40) & (image >= 90) & (image <= 115))).all()
    # What Shift takes away is not limited.
    page.drag(way[:2], modifiers=8)
    left = brushed(page.slice(way), 40) & (image >= 90) & (image <= 115) & ~brushed(page.slice(way[:2]), 40)
    assert (page.mask == left).all()


def test_neighbours_are_only_looked_at(page: Page) -> None:
    at = page.screen([(80, 70)])[0]
    image = scan(SHAPE)

    def shown() -> np.ndarray:
        return np.array(page.run("return host.values && Array.from(host.values)") or [0])

    page.mouse("mouseWheel", at, deltaX=0, deltaY=-120, button="none", buttons=0)
    until(lambda: (shown() == image[6].ravel()).all())
    page.mouse("mouseWheel", at, deltaX=0, deltaY=120, button="none", buttons=0)
    page.mouse("mouseWheel", at, deltaX=0, deltaY=120, button="none", buttons=0)
    until(lambda: (shown() == image[4].ravel()).all())
    page.drag([at, (at[0] + 50, at[1])])
    assert "only to look at" in page.driver.find_element("id", "hint").text
    assert not page.mask.any()
    page.keys("q")
    until(lambda: (shown() == image[5].ravel()).all())
    page.drag([at, (at[0] + 50, at[1])])
    assert page.mask.any()


def test_zoom_moves_no_stroke(page: Page) -> None:
    """What is drawn lies under the pointer at every zoom, and only what changed is drawn anew."""
    at = page.screen([(80, 70)])[0]
    for delta in (-300, -300, 200):
        page.mouse("mouseWheel", at, deltaX=0, deltaY=delta, modifiers=2, button="none", buttons=0)
    until(lambda: page.run("return view.scale > 1.5 * view.ratio && !view.pending"))
    way = page.screen([(78, 68), (84, 72)])
    page.drag(way, button="middle", buttons=4)
    page.keys("b")
    way = page.screen([(78, 68), (84, 72)])
    page.run("tools.size = 5")
    page.drag(way)
    drawn = brushed(page.slice(way), 5)
    assert (page.mask == drawn).all()
    page.keys("c")
    way = page.screen([(70, 64), (90, 64), (90, 74), (70, 74)])
    page.drag(way)
    assert (page.mask == drawn | inside(page.slice(way))).all()
    until(lambda: page.run("return !view.pending"))
    pixels = "return Array.from(view.context.getImageData(0, 0, view.canvas.width, view.canvas.height).data)"
    parts = np.array(page.run(pixels))
    page.run("view.draw()")
    until(lambda: page.run("return !view.pending"))
    assert (np.abs(parts - np.array(page.run(pixels))) <= 2).all()


def test_one_finger_draws_and_two_fingers_move(page: Page) -> None:
    def touch(kind: str, *points: tuple[int, int]) -> None:
        given = [{"x": x, "y": y, "id": k} for k, (x, y) in enumerate(points)]
        page.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": given})

    page.keys("c")
    way = page.screen(outline(MASK[5], 30))
    touch("touchStart", way[0])
    for point in way[1:]:
        touch("touchMove", point)
    touch("touchEnd")
    drawn = page.mask
    assert 2 * (drawn & MASK[5]).sum() / (drawn.sum() + MASK[5].sum()) > 0.95
    scale = page.run("return view.scale")
    x, y = way[0]
    touch("touchStart", (x, y))
    touch("touchMove", (x + 5, y))
    touch("touchStart", (x + 5, y), (x - 100, y))
    touch("touchMove", (x + 60, y), (x - 160, y))
    touch("touchEnd")
    assert page.run("return view.scale") > 1.5 * scale
    assert (page.mask == drawn).all()


def test_a_pen_draws_and_the_hand_that_holds_it_does_not(page: Page) -> None:
    """A finger beside a pen moves the slice, as a palm would, and two fingers still zoom."""
    pen = {"pointerType": "pen", "force": 0.4, "tiltX": 20}
    way = page.screen([(60, 60), (80, 75), (110, 90)])
    page.drag(way, **pen)
    drawn = brushed(page.slice(way), page.run("return tools.size"))
    assert drawn.any()
    assert (page.mask == drawn).all()
    for kind, points in (("touchStart", way[:1]), ("touchMove", way[2:]), ("touchEnd", [])):
        given = [{"x": x, "y": y, "id": 0} for x, y in points]
        page.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": given})
    assert (page.mask == drawn).all()
    page.keys("e")
    cut = page.screen([(70, 60), (75, 90)])
    page.drag(cut, **pen)
    drawn &= ~brushed(page.slice(cut), page.run("return tools.size"))
    assert (page.mask == drawn).all()
    # The other end of a pen erases; no driver has one, so that the page is told of it.
    for tool in "be":
        page.keys(tool)
        cut = page.screen([(90, 70 if tool == "b" else 60), (112, 95)])
        page.run(
            "for (const [type, [clientX, clientY]] of arguments[0]) view.above.dispatchEvent(new PointerEvent(type, "
            "{clientX, clientY, button: 5, buttons: 32, pointerType: 'pen', pointerId: 9, bubbles: true}))",
            [["pointerdown", cut[0]], ["pointermove", cut[1]], ["pointerup", cut[1]]],
        )
        drawn &= ~brushed(page.slice(cut), page.run("return tools.size"))
        assert (page.mask == drawn).all()


def test_the_logic_of_masks_is_that_of_numpy(page: Page) -> None:
    """Runs, holes, parts, polygons and undo, on random masks."""
    random = np.random.default_rng(1)
    module = "const done = arguments[arguments.length - 1]; import('/static/drawing.js').then((m) => done(({0})));"

    def call(script: str, *values: Any) -> Any:
        return page.driver.execute_async_script(module.replace("{0}", script), *values)

    for share in (0.0, 0.3, 0.55, 0.7, 1.0):
        mask = random.random((23, 31)) < share
        runs = list(to_runs(mask))
        flat = mask.ravel().astype(int).tolist()
        assert call("m.toRuns(Uint8Array.from(arguments[0]))", flat) == runs
        assert call("Array.from(m.fromRuns(arguments[0], 713))", runs) == flat
        made = (
            "(() => {const d = new m.Drawing(23, 31); d.mask.set(arguments[0]); const before = m.toRuns(d.mask);"
            "d.begin(); d.{1}; d.commit(); const after = m.toRuns(d.mask); d.undo(); const undone = m.toRuns(d.mask);"
            "d.redo(); return [before, after, undone, m.toRuns(d.mask)]})()"
        )
        before, after, undone, redone = call(made.replace("{1}", "fillHoles()"), flat)
        assert before == undone
        assert after == redone == list(to_runs(ndimage.binary_fill_holes(mask)))
        before, after, undone, redone = call(made.replace("{1}", "keepLargest()"), flat)
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        sizes = np.bincount(labels.ravel(), minlength=2)[1:]
        kept = from_runs(tuple(after), mask.shape)
        assert before == undone
        assert after == redone
        assert kept.sum() == sizes.max()
        assert len(np.unique(labels[kept])) == min(count, 1)
        points = random.uniform(-5, 36, (7, 2))
        _, after, _, _ = call(made.replace("{1}", "polygon(arguments[1], 1)"), flat, points.tolist())
        y, x = np.mgrid[:23, :31] + 0.5
        turns = sum(
            np.where(
                (ya <= y) != (yb <= y), np.where(xa + (y - ya) / (yb - ya) * (xb - xa) <= x, np.sign(yb - ya), 0), 0
            )
            for (xa, ya), (xb, yb) in zip(points, np.roll(points, -1, axis=0), strict=True)
        )
        assert (from_runs(tuple(after), mask.shape) == (mask | (turns != 0))).all()


def test_only_time_with_input_counts(page: Page) -> None:
    """Each input counts from the one before, but a coffee for no more than 30 s."""
    script = (
        "const done = arguments[arguments.length - 1]; import('/static/saving.js').then(({Clock}) => {"
        "let now = 100; const clock = new Clock(5, () => now);"
        "for (now of [110, 111, 141, 1000, 1002.5]) clock.input(); done(clock.rounded)})"
    )
    assert page.driver.execute_async_script(script) == 5 + 10 + 1 + 30 + 30 + 2.5
