"""Laws of the page's server: who may ask for what, that nothing is lost, and that no answer names a file."""

import errno
import json
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import COMMAND
from conftest import ROOT, until
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from rounds import SLICES, ellipsoid, make_round, scan, work_in
from slicesampling.answers.store import Answers, to_runs
from slicesampling.cohort.volumes import read_canonical_mask
from slicesampling.domain.records import read_table
from slicesampling.page.server import LARGEST_BODY, kept_token, make_app
from slicesampling.page.work import Work

TOKEN = "the-key"
SHAPE = (12, 30, 40)
MASK = ellipsoid(SHAPE)
OPENED = "2026-01-01T10:00:00.000+00:00"


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, 10, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.time += timedelta(milliseconds=1)
        return self.time


class Desk:
    """One annotator's browser."""

    def __init__(self, client: FlaskClient, name: str = "Anna", tab: str = "t1") -> None:
        self.client, self.name, self.tab = client, name, tab
        assert client.get(f"/?token={TOKEN}").status_code == 302

    def post(self, path: str, status: int = 200, **values: Any) -> dict[str, Any]:
        answer = self.client.post(f"/api/{path}", json={"annotator": self.name, **values})
        assert answer.status_code == status, answer.text
        assert answer.json is not None
        return answer.json

    def open(self, status: int = 200, **which: Any) -> dict[str, Any]:
        return self.post("open", status, tab=self.tab, **which)

    def draft(self, volume: str, index: int, runs: Any, revision: int, status: int = 200, **more: Any) -> dict:
        state = {"runs": runs, "start": "empty", "seconds": 1.5, "comment": "", "revision": revision, "polygon": []}
        given = {"round": "uss-1", "tab": self.tab, "volume": volume, "slice": index, "opened": OPENED, "state": state}
        return self.post("draft", status, **given | more)

    def answer(self, volume: str, index: int, status: int = 200, **more: Any) -> dict[str, Any]:
        given = {"round": "uss-1", "volume": volume, "slice": index, "answer": "mask", "runs": to_runs(MASK[index])}
        given |= {"seconds": 12.5, "opened": OPENED, "start": "empty", "comment": ""}
        return self.post("answer", status, **given | more)

    def state(self) -> dict[str, Any]:
        answer = self.client.get("/api/round", query_string={"annotator": self.name})
        assert answer.status_code == 200, answer.text
        assert answer.json is not None
        return answer.json

    def states(self) -> dict[tuple[str, int], str]:
        return {(row["volume"], row["slice"]): row["state"] for row in self.state()["items"]}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def work(tmp_path: Path, clock: Clock) -> Work:
    make_round(tmp_path, SHAPE)
    return work_in(tmp_path, clock=clock)


@pytest.fixture
def desk(work: Work) -> Callable[..., Desk]:
    app = make_app(work, TOKEN)
    return lambda *values: Desk(app.test_client(), *values)


# -- who may ask ------------------------------------------------------------------------------------------------------


def paths(work: Work) -> list[tuple[str, str]]:
    rules = make_app(work, TOKEN).url_map.iter_rules()
    methods = [(rule.rule.replace("<name>", "page.js"), "POST" if "POST" in rule.methods else "GET") for rule in rules]
    assert len(methods) == 10
    return methods


def test_every_request_needs_the_token(work: Work) -> None:
    client = make_app(work, TOKEN).test_client()
    for path, method in [
        *paths(work),
        ("/unknown", "GET"),
        ("/?token=wrong", "GET"),
        (f"/api/round?token={TOKEN}", "GET"),
    ]:
        answer = client.open(path, method=method, json={} if method == "POST" else None)
        assert answer.status_code == 403, path
        assert "key" in answer.json["error"]
    for cookie in ("", "the-ke", "the-key2", "\xff"):
        client.set_cookie("slicesampling-80", cookie)
        assert client.get("/").status_code == 403


