"""From an alert to the run and back: real callers, a real lab, a PagerDuty that keeps its state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pagerduty.stand_in import ROUTING_KEY, SENDER, TOKEN, PagerDutyStandIn

from .alertmanager import alertmanager
from .command import sessions
from .lab import DB, Lab, free_ports, until
from .serving import SECRET, serving, triggered

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .command import Command

INCIDENT, SERVICE = "PINC0000001", "PSVC00001"


@pytest.fixture
def pagerduty() -> Iterator[PagerDutyStandIn]:
    with PagerDutyStandIn() as stand_in:
        stand_in.add_incident(INCIDENT, details={"database": DB})
        yield stand_in


def config(pagerduty: PagerDutyStandIn, *rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a configuration with two hooks, PagerDuty on loopback, and rules."""
    return {
        "version": 1,
        "listen": {"port": 0},
        "hooks": {
            "pagerduty": {"source": "pagerduty", "secrets": [{"env": "HOOK_SECRET"}]},
            "prometheus": {"source": "alertmanager", "secrets": [{"env": "HOOK_SECRET"}]},
        },
        "rules": list(rules),
        "pagerduty": {
            "token": {"env": "PD_TOKEN"},
            "from": SENDER,
            "api": pagerduty.url,
            "events": pagerduty.url,
            "routing_key": {"env": "PD_ROUTING_KEY"},
        },
        **more,
    }


@pytest.fixture(autouse=True)
def _known(runbook: Command) -> None:
    runbook.env.update(PD_TOKEN=TOKEN, PD_ROUTING_KEY=ROUTING_KEY, ANA_TOKEN="a-token-of-anas")


def saturate(lab: Lab) -> None:
    """Have the shop of one host leak until no slot is left."""
    lab.leak(lab.apps[1], 37 - len(sessions(lab)))


def test_an_alert_of_a_real_alertmanager_becomes_a_diagnosis(
    lab: Lab, runbook: Command, tmp_path: Path, pagerduty: PagerDutyStandIn
) -> None:
    rule = {
        "name": "saturated",
        "hook": "prometheus",
        "when": {"event": "firing", "labels": {"alertname": "PostgresSaturated"}},
        "run": "diagnose-saturation",
        "target": {"label": "instance", "of": "database", "pattern": "(.+):9187"},
    }
    saturate(lab)
    (port,) = (next(free_ports(1)),)
    with (
        serving(runbook, tmp_path, config(pagerduty, rule)) as serve,
        alertmanager(
            tmp_path / "am", port, f"http://127.0.0.1:{serve.port}/hooks/prometheus", SECRET
        ) as prometheus,
    ):
        labels = {"alertname": "PostgresSaturated", "instance": f"{DB}:9187"}
        prometheus.fire({**labels, "instance": "nobody-knows:9187"})
        prometheus.fire(labels)
        until(lambda: _ended(runbook), "the run has ended")
        # Alertmanager tells it again each second: it is the same alert.
        prometheus.fire(labels, "and again")
        (run,) = runbook("runs", "list", "--format", "json").json()
    assert (run["status"], run["target"]) == ("done", DB), serve.log
    shown = runbook("runs", "show", "last").said
    assert "leaked" in shown


def _ended(runbook: Command) -> bool:
    runs = runbook("runs", "list", "--format", "json").json()
    return bool(runs) and all(run["ended_at"] is not None for run in runs)


def test_a_signed_webhook_is_rehearsed_told_approved_done_and_resolved(
    lab: Lab, runbook: Command, tmp_path: Path, pagerduty: PagerDutyStandIn
) -> None:
    rule = {
        "name": "relieve",
        "hook": "pagerduty",
        "when": {"event": "incident.triggered", "service": SERVICE},
        "run": "terminate-idle",
        "target": {"label": "database", "of": "database"},
        "mode": "real",
        "tell": {"pagerduty": {"acknowledge": True, "resolve": True}},
    }
    pagerduty.incidents[INCIDENT].service = SERVICE
    saturate(lab)
    people = {"ana": {"role": "approver", "token": {"env": "ANA_TOKEN"}}}
    with serving(runbook, tmp_path, config(pagerduty, rule, people=people)) as serve:
        assert serve.pagerduty(triggered(INCIDENT, SERVICE)) == 202
        assert serve.pagerduty(triggered(INCIDENT, SERVICE)) == 202
        until(lambda: any("approve" in n for n in pagerduty.notes(INCIDENT)), "it asks")
        (waits,) = runbook("runs", "list", "--open", "--format", "json").json()
        runbook("runs", "approve", waits["run_id"], "--yes")
        until(lambda: pagerduty.incidents[INCIDENT].status == "resolved", "it is resolved")
    assert len(runbook("runs", "list", "--format", "json").json()) == 1
    assert pagerduty.complaints == []
