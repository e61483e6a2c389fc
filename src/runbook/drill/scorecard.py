"""What a drill came to: a timeline and a scorecard, judged by the drill's own measurements."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from runbook.drill import cluster

if TYPE_CHECKING:
    from rich.console import Console

    from runbook.drill.probe import Sample, Session

LEAK = "leaked-sessions"


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One line of the scorecard; `passed` is None where there is nothing to judge."""

    what: str
    result: str
    passed: bool | None


@dataclass(kw_only=True)
class Record:
    """What the drill has measured by itself, in the order in which it comes to know it."""

    #: Moments, in seconds since the start of the drill.
    timeline: list[tuple[float, str]] = field(default_factory=list)
    #: The commands that did not end well, with what they ended with.
    failed_commands: list[str] = field(default_factory=list)
    #: Forgotten by the leaking app server before anything was done about it.
    leaked: frozenset[Session] = frozenset()
    #: Server processes (pids) that PostgreSQL calls terminated by command.
    terminated: frozenset[int] = frozenset()
    paged_at: float | None = None
    diagnosed_at: float | None = None
    #: The cause that the diagnosis named, and the hosts that it blamed.
    cause: str | None = None
    blamed: tuple[str, ...] = ()
    culprit: str = ""
    saturated: Sample | None = None
    rehearsed: Sample | None = None
    relieved: Sample | None = None
    rolled: Sample | None = None
    final: Sample | None = None
    #: Server processes terminated by command up to the end of the rehearsals.
    terminated_in_rehearsal: frozenset[int] = frozenset()
    #: Requests sent and failed while the app servers were restarted; None when not counted.
    rolling_sent: int | None = None
    rolling_failed: int = 0
    rolling_moved: int = 0

    def judge(self) -> list[Line]:
        """Return the scorecard."""
        return [
            self._time_to_diagnosis(),
            self._cause(),
            self._rehearsals(),
            self._relief(),
            self._leaked_gone(),
            self._healthy_spared(),
            self._all_restarted(),
            self._requests(),
            self._slots(),
            self._commands(),
        ]

    def _time_to_diagnosis(self) -> Line:
        if self.diagnosed_at is None or self.paged_at is None:
            return Line(what="time to diagnosis", result="not diagnosed", passed=False)
        seconds = self.diagnosed_at - self.paged_at
        return Line(what="time to diagnosis", result=f"{seconds:.1f} s", passed=None)

    def _cause(self) -> Line:
        if self.cause is None:
            return Line(what="cause named", result="none", passed=False)
        right = self.cause == LEAK and self.blamed == (self.culprit,)
        blamed = ", ".join(self.blamed) or "nobody"
        expected = "" if right else f"; it was {LEAK}, {self.culprit}"
        result = f"{self.cause}, {blamed}{expected}"
        return Line(what="cause named", result=result, passed=right)

    def _rehearsals(self) -> Line:
        what = "changed by rehearsals"
        if self.saturated is None or self.rehearsed is None:
            return Line(what=what, result="not measured", passed=False)
        gone = len(self.saturated.sessions.keys() - self.rehearsed.sessions.keys())
        anew = restarted(self.saturated, self.rehearsed)
        touched = max(gone, len(self.terminated_in_rehearsal))
        quiet = not touched and not anew
        result = "nothing" if quiet else f"{touched} sessions, {anew} app servers"
        return Line(what=what, result=result, passed=quiet)

    def _relief(self) -> Line:
        what = "app gets in once terminated"
        good = self.relieved is not None and self.relieved.login.accepted
        return Line(what=what, result="yes" if good else "no", passed=good)

    def _leaked_gone(self) -> Line:
        total = len(self.leaked)
        if self.final is None or not total:
            return Line(what="leaked sessions gone", result="not measured", passed=False)
        gone = total - len(self.leaked & self.final.sessions.keys())
        killed = len({pid for pid, _ in self.leaked} & self.terminated)
        result = f"{gone} of {total} ({killed} terminated)"
        return Line(what="leaked sessions gone", result=result, passed=gone == total)

    def _healthy_spared(self) -> Line:
        wrong = self.terminated - {pid for pid, _ in self.leaked}
        what = "healthy sessions terminated"
        return Line(what=what, result=str(len(wrong)), passed=not wrong)

    def _all_restarted(self) -> Line:
        what = "app servers restarted"
        if self.rolled is None:
            return Line(what=what, result="not measured", passed=False)
        total, done = len(self.rolled.identities), self._rolled()
        return Line(what=what, result=f"{done} of {total}", passed=done == total)

    def _rolled(self) -> int:
        if self.relieved is None or self.rolled is None:
            return 0
        return restarted(self.relieved, self.rolled)

    def _requests(self) -> Line:
        what = "requests failed during the roll"
        if not self.rolling_sent or not self._rolled():
            return Line(what=what, result="not measured", passed=False)
        moved = f", {self.rolling_moved} passed on" if self.rolling_moved else ""
        result = f"{self.rolling_failed} of {self.rolling_sent}{moved}"
        return Line(what=what, result=result, passed=not self.rolling_failed)

    def _slots(self) -> Line:
        what = "slots in use, before and after"
        if self.saturated is None or self.final is None:
            return Line(what=what, result="not measured", passed=False)
        result = f"{self.saturated.used} -> {self.final.used} of {cluster.USABLE}"
        better = self.final.used < self.saturated.used and self.final.healthy
        unwell = "" if self.final.healthy else "; the shop is not well"
        return Line(what=what, result=result + unwell, passed=better)

    def _commands(self) -> Line:
        bad = len(self.failed_commands)
        return Line(what="commands that failed", result=str(bad), passed=not bad)


def restarted(before: Sample, after: Sample) -> int:
    """Count the app servers that run anew."""
    return sum(
        after.identities.get(name) not in {None, identity}
        for name, identity in before.identities.items()
    )


def passed(lines: list[Line]) -> bool:
    """Tell whether every line that is judged has passed."""
    return all(line.passed is not False for line in lines)


def show(console: Console, record: Record, lines: list[Line]) -> None:
    """Print the timeline, the scorecard and the verdict."""
    console.print(_timeline(record))
    console.print()
    console.print(_scores(lines))
    for failure in record.failed_commands:
        console.print(Text(f"failed: {failure}", style="red"))
    good = passed(lines)
    verdict = "PASS" if good else "FAIL"
    console.print(Text(f"\ndrill: {verdict}", style="bold green" if good else "bold red"))


def _timeline(record: Record) -> Table:
    table = Table(title="Timeline", title_justify="left", box=None, show_header=False)
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    for moment, text in record.timeline:
        minutes, seconds = divmod(moment, 60)
        table.add_row(f"{minutes:.0f}:{seconds:04.1f}", Text(text))
    return table


def _scores(lines: list[Line]) -> Table:
    table = Table(title="Scorecard", title_justify="left", box=None, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_column(no_wrap=True)
    for line in lines:
        mark = {True: Text("ok", style="green"), False: Text("FAILED", style="bold red")}
        table.add_row(
            mark.get(bool(line.passed)) if line.passed is not None else Text("-"),
            Text(line.what),
            Text(line.result),
        )
    return table
