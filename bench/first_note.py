"""From an accepted event to the first note on its incident, on a PagerDuty of loopback."""

from __future__ import annotations

import http.client
import json
import os
import tempfile
import time
from pathlib import Path

from bench.measure import NotMeasured
from bench.report import Figure, figure
from bench.serve import running_serve, signed
from pagerduty.stand_in import SENDER, TOKEN, PagerDutyStandIn

_ROUNDS, _TARGET_S, _PATIENCE_S = 7, 2.0, 30.0
#: A look at the world that takes a while: the first note must not wait for it.
_PLAYBOOK = {
    "version": 1,
    "name": "look",
    "steps": [{"name": "look", "pause": {"for": "5s"}}],
}


def measure() -> list[Figure]:
    """Return the seconds from a signed event to its incident's first note, and the note's floor."""
    with tempfile.TemporaryDirectory(prefix="runbook-bench-") as folder, PagerDutyStandIn() as told:
        home = Path(folder)
        (home / "look.yaml").write_text(json.dumps(_PLAYBOOK))
        extra = {"PD_TOKEN": TOKEN}
        with running_serve(home, _config(told), {**os.environ, **extra}) as (port, _):
            ours = [_seconds(port, told, f"PBENCH{number:04d}") for number in range(_ROUNDS)]
        floor = [_floor(told, f"PBENCH{number:04d}") for number in range(_ROUNDS)]
    return [
        figure("from a signed event to the incident's first note", "s", ours, _TARGET_S),
        figure("a bare POST of a note to the same place", "s", floor),
    ]


def _config(told: PagerDutyStandIn) -> dict[str, object]:
    rule = {
        "name": "look",
        "hook": "pd",
        "run": "look.yaml",
        "cooldown": "0s",
        "rate": {"most": 1000, "per": "1h"},
        "tell": {"pagerduty": {}},
    }
    account = {"token": {"env": "PD_TOKEN"}, "from": SENDER, "api": told.url, "events": told.url}
    limits = {"runs": {"most": 1000, "per": "1h"}, "at_once": 100}
    return {"rules": [rule], "pagerduty": account, "limits": limits}


def _seconds(port: int, told: PagerDutyStandIn, incident: str) -> float:
    told.add_incident(incident)
    began = time.perf_counter()
    body, headers = signed(incident, incident)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", "/hooks/pd", body, headers)
    if connection.getresponse().status != 202:
        raise NotMeasured("an event was not accepted")
    connection.close()
    while not told.notes(incident):
        if time.perf_counter() - began > _PATIENCE_S:
            raise NotMeasured("no note came")
        time.sleep(0.005)
    return time.perf_counter() - began


def _floor(told: PagerDutyStandIn, incident: str) -> float:
    """What a note costs when nothing stands behind it."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection(told.url.removeprefix("http://"), timeout=10)
    headers = {
        "Authorization": f"Token token={TOKEN}",
        "Accept": "application/vnd.pagerduty+json;version=2",
        "Content-Type": "application/json",
        "From": SENDER,
    }
    note = json.dumps({"note": {"content": "a note"}})
    connection.request("POST", f"/incidents/{incident}/notes", note, headers)
    if connection.getresponse().status not in {200, 201}:
        raise NotMeasured("the stand-in takes no note")
    connection.close()
    return time.perf_counter() - began
