"""From an alert to the run and back: real callers, a real lab, a PagerDuty that keeps its state."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from browser.chromium import browser
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


#: A user's own: why is it full, then the shop anew, then how does it look by now.
RELIEVE = """
version: 1
name: relieve
summary: Say why the database is full, restart the shop in batches, and look again.
target: {kind: database}
steps:
  - name: before
    diagnose: {database: "${target}"}
  - name: the shop anew
    rolling: {service: shop}
  - name: afterwards
    diagnose: {database: "${target}"}
"""


def test_a_signed_webhook_is_told_approved_in_a_browser_done_and_resolved(
    lab: Lab, runbook: Command, tmp_path: Path, pagerduty: PagerDutyStandIn
) -> None:
    (tmp_path / "relieve.yaml").write_text(RELIEVE)
    rule = {
        "name": "relieve",
        "hook": "pagerduty",
        "when": {"event": "incident.triggered", "service": SERVICE},
        "run": "relieve.yaml",
        "target": {"label": "database", "of": "database"},
        "mode": "real",
        "approval": {"by": ["ana"]},
        "tell": {"pagerduty": {"acknowledge": True, "resolve": True, "custom_field": "outcome"}},
    }
    pagerduty.incidents[INCIDENT].service = SERVICE
    saturate(lab)
    before = [lab.invocation_id(host) for host in lab.apps]
    people = {"ana": {"role": "approver", "token": {"env": "ANA_TOKEN"}}}
    with serving(runbook, tmp_path, config(pagerduty, rule, people=people)) as serve:
        # PagerDuty sends at least once: the second time is the same event.
        assert serve.pagerduty(triggered(INCIDENT, SERVICE)) == 202
        assert serve.pagerduty(triggered(INCIDENT, SERVICE)) == 202
        until(lambda: noted(pagerduty, "waits for approval"), "it asks")
        assert [lab.invocation_id(host) for host in lab.apps] == before
        (waits,) = runbook("runs", "list", "--open", "--format", "json").json()
        # A killed serve has lost nothing, and its run goes on without it.
        serve.stop(signal.SIGKILL)
        serve.start()
        approve_in_a_browser(serve.port, waits["run_id"])
        until(lambda: pagerduty.incidents[INCIDENT].status == "resolved", "resolved")
        until(lambda: noted(pagerduty, "Done"), "the result is told")
    (run,) = runbook("runs", "list", "--format", "json").json()
    assert (run["status"], run["incident"]) == ("done", INCIDENT)
    assert "ana@browser" in runbook("runs", "show", run["run_id"]).said
    after = [lab.invocation_id(host) for host in lab.apps]
    assert not set(before) & set(after)
    notes = pagerduty.notes(INCIDENT)
    markers = [note.rpartition("\n")[2].rpartition("/")[0] for note in notes]
    assert len(notes) == 3, notes
    assert all(run["run_id"] in marker for marker in markers)
    assert pagerduty.incidents[INCIDENT].fields["outcome"]
    assert [change["payload"]["summary"] for change in pagerduty.changes]
    assert pagerduty.complaints == []
    assert SECRET not in serve.log
    assert TOKEN not in serve.log


def noted(pagerduty: PagerDutyStandIn, text: str) -> bool:
    """Whether a note on the incident says something."""
    return any(text in note for note in pagerduty.notes(INCIDENT))


def approve_in_a_browser(port: int, run_id: str) -> None:
    """Sign in as Ana, look at what the run asks, and say yes."""
    with browser() as chromium:
        page = chromium.new_page(base_url=f"http://127.0.0.1:{port}")
        page.set_default_timeout(30_000)
        page.goto(f"/runs/{run_id}")
        page.fill("#token", "a-token-of-anas")
        page.press("#token", "Enter")
        page.get_by_text("app-1").first.wait_for()
        page.get_by_role("button", name="Approve").click()
        page.get_by_text("Approved by ana@browser").wait_for()