def test_the_cookie_goes_to_nobody_else(work: Work) -> None:
    cookie = make_app(work, TOKEN).test_client().get(f"/?token={TOKEN}").headers["Set-Cookie"]
    assert "SameSite=Strict" in cookie
    assert "HttpOnly" in cookie


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "example.org"},
        {"Host": "localhost.example.org:80"},
        {"Origin": "http://example.org"},
        {"Origin": "http://localhost:1234"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_no_other_origin_is_served(work: Work, desk: Callable[..., Desk], headers: dict[str, str]) -> None:
    client = desk().client
    given = headers | {"Cookie": f"slicesampling-80={TOKEN}"}
    for path, method in paths(work):
        answer = client.open(path, method=method, headers=given)
        assert (answer.status_code, answer.json.get("reason")) == (403, None), path
    assert client.get("/", headers={"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_the_page_may_load_nothing_from_elsewhere(desk: Callable[..., Desk]) -> None:
    answer = desk().client.get("/")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "http" not in answer.headers["Content-Security-Policy"]
    for path in (ROOT / "workflow/scripts/slicesampling/page/static").iterdir():
        text = path.read_text(encoding="utf-8")
        assert "http:" not in text
        assert "https:" not in text
        assert desk().client.get(f"/static/{path.name}").text == text


# -- what may be asked ------------------------------------------------------------------------------------------------


def test_planes_are_those_of_the_volume(desk: Callable[..., Desk]) -> None:
    image, client = scan(SHAPE), desk().client
    for axis, name in enumerate(("axial", "coronal", "sagittal")):
        for index in (0, SHAPE[axis] - 1):
            where = {"volume": "case 2", "axis": name, "index": index}
            plane = client.get("/api/plane", query_string=where)
            assert (np.frombuffer(plane.data, "<i2") == np.take(image, index, axis).ravel()).all()


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("plane", {"volume": "case 3", "axis": "axial", "index": "0"}),
        ("plane", {"volume": "../case 1", "axis": "axial", "index": "0"}),
        ("plane", {"volume": "case 1", "axis": "oblique", "index": "0"}),
        ("plane", {"volume": "case 1", "axis": "axial", "index": "12"}),
        ("plane", {"volume": "case 1", "axis": "axial", "index": "-1"}),
        ("plane", {"volume": "case 1", "axis": "axial", "index": "¹"}),
        ("plane", {"volume": "case 1", "axis": "axial", "index": "1e0"}),
        ("plane", {}),
        ("thumbnail", {"volume": "case 1", "slice": "4", "annotator": "Anna"}),
        ("thumbnail", {"volume": "/etc/passwd", "slice": "3", "annotator": "Anna"}),
        ("thumbnail", {"volume": "case 1", "slice": "3"}),
        ("round", {"annotator": " "}),
        ("round", {"annotator": "a\nb"}),
        ("round", {"annotator": "a" * 41}),
        ("../round", {"annotator": "Anna"}),
    ],
)
def test_unknown_volumes_and_slices_are_refused(desk: Callable[..., Desk], path: str, values: dict[str, str]) -> None:
    answer = desk().client.get(f"/api/{path}", query_string=values)
    assert answer.status_code in (400, 404)
    assert answer.json is not None
    assert set(answer.json) <= {"error", "reason"}


@pytest.mark.parametrize("name", ["..%2f..%2fserver.py", "%2e%2e/server.py", "server.py", "/etc/passwd", ""])
def test_no_file_but_those_of_the_page_is_served(desk: Callable[..., Desk], name: str) -> None:
    assert desk().client.get(f"/static/{name}").status_code in (404, 308)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
GOOD: dict[str, Any] = {"round": "uss-1", "volume": "case 1", "slice": 3, "answer": "mask", "runs": [0, 7, 1193]}
GOOD |= {"seconds": 1, "opened": OPENED, "start": "empty", "comment": "", "annotator": "Anna"}


@pytest.fixture(scope="module")
def anna(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    folder = tmp_path_factory.mktemp("round")
    make_round(folder, SHAPE)
    return Desk(make_app(work_in(folder), TOKEN).test_client())


@given(st.sampled_from(sorted(GOOD)), JSON)
def test_whatever_is_sent_is_logged_as_it_must_be_or_refused(anna: Desk, key: str, value: Any) -> None:
    answer = anna.client.post("/api/answer", data=json.dumps(GOOD | {key: value}))
    assert answer.status_code in (200, 400, 404, 409), answer.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"\xff",
        b"[" * 100_000,
        json.dumps(GOOD).encode()[:-1],
        json.dumps({**GOOD, "more": 1}).encode(),
        json.dumps({name: value for name, value in GOOD.items() if name != "slice"}).encode(),
        json.dumps(GOOD | {"runs": [0, 7, 1192]}).encode(),
        json.dumps(GOOD | {"runs": [0, 0, 1200]}).encode(),
        json.dumps(GOOD | {"runs": [1.5, 1198.5]}).encode(),
        json.dumps(GOOD | {"runs": [2**62, 2**62]}).encode(),
        json.dumps(GOOD | {"runs": []}).encode(),
        json.dumps(GOOD | {"slice": True}).encode(),
        json.dumps(GOOD | {"seconds": float("nan")}).encode(),
        json.dumps(GOOD | {"opened": "2026-13-01T10:00:00.000+00:00"}).encode(),
    ],
)
def test_a_body_that_is_not_as_it_must_be_is_refused(anna: Desk, body: bytes) -> None:
    before = anna.state()["people"]
    answer = anna.client.post("/api/answer", data=body)
    assert answer.status_code == 400, answer.text
    assert "\n" not in answer.json["error"]
    assert anna.state()["people"] == before


