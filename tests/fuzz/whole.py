"""All of `serve` but its processes, in a folder: the real application, inbox, journal and plans."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fuzz.alerts import CONFIG
from runbook.adapters.inbox import SqliteInbox
from runbook.adapters.journal import SqliteJournal
from runbook.adapters.run_locks import RunLocks
from runbook.adapters.secrets import resolve
from runbook.alerts import SOURCES
from runbook.engine.local_runs import LocalRuns
from runbook.model.intake import Entry
from runbook.model.plan import plan_from_json
from runbook.model.serve_config import Limits, Rate, ServeConfig
from runbook.serve.answering import take_answer
from runbook.serve.app import create_app
from runbook.serve.context import Context
from runbook.serve.incidents import Incidents
from runbook.serve.intake import Intake
from runbook.serve.log import Log
from runbook.serve.metrics import Metrics
from runbook.serve.pages import routes
from unit.alerts.calls import NOW, SECRET
from unit.alerts.world import FLEET

_OFTEN = Rate(most=10_000, per=3600.0)


def _unhindered() -> ServeConfig:
    """The same rules, held back by nothing: what they want is what is looked at."""
    rules = [one.model_copy(update={"cooldown": 0.0, "rate": _OFTEN}) for one in CONFIG.rules]
    limits = Limits(queue=100_000, runs=_OFTEN, at_once=100)
    return CONFIG.model_copy(update={"rules": tuple(rules), "limits": limits})


class Whole:
    """One of it; runs are begun in the journal, and no process works on them."""

    def __init__(self, folder: Path) -> None:
        os.environ["A"] = SECRET
        self.inbox = SqliteInbox(folder / "serve.db", limit=100_000)
        self.journal = SqliteJournal(folder / "journal.db")
        self.metrics, self.log = Metrics(), Log(io.StringIO(), as_json=True)
        self.context = Context(
            config=_unhindered(),
            source=str(folder / "serve.yaml"),
            load_fleet=lambda: FLEET,
            inbox=self.inbox,
            journal=self.journal,
            runs=LocalRuns(self.journal, RunLocks(folder / "runs.lock"), who="serve"),
            secret=resolve,
            now=lambda: NOW,
        )
        self.app = create_app(
            self.context,
            sources=SOURCES,
            log=self.log,
            metrics=self.metrics,
            health=lambda: (True, {}),
            take_answer=take_answer,
            pages=routes(self.context),
        )

    def settle(self) -> None:
        """Have everything taken that was accepted."""
        intake = Intake(
            self.context,
            incidents=Incidents(None),
            working=lambda: 0,
            began=lambda: None,
            log=self.log,
            metrics=self.metrics,
        )
        while self.inbox.waiting():
            intake.step()

    def check(self) -> tuple[int, int]:
        """Return how many events were kept and how many runs begun; each as a rule has it."""
        entries = self.inbox.recent(100_000)
        runs = {record.run_id for record in self.journal.runs(100_000)}
        ran = [entry for entry in entries if entry.state == "ran"]
        assert {entry.state for entry in entries} <= {"ran", "ignored", "failed"}
        # A rule held, and named by the alert is what the inventory does not have.
        assert all(entry.rule for entry in entries if entry.state == "failed")
        assert all(entry.why.isprintable() for entry in entries)
        assert sorted(entry.run_id or "" for entry in ran) == sorted(runs)
        for entry in ran:
            self._check_run(entry)
        return len(entries), len(ran)

    def _check_run(self, entry: Entry) -> None:
        """Every name in a run is the configuration's or the inventory's."""
        (rule,) = [one for one in self.context.config.rules if one.name == entry.rule]
        kept = self.journal.run(entry.run_id or "")
        assert kept is not None
        assert kept.request is not None
        asked, plan = kept.request, plan_from_json(kept.plan)
        assert entry.alert.hook in ([rule.hook] if isinstance(rule.hook, str) else rule.hook)
        assert (asked.rule, asked.playbook, plan.playbook) == (rule.name, rule.run, rule.run)
        assert asked.params == rule.params
        assert asked.target in FLEET.inventory.databases
        assert asked.target == plan.target == entry.target
        assert isinstance(rule.target, str) is (asked.target == rule.target)
        assert plan.rehearsal is (rule.mode == "rehearse")
        assert not asked.confirmed_by


@contextmanager
def whole(folder: Path) -> Iterator[Whole]:
    """Return one, and close it after."""
    made = Whole(folder)
    try:
        yield made
    finally:
        made.inbox.close()
        made.journal.close()
