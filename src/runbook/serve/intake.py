"""Takes accepted events one after the other: which rule holds, and the run that it wants.

An event has the id of its run from the moment it was accepted, and is settled once the run is in
the journal. A process that is killed in between finds both at its next start: one event, one run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from runbook.alerts import pace, rules
from runbook.model.alert import Alert
from runbook.model.errors import DoorError, RunbookError
from runbook.model.fleet import Fleet
from runbook.model.intake import Entry, State
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
#: Seconds that an event waits for PagerDuty when only the incident can tell which rule holds.
_UNREAD_S = 300.0


#: Keeps what is to be told of an event that led to no run: the rule that held, and why.
NotBegun = Callable[[Entry, Rule, str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Verdict:
    """What becomes of an event; `state` None: it waits."""

    state: State | None
    why: str = ""
    rule: str | None = None
    target: str | None = None
    run_id: str | None = None


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
        taken = 0
        for entry in entries:
            if self.stopping:
                break
            taken += self._take(entry, this)
        # Those that wait must not hide those that came after them.
        stuck = not taken and len(entries) == self._reach
        self._reach = self._reach * 4 if stuck else _TOGETHER
        return 0.0 if taken or stuck else _BUSY_S

    def _take(self, entry: Entry, this: _Pass) -> bool:
        verdict = self._found(entry) or self._judged(entry, this)
        if verdict.state is None:
            return False
        self._context.inbox.settle(
            entry.number,
            verdict.state,
            verdict.why,
            rule=verdict.rule,
            target=verdict.target,
            run_id=verdict.run_id,
        )
        self._tell(entry, verdict)
        return True

    def _found(self, entry: Entry) -> _Verdict | None:
        """An event whose run is there was taken by a process that died before it could say so."""
        kept = self._context.journal.run(entry.run_id) if entry.run_id else None
        return _ran(kept) if kept is not None else None

    def _judged(self, entry: Entry, this: _Pass) -> _Verdict:
        alert, config = entry.alert, self._context.config
        if not rules.worth_reading(alert, config):
            return _Verdict(state="ignored", why=rules.why_none(alert, config))
        if this.free <= 0:
            return _Verdict(state=None)
        looked = self._incidents.look(alert.incident)
        rule = rules.rule_for(alert, config, looked.incident)
        if rule is None and looked.why and self._age(entry) < _UNREAD_S:
            return _Verdict(state=None)
        if rule is None:
            why = rules.why_none(alert, config, looked.incident)
            return _Verdict(state="ignored", why=_with(why, looked.why))
        return self._ruled(entry, rule, looked, this)

    def _ruled(self, entry: Entry, rule: Rule, looked: Looked, this: _Pass) -> _Verdict:
        try:
            return self._by_rule(entry, rule, looked, this)
        except _NoInventory as error:
            if self._age(entry) < rule.max_age:
                self._say_trouble(str(error))
                return _Verdict(state=None)
            return self._failed(entry, rule, str(error))
        except DoorError:
            raise
        except RunbookError as error:
            return self._failed(entry, rule, _with(_whole(error), looked.why))

    def _failed(self, entry: Entry, rule: Rule, why: str) -> _Verdict:
        """A rule held, and no run began: whom it tells is told why, before it is settled."""
        try:
            self._not_begun(entry, rule, why)
        except DoorError as error:
            # Events must not wait for a store of news.
            self._log.say("not told", entry=entry.number, why=error.message)
        return _Verdict(state="failed", why=why, rule=rule.name)

    def _age(self, entry: Entry) -> float:
        return self._context.now() - entry.received_at

    def _say_trouble(self, why: str) -> None:
        if why != self.trouble:
            self._log.say("trouble", loop="intake", why=why)
        self.trouble = why

    def _by_rule(self, entry: Entry, rule: Rule, looked: Looked, this: _Pass) -> _Verdict:
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
            return _Verdict(state="ignored", why=why, rule=rule.name)
        assert entry.run_id is not None  # noqa: S101 - a queued entry has one
        self._submit(entry.run_id, wanted, fleet)
        this.free -= 1
        return _Verdict(
            state="ran",
            why=_with("; ".join(wanted.remarks), looked.why),
            rule=rule.name,
            target=wanted.target,
            run_id=entry.run_id,
        )

    def _submit(self, run_id: str, wanted: rules.Wanted, fleet: Fleet) -> None:
        """Begin a run; one that is in the journal and has no process is the supervisor's."""
        try:
            submit(self._context, run_id, wanted, fleet)
        except DoorError:
            if self._context.journal.run(run_id) is None:
                raise
        self._began()

    def _tell(self, entry: Entry, verdict: _Verdict) -> None:
        self._metrics.settled.labels(verdict.state).inc()
        if verdict.state == "ran":
            self._metrics.begun.labels(verdict.rule).inc()
        alert: Alert = entry.alert
        self._log.say(
            "settled",
            entry=entry.number,
            state=verdict.state,
            hook=alert.hook,
            on=alert.event,
            incident=alert.incident,
            rule=verdict.rule,
            target=verdict.target,
            run=verdict.run_id,
            why=verdict.why or None,
            title=alert.title[:100] or None,
        )


def _ran(kept: KeptRun) -> _Verdict:
    return _Verdict(
        state="ran",
        why="begun before a restart",
        rule=kept.request.rule if kept.request else None,
        target=kept.record.target,
        run_id=kept.record.run_id,
    )


def _with(why: str, trouble: str) -> str:
    return "; ".join(part for part in (why, trouble) if part)


def _whole(error: RunbookError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message