def test_bodies_are_bounded(anna: Desk) -> None:
    assert anna.client.post("/api/answer", data=b" " * (LARGEST_BODY + 1)).status_code == 413
    worst = [0] + [1] * 1024**2
    assert len(json.dumps(worst)) < LARGEST_BODY


def test_no_answer_names_a_file(work: Work, desk: Callable[..., Desk], tmp_path: Path, monkeypatch: Any) -> None:
    """Neither what goes well nor what fails, by whatever fault of the files below."""
    anna = desk()
    said = [json.dumps(anna.open()), json.dumps(anna.state()), json.dumps(anna.answer("case 1", 3))]

    def fails(*values: object) -> None:
        raise OSError(errno.EIO, "Input/output error", str(tmp_path / "annotations/log.jsonl"))

    monkeypatch.setattr(Answers, "refresh", fails)
    said += [anna.client.get("/api/round?annotator=Anna").text]
    monkeypatch.undo()
    (tmp_path / "results/work_lists/uss-2.tsv").write_text("no table", encoding="utf-8")
    said += [anna.client.get("/api/round?annotator=Anna").text]
    for text in said:
        assert str(tmp_path) not in text
        assert "/" not in text
        assert ".tsv" not in text
        assert ".nii" not in text


# -- reservations -----------------------------------------------------------------------------------------------------


def test_a_slice_is_one_annotators_until_it_comes_back(desk: Callable[..., Desk], clock: Clock) -> None:
    anna, ben = desk("Anna"), desk("Ben")
    first = anna.open()["item"]
    assert (first["volume"], first["slice"]) == SLICES[0][:2]
    assert ben.states()["case 1", 3] == "taken"
    assert ben.open(409, volume="case 1", slice=3)["reason"] == "taken"
    assert ben.open()["item"]["slice"] == 5
    clock.time += timedelta(minutes=15)
    anna.draft("case 1", 3, [0, 7, 1193], 1)
    clock.time += timedelta(minutes=15)
    assert ben.states()["case 1", 3] == "taken"
    clock.time += timedelta(minutes=6)
    assert ben.states()["case 1", 3] == "open"
    ben.open(volume="case 1", slice=3)
    ben.answer("case 1", 3)
    # Whoever comes back late loses nothing: both answers are in the log, and the first one holds.
    assert anna.draft("case 1", 3, [0, 8, 1192], 2) == {"kept": True}
    assert anna.answer("case 1", 3)["also"] == ["Ben"]


def test_reservations_outlive_the_server(work: Work, desk: Callable[..., Desk], tmp_path: Path, clock: Clock) -> None:
    desk("Anna").open(volume="case 1", slice=3)
    again = Desk(make_app(work_in(tmp_path, clock=clock), TOKEN).test_client(), "Ben")
    assert again.states()["case 1", 3] == "taken"


def test_what_is_left_untouched_comes_back_at_once(desk: Callable[..., Desk]) -> None:
    anna, ben = desk("Anna"), desk("Ben")
    which = {"round": "uss-1", "tab": "t1", "volume": "case 1", "slice": 3}
    anna.open(volume="case 1", slice=3)
    anna.post("leave", **which)
    assert ben.states()["case 1", 3] == "open"
    anna.open(volume="case 1", slice=3)
    anna.draft("case 1", 3, [0, 7, 1193], 1)
    anna.post("leave", **which)
    assert ben.states()["case 1", 3] == "taken"


