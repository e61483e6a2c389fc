"""From a queued event to what became of it: real inbox, journal, playbooks; PagerDuty by hand."""

from __future__ import annotations

import io
import json
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from conformance.harness import Workshop
from runbook import wiring
from runbook.adapters.inbox import SqliteInbox
from runbook.adapters.journal import SqliteJournal
from runbook.adapters.run_locks import RunLocks
from runbook.engine.local_runs import LocalRuns
from runbook.model.alert import Alert
from runbook.model.errors import DoorError
from runbook.model.intake import Entry, IncidentNow
from runbook.model.ports import KeptRun
from runbook.model.serve_config import ServeConfig
from runbook.serve.context import Context
from runbook.serve.incidents import Incidents
from runbook.serve.intake import Intake, NotBegun
from runbook.serve.log import Log
from runbook.serve.metrics import Metrics

INCIDENT = "QINCIDENT1"


@dataclass
class PagerDuty:
    """Says of every incident what it was told to."""

    status: Any = "triggered"
    labels: dict[str, str] = field(default_factory=dict)
    down: bool = False
    asked: int = 0

    def incident(self, incident_id: str) -> IncidentNow:
        """See `IncidentReader`."""
        self.asked += 1
        if self.down:
            raise DoorError("PagerDuty answers 500")
        return IncidentNow(
            id=incident_id,
            status=self.status,
            service=None,
            priority=None,
            urgency=None,
            title="",
            labels=self.labels,
        )


class Room:
    """An intake with all that it works with."""

    def __init__(self, folder: Path, *rules: dict[str, Any], **config: Any) -> None:
        self.shop = Workshop(folder)
        self.shop.playbook("look-here")
        self.inbox = SqliteInbox(folder / "serve.db", limit=5000)
        self.journal = SqliteJournal(folder / "journal.db")
        self.pagerduty = PagerDuty()
        self.now, self.working, self.began = 1_000_000.0, 0, 0
        self.log = io.StringIO()
        self.not_begun: NotBegun = lambda _entry, _rule, _why: None
        said = {
            "version": 1,
            "hooks": {"flow": {"source": "pagerduty-workflow", "secrets": [{"env": "X"}]}},
            "rules": [{"name": f"r{n}", "hook": "flow", **r} for n, r in enumerate(rules)],
            **config,
        }
        self.context = Context(
            config=ServeConfig.model_validate(said),
            source=str(folder / "serve.yaml"),
            load_fleet=lambda: wiring.load_fleet(str(self.shop.inventory)),
            inbox=self.inbox,
            journal=self.journal,
            runs=LocalRuns(self.journal, RunLocks(folder / "runs.lock"), who="serve"),
            secret=lambda _: "",
            incidents=self.pagerduty,
            now=lambda: self.now,
        )
        self.intake = self.made()

    def made(self) -> Intake:
        """Return an intake, as after a start."""

        def began() -> None:
            self.began += 1

        return Intake(
            self.context,
            incidents=Incidents(self.pagerduty, look_s=5.0, rest_s=0.0),
            working=lambda: self.working,
            began=began,
            log=Log(self.log, as_json=True),
            metrics=Metrics(),
            # As it is then: a test may put another one there.
            not_begun=lambda entry, rule, why: self.not_begun(entry, rule, why),  # noqa: PLW0108
        )

    def put(self, *keys: str, **said: Any) -> None:
        """Have events in the inbox."""
        base = {"source": "pagerduty-workflow", "hook": "flow", "event": "workflow"}
        about = {**base, "incident": INCIDENT, **said}
        self.inbox.put([Alert(key=key, **about) for key in keys], self.now)

    def take(self) -> Entry:
        """Take what is queued; return the newest event."""
        self.intake.step()
        return self.inbox.recent(1)[0]

    def run(self, run_id: str | None) -> KeptRun:
        """Return a run of the journal."""
        kept = self.journal.run(run_id or "")
        assert kept is not None
        return kept


