"""Takes accepted events one after the other: which rule holds, and the run that it wants.

An event has the id of its run from the moment it was accepted, and is settled once the run is in
the journal. A process that is killed in between finds both at its next start: one event, one run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runbook.alerts import pace, rules
from runbook.model.alert import Alert
from runbook.model.errors import DoorError, RunbookError
from runbook.model.fleet import Fleet
from runbook.model.intake import Entry, Settled
from runbook.model.ports import KeptRun
from runbook.model.serve_config import Rule
from runbook.serve.context import Context
from runbook.serve.incidents import Incidents, Looked
from runbook.serve.log import Log
from runbook.serve.metrics import Metrics
from runbook.serve.submitting import submit

#: Events that are looked at in one go; four times as many when none of them could be taken yet.
_TOGETHER = 200
#: Seconds until the next go: when some had to wait, and when none is there.
_BUSY_S, _IDLE_S = 1.0, 30.0
#: Seconds in which the next ones gather: to note each by itself would keep callers from the disk.
_GATHER_S = 0.05
#: Seconds that an event waits for PagerDuty when only the incident can tell which rule holds.
_UNREAD_S = 300.0


#: Keeps what is to be told of an event that led to no run: the rule that held, and why.
NotBegun = Callable[[Entry, Rule, str], None]


@dataclass(kw_only=True)
class _Pass:
    """What one go knows: the inventory as it is now, and how many runs may begin."""

    free: int
    load: Callable[[], Fleet]
    _loaded: Fleet | RunbookError | None = None

    def fleet(self) -> Fleet:
        """Return the inventory, read once in a go.

        Raises:
            _NoInventory: when it cannot be read.
        """
        if self._loaded is None:
            try:
                self._loaded = self.load()
            except RunbookError as error:
                self._loaded = error
        if isinstance(self._loaded, RunbookError):
            raise _NoInventory(_whole(self._loaded))
        return self._loaded


class _NoInventory(Exception):
    """Somebody is editing it, or its program has failed: an event waits for that a while."""


class Intake:
    """One step takes what is queued; used from one thread."""

    def __init__(
        self,
        context: Context,
        *,
        incidents: Incidents,
        working: Callable[[], int],
        began: Callable[[], None],
        log: Log,
        metrics: Metrics,
        not_begun: NotBegun = lambda _entry, _rule, _why: None,
    ) -> None:
        """Prepare; `working` says how many runs are being worked on, `began` is called for one.

        `not_begun` keeps, to be told, that there is no run though a rule held.
        """
        self._not_begun = not_begun
        self._context = context
        self._incidents = incidents
        self._working = working
        self._began = began
        self._log = log
        self._metrics = metrics
        self.stopping = False
        self._reach = _TOGETHER
        #: Why events wait, if they do; empty otherwise.
        self.trouble = ""

    def step(self) -> float:
        """Take what is queued; return when to be called again, in seconds.

        Raises:
            DoorError: when inbox or journal cannot be used; what was not settled stays queued.
        """
        entries = self._context.inbox.queued(self._reach)
        if not entries:
            self.trouble = ""  # nobody waits for an inventory any more
            return _IDLE_S
        most = self._context.config.limits.at_once
        this = _Pass(free=most - self._working(), load=self._context.load_fleet)
        taken = self._take_all(entries, this)
        # Those that wait must not hide those that came after them.
        stuck = not taken and len(entries) == self._reach
        self._reach = self._reach * 4 if stuck else _TOGETHER
        if taken:
            time.sleep(_GATHER_S)
        return 0.0 if taken or stuck else _BUSY_S

    def _take_all(self, entries: Sequence[Entry], this: _Pass) -> int:
        """Take what can be taken; those that led to no run are noted together, at the end."""
        ignored: list[tuple[Entry, Settled]] = []
        began = 0
        for entry in entries:
            if self.stopping:
                break
            settled = self._found(entry) or self._judged(entry, this)
            if settled is None:
                continue
            if settled.state == "ignored":
                ignored.append((entry, settled))
                continue
            # The next one's cool-down may hang on it.
            self._context.inbox.settle([settled])
            self._tell(entry, settled)
            began += 1
        if ignored:
            self._context.inbox.settle([settled for _, settled in ignored])
        for entry, settled in ignored:
            self._tell(entry, settled)
        return began + len(ignored)

    def _found(self, entry: Entry) -> Settled | None:
        """An event whose run is there was taken by a process that died before it could say so."""
        kept = self._context.journal.run(entry.run_id) if entry.run_id else None
        return _ran(entry, kept) if kept is not None else None

    def _judged(self, entry: Entry, this: _Pass) -> Settled | None:
        """Return what becomes of an event; None: it waits."""
        alert, config = entry.alert, self._context.config
        if not rules.worth_reading(alert, config):
            return Settled(number=entry.number, state="ignored", why=rules.why_none(alert, config))
        if this.free <= 0:
            return None
        looked = self._incidents.look(alert.incident)
        rule = rules.rule_for(alert, config, looked.incident)
        if rule is None and looked.why and self._age(entry) < _UNREAD_S:
            return None
        if rule is None:
            why = rules.why_none(alert, config, looked.incident)
            return Settled(number=entry.number, state="ignored", why=_with(why, looked.why))
        return self._ruled(entry, rule, looked, this)

    def _ruled(self, entry: Entry, rule: Rule, looked: Looked, this: _Pass) -> Settled | None:
        try:
            return self._by_rule(entry, rule, looked, this)
        except _NoInventory as error:
            if self._age(entry) < rule.max_age:
                self._say_trouble(str(error))
                return None
            return self._failed(entry, rule, str(error))
        except DoorError:
            raise
        except RunbookError as error:
            return self._failed(entry, rule, _with(_whole(error), looked.why))

    def _failed(self, entry: Entry, rule: Rule, why: str) -> Settled:
        """A rule held, and no run began: whom it tells is told why, before it is settled."""
        try:
            self._not_begun(entry, rule, why)
        except DoorError as error:
            # Events must not wait for a store of news.
            self._log.say("not told", entry=entry.number, why=error.message)
        return Settled(number=entry.number, state="failed", why=why, rule=rule.name)

    def _age(self, entry: Entry) -> float:
        return self._context.now() - entry.received_at

    def _say_trouble(self, why: str) -> None:
        if why != self.trouble:
            self._log.say("trouble", loop="intake", why=why)
        self.trouble = why

    def _by_rule(self, entry: Entry, rule: Rule, looked: Looked, this: _Pass) -> Settled:
        config, now = self._context.config, self._context.now()
        fleet = this.fleet()
        self.trouble = ""
        wanted = rules.judge(
            entry.alert,
            rule,
            looked.incident,
            fleet=fleet,
            recent=self._context.inbox.ran_since(now - pace.look_back_s(config)),
            now=now,
            config=config,
            received_at=entry.received_at,
        )
        if isinstance(wanted, rules.Ignored):
            why = _with(wanted.why, looked.why)
            if wanted.unknown:
                return self._failed(entry, rule, why)
            return Settled(number=entry.number, state="ignored", why=why, rule=rule.name)
        assert entry.run_id is not None  # noqa: S101 - a queued entry has one
        self._submit(entry.run_id, wanted, fleet)
        this.free -= 1
        return Settled(
            number=entry.number,
            state="ran",
            why=_with("; ".join(wanted.remarks), looked.why),
            rule=rule.name,
            target=wanted.target,
            run_id=entry.run_id,
            ran_at=now,
        )

    def _submit(self, run_id: str, wanted: rules.Wanted, fleet: Fleet) -> None:
        """Begin a run; one that is in the journal and has no process is the supervisor's."""
        try:
            submit(self._context, run_id, wanted, fleet)
        except DoorError:
            if self._context.journal.run(run_id) is None:
                raise
        self._began()

    def _tell(self, entry: Entry, settled: Settled) -> None:
        self._metrics.settled.labels(settled.state).inc()
        if settled.state == "ran":
            self._metrics.begun.labels(settled.rule).inc()
        alert: Alert = entry.alert
        self._log.say(
            "settled",
            entry=entry.number,
            state=settled.state,
            hook=alert.hook,
            on=alert.event,
            incident=alert.incident,
            rule=settled.rule,
            target=settled.target,
            run=settled.run_id,
            why=settled.why or None,
            title=alert.title[:100] or None,
        )


def _ran(entry: Entry, kept: KeptRun) -> Settled:
    return Settled(
        number=entry.number,
        state="ran",
        why="begun before a restart",
        rule=kept.request.rule if kept.request else None,
        target=kept.record.target,
        run_id=kept.record.run_id,
        ran_at=kept.record.started_at,
    )


def _with(why: str, trouble: str) -> str:
    return "; ".join(part for part in (why, trouble) if part)


def _whole(error: RunbookError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message
