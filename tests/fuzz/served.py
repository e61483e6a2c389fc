"""Spoiled requests through the whole of `serve`: `PYTHONPATH=tests python -m fuzz.served`.

Most call the application in this process, some go over loopback to a real server. Each is
answered as docs/serve.md says and never with 500; once what was accepted is settled, every run in
the journal is one that a rule allows. Ends with 1 when one of that did not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import multiprocessing
import random
import socket
import sys
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from fuzz.requests import Made, made
from fuzz.whole import Whole, whole
from runbook.serve.body import LARGEST
from runbook.serve.server import Server, bind

_SHARE = 2000
_AT_ONCE = 32
Headers = list[tuple[bytes, bytes]]


@dataclass
class Sent:
    """A request as it is on the wire, and what it may be answered."""

    method: bytes
    path: bytes
    headers: Headers
    body: bytes
    answers: frozenset[int]
    #: The caller goes away before its body is over.
    cut: bool = False
    chunks: int = 1


# ---- what is sent ----------------------------------------------------------------------------


def sent(number: int) -> Sent:
    """Return the request of a number; some are spoiled as HTTP, too."""
    request = made(number)
    chance = random.Random(f"sent {number}")
    one = Sent(
        method=b"POST",
        path=f"/hooks/{request.hook}".encode(),
        headers=[(b"host", b"127.0.0.1"), *_headers(request)],
        body=request.body,
        answers=frozenset({200, 202, 400} if request.honest else {400, 401, 403}),
        chunks=chance.choice((1, 1, 1, 3)),
    )
    how = chance.random()
    if how < 0.1:
        chance.choice(_BENT)(one)
    elif how < 0.15:
        _to_a_page(chance, one)
    return one


_PAGES = ("/", "/sign-in", "/runs", "/runs/live", "/runs.json", "/inbox", "/sign-out")
_OF_A_RUN = ("", ".json", "/live", "/report", "/answer", "/cancel", "/resume")
_NAMED = ("20261124-021700-ab12", "..", "%", "x" * 300, "'; --", "\x00", "\x1b[31m")


def _to_a_page(chance: random.Random, one: Sent) -> None:
    """Somebody whom nobody knows asks for a page, or sends what is meant for a hook to one."""
    path = chance.choice(_PAGES)
    if chance.random() < 0.6:
        path = f"/runs/{chance.choice(_NAMED)}{chance.choice(_OF_A_RUN)}"
    one.path, one.method = quote(path).encode(), chance.choice((b"GET", b"POST", b"HEAD"))
    one.headers += chance.choice(_COOKIES)
    for_all = {200} if path in {"/", "/sign-in"} else set[int]()
    one.answers = frozenset({303, 400, 401, 403, 404, 405, 413, 415, 429} | for_all)


_COOKIES: tuple[Headers, ...] = (
    [],
    [(b"cookie", b"runbook=x; runbook=\xff; =; ;")],
    [(b"origin", b"null")],
    [(b"origin", b"http://127.0.0.1"), (b"sec-fetch-site", b"same-origin")],
)


def _headers(request: Made) -> Headers:
    return [(name.encode(), _raw(value)) for name, value in request.headers.items()]


def _raw(value: str) -> bytes:
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode("utf-8")


def _bend(one: Sent, answer: int, **changed: Any) -> None:
    for name, value in changed.items():
        setattr(one, name, value)
    one.answers = frozenset({answer})


def _replaced(one: Sent, name: bytes, *values: bytes) -> Headers:
    rest = [(each, value) for each, value in one.headers if each != name]
    return [*rest, *((name, value) for value in values)]


_BENT: tuple[Callable[[Sent], None], ...] = (
    lambda one: _bend(one, 405, method=b"PUT"),
    lambda one: _bend(one, 404, path=one.path + b"/"),
    lambda one: _bend(one, 404, path=b"/hooks/../hooks/x"),
    lambda one: _bend(one, 404, path=b"/hooks/" + b"x" * 3000),
    lambda one: _bend(one, 421, headers=_replaced(one, b"host", b"evil.example")),
    lambda one: _bend(one, 421, headers=_replaced(one, b"host", b"127.0.0.1:80@evil.example")),
    lambda one: _bend(one, 415, headers=_replaced(one, b"content-type", b"text/plain")),
    lambda one: _bend(one, 415, headers=_replaced(one, b"content-type", b"\xff")),
    lambda one: _bend(one, 415, headers=_replaced(one, b"content-type")),
    lambda one: _bend(one, 413, body=one.body + b" " * (LARGEST + 1), chunks=3),
    lambda one: _bend(one, 400, cut=True, body=one.body + b" ", chunks=2),
)


# ---- to the application in this process ------------------------------------------------------


@dataclass
class _Line:
    """One request and its answer, as the application sees them."""

    one: Sent
    answer: int = 0
    _left: list[bytes] = field(default_factory=list)
    _over: bool = False

    def __post_init__(self) -> None:
        size = len(self.one.body) // self.one.chunks + 1
        body = self.one.body
        self._left = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
        if self.one.cut:
            self._left.pop()

    async def receive(self) -> dict[str, Any]:
        if not self._left or self._over:
            return {"type": "http.disconnect"}
        chunk = self._left.pop(0)
        self._over = not self._left and not self.one.cut
        return {"type": "http.request", "body": chunk, "more_body": not self._over}

    async def send(self, message: Any) -> None:
        self.answer = message.get("status", self.answer)

    def scope(self) -> dict[str, Any]:
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self.one.method.decode(),
            "scheme": "http",
            "path": unquote(self.one.path.decode()),
            "raw_path": self.one.path,
            "query_string": b"",
            "root_path": "",
            "headers": self.one.headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 1),
        }


async def _in_process(app: Any, one: Sent) -> int:
    line = _Line(one)
    await app(line.scope(), line.receive, line.send)
    return line.answer


async def all_in_process(app: Any, numbers: range) -> list[tuple[int, str]]:
    room = asyncio.Semaphore(_AT_ONCE)

    async def trial(number: int) -> tuple[int, str]:
        async with room:
            one = sent(number)
            try:
                return number, _judged(one, await _in_process(app, one))
            except Exception:  # noqa: BLE001 - whatever it is, it is what we look for
                return number, f"broken: {traceback.format_exc()}"

    return await asyncio.gather(*(trial(number) for number in numbers))


def _judged(one: Sent, answer: int) -> str:
    if answer in one.answers:
        return str(answer)
    return f"broken: {answer}, not {sorted(one.answers)}: {one!r:.500}"


# ---- to a real server ------------------------------------------------------------------------


@contextmanager
def _listening(stage: Whole) -> Iterator[tuple[str, int]]:
    listener, started = bind("127.0.0.1", 0), threading.Event()
    server = Server(stage.app, stage.log, started.set, signals=False)
    thread = threading.Thread(target=server.run_on, args=(listener,))
    thread.start()
    started.wait(60)
    try:
        yield listener.getsockname()
    finally:
        server.should_exit = True
        thread.join(60)


def _over_http(where: tuple[str, int], one: Sent) -> int:
    length = b"content-length: %d" % len(one.body)
    lines = [one.method + b" " + one.path + b" HTTP/1.1", length, b"connection: close"]
    lines += [name + b": " + value for name, value in one.headers]
    with socket.create_connection(where, timeout=60) as line:
        with suppress(ConnectionError):  # it may be answered before it is over
            line.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + one.body)
        answer = http.client.HTTPResponse(line)
        answer.begin()
        return answer.status


def _sendable(one: Sent) -> bool:
    """Whether every server must answer it: not a caller who is gone, nor one told so by a reset."""
    return not one.cut and len(one.body) <= LARGEST


def _all_over_http(stage: Whole, numbers: range) -> list[tuple[int, str]]:
    with _listening(stage) as where:
        asked = [(number, one) for number in numbers if _sendable(one := sent(number))]
        return [(number, _judged(one, _over_http(where, one))) for number, one in asked]


# ---- all of it -------------------------------------------------------------------------------


def play(numbers: range, *, over_http: bool = False) -> tuple[list[str], Counter[str]]:
    """Send requests, settle what was accepted; return what was broken, and how all ended."""
    with tempfile.TemporaryDirectory() as folder, whole(Path(folder)) as stage:
        if over_http:
            ended = _all_over_http(stage, numbers)
        else:
            ended = asyncio.run(all_in_process(stage.app, numbers))
        stage.settle()
        kept, ran = stage.check()
    counts = Counter(said.partition(":")[0] for _, said in ended)
    counts += Counter(kept=kept, ran=ran)
    return [f"{number}: {said}" for number, said in ended if said.startswith("broken")], counts


def _work(share: tuple[range, bool]) -> tuple[list[str], Counter[str]]:
    try:
        return play(share[0], over_http=share[1])
    except Exception:  # noqa: BLE001
        return [f"{share}: {traceback.format_exc()}"], Counter(broken=1)


def main() -> int:
    """Run the trials, and print how they ended."""
    parser = argparse.ArgumentParser(prog="fuzz.served", description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--over-http", type=int, default=1000, help="so many of them")
    parser.add_argument("--first", type=int, default=0, help="the number of the first request")
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    last = asked.first + asked.inputs
    starts = range(asked.first, last, _SHARE)
    shares = [(range(at, min(at + _SHARE, last)), False) for at in starts]
    http_from = last - asked.over_http
    shares = [(numbers, numbers.start >= http_from) for numbers, _ in shares]
    ended: Counter[str] = Counter()
    with multiprocessing.Pool(asked.processes) as pool:
        for broken, counts in pool.imap(_work, shares):
            ended += counts
            for said in broken[:5]:
                print(f"--- request {said}", flush=True)
    print(f"{asked.inputs} requests: {dict(sorted(ended.items()))}")
    return 1 if ended["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