def test_everyone_opens_another_slice_at_once(desk: Callable[..., Desk]) -> None:
    """As many people as there are places, at the same moment: each place is taken once."""
    names = "ABCDE"
    opened: list[tuple[str, int]] = []
    barrier = threading.Barrier(len(names))
    desks = [desk(name) for name in names]

    def take(one: Desk) -> None:
        barrier.wait()
        item = one.open()["item"]
        opened.append((item["volume"], item["slice"]))

    threads = [threading.Thread(target=take, args=(one,)) for one in desks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(opened) == sorted((volume, index) for volume, index, _, people in SLICES for _ in range(people))
    assert desk("F").open(409)["reason"] == "waiting"


# -- drafts -----------------------------------------------------------------------------------------------------------


def test_a_draft_comes_back_as_it_was(desk: Callable[..., Desk], tmp_path: Path) -> None:
    anna = desk()
    opened = anna.open(volume="case 1", slice=3)
    assert opened["draft"] is None
    anna.draft("case 1", 3, [3, 4, 1193], 7, opened=opened["opened"])
    again = Desk(make_app(work_in(tmp_path), TOKEN).test_client(), "Anna", "t2").open(volume="case 1", slice=3)
    assert again["draft"]["runs"] == [3, 4, 1193]
    assert again["draft"]["seconds"] == 1.5
    assert again["opened"] == opened["opened"]


def test_an_older_draft_or_tab_overwrites_nothing(desk: Callable[..., Desk]) -> None:
    first, second = desk("Anna", "t1"), desk("Anna", "t2")
    first.open(volume="case 1", slice=3)
    first.draft("case 1", 3, [0, 2, 1198], 2)
    first.draft("case 1", 3, [0, 1, 1199], 1)
    assert second.open(volume="case 1", slice=3)["draft"]["runs"] == [0, 2, 1198]
    assert first.draft("case 1", 3, [0, 3, 1197], 3, 409)["reason"] == "tab"


def test_a_draft_that_comes_after_its_answer_is_none(desk: Callable[..., Desk]) -> None:
    anna = desk()
    anna.answer("case 1", 3)
    anna.draft("case 1", 3, [0, 2, 1198], 2)
    assert anna.open(volume="case 1", slice=3)["draft"] is None


# -- answers ----------------------------------------------------------------------------------------------------------


def test_what_was_drawn_is_what_is_logged(desk: Callable[..., Desk], tmp_path: Path) -> None:
    anna = desk()
    proposal = ellipsoid(SHAPE, 0.03)[5]
    assert tuple(anna.open(volume="case 2", slice=5)["proposal"]) == to_runs(proposal)
    anna.answer("case 2", 5, start="proposal", comment="clear")
    (answer,) = Answers(tmp_path / "annotations").all.values()
    assert (answer.mask == MASK[5]).all()
    assert answer.changed == (MASK[5] != proposal).sum() > 0
    assert (answer.seconds, answer.start, answer.comment) == (12.5, "proposal", "clear")
    # A slice that starts empty gives no proposal away.
    assert anna.open(volume="case 2", slice=2)["proposal"] is None


def test_an_answer_sent_twice_is_one(desk: Callable[..., Desk], tmp_path: Path) -> None:
    anna = desk()
    for _ in range(2):
        anna.answer("case 1", 3)
    assert len(Answers(tmp_path / "annotations").all) == 1
    opened = anna.open(volume="case 1", slice=3)
    assert opened["start"] == "answer"
    assert tuple(opened["masks"]["Anna"]) == to_runs(MASK[3])
    anna.answer("case 1", 3, answer="no structure", opened=opened["opened"], start="answer")
    log = Answers(tmp_path / "annotations").all
    assert [answer.answer for answer in log.values()] == ["mask", "no structure"]
    assert log[1].changed == MASK[3].sum()


def test_two_answers_at_once_are_both_kept(desk: Callable[..., Desk], tmp_path: Path) -> None:
    desks = [desk(name) for name in ("Anna", "Ben")]
    threads = [threading.Thread(target=one.answer, args=("case 1", 8)) for one in desks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.annotator for answer in Answers(tmp_path / "annotations").all.values()} == {"Anna", "Ben"}
    assert desks[0].states()["case 1", 8] == "answered"


def test_two_people_do_not_see_each_other_before_both_have_answered(desk: Callable[..., Desk]) -> None:
    anna, ben, carl = desk("Anna"), desk("Ben"), desk("Carl")
    anna.answer("case 1", 8)

    def row(one: Desk) -> dict[str, Any]:
        return next(row for row in one.state()["items"] if row["slice"] == 8)

    def thumbnail(one: Desk) -> bytes:
        return one.client.get(f"/api/thumbnail?volume=case 1&slice=8&annotator={one.name}").data

    assert row(ben)["state"] == "open"
    assert row(ben)["answers"] == {}
    assert list(row(anna)["answers"]) == ["Anna"]
    assert ben.open(volume="case 1", slice=8)["masks"] == {}
    assert thumbnail(ben) == thumbnail(carl) != thumbnail(anna)
    ben.answer("case 1", 8, runs=to_runs(ellipsoid(SHAPE, 0.03)[8]))
    for one in (anna, ben, carl):
        assert list(row(one)["answers"]) == ["Anna", "Ben"]
    both = MASK[8] & ellipsoid(SHAPE, 0.03)[8]
    assert row(anna)["agreement"] == pytest.approx(2 * both.sum() / (MASK[8].sum() + ellipsoid(SHAPE, 0.03)[8].sum()))
    assert carl.open(volume="case 1", slice=8)["read_only"]
    assert carl.answer("case 1", 8, 409)["reason"] == "taken"


def test_the_round_closes_when_all_is_answered(desk: Callable[..., Desk], tmp_path: Path) -> None:
    anna, ben = desk("Anna"), desk("Ben")
    told = [anna.answer(volume, index)["closed"] for volume, index, *_ in SLICES]
    assert told == [False] * 4  # one slice needs a second person
    assert anna.open(409)["reason"] == "waiting"
    closed = tmp_path / "annotations/closed/uss-1.tsv"
    assert not closed.exists()
    assert ben.answer("case 1", 8, answer="cannot tell", comment="blurred")["closed"]
    assert closed.exists()
    assert anna.state()["people"] == {
        "Anna": {"answers": 4, "timed": 4, "seconds": 50},
        "Ben": {"answers": 1, "timed": 1, "seconds": 12.5},
    }
    # Who has not heard that the last answer was taken says it again.
    assert ben.answer("case 1", 8, answer="cannot tell", comment="blurred")["closed"]
    # Yesterday's tab.
    assert anna.answer("case 1", 3, 409, opened="2026-01-02T00:00:00.000+00:00")["reason"] == "closed"
    assert anna.draft("case 1", 3, [0, 7, 1193], 9, 409)["reason"] == "closed"
    make_round(tmp_path, SHAPE, "uss-2", [("case 2", 9, "empty", 1)])
    state = anna.state()
    assert (state["round"], state["number"], state["open"]) == ("uss-2", 2, True)
    assert anna.answer("case 1", 3, 409, opened="2026-01-02T00:00:00.000+00:00")["reason"] == "closed"
    assert ben.answer("case 1", 3, 404, round="uss-2")
    # An own answer of an earlier round is corrected under the round that is open.
    assert {row["slice"] for row in state["earlier"]} == {3, 5, 8, 2}
    anna.answer("case 1", 3, round="uss-2", answer="no structure", start="answer")


def test_an_annotator_ends_the_round_with_what_there_is(desk: Callable[..., Desk], tmp_path: Path) -> None:
    anna, ben = desk("Anna"), desk("Ben")
    assert "no slice of this round is answered yet" in anna.post("close", 409, round="uss-1")["error"]
    volume, index, *_ = SLICES[0]
    anna.answer(volume, index)
    closed = tmp_path / "annotations/closed/uss-1.tsv"
    assert anna.post("close", 409, round="uss-2")["reason"] == "closed"  # of a page that was not told
    assert anna.post("close", 400, round="uss-1", why="tea")
    assert not closed.exists()
    assert anna.post("close", round="uss-1") == {"closed": True}
    assert read_table(closed)[["volume", "slice"]].to_numpy().tolist() == [[volume, index]]
    assert not ben.state()["open"]
    assert ben.answer(*SLICES[1][:2], 409)["reason"] == "closed"
    assert ben.post("close", 409, round="uss-1")["reason"] == "closed"


def test_a_work_list_that_changes_is_followed(desk: Callable[..., Desk], tmp_path: Path) -> None:
    anna = desk()
    anna.open(volume="case 1", slice=3)
    make_round(tmp_path, SHAPE, "uss-1", SLICES[1:])
    os.utime(tmp_path / "results/work_lists/uss-1.tsv", (1, 1))
    assert "changed" in anna.answer("case 1", 3, 404)["error"]
    assert ("case 1", 3) not in anna.states()


def test_a_server_that_was_killed_before_the_rounds_table_writes_it(desk: Callable[..., Desk], tmp_path: Path) -> None:
    anna = desk()
    answers = Answers(tmp_path / "annotations")
    answers.close("uss-1")
    (tmp_path / "annotations/closed/uss-1.tsv").unlink()
    assert not anna.state()["open"]
    assert (tmp_path / "annotations/closed/uss-1.tsv").exists()


def test_a_full_disk_is_said_and_nothing_is_lost(desk: Callable[..., Desk], tmp_path: Path, monkeypatch: Any) -> None:
    anna = desk()
    anna.open(volume="case 1", slice=3)
    anna.draft("case 1", 3, [0, 7, 1193], 1)
    with monkeypatch.context() as patch:

        def full(*values: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr("slicesampling.answers.store.os.write", full)
        patch.setattr("slicesampling.answers.store.write_text", full)
        assert "full" in anna.answer("case 1", 3, 507)["error"]
        assert "full" in anna.draft("case 1", 3, [0, 8, 1192], 2, 507)["error"]
    assert anna.open(volume="case 1", slice=3)["draft"]["runs"] == [0, 7, 1193]
    anna.answer("case 1", 3)


# -- the process ------------------------------------------------------------------------------------------------------


def test_the_token_is_kept_and_nobody_elses(tmp_path: Path) -> None:
    token = kept_token(tmp_path)
    assert kept_token(tmp_path) == token
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    (tmp_path / "token").chmod(0o644)
    assert kept_token(tmp_path) != token


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, str, Path]]:
    make_round(tmp_path, SHAPE)
    config = tmp_path / "people.yaml"
    config.write_text(
        json.dumps({"annotator": "people", "people": {"answers": "annotations", "reserved_minutes": 20}}), "utf-8"
    )
    command = [sys.executable, "-m", COMMAND, "annotate", "--directory", str(tmp_path), "--port", "0"]
    server = subprocess.Popen([*command, "--configfile", str(config)], stdout=subprocess.PIPE, text=True)
    assert server.stdout
    try:
        yield server.stdout.readline(), server.stdout.readline(), tmp_path
    finally:
        server.kill()
        server.communicate()


