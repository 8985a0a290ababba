"""The HTTP server of the page, on this machine only: each request is authorised first, and no response names a file.

Each request needs the token of the printed address, which the first request stores as a cookie. It must come from the
page itself, not from another site or port, and its body has a limited size and known fields. Volumes and slices are
looked up in the work list, so that no text of a client becomes a path.
"""

import errno
import json
import logging
import os
import secrets
from collections.abc import Callable, Collection
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
from flask import Flask, Response, jsonify, redirect, request
from waitress.server import create_server
from werkzeug.exceptions import HTTPException

from .. import UserError
from ..answers.pictures import AXES, Pictures
from ..answers.store import ANNOTATOR, CANNOT_TELL, MASK, NO_STRUCTURE, STARTS
from .work import Refused, Work

logger = logging.getLogger(__name__)

PORT = 8422
LARGEST_BODY = 4_000_000
"""The most bytes of a request; the largest mask of 1024 x 1024 pixels, a checkerboard, takes half of it."""
LARGEST_PLANE = 4_000_000
"""The most bytes of a response that is sent at once; a plane of 1024 x 1024 pixels takes half of it."""
LONGEST_COMMENT = 2000
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_NAME = {"type": "string", "pattern": rf"^{ANNOTATOR}\Z"}
_TAB = {"type": "string", "pattern": "^[0-9a-z]{1,32}$"}
_TEXT = {"type": "string", "maxLength": 200}
_SLICE = {"type": "integer", "minimum": 0}
_RUNS = {"type": "array", "maxItems": LARGEST_BODY // 2}
_SECONDS = {"type": "number", "minimum": 0, "maximum": 1e6}
_COMMENT = {"type": "string", "maxLength": LONGEST_COMMENT}
_MOMENT = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00$"}
_WHICH = {"annotator": _NAME, "round": _TEXT, "volume": _TEXT, "slice": _SLICE}
_STATE = {
    "runs": _RUNS,
    "start": {"enum": list(STARTS)},
    "seconds": _SECONDS,
    "comment": _COMMENT,
    "revision": _SLICE,
    "polygon": {"type": "array", "maxItems": 5000},
}


def _object(properties: dict[str, Any], optional: tuple[str, ...] = ()) -> jsonschema.Draft202012Validator:
    required = [name for name in properties if name not in optional]
    return jsonschema.Draft202012Validator(
        {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    )


OPEN = _object({"annotator": _NAME, "tab": _TAB, "volume": _TEXT, "slice": _SLICE}, ("volume", "slice"))
LEAVE = _object(_WHICH | {"tab": _TAB})
CLOSE = _object({"annotator": _NAME, "round": _TEXT})
DRAFT = _object(_WHICH | {"tab": _TAB, "opened": _MOMENT, "state": {"type": "object"}})
STATE = _object(_STATE)
ANSWER = _object(
    _WHICH
    | {
        "answer": {"enum": [MASK, NO_STRUCTURE, CANNOT_TELL]},
        "runs": _RUNS,
        "seconds": _SECONDS,
        "opened": _MOMENT,
        "start": {"enum": list(STARTS)},
        "comment": _COMMENT,
    }
)
NAME = jsonschema.Draft202012Validator(_NAME)


def guarded_app(token: str, start: str, pictures: Pictures, volumes: Callable[[], Collection[str]]) -> Flask:
    """Return an application that serves the page `start` and planes of `volumes` to clients with `token`."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    folder = resources.files(__package__) / "static"
    files = {entry.name: entry.read_bytes() for entry in folder.iterdir() if Path(entry.name).suffix in KINDS}

    @app.before_request
    def check() -> Response | None:
        host = request.host.rsplit(":", 1)[0] if not request.host.endswith("]") else request.host
        if host not in ("localhost", "127.0.0.1", "[::1]"):
            raise Refused(403, "open the page as localhost")
        cookie = f"slicesampling-{_port()}"  # cookies ignore the port, but two servers must not share one
        given = request.args.get("token", "") if request.path == "/" else ""
        if given and secrets.compare_digest(given.encode(), token.encode()):
            answer = redirect("/")
            answer.set_cookie(cookie, token, httponly=True, samesite="Strict", path="/")
            return answer  # type: ignore[return-value]
        if not secrets.compare_digest(request.cookies.get(cookie, "").encode(), token.encode()):
            raise Refused(
                403, "open the address that the server printed; it holds the key to this page", reason="token"
            )
        if request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
            raise Refused(403, "requests from another page are refused")
        if request.headers.get("Origin", f"http://{request.host}") != f"http://{request.host}":
            raise Refused(403, "requests from another page are refused")
        return None

    @app.after_request
    def protect(answer: Response) -> Response:
        answer.headers.update(HEADERS)
        return answer

    @app.errorhandler(Exception)
    def refuse(error: Exception) -> tuple[Response, int]:
        if isinstance(error, Refused):
            return jsonify(error=error.line, **error.more), error.status
        if isinstance(error, HTTPException):
            return jsonify(error=error.name.lower()), error.code or 500
        cause = error.__cause__ if isinstance(error, UserError) else error
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            logger.error("%s", error)
            return jsonify(error="the disk of the answers is full: nothing is saved until there is space"), 507
        # The error may name a file, so that it is only shown in the terminal.
        logger.error("%s: %s", request.path, error, exc_info=not isinstance(error, UserError | OSError))
        return jsonify(error="the server failed; see its terminal"), 500

    @app.get("/")
    def page() -> Response:
        return Response(files[start], mimetype=KINDS[".html"])

    @app.get("/static/<name>")
    def static_file(name: str) -> Response:
        if name not in files:
            raise Refused(404, "not found")
        return Response(files[name], mimetype=KINDS[Path(name).suffix])

    @app.get("/api/plane")
    def plane() -> Response:
        volume, axis = request.args.get("volume", ""), request.args.get("axis", "")
        if volume not in volumes() or axis not in AXES:
            raise Refused(404, "no volume here has this plane")
        try:
            content = pictures.plane(volume, axis, _whole(request.args.get("index", "")))
        except IndexError:
            raise Refused(404, "no volume here has this plane") from None
        return Response(
            content, mimetype="application/octet-stream"
        )  # uncompressed, because compression takes longer than sending

    return app


def make_app(work: Work, token: str) -> Flask:
    """Return the application that serves the page of `work` to clients with `token`."""
    app = guarded_app(token, "index.html", work.pictures, work.volumes)

    @app.get("/api/round")
    def round() -> Response:
        return jsonify(work.state(_annotator()))

    @app.post("/api/open")
    def open() -> Response:
        given = _body(OPEN)
        return jsonify(work.open(**given))

    @app.post("/api/draft")
    def draft() -> Response:
        given = _body(DRAFT)
        _checked(STATE, given["state"])
        work.keep(given)
        return jsonify(kept=True)

    @app.post("/api/leave")
    def leave() -> Response:
        work.leave(**_body(LEAVE))
        return jsonify(left=True)

    @app.post("/api/close")
    def close() -> Response:
        work.close(**_body(CLOSE))
        return jsonify(closed=True)

    @app.post("/api/answer")
    def answer() -> Response:
        return jsonify(work.answer(_body(ANSWER)))

    @app.get("/api/thumbnail")
    def thumbnail() -> Response:
        volume, index = request.args.get("volume", ""), _whole(request.args.get("slice", ""))
        mask = work.mask_of(_annotator(), volume, index)
        return Response(work.pictures.thumbnail(volume, index, mask), mimetype="image/png")

    return app


def _port() -> str:
    found = request.host.rsplit(":", 1)
    return found[1] if len(found) == 2 and found[1].isdigit() else "80"


def _annotator() -> str:
    name = request.args.get("annotator", "")
    _checked(NAME, name)
    return name


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 8):
        raise Refused(400, "a slice is a whole number from 0")
    return int(text)


def _body(kind: jsonschema.Draft202012Validator) -> Any:
    """Return the checked JSON of a request, independently of its Content-Type."""

    def no_number(name: str) -> None:
        raise ValueError(name)  # NaN and infinities, which Python would accept

    try:
        given = json.loads(request.get_data(), parse_constant=no_number)
    except (ValueError, RecursionError):
        raise Refused(400, "the request is not JSON, or incomplete") from None
    _checked(kind, given)
    return given


def _checked(kind: jsonschema.Draft202012Validator, given: Any) -> None:
    """Raise `Refused` unless a value is valid; of runs, only the number and types are checked here."""
    error = next(kind.iter_errors(given), None)
    if error:
        where = ".".join(str(part) for part in error.absolute_path) or "the request"
        raise Refused(400, f"{where} is invalid ({error.validator})")
    if not isinstance(given, dict):
        return
    try:
        datetime.fromisoformat(given.get("opened", "2000-01-01"))
    except ValueError:
        raise Refused(400, "opened is invalid (a time)") from None
    runs = given.get("runs", [])
    if not all(type(length) is int and 0 <= length < 2**31 for length in runs):
        raise Refused(400, "runs are invalid (whole numbers)")


def kept_token(folder: Path) -> str:
    """Return the token of the servers of these answers, so that a restarted server keeps its address."""
    path = folder / "token"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="ascii") as file:
            if os.fstat(file.fileno()).st_mode & 0o077 == 0 and len(token := file.read().strip()) == 43:
                return token
            os.fchmod(file.fileno(), 0o600)
            file.seek(0)
            file.truncate()
            file.write(token := secrets.token_urlsafe(32))
            return token
    except OSError:  # a folder of another user, who has their own token
        return secrets.token_urlsafe(32)


def serve(work: Work, answers: Path, port: int | None = None) -> None:
    """Serve the page on `port`, by default on `PORT` or a free one, until interrupted, and print its address.

    Raise UserError if `port` is in use.
    """
    token = kept_token(answers)
    listen(make_app(work, token), token, port, work.start)


def listen(app: Flask, token: str, port: int | None, begin: Callable[[], None] = lambda: None) -> None:
    """Serve an application like `serve`; `begin` is called after its address is printed."""
    options = {"host": "127.0.0.1", "threads": 8, "max_request_body_size": LARGEST_BODY + 1000, "ident": None}
    options |= {
        "send_bytes": LARGEST_PLANE,
        "outbuf_overflow": LARGEST_PLANE,
    }  # otherwise in pieces of 18 kB, via the disk
    try:
        server = create_server(app, port=PORT if port is None else port, **options)
    except OSError as error:
        if port is not None:
            raise UserError(f"--port {port}: {os.strerror(error.errno or 0)}; accepted: a free port") from error
        server = create_server(app, port=0, **options)
    port = server.effective_port  # type: ignore[union-attr]
    print(f"Open in a browser:          http://localhost:{port}/?token={token}")
    print(f"From another machine first: ssh -C -L {port}:localhost:{port} {os.uname().nodename}", flush=True)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # it logs each request that waits for a thread
    begin()
    server.run()
