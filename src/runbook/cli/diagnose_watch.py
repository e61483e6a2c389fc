"""`runbook diagnose TARGET --watch`: look again and again, over one connection, until Ctrl-C."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from runbook import wiring, wiring_looks
from runbook.model.diagnosis import Diagnosis
from runbook.model.errors import ExitCode, StepFailed
from runbook.rendering.watching import Watched

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from rich.live import Live
    from rich.text import Text

    from runbook.model.leaks import LeakPolicy
    from runbook.model.plan import Result

#: Seconds after which the screen is looked after: a new size, a signal, the clock in it.
_TICK_S = 0.2
#: Seconds after which the screen is drawn anew although nothing came: it shows a clock.
_REDRAW_S = 1.0
#: Errors that do not mend themselves: at the first look they end the watch before it begins.
_HOPELESS = frozenset({"DatabaseLogin", "MissingGrant", "SecretMissing"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """One look that has ended: answered, or why not; `began` is monotonic, `at` is the epoch's."""

    diagnosis: Diagnosis | None
    result: Result
    began: float
    at: float


class View(Protocol):
    """Where a watch is shown."""

    @property
    def resized(self) -> bool:
        """Whether what was shown last was for another size."""

    def show(self, watched: Watched, news: tuple[str, ...] | None) -> None:
        """Show what is known; `news` is None when nothing but time has passed."""

    def end(self, watched: Watched) -> None:
        """Leave the last state behind."""


def watch(target: str, inventory: str | None, interval_s: float, policy: LeakPolicy) -> int:
    """Watch a database until a signal comes, and return the exit code.

    Raises:
        RunbookError: when the target is unknown, or the first look fails for good.
    """
    fleet = wiring.load_fleet(inventory)
    fleet.database(target)
    looker = _Looker(wiring_looks.open_looks(fleet, target, policy))
    watched = Watched(target, interval_s, started=time.time())
    view: View = _Screen() if _on_terminal() else _Lines()
    with _signals() as stop:
        try:
            _go_on(watched, looker, view, stop)
        finally:
            view.end(watched)
            looker.leave()
    # Ctrl-C is the way in which a watch ends, and no accident.
    return ExitCode.DONE if stop == [signal.SIGINT] else ExitCode.INTERRUPTED


def _go_on(watched: Watched, looker: _Looker, view: View, stop: list[int]) -> None:
    due = shown = 0.0
    while not stop:
        if not looker.busy and time.monotonic() >= due:
            due = time.monotonic() + watched.interval_s
            watched.looking_since = time.time()
            looker.look()
        look = looker.next(_TICK_S)
        if look is not None:
            news = _taken(watched, look)
            view.show(watched, news)
            shown = time.monotonic()
        elif view.resized or time.monotonic() - shown >= _REDRAW_S:
            view.show(watched, None)
            shown = time.monotonic()


def _taken(watched: Watched, look: Look) -> tuple[str, ...]:
    watched.looking_since = None
    if look.diagnosis is not None:
        return watched.saw(look.diagnosis, began=look.began, at=look.at)
    result = look.result
    if watched.looks == 0 and result.data.get("error") in _HOPELESS:
        raise StepFailed(result.summary, hint=result.hint or None)
    return watched.missed(result.summary, began=look.began, at=look.at)


class _Looker:
    """Looks from a thread of its own: a database that hangs must not freeze the screen."""

    def __init__(self, looks: wiring_looks.Looks) -> None:
        self._looks = looks
        self._wanted: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._had: queue.SimpleQueue[Look] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.busy = False

    def look(self) -> None:
        """Begin a look."""
        self.busy = True
        self._wanted.put(True)

    def next(self, seconds: float) -> Look | None:
        """Return the look that has ended, None when none does within this time."""
        try:
            look = self._had.get(timeout=seconds)
        except queue.Empty:
            return None
        self.busy = False
        return look

    def leave(self) -> None:
        """Close the connection, unless a look hangs: then the end of the process closes it."""
        self._wanted.put(False)
        self._thread.join(_TICK_S)

    def _run(self) -> None:
        while self._wanted.get():
            began, at = time.monotonic(), time.time()
            result = self._looks.look()
            diagnosis = None
            if result.good:
                diagnosis = Diagnosis.model_validate(result.data["diagnosis"])
                if diagnosis.server.rung == "admin":
                    # A slot reserved for emergencies is not ours to keep between two looks.
                    self._looks.give_back()
            self._had.put(Look(diagnosis=diagnosis, result=result, began=began, at=at))
        self._looks.give_back()


class _Lines:
    """One line a look, for a pipe or a file."""

    resized = False

    def show(self, watched: Watched, news: tuple[str, ...] | None) -> None:
        if news is None:
            return
        from runbook.rendering.watch import log_line

        print(log_line(watched, news, time.time()), flush=True)

    def end(self, watched: Watched) -> None:  # noqa: ARG002 - the last line has been written
        return


class _Screen:
    """A terminal's other screen, drawn as a whole: it fits after every change of size."""

    def __init__(self) -> None:
        self._live: Live | None = None
        self._size: tuple[int, int] = (0, 0)

    @property
    def resized(self) -> bool:
        """Whether the terminal has another size than what was drawn for."""
        return self._live is not None and _size() != self._size

    def show(self, watched: Watched, news: tuple[str, ...] | None) -> None:  # noqa: ARG002 - it shows all
        from rich.console import Group
        from rich.live import Live

        from runbook.rendering.consoles import results

        self._size = _size()
        console = results()
        if all(self._size):
            # COLUMNS and LINES of the environment are those of a moment long ago.
            console.size = self._size
        if self._live is None:
            self._live = Live(console=console, screen=True, auto_refresh=False)
            self._live.start()
        self._live.update(Group(*self._lines(watched)), refresh=True)

    def end(self, watched: Watched) -> None:
        """Go back to the first screen, and leave the last state there."""
        from runbook.rendering.consoles import results

        if self._live is not None:
            self._live.stop()
        if watched.looks:
            with suppress(OSError, SystemExit):  # after a hangup nobody reads it
                for line in self._lines(watched, ended=True):
                    results().print(line, soft_wrap=True)

    def _lines(self, watched: Watched, *, ended: bool = False) -> list[Text]:
        from runbook.rendering.consoles import results
        from runbook.rendering.watch import draw

        console = results()
        return draw(
            watched,
            width=console.width,
            height=console.height,
            unicode=console.encoding.lower().startswith("utf"),
            now=time.time(),
            clock=time.monotonic(),
            ended=ended,
        )


def _on_terminal() -> bool:
    """Whether stdout is a terminal that can be drawn on."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in {"dumb", "unknown"}


def _size() -> tuple[int, int]:
    try:
        size = os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        return (0, 0)
    return size.columns, size.lines


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Yield a list that has the first signal's number once one has come; nothing is cut off."""
    seen: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if not seen:
            seen.append(number)

    # What nohup has told us to ignore stays ignored; Ctrl-C is all that ends a watch by design.
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, *numbers)}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
