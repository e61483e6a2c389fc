"""Tells what is due: looks at runs, keeps what is to be told, and tries until it was.

Any number of processes may do this at once, `serve` and a run at a terminal for instance: what one
recipient is told of one run is told by one process at a time, and each attempt is kept before it
is made, so that whoever comes after a crash looks whether it had arrived.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from runbook.model.errors import DoorError, Locked
from runbook.model.history import History
from runbook.model.intake import Entry, Told
from runbook.model.ports import Journal, KeptRun
from runbook.model.serve_config import Rule
from runbook.model.telling import Claims, NotTold, Sender, ToldStore
from runbook.telling import no_run
from runbook.telling.case import Links
from runbook.telling.no_run import NoRun
from runbook.telling.runs import ENDED_S, Runs, TellingRun

#: Seconds between two looks: a run's first note is there within two.
LOOK_S = 1.0
#: Seconds for which is kept what was told: longer than any run is looked at.
_KEPT_S = 30 * 86400.0
#: Seconds between two times that what is older is forgotten.
_TIDY_S = 86400.0
#: After so long nobody waits for it any more; it stays visible.
GIVEN_UP_S = 24 * 3600.0
#: Seconds before the second attempt, doubled before each further one, and at most.
_FIRST_S, _MOST_S = 5.0, 300.0
#: The most that one attempt may take, and a recipient that is down is left alone for.
_ATTEMPT_S, _REST_S = 10.0, 5.0


@dataclass(frozen=True, kw_only=True)
class Ports:
    """What a teller works with."""

    journal: Journal
    history_of: Callable[[KeptRun], History]
    store: ToldStore
    claims: Claims
    #: By recipient; what has no sender here is left to somebody who has.
    senders: Mapping[str, Sender]
    links: Links
    #: Whether a process works on a run; where nobody can say, none is called lost.
    alive: Callable[[str], bool] = lambda _run_id: True
    now: Callable[[], float] = time.time
    clock: Callable[[], float] = time.monotonic


#: What is told of together: a run, or that there is none.
Subject = TellingRun | NoRun


class Teller:
    """See the module; used from one thread, but for `keep_no_run`."""

    def __init__(self, ports: Ports, *, also_close: Sequence[Journal] = ()) -> None:
        self._ports = ports
        self._also_close = also_close
        self._runs = Runs(ports.journal, ports.history_of, ports.alive, ports.now)
        #: Until when a recipient that is down is left alone, by the ports' `now`.
        self._resting: dict[str, float] = {}
        self._at_once = False
        self._tidy_at = 0.0

    def step(
        self,
        run_ids: Sequence[str] | None = None,
        *,
        within_s: float = 20.0,
        at_once: bool = False,
    ) -> float:
        """Look at runs (None: all of the last days), tell what is due; return when to come again.

        Seconds. Recipients are told side by side: one that hangs keeps no other waiting. No
        attempt goes on for longer than `within_s`. With `at_once` nothing waits for the time of
        its next attempt: somebody stands there and asks for it.

        Raises:
            DoorError: when the journal or the store cannot be read.
        """
        deadline = self._ports.clock() + within_s
        self._at_once = at_once
        runs = self._runs.read(self._runs.recent() if run_ids is None else run_ids)
        subjects: list[Subject] = [*runs, *self._no_runs(run_ids)]
        unsettled = self._tell_all(self._by_recipient(subjects), deadline)
        for record in (run.history.record for run in runs):
            if record.run_id not in unsettled:
                self._runs.settle(record)
        if run_ids is None:
            self._tidy()
        return LOOK_S

    def keep_no_run(self, entry: Entry, rule: Rule, why: str) -> None:
        """Keep, to be told, that an event led to no run though a rule held; once per incident.

        May be called from another thread than `step`.

        Raises:
            DoorError: when it cannot be kept.
        """
        ports = self._ports
        for told in no_run.news(entry, rule, why, ports.links, ports.now()):
            if told.key not in ports.store.of(told.run_id, told.recipient):
                ports.store.keep(told)

    def pending(self) -> int:
        """Return how many things are due still."""
        return len(self._ports.store.pending())

    def left(self) -> Sequence[Told]:
        """Return what is due still, the oldest first."""
        return self._ports.store.pending()

    def given_up(self) -> Sequence[Told]:
        """Return what was tried in vain and is tried no more, the newest first."""
        return [told for told in self._ports.store.given_up() if told.attempts]

    def told_of(self, run_id: str, recipient: str) -> Sequence[Told]:
        """Return what one recipient was, or is to be, told of a run, in order."""
        return tuple(self._ports.store.of(run_id, recipient).values())

    def is_down(self, recipient: str) -> bool:
        """Whether a recipient is left alone for now, because it did not answer."""
        return self._resting.get(recipient, 0.0) > self._ports.now()

    def close(self) -> None:
        """Let go of the recipients and the files."""
        for sender in self._ports.senders.values():
            sender.close()
        self._ports.store.close()
        for journal in self._also_close:
            journal.close()

    # ---- telling ---------------------------------------------------------------------------

    def _no_runs(self, names: Sequence[str] | None) -> list[NoRun]:
        """Return what is due still of events that led to no run."""
        return [
            NoRun(name=told.run_id, recipients=(told.recipient,))
            for told in self._ports.store.pending()
            if told.key == no_run.KEY and (names is None or told.run_id in names)
        ]

    def _by_recipient(self, subjects: Sequence[Subject]) -> dict[str, list[Subject]]:
        work: dict[str, list[Subject]] = {}
        for subject in subjects:
            for recipient in subject.recipients:
                if recipient in self._ports.senders:
                    work.setdefault(recipient, []).append(subject)
        return work

    def _tell_all(self, work: Mapping[str, list[Subject]], deadline: float) -> set[str]:
        """Tell each recipient in a thread of its own; return the runs of which more is due."""
        if not work:
            return set()
        unsettled: set[str] = set()
        troubles: list[Exception] = []

        def work_on(name: str, subjects: list[Subject]) -> None:
            try:
                unsettled.update(self._tell_recipient(name, subjects, deadline))
            except Exception as error:  # noqa: BLE001 - raised again where it is waited for
                troubles.append(error)

        # Daemons: a process that ends does not wait for a recipient that hangs.
        threads = [
            threading.Thread(target=work_on, args=each, name=f"tell {each[0]}", daemon=True)
            for each in work.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for trouble in troubles:
            raise trouble
        return unsettled

    def _tell_recipient(self, name: str, subjects: list[Subject], deadline: float) -> set[str]:
        unsettled: set[str] = set()
        for subject in subjects:
            try:
                with self._ports.claims.hold(f"{subject.name} {name}"):
                    more = self._tell_of(subject, name, deadline)
            except Locked:
                more = True  # another process is at it
            if more:
                unsettled.add(subject.name)
        return unsettled

    def _tell_of(self, subject: Subject, name: str, deadline: float) -> bool:
        """Keep what is due, and tell it in order; return whether something is due still."""
        store, now = self._ports.store, self._ports.now()
        about = subject.name
        kept = store.of(about, name).values()
        for told in subject.due(kept, self._ports.links, now, name):
            store.keep(told)
        for told in store.of(about, name).values():
            its_time = self._at_once or told.next_at <= now
            if told.state == "due" and its_time and not self._attempt(told, deadline):
                break
        kept = store.of(about, name).values()
        # What was told now may have something else follow: a note that is there can be updated.
        follows = subject.due(kept, self._ports.links, now, name)
        return bool(follows) or any(told.state == "due" for told in kept)

    def _attempt(self, told: Told, deadline: float) -> bool:
        """Try to tell one thing; return whether the next one may be tried."""
        ports = self._ports
        left = deadline - ports.clock()
        if left <= 0 or (self.is_down(told.recipient) and not self._at_once):
            return False
        # On disk before it is made: whoever comes after a crash looks whether it has arrived.
        ports.store.keep(replace(told, attempts=told.attempts + 1, why=""))
        try:
            sender = ports.senders[told.recipient]
            remote = sender.send(told, min(left, _ATTEMPT_S))
        except DoorError as error:
            ports.store.keep(self._not_told(told, error))
            return isinstance(error, NotTold) and not error.again
        done = replace(
            told,
            state="sent",
            attempts=told.attempts + 1,
            remote_id=remote or told.remote_id,
            sent_at=ports.now(),
            why="",
        )
        ports.store.keep(done)
        return True

    def _not_told(self, told: Told, error: DoorError) -> Told:
        """Return how it is kept after a failed attempt."""
        now, attempts = self._ports.now(), told.attempts + 1
        wait, again = min(_FIRST_S * 2 ** min(told.attempts, 10), _MOST_S), True
        if isinstance(error, NotTold):
            wait, again = max(wait, error.after_s), error.again
            if error.down:
                self._resting[told.recipient] = now + max(_REST_S, error.after_s)
        if not again or now - told.since > GIVEN_UP_S:
            return replace(told, state="given-up", attempts=attempts, why=error.message)
        return replace(told, attempts=attempts, next_at=now + wait, why=error.message)

    def _tidy(self) -> None:
        """Give up what has waited for long: its run is older than those that are looked at."""
        store, now = self._ports.store, self._ports.now()
        if now >= self._tidy_at:
            self._tidy_at = now + _TIDY_S  # `serve` goes on for months
            store.forget(now - _KEPT_S)
        for told in store.pending():
            if now - told.since > ENDED_S + GIVEN_UP_S:
                why = told.why or "nobody was there to tell it"
                store.keep(replace(told, state="given-up", why=why))
