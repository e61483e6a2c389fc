"""A PagerDuty on loopback: incidents, notes, alerts and events that stay, and every bad day.

    with PagerDutyStandIn() as pagerduty:
        pagerduty.add_incident("PINCIDENT1", details={"database": "drill-db"})
        pagerduty.fail(status=429, headers={"ratelimit-reset": "1"}, on="POST .*/notes")
        ...  # point `pagerduty.api` and `pagerduty.events` at pagerduty.url
        assert pagerduty.notes("PINCIDENT1")[0].startswith("runbook")
        assert pagerduty.complaints == []

Every request is held against `pagerduty.schema`: what PagerDuty would refuse is refused here.
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pagerduty.incidents import OBEYED, Incident, error
from pagerduty.schema import complaint

TOKEN, SENDER, ROUTING_KEY = "u+token+of+the+tests", "oncall@example.com", "R0UT1NGKEY" + "0" * 22


@dataclass
class Fault:
    """What goes wrong with requests whose `METHOD PATH` fits."""

    what: Literal["status", "hang", "cut"]
    on: str
    times: int
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    #: Whether the request is obeyed all the same: the ambiguous case.
    obeyed: bool = False


@dataclass(frozen=True)
class Seen:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


class PagerDutyStandIn:
    """See the module; used as a context manager."""

    def __init__(self, *, token: str = TOKEN, sender: str = SENDER) -> None:
        self.token = token
        self.sender = sender
        self.incidents: dict[str, Incident] = {}
        self.requests: list[Seen] = []
        #: What PagerDuty would have refused for its form.
        self.complaints: list[str] = []
        #: Alerts by dedup key: the events of each, the newest last.
        self.alerts: dict[str, list[dict[str, Any]]] = {}
        self.changes: list[dict[str, Any]] = []
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._count = 0
        self._released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )

    @property
    def url(self) -> str:
        """Return what `pagerduty.api` and `pagerduty.events` are set to."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()

    # ---- what tests say --------------------------------------------------------------------

    def add_incident(
        self, incident: str = "PINCIDENT1", *, details: dict[str, Any] | None = None, **more: Any
    ) -> Incident:
        """Have an incident, with one alert that says `details`; `more`: see `Incident`."""
        made = Incident(id=incident, **more)
        if details is not None:
            self.add_alert(made, details)
        self.incidents[incident] = made
        return made

    def add_alert(self, incident: Incident, details: Any, status: str = "triggered") -> None:
        """Have a further alert on an incident."""
        incident.alerts.append(
            {
                "id": self._new_id("A"),
                "status": status,
                "alert_key": "prod-db-01/slots",
                "severity": "critical",
                "body": {"type": "alert_body", "details": details},
            }
        )

    def fail(  # the next requests that fit
        self,
        *,
        status: int = 500,
        times: int = 1,
        on: str = ".*",
        headers: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
        obeyed: bool = False,
    ) -> None:
        """Answer the next `times` requests whose `METHOD PATH` fits with a status."""
        self._add(Fault("status", on, times, status, headers or {}, body or {}, obeyed))

    def hang(self, *, times: int = 1, on: str = ".*", obeyed: bool = False) -> None:
        """Do not answer the next requests that fit, until `release`."""
        self._add(Fault("hang", on, times, obeyed=obeyed))

    def cut(self, *, times: int = 1, on: str = ".*", obeyed: bool = True) -> None:
        """Cut the connection instead of answering; the request is obeyed unless told."""
        self._add(Fault("cut", on, times, obeyed=obeyed))

    def mend(self) -> None:
        """Let nothing go wrong any more."""
        with self._lock:
            self._faults.clear()
        self.release()

    def release(self) -> None:
        """Let those that hang go."""
        self._released.set()

    def notes(self, incident: str = "PINCIDENT1") -> list[str]:
        """Return the notes of an incident, in the order of their posting."""
        return list(self.incidents[incident].notes.values())

    def asked(self, on: str) -> list[Seen]:
        """Return the requests whose `METHOD PATH` fits."""
        return [seen for seen in self.requests if re.fullmatch(on, f"{seen.method} {seen.path}")]

    # ---- what requests lead to -------------------------------------------------------------

    def _add(self, fault: Fault) -> None:
        self._released.clear()
        with self._lock:
            self._faults.append(fault)

    def _fault(self, method: str, path: str) -> Fault | None:
        for fault in self._faults:
            if fault.times > 0 and re.fullmatch(fault.on, f"{method} {path}"):
                fault.times -= 1
                return fault
        return None

    def _new_id(self, letter: str) -> str:
        self._count += 1
        return f"{letter}{self._count:09d}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Obey one request, unless something is to go wrong."""
        parts = urlsplit(handler.path)
        length = int(handler.headers.get("Content-Length") or 0)
        raw = handler.rfile.read(length)
        wrong = complaint(
            handler.command, parts.path, dict(parse_qsl(parts.query)), handler.headers, raw
        )
        body = json.loads(raw) if raw else None
        with self._lock:
            seen = Seen(handler.command, parts.path, dict(handler.headers), body)
            self.requests.append(seen)
            self.complaints += [f"{seen.method} {seen.path}: {wrong}"] if wrong else []
            fault = self._fault(seen.method, seen.path)
            reply = (fault.status, fault.body) if fault is not None else (200, {})
            if fault is None or fault.obeyed:
                done = (400, error(2001, wrong)) if wrong else self._obey(seen)
                reply = reply if fault is not None else done
        if fault is not None and fault.what == "hang":
            self._released.wait(60)
        if fault is None or fault.what == "status":
            _reply(handler, *reply, headers=fault.headers if fault else {})
        else:
            handler.close_connection = True

    def _obey(self, seen: Seen) -> tuple[int, dict[str, Any]]:
        if seen.path.startswith("/v2/"):
            return self._event(seen)
        if seen.headers.get("Authorization") != f"Token token={self.token}":
            return 401, error(2006, "")
        if seen.method != "GET" and seen.headers.get("From") != self.sender:
            return 400, error(2001, "Requester User Not Found")
        _, _, incident_id, *rest = seen.path.split("/")
        incident = self.incidents.get(incident_id)
        if incident is None:
            return 404, error(2100, "Not Found")
        what = f"{seen.method} {'/'.join(rest[:1])}".strip()
        obey = OBEYED.get(what)
        if obey is None:
            return 404, error(2100, "Not Found")
        return obey(incident, rest, seen.body, self._new_id)

    def _event(self, seen: Seen) -> tuple[int, dict[str, Any]]:
        if seen.body["routing_key"] != ROUTING_KEY:
            return 400, {"status": "invalid event", "errors": ["Invalid routing key"]}
        if seen.path == "/v2/change/enqueue":
            self.changes.append(seen.body)
            return 202, {"status": "success", "message": "Change event processed"}
        key = seen.body.get("dedup_key") or self._new_id("D")
        # One that resolves or acknowledges what is not there is dropped.
        if seen.body["event_action"] == "trigger" or key in self.alerts:
            self.alerts.setdefault(key, []).append(seen.body)
        return 202, {"status": "success", "message": "Event processed", "dedup_key": key}


def _reply(
    handler: BaseHTTPRequestHandler, status: int, body: dict[str, Any], headers: dict[str, str]
) -> None:
    raw = json.dumps(body).encode()
    handler.send_response(status)
    for name, value in {"Content-Type": "application/json", **headers}.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(raw)))
    handler.end_headers()
    handler.wfile.write(raw)


def _handler(stand_in: PagerDutyStandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            stand_in.answer(self)

        do_GET = do_POST = do_PUT = do_DELETE = _any  # noqa: N815 - http.server's names

        def log_message(self, *_args: Any) -> None:
            """Nothing on the tests' stderr."""

    return Handler
