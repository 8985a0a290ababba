"""How fast the page of annotators is in a browser: opening a slice, drawing a stroke, saving it.

    .venv/bin/python benchmarks/annotation_page.py [--sizes 512 1024] [--people 8] [--slices 20]

A headless Chromium draws with real pointer events, alone and beside scripted annotators who each draw a stroke a second
and answer a slice every ten. Prints a table of medians and 95th percentiles in ms:

- opened: from the key to the slice drawn on the screen, at once after the slice before (cold: nothing is fetched yet)
  and after a pause of two seconds (warm: the page has fetched it ahead);
- frame: all work of the page in a frame of a stroke, from pointer event to picture; drawing is smooth below 16 ms;
- saved: a stroke's state, and an answer, from the request to the server's word that it is on the disk.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import common
import numpy as np
from browsers import browser
from rounds import ellipsoid, make_round
from slicesampling.answers.store import to_runs
from test_kills import start

DEPTH = 40
"""Slices of each of the two volumes."""
STROKE = 60
"""Pointer events of a stroke."""

INSTRUMENTS = """
window.frames_ = [];
let handlers = 0, began = 0;
for (const [phase, capture] of [["first", true], ["last", false]]) {
  window.addEventListener("pointermove", () => {
    if (phase === "first") began = performance.now();
    else handlers += performance.now() - began;
  }, {capture, passive: true});
}
const ask = window.requestAnimationFrame.bind(window);
window.requestAnimationFrame = (draw) => ask((now) => {
  const from = performance.now();
  draw(now);
  frames_.push(handlers + performance.now() - from);
  handlers = 0;
});
"""
OPEN = """
const done = arguments[arguments.length - 1], {desk, host, view} = annotating, before = desk.open?.item;
const from = performance.now();
document.getElementById("next").click();
const look = () => desk.open && desk.open.item !== before && host.editable() && !view.pending
  ? done(performance.now() - from) : setTimeout(look, 1);
look();
"""
READY = "return annotating.host.editable() && !annotating.view.pending"
SAVES = "return performance.getEntriesByType('resource').filter((e) => e.name.endsWith('/%s')).map((e) => e.duration)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024], help="pixels of a slice's side")
    parser.add_argument("--people", type=int, default=8, help="scripted annotators beside the browser")
    parser.add_argument("--slices", type=int, default=20, help="opened in each way")
    options = parser.parse_args()
    print(f"Measured on {common.machine(common.compute_of('cpu', 'float32', 1))}.\n")
    print("| slice | annotators | opened, cold | opened, warm | frame | saved | answered |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for size in options.sizes:
        for people in (0, options.people):
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                found = measured(Path(folder), size, people, options.slices)
            cells = [f"{statistics.median(times):.0f} ({np.quantile(times, 0.95):.0f})" for times in found.values()]
            print(f"| {size} × {size} | {people + 1} | {' | '.join(cells)} |", flush=True)
    print("\nMilliseconds: median (95th percentile).")


def measured(folder: Path, size: int, people: int, slices: int) -> dict[str, list[float]]:
    """Return the times in ms of what the table's columns say, of slices of `size` beside so many `people`."""
    shape = (DEPTH, size, size)
    # Neighbours in the list are of different volumes and far from each other; each annotator has slices enough.
    order = [(f"case {1 + k % 2}", (17 * k // 2) % DEPTH, "empty", 1) for k in range(2 * DEPTH)]
    make_round(folder, shape, slices=order)
    (folder / "people.yaml").write_text(json.dumps({"annotator": "people", "people": {"answers": "annotations"}}))
    server, address = start(folder, "0")
    stop = threading.Event()
    runs = to_runs(ellipsoid((1, size, size))[0])
    others = [threading.Thread(target=annotate, args=(f"P{k}", address, runs, stop)) for k in range(people)]
    driver = browser(folder / "profile")
    try:
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": INSTRUMENTS})
        driver.set_script_timeout(60)
        driver.get(address)
        for thread in others:
            thread.start()
        field = driver.find_element("id", "given")
        field.send_keys("Anna\n")
        wait(lambda: driver.execute_script(READY))
        cold = [driver.execute_async_script(OPEN) for _ in range(slices)]
        warm, frames = [], []
        for _ in range(slices):
            time.sleep(2)
            warm.append(driver.execute_async_script(OPEN))
            driver.execute_script("frames_.length = 0")
            stroke(driver)
            frames += driver.execute_script("return frames_")
            time.sleep(1)  # until it is saved
        for _ in range(slices // 2):
            before = driver.execute_script("return annotating.desk.open.item.slice")
            stroke(driver)
            driver.find_element("id", "done").click()
            wait(lambda before=before: driver.execute_script(
                f"return annotating.desk.open?.item.slice !== {before} && {READY.removeprefix('return ')}"
            ))  # fmt: skip
        saved, answered = (driver.execute_script(SAVES % name) for name in ("draft", "answer"))
    finally:
        stop.set()
        driver.quit()
        for thread in others:
            thread.join()
        server.kill()
        server.communicate()
    return {"cold": cold, "warm": warm, "frame": frames, "saved": saved, "answered": answered}


def stroke(driver: Any) -> None:
    """Draw a spiral with the brush around the middle of the slice."""
    box = driver.execute_script(
        "const box = annotating.view.above.getBoundingClientRect(); return [box.left, box.top, box.width, box.height]"
    )
    left, top, width, height = box
    for k in range(STROKE + 1):
        angle, radius = k / 5, min(width, height) * (0.1 + 0.2 * k / STROKE)
        kind = "mousePressed" if k == 0 else "mouseReleased" if k == STROKE else "mouseMoved"
        at = {"x": left + width / 2 + radius * np.cos(angle), "y": top + height / 2 + radius * np.sin(angle)}
        driver.execute_cdp_cmd(
            "Input.dispatchMouseEvent", {"type": kind, "button": "left", "buttons": 1, "clickCount": 1} | at
        )


def annotate(name: str, address: str, runs: tuple[int, ...], stop: threading.Event) -> None:
    """Open a slice, keep a stroke a second, and answer after ten, until told to stop or nothing is left."""
    base, _, token = address.partition("/?token=")
    cookie = f"slicesampling-{base.rsplit(':', 1)[1]}={token}"

    def say(path: str, **values: Any) -> dict[str, Any]:
        body = json.dumps({"annotator": name, **values}).encode()
        request = urllib.request.Request(f"{base}/api/{path}", body, {"Cookie": cookie})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    try:
        while not stop.is_set():
            opened = say("open", tab="t")
            which = {key: opened["item"][key] for key in ("volume", "slice")}
            said = {"round": opened["round"], "opened": opened["opened"], **which}
            state = {"runs": runs, "start": "empty", "seconds": 1, "comment": "", "polygon": []}
            for revision in range(1, 10):
                say("draft", tab="t", state=state | {"revision": revision}, **said)
                if stop.wait(1):
                    return
            say("answer", answer="mask", runs=runs, start="empty", seconds=10, comment="", **said)
    except urllib.error.HTTPError:
        return  # nothing is left


def wait(condition: Any) -> None:
    while not condition():
        time.sleep(0.02)


if __name__ == "__main__":
    main()
