"""A house for the pages: people with tokens, a journal with runs written by hand, a client."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.testclient import TestClient

from runbook.adapters.browser_sessions import BrowserSessions
from runbook.adapters.journal import SqliteJournal
from runbook.adapters.run_locks import RunLocks
from runbook.engine.local_runs import LocalRuns
from runbook.model.alert import Alert
from runbook.model.errors import SecretMissing
from runbook.model.events import Event
from runbook.model.fleet import Fleet
from runbook.model.intake import Entry, Settled
from runbook.model.inventory import Inventory, Secret
from runbook.model.plan import Plan
from runbook.model.ports import Request, RunRecord
from runbook.model.serve_config import ServeConfig
from runbook.serve.context import Context
from runbook.serve.pages import routes
from unit.engine.plans import plan, rolling_node

URL = "http://testserver"
#: What a browser says with a form that is sent from a page of ours.
FROM_OURS = {"Origin": URL, "Sec-Fetch-Site": "same-origin"}
TOKENS = {
    "VERA": "token-of-vera-4711",
    "DANA": "token-of-dana-4712",
    "EVE": "token-of-eve-4713",
    "OTTO": "token-of-otto-4714",
}
PEOPLE: dict[str, Any] = {
    "vera": {"role": "viewer", "token": {"env": "VERA"}},
    "dana": {"role": "approver", "token": {"env": "DANA"}, "slack": "U0DANA123"},
    "eve": {"role": "approver", "token": {"env": "EVE"}},
    "otto": {"role": "operator", "token": {"env": "OTTO"}},
    "nobody": {"role": "operator", "pagerduty": "PNOBODY1"},
}
DIGEST = "0123456789ab"
TOUCHES = ("web-0: systemctl restart shop", "web-1: systemctl restart shop")


class MemoryInbox:
    """An inbox that was filled by hand."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def recent(self, limit: int = 50) -> Sequence[Entry]:
        """Return the newest events, the newest first."""
        return self.entries[::-1][:limit]

    def put(self, alerts: Sequence[Alert], at: float) -> int:
        """Keep events."""
        for alert in alerts:
            number = len(self.entries)
            # As the real one: an event has its run's id before it has a run.
            made = Entry(number=number, alert=alert, received_at=at, run_id=f"to-be-{number}")
            self.entries.append(made)
        return len(alerts)

    def waiting(self) -> int:
        """Return how many wait."""
        return len(self.queued(len(self.entries)))

    def trouble(self) -> str:
        """Return nothing: memory does not fill."""
        return ""

    def queued(self, limit: int = 100) -> Sequence[Entry]:
        """Return what waits."""
        return [entry for entry in self.entries if entry.state == "queued"][:limit]

    def ran_since(self, since: float) -> Sequence[Entry]:
        """Return what led to a run."""
        return [e for e in self.entries if e.state == "ran" and e.received_at >= since]

    def settle(self, settled: Sequence[Settled]) -> None:
        """Note what became of events."""
        for one in settled:
            self.entries[one.number] = replace(self.entries[one.number], **asdict(one))


