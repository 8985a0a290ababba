"""Law of the server under kill -9: whatever it has said to be kept is kept, once, and the round comes to its end."""

import http.client
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import COMMAND
from conftest import until
from rounds import make_round
from slicesampling.answers.store import Answers, to_runs

KILLS = int(os.environ.get("KILLS", "4"))
SHAPE = (40, 16, 20)
PEOPLE = "ABCDEFGH"
SLICES = [(f"case {1 + k % 2}", k // 2, "empty", 1 + (k % 5 == 0)) for k in range(80)]


class RefusedError(Exception):
    """The server lives, and says no."""


def start(folder: Path, port: str) -> tuple[subprocess.Popen, str]:
    command = [sys.executable, "-m", COMMAND, "annotate", "--directory", str(folder), "--port", port]
    server = subprocess.Popen(
        [*command, "--configfile", str(folder / "people.yaml")], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout
    return server, server.stdout.readline().split()[-1]


def scripted(name: str, address: str, given: dict[tuple[str, int], tuple[int, ...]], faults: list[str]) -> None:
    """Open, draw and answer as an annotator, say all again until it is heard, and check what comes back."""
    base, _, token = address.partition("/?token=")
    cookie = f"slicesampling-{base.rsplit(':', 1)[1]}={token}"
    random = np.random.default_rng(ord(name))

    def say(path: str, **values: Any) -> dict[str, Any]:
        body = json.dumps({"annotator": name, **values}).encode()
        while True:
            try:
                request = urllib.request.Request(f"{base}/api/{path}", body, {"Cookie": cookie})
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                raise RefusedError(json.load(error)["reason"]) from None
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)

    while True:
        try:
            opened = say("open", tab="t")
        except RefusedError as refused:
            if str(refused) == "waiting":
                time.sleep(0.1)
                continue
            return  # closed
        which = {name: opened["item"][name] for name in ("volume", "slice")}
        mask = random.random(SHAPE[1:]) < 0.5
        for revision in range(1, 4):
            mask[revision] = ~mask[revision]
            state = {"runs": to_runs(mask), "start": "empty", "seconds": 1, "comment": "", "revision": revision}
            draft = {"round": "uss-1", "tab": "t", "opened": opened["opened"], "state": state | {"polygon": []}}
            say("draft", **which, **draft)
            back = say("open", tab="t", **which)["draft"]
            if tuple(back["runs"]) != to_runs(mask):
                faults.append(f"{name}: a draft of {which} is lost")
        answer = {"round": "uss-1", "opened": opened["opened"], "answer": "mask", "runs": to_runs(mask)}
        try:
            say("answer", **which, **answer, start="empty", seconds=1, comment="")
        except RefusedError as refused:
            faults.append(f"{name}: {which} is refused: {refused}")
        given[which["volume"], which["slice"]] = to_runs(mask)


@pytest.mark.slow
def test_nothing_is_lost_by_kills(tmp_path: Path) -> None:
    make_round(tmp_path, SHAPE, slices=SLICES)
    people = {"annotator": "people", "people": {"answers": "annotations", "reserved_minutes": 20}}
    (tmp_path / "people.yaml").write_text(json.dumps(people), encoding="utf-8")
    server, address = start(tmp_path, "0")
    port = address.split(":")[2].split("/")[0]
    given: dict[str, dict] = {name: {} for name in PEOPLE}
    faults: list[str] = []
    threads = [threading.Thread(target=scripted, args=(n, address, given[n], faults), daemon=True) for n in PEOPLE]
    for thread in threads:
        thread.start()
    random = np.random.default_rng(0)
    log = Answers(tmp_path / "annotations")

    def answered(count: int) -> bool:
        log.refresh()
        return len(log.all) >= count or bool(log.closed)

    for kill in range(KILLS):
        until(lambda: answered(kill * 90 // KILLS + 1))  # noqa: B023 - spread over the round
        time.sleep(random.uniform(0, 0.2))
        server.kill()
        server.communicate()
        server, again = start(tmp_path, port)
        assert again == address
    for thread in threads:
        thread.join(300)
    server.kill()
    server.communicate()
    assert faults == []
    log.refresh()
    assert log.closed == ["uss-1"]
    assert (tmp_path / "annotations/closed/uss-1.tsv").exists()
    said = {(name, *key): runs for name, ones in given.items() for key, runs in ones.items()}
    logged = [(answer.annotator, answer.volume, answer.slice) for answer in log.all.values()]
    assert len(logged) == len(set(logged)) == sum(people for *_, people in SLICES)
    assert {(a.annotator, a.volume, a.slice): a.runs for a in log.all.values()} == said
    assert not list((tmp_path / "annotations/drafts").glob("*.json"))
