"""`runbook` with one fault planted: killed at a journal event, or cut off at an effect.

    python -m lab.faulty FAULT WORDS…

FAULT is `none`; `killed-before:N` or `killed-after:N`, N an event of the journal; `cut-before:N` or
`cut-after:N`, where the connection breaks at the N-th command and can be had again at once; or
`gone-before:N` and `gone-after:N`, where from then on there is none. Commands that hold a lock are
counted as well. The file that RUNBOOK_POINTS names gets a line for each event and each command.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from runbook.adapters.host_door import Errand
from runbook.adapters.journal import SqliteJournal
from runbook.adapters.ssh import SshDoor, _lost
from runbook.model.errors import Unreachable
from runbook.model.events import Event


class _Counted:
    """Counts points of one kind, notes each, and says when the chosen one has come."""

    def __init__(self, kind: str, chosen: int) -> None:
        self._kind = kind
        self._chosen = chosen
        self._count = 0
        self._lock = threading.Lock()
        self._file = Path(os.environ["RUNBOOK_POINTS"])

    def passed(self) -> bool:
        """Whether the chosen point lies behind us."""
        return 0 < self._chosen < self._count

    def come(self, what: str) -> bool:
        """Note a point; whether it is the chosen one."""
        with self._lock:
            self._count += 1
            with self._file.open("a") as points:
                points.write(f"{self._kind}\t{what}\n")
            return self._count == self._chosen


def plant(fault: str) -> None:
    """Wrap the journal and the SSH door."""
    how, _, number = fault.partition(":")
    what, _, moment = how.partition("-")
    _wrap_journal(what, moment, int(number or 0))
    _wrap_door(what, moment, int(number or 0))


def _wrap_journal(what: str, moment: str, number: int) -> None:
    events = _Counted("event", number if what == "killed" else 0)
    keep = SqliteJournal.notice

    def notice(self: SqliteJournal, event: Event) -> None:
        now = events.come(_label(event))
        if now and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        keep(self, event)
        if now:
            os.kill(os.getpid(), signal.SIGKILL)

    SqliteJournal.notice = notice  # type: ignore[method-assign]


def _label(event: Event) -> str:
    """Say what kind of point it is, the same on every host."""
    phase = (event.task or "run/run").split("/")[1]
    match event.kind:
        case "said" | "noted":
            more = event.data.get("stage") or ", ".join(sorted(event.data))
        case "intended" | "changed":
            more = event.data["sentence"].partition(": ")[2]
        case _:
            more = ""
    return f"{event.kind} {phase} {more}".strip()


def _wrap_door(what: str, moment: str, number: int) -> None:
    commands = _Counted("command", number if what in {"cut", "gone"} else 0)
    attempt, hold = SshDoor._attempt, SshDoor._begin_to_hold

    def wrap(real: Any) -> Any:
        def perform(self: SshDoor, line: Any, errand: Errand) -> Any:
            if what == "gone" and commands.passed():
                raise Unreachable(f"{line.host.name}: no connection: the network is gone")
            if not commands.come(_program(errand)):
                return real(self, line, errand)
            if moment == "after":
                real(self, line, errand)
            line.drop()
            raise _lost(line.host.name, errand)

        return perform

    SshDoor._attempt = wrap(attempt)  # type: ignore[method-assign]
    SshDoor._begin_to_hold = wrap(hold)  # type: ignore[method-assign]


def _program(errand: Errand) -> str:
    words = [word for word in errand.argv[:4] if "\n" not in word]
    if "runbook-lock" in words:
        return "lock"
    return f"{'change' if errand.change else 'look'} {' '.join(words)}"


if __name__ == "__main__":
    plant(sys.argv[1])
    sys.argv = ["runbook", *sys.argv[2:]]
    from runbook.__main__ import main

    main()