LOOK = {"run": "look-here.yaml", "mode": "real", "approval": {"by": ["ann"], "within": "5m"}}
PEOPLE = {"people": {"ann": {"role": "approver", "slack": "U12345678"}}}


def test_an_event_with_a_rule_becomes_a_run(tmp_path: Path) -> None:
    """Its request has what the rule says, in words that hold from any directory."""
    room = Room(tmp_path, LOOK, **PEOPLE)
    room.put("a")
    entry = room.take()
    assert (entry.state, entry.rule) == ("ran", "r0")
    asked = room.run(entry.run_id).request
    assert asked is not None
    assert asked.playbook == str(tmp_path / "look-here.yaml")
    assert asked.inventory == str(tmp_path / "inventory.yaml")
    assert (asked.rule, asked.approvers, asked.answer_within_s) == ("r0", ("ann",), 300.0)
    assert asked.incident == INCIDENT
    assert asked.tell is not None
    assert asked.tell["incident"] == INCIDENT
    assert room.began == 1


def test_no_rule_no_run(tmp_path: Path) -> None:
    """And nobody at PagerDuty is asked about it."""
    room = Room(tmp_path, {**LOOK, "when": {"event": "other"}}, **PEOPLE)
    room.put("a")
    entry = room.take()
    assert (entry.state, entry.run_id) == ("ignored", None)
    assert entry.why.startswith("no rule")
    assert room.pagerduty.asked == 0


def test_an_incident_that_is_over_by_now(tmp_path: Path) -> None:
    """It is read anew before anything is begun."""
    room = Room(tmp_path, LOOK, **PEOPLE)
    room.pagerduty.status = "resolved"
    room.put("a")
    entry = room.take()
    assert entry.state == "ignored"
    assert "resolved by now" in entry.why


def test_pagerduty_down_stops_no_run(tmp_path: Path) -> None:
    """What could not be looked up is said."""
    room = Room(tmp_path, LOOK, **PEOPLE)
    room.pagerduty.down = True
    room.put("a")
    entry = room.take()
    assert entry.state == "ran"
    assert "PagerDuty answers 500" in entry.why


def test_an_event_waits_for_pagerduty_when_only_the_incident_can_tell(tmp_path: Path) -> None:
    """For a while; then it is told that nobody could."""
    room = Room(tmp_path, {**LOOK, "when": {"labels": {"db": "x"}}}, **PEOPLE)
    room.pagerduty.down = True
    room.put("a")
    assert room.take().state == "queued"
    room.pagerduty.down, room.pagerduty.labels = False, {"db": "x"}
    assert room.take().state == "ran"
    room.pagerduty.down = True
    room.put("b", incident="QINCIDENT2")
    room.now += 301
    entry = room.take()
    assert entry.state == "ignored"
    assert "answers 500" in entry.why


def test_a_hanging_pagerduty_is_not_waited_for(tmp_path: Path) -> None:
    """Nor asked again by the next event right away."""
    let_go, reader = threading.Event(), PagerDuty()

    class Hanging:
        def incident(self, incident_id: str) -> IncidentNow:
            let_go.wait(30)
            return reader.incident(incident_id)

    clock = [0.0]
    incidents = Incidents(Hanging(), look_s=0.1, rest_s=20.0, clock=lambda: clock[0])
    assert "within 0.1 s" in incidents.look(INCIDENT).why
    assert "a moment ago" in incidents.look(INCIDENT).why
    let_go.set()
    clock[0] = 21.0
    assert incidents.look(INCIDENT).incident is not None
    incidents.close()


