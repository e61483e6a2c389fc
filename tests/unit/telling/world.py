"""A journal with one run that is written event by event, and tellers that look at it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from pagerduty.stand_in import ROUTING_KEY, SENDER, TOKEN
from runbook.adapters.journal import SqliteJournal
from runbook.adapters.recipients import senders
from runbook.adapters.run_locks import RunLocks
from runbook.adapters.telling_store import TellingStore
from runbook.engine.history import history_of
from runbook.model.events import Event
from runbook.model.inventory import Secret
from runbook.model.plan import Node, Plan
from runbook.model.ports import Request, RunRecord
from runbook.model.serve_config import ServeConfig, Tell, tell_as_data
from runbook.model.telling import Sender
from runbook.telling.case import Links
from runbook.telling.teller import Ports, Teller

INCIDENT = "PINCIDENT1"
SECRETS = {"TOKEN": TOKEN, "ROUTING_KEY": ROUTING_KEY, "SIGN": "a signing key"}
#: Wraps the senders of a teller, to have it die at a bad moment for instance.
Wrap = Callable[[str, Sender], Sender]


def config(url: str, **more: Any) -> ServeConfig:
    pagerduty = {
        "token": {"env": "TOKEN"},
        "from": SENDER,
        "api": url,
        "events": url,
        "routing_key": {"env": "ROUTING_KEY"},
    }
    return ServeConfig.model_validate({"version": 1, "pagerduty": pagerduty, **more})


def tell(**more: Any) -> Tell:
    return Tell.model_validate({"pagerduty": {}, "change_event": False, **more})


def secret(reference: Secret) -> str:
    return SECRETS.get(str(reference.env), str(reference.env))


_TELL = tell()


class World:
    """One run; time passes only when told."""

    def __init__(self, folder: Path, url: str, *, tell: Tell | None = None, **more: Any) -> None:
        self.folder = folder
        self.config = config(url, **more)
        self.journal = SqliteJournal(folder / "journal.db")
        self.now = 1_800_000_000.0
        self.run_id = "20270115-080000-abcd"
        self.runs = RunLocks(folder / "runs.lock")
        self.process = ExitStack()
        self.wanted = tell or _TELL
        self.wrap: Wrap = lambda _name, sender: sender
        self.teller = self.new_teller()

    def new_teller(self) -> Teller:
        """Return a teller as another process would have it."""
        made = senders(self.config, secret)
        return Teller(
            Ports(
                journal=self.journal,
                history_of=history_of,
                store=TellingStore(self.folder / "telling.db"),
                claims=RunLocks(self.folder / "telling.lock"),
                senders={name: self.wrap(name, sender) for name, sender in made.items()},
                links=Links(base=self.config.listen.url),
                alive=self.runs.alive,
                now=lambda: self.now,
            )
        )

    def close(self) -> None:
        self.process.close()
        self.teller.close()
        self.journal.close()

    # ---- the run ---------------------------------------------------------------------------

    def begin(self, *, rehearsal: bool = False, changes: bool = True, **request: Any) -> None:
        node = Node(
            key="roll",
            name="roll",
            verb="rolling",
            args={},
            changes=changes,
            flow="single",
            targets=("app-1",),
        )
        plan = Plan(
            engine=2, playbook="roll", target="shop", params={}, nodes=(node,), rehearsal=rehearsal
        )
        record = RunRecord(
            run_id=self.run_id,
            playbook="roll",
            target="shop",
            rehearsal=rehearsal,
            status="running",
            started_at=self.now,
            ended_at=None,
            who="ana@bastion",
            incident=INCIDENT,
            plan_hash=plan.hash,
        )
        asked = Request(playbook="roll", tell=tell_as_data(self.wanted, INCIDENT))
        self.journal.begin(record, plan.to_json(), replace(asked, **request))
        self.process.enter_context(self.runs.hold(self.run_id))
        self.say("planned", hash=plan.hash)

    def say(self, kind: Any, task: str | None = None, /, **data: Any) -> None:
        self.now += 1
        self.journal.append(self.run_id, Event(kind=kind, at=self.now, task=task, data=data))

    def work(self, used: int = 10, status: str = "ok", seen: str = "changed", **data: Any) -> None:
        """Have a task that changes something, and counts the slots before and after."""
        task, sentence = "roll/act/app-1", "on app-1: restart shop.service"
        self.say("task_started", task, phase="act", target="app-1")
        self.say("said", task, stage="restarting", text="now")
        if seen == "assumed":
            self.say("assumed", task, sentence=sentence, footprint=["app-1: shop.service"])
        else:
            self.say("intended", task, sentence=sentence, footprint=["app-1: shop.service"])
        if seen == "changed":
            self.say("changed", task, sentence=sentence, seconds=1.0)
        self.finish_task(
            task,
            status,
            {"slots_before": _slots(25), "slots": _slots(used), **data},
        )

    def finish_task(self, task: str, status: str, data: dict[str, Any]) -> None:
        summary = "a new process, healthy"
        self.say("task_finished", task, result={"status": status, "summary": summary, "data": data})

    def ask(self, digest: str = "abc123def456", **more: Any) -> None:
        question = {"key": "confirm", "hash": digest, "touches": ["app-1: shop.service"], **more}
        self.say("asked", **question)
        self.end("waiting", "for an answer")

    def end(self, status: str = "done", reason: str = "") -> None:
        self.say("finished", status=status, reason=reason, hint="")

    def die(self) -> None:
        """Let the run's process be gone, as after a kill -9."""
        self.process.close()

    # ---- the telling -----------------------------------------------------------------------

    def step(self, passed: float = 0.0) -> None:
        self.now += passed
        self.teller.step()

    def pending(self) -> int:
        return self.teller.pending()


def _slots(used: int) -> dict[str, int]:
    return {"used": used, "usable": 25}