class House:
    """Everything around the pages."""

    def __init__(self, folder: Path, *, people: Mapping[str, Any] = PEOPLE, url: str = "") -> None:
        self.folder = folder
        self.at = 1_800_000_000.0
        self.tokens = dict(TOKENS)
        self.started: list[str] = []
        self.inbox = MemoryInbox()
        self.journal = SqliteJournal(folder / "journal.db")
        self.locks = RunLocks(folder / "runs.lock")
        listen = {"url": url} if url else {}
        self.context = Context(
            config=ServeConfig.model_validate({"version": 1, "people": people, "listen": listen}),
            source="serve.yaml",
            load_fleet=lambda: Fleet(Inventory.model_validate({"version": 1})),
            inbox=self.inbox,
            journal=self.journal,
            runs=LocalRuns(
                self.journal,
                self.locks,
                who="root@bastion",
                start=self.started.append,
                now=lambda: self.at,
            ),
            secret=self._secret,
            now=lambda: self.at,
        )

    def _secret(self, secret: Secret) -> str:
        if secret.env not in self.tokens:
            raise SecretMissing(f"{secret.env} is not set")
        return self.tokens[secret.env]

    def app(self) -> Starlette:
        """Return the pages as a server begins them: another one is a restart."""
        return Starlette(routes=routes(self.context, BrowserSessions(self.folder / "sessions.db")))

    def client(self, name: str = "") -> Client:
        """Return a browser without JavaScript, in which somebody has signed in."""
        client = Client(self.app(), base_url=URL, follow_redirects=False)
        if name:
            assert client.sign_in(self.tokens[name.upper()]).status_code == 303
        return client

    # ---- runs

    def begin(self, run_id: str = "r1", made: Plan | None = None, **asked: Any) -> Plan:
        """Begin a run of a rolling restart on two hosts."""
        made = made or plan(rolling_node(2, (1, 1), target_kind="host"))
        record = RunRecord(
            run_id=run_id,
            playbook=asked.pop("playbook", "rolling-restart"),
            target=asked.pop("target", "shop"),
            rehearsal=made.rehearsal,
            status="running",
            started_at=self.at,
            ended_at=None,
            who="root@bastion",
            incident=asked.pop("incident", "Q1ABCDEFGHIJKL"),
            plan_hash=made.hash,
        )
        self.journal.begin(record, made.to_json(), Request(playbook="rolling-restart", **asked))
        self.tell(run_id, "planned", plan={}, hash=made.hash, pid=1)
        return made

    def tell(self, run_id: str, kind: Any, task: str | None = None, /, **data: Any) -> None:
        """Write an event."""
        self.journal.append(run_id, Event(kind=kind, at=self.at, task=task, data=data))

    def ask(
        self,
        run_id: str = "r1",
        *,
        digest: str = DIGEST,
        touches: Sequence[str] = TOUCHES,
        **more: Any,
    ) -> None:
        """Let a run ask, and wait."""
        question = {"key": "confirm", "hash": digest, "touches": list(touches), "kind": "plan"}
        self.tell(
            run_id, "asked", **{"prompt": "", "by": [], "expires_s": None, **question, **more}
        )
        self.end(run_id, "waiting")

    def end(self, run_id: str, status: str, reason: str = "") -> None:
        """End a run, or let it wait."""
        self.tell(run_id, "finished", status=status, reason=reason, hint="")
        self.journal.end(run_id, status, self.at)

    def kinds(self, run_id: str = "r1") -> list[str]:
        """Return the kinds of a run's events."""
        kept = self.journal.run(run_id)
        assert kept is not None
        return [event.kind for event in kept.events]

    def said(self, kind: str, run_id: str = "r1") -> list[dict[str, Any]]:
        """Return the data of a run's events of a kind."""
        kept = self.journal.run(run_id)
        assert kept is not None
        return [event.data for event in kept.events if event.kind == kind]


class Client(TestClient):
    """A browser without JavaScript: it has cookies, reads forms and sends them."""

    def sign_in(self, token: str, path: str = "/sign-in", **more: Any) -> Any:
        """Send the form to sign in."""
        fields = hidden(self.get(path).text)
        return self.fill("/sign-in", {**fields, "token": token}, **more)

    def fill(self, path: str, fields: Mapping[str, str], **headers: str) -> Any:
        """Send a form as a browser does from a page of ours."""
        return self.post(path, data=dict(fields), headers={**FROM_OURS, **headers})

    def act(self, path: str, page: str = "/runs/r1", **fields: str) -> Any:
        """Send the form that a page has for an address, with some fields filled in."""
        return self.fill(path, {**hidden(form_of(self.get(page).text, path)), **fields})


def form_of(page: str, action: str) -> str:
    """Return the form of a page that is sent to an address."""
    found = re.search(rf'<form[^>]*action="{re.escape(action)}".*?</form>', page, re.DOTALL)
    assert found is not None, f"no form for {action}"
    return found.group(0)


def hidden(form: str) -> dict[str, str]:
    """Return the hidden fields of a form."""
    return dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', form))