def test_a_kill_between_submitting_and_settling(tmp_path: Path) -> None:
    """The run is there: the event is settled with it, and nothing is begun."""
    room = Room(tmp_path, LOOK, **PEOPLE)
    room.put("a")
    [queued] = room.inbox.queued()
    inbox = room.inbox

    class Dying:
        """Loses its process right before it settles."""

        def __getattr__(self, name: str) -> Any:
            if name == "settle":
                raise KeyboardInterrupt
            return getattr(inbox, name)

    alive = room.context
    room.context = replace(alive, inbox=Dying())
    with pytest.raises(KeyboardInterrupt):
        room.made().step()
    assert [record.run_id for record in room.journal.runs()] == [queued.run_id]
    room.context = alive
    room.intake = room.made()
    entry = room.take()
    assert (entry.state, entry.run_id, entry.rule) == ("ran", queued.run_id, "r0")
    assert len(room.journal.runs()) == 1


def test_no_more_runs_at_once_than_allowed(tmp_path: Path) -> None:
    """The others stay queued, and what no rule is for is settled meanwhile."""
    quick = {**LOOK, "cooldown": 0}
    room = Room(tmp_path, quick, **PEOPLE, limits={"at_once": 2})
    room.working = 1
    room.put("a", "b")
    room.put("c", event="x", hook="other")
    room.intake.step()
    assert [entry.alert.key for entry in room.inbox.queued()] == ["b"]
    room.working = 2
    room.intake.step()
    assert room.inbox.waiting() == 1
    room.working = 1
    room.intake.step()
    assert room.inbox.waiting() == 0


def test_a_run_that_had_to_wait_cools_down_from_when_it_began(tmp_path: Path) -> None:
    """Else the next one is right behind it."""
    room = Room(tmp_path, {**LOOK, "cooldown": "10m"}, **PEOPLE, limits={"at_once": 1})
    room.working = 1
    room.put("a")
    room.intake.step()
    room.now += 11 * 60.0
    room.put("b")
    room.working = 0
    for _ in range(2):
        room.intake.step()
    assert [entry.state for entry in room.inbox.recent()] == ["ignored", "ran"]


def test_events_that_wait_hide_none_that_came_later(tmp_path: Path) -> None:
    """However many there are."""
    room = Room(tmp_path, LOOK, **PEOPLE, limits={"at_once": 1})
    room.working = 1
    room.put(*(f"k{n}" for n in range(450)))
    room.put("last", hook="other")
    for _ in range(3):
        room.intake.step()
    assert room.inbox.recent(1)[0].state == "ignored"


def test_what_cannot_be_planned_has_failed(tmp_path: Path) -> None:
    """With the message that a command line would have shown."""
    room = Room(tmp_path, {**LOOK, "target": "nowhere"}, **PEOPLE)
    room.put("a")
    entry = room.take()
    assert (entry.state, entry.rule) == ("failed", "r0")
    assert "target" in entry.why


def test_an_inventory_that_is_being_edited(tmp_path: Path) -> None:
    """An event waits until it can be read, as long as its rule lets it be old."""
    room = Room(tmp_path, {**LOOK, "max_age": "1m"}, **PEOPLE)
    whole = room.shop.inventory.read_text()
    room.shop.inventory.write_text("version: 1\nhos")
    room.put("a")
    assert room.take().state == "queued"
    assert room.intake.trouble
    room.shop.inventory.write_text(whole)
    assert room.take().state == "ran"
    room.shop.inventory.write_text("version: 1\nhos")
    room.put("b", incident="QINCIDENT2")
    room.now += 61
    assert room.take().state == "failed"
    # Nothing waits for it any more: the service is well.
    room.intake.step()
    assert not room.intake.trouble


def test_the_log_has_a_line_for_each(tmp_path: Path) -> None:
    """Its title cannot fake another line."""
    room = Room(tmp_path, LOOK, **PEOPLE)
    room.put("a", title='x\n{"event": "settled"}\x1b[31m')
    entry = room.take()
    [line] = [json.loads(each) for each in room.log.getvalue().splitlines()]
    assert (line["event"], line["state"], line["run"]) == ("settled", "ran", entry.run_id)
    assert "\n" not in line["title"]
    assert "\x1b" not in line["title"]