def test_the_command_serves_on_this_machine_alone(served: tuple[str, str, Path]) -> None:
    first, second, folder = served
    address = first.split()[-1]
    port = int(address.split(":")[2].split("/")[0])
    assert f"ssh -C -L {port}:localhost:{port}" in second
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with opener.open(address) as page:
        assert b"<!doctype html>" in page.read()
        assert page.url == f"http://localhost:{port}/"
    # Only the loopback interface listens.
    with Path("/proc/net/tcp").open(encoding="ascii") as table:
        listening = [line.split()[1] for line in table if line.split()[3] == "0A"]
    assert [at for at in listening if at.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]
    # A request that is cut off changes nothing, and others are served meanwhile.
    token = address.split("=")[1]
    cut = socket.create_connection(("127.0.0.1", port))
    head = f"POST /api/answer HTTP/1.1\r\nHost: localhost:{port}\r\nCookie: slicesampling-{port}={token}\r\n"
    cut.sendall(f"{head}Content-Length: 5000\r\n\r\n{json.dumps(GOOD)}"[:-30].encode())
    cut.close()
    body = json.dumps(GOOD).encode()
    with opener.open(urllib.request.Request(f"http://localhost:{port}/api/answer", body)) as answer:
        assert json.load(answer) == {"closed": False, "also": []}
    assert len(Answers(folder / "annotations").all) == 1
    # A second server is told that the port is taken.
    command = [sys.executable, "-m", COMMAND, "annotate", "--directory", str(folder), "--port", str(port)]
    options = ["--configfile", str(folder / "people.yaml")]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"--port {port}: " in done.stderr
    # In the background the answer becomes a mask for other tools.
    path = folder / "annotations/masks/case 1.nii.gz"
    until(path.exists)
    assert read_canonical_mask(path)[3].sum() == 7


def test_the_command_refuses_a_simulated_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", COMMAND, "annotate", "--directory", str(tmp_path)]
    (tmp_path / "config.yaml").write_text("annotator: simulated", encoding="utf-8")
    done = subprocess.run(
        [*command, "--configfile", str(tmp_path / "config.yaml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "accepted for this page: people" in done.stderr
