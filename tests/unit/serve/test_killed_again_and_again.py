"""`serve` is killed at random points while events arrive: none is lost, and none runs twice."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from unit.serve.desk import Desk, desk
from unit.serve.house import eventually

#: How often it is killed; `make crash` has it killed more often.
_KILLS = 60 if "RUNBOOK_CRASH_SWEEP" in os.environ else 6
#: Events for each time that it is killed.
_EVENTS = 2


class _Caller:
    """A source: what is not answered 202 is sent again, and some of what is, as well."""

    def __init__(self, made: Desk, chance: random.Random) -> None:
        self._made = made
        self._chance = chance
        self._stopping = threading.Event()
        self.taken: list[str] = []

    def work(self) -> None:
        for number in range(_KILLS * _EVENTS):
            incident = f"QKILL{number:05}"
            while not self._sent(incident) and not self._stopping.is_set():
                self._stopping.wait(0.05)
            self.taken.append(incident)
            if self._chance.random() < 0.3:
                self._sent(self._chance.choice(self.taken))
            self._stopping.wait(self._chance.uniform(0, 1.0))

    def _sent(self, incident: str) -> bool:
        try:
            return self._made.post(incident).status_code == 202
        except httpx.TransportError:
            return False

    @contextmanager
    def calling(self) -> Iterator[threading.Thread]:
        thread = threading.Thread(target=self.work)
        thread.start()
        try:
            yield thread
        finally:
            self._stopping.set()
            thread.join()


def test_killed_while_events_arrive_every_event_has_one_run_that_ran_once(tmp_path: Path) -> None:
    """The run changes something: begun twice, its program would have said so."""
    chance = random.Random(_KILLS)
    # One at once: of two changes on one host, the lock of the host refuses the second.
    with desk(tmp_path, limits={"runs": {"most": 1000, "per": "1h"}, "at_once": 1}) as made:
        made.stop()
        made.config["rules"] = [made.rule("change")]
        made.start()
        with _Caller(made, chance).calling() as source:
            for _ in range(_KILLS):
                threading.Event().wait(chance.uniform(0, 1.2))
                made.stop(signal.SIGKILL)
                made.start()
            source.join()
        wanted = {f"QKILL{number:05}": 1 for number in range(_KILLS * _EVENTS)}
        eventually(lambda: _all_over(made, len(wanted)), 300)
        with made.store() as (inbox, _):
            entries = inbox.recent(10_000)
        ran = Counter(entry.alert.incident for entry in entries if entry.state == "ran")
        assert ran == wanted
        assert {entry.state for entry in entries} <= {"ran", "ignored"}
        assert Counter(run.record.incident for run in made.runs()) == wanted
        assert {run.record.status for run in made.runs()} == {"done"}
    assert Counter(made.shop.said()) == {"begin change": len(wanted), "end change": len(wanted)}


def _all_over(made: Desk, count: int) -> bool:
    ended = [run for run in made.runs() if run.record.ended_at is not None]
    # What waits for the last run's slot is judged once that has ended.
    with made.store() as (inbox, _):
        return len(ended) == count and not inbox.waiting()
