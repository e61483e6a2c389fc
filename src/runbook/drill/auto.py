"""The whole incident, played with the installed command as the on-call would see it, and judged."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
from rich.console import Console
from rich.text import Text

from runbook.drill import cluster, inventory, probe, saturation, scorecard, signals, state
from runbook.drill.errors import DrillError
from runbook.drill.scorecard import Record
from runbook.model.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from runbook.drill.saturation import Drill

_DIAGNOSE = ("diagnose", inventory.TARGET)
_TERMINATE = ("remediate", inventory.TARGET, "--terminate-idle")
_ROLL = ("remediate", inventory.TARGET, "--rolling-restart", "--service", inventory.SERVICE)
#: No command of the drill takes longer unless it hangs.
_COMMAND_S = 180.0
#: How long a command that was interrupted may take to finish the host in flight.
_FAREWELL_S = 20.0
#: How long the shop may take to be well again once its last server was restarted.
_HEALTHY_S = 10.0


def run_auto(
    state_dir: Path | None = None,
    *,
    console: Console | None = None,
    program: Sequence[str] = (sys.executable, "-P", "-m", "runbook"),
) -> int:
    """Start the scenario, play the incident, judge it, remove everything; return the exit code.

    `program` is the command that is practised with.

    Raises:
        DrillError: when the scenario cannot be built, or not be removed.
    """
    console = console or Console(highlight=False)
    with signals.stop_signals_raised():
        try:
            return _play(state_dir, console, tuple(program))
        except KeyboardInterrupt:
            console.print(Text("interrupted: the drill is removed", style="yellow"))
            return ExitCode.INTERRUPTED


def _play(state_dir: Path | None, console: Console, program: tuple[str, ...]) -> int:
    began = time.monotonic()
    drill = saturation.start(state_dir, lambda text: console.print(Text(f"  {text}", style="dim")))
    try:
        incident = Incident(console=console, drill=drill, program=program, began=began)
        incident.play()
        lines = incident.record.judge()
        console.print()
        scorecard.show(console, incident.record, lines)
        return ExitCode.DONE if scorecard.passed(lines) else ExitCode.FAILED
    finally:
        with signals.undisturbed():
            saturation.stop(drill.state_dir)


@dataclass(kw_only=True)
class Incident:
    """One incident: the commands of the on-call, and the drill's own measurements between them."""

    console: Console
    drill: Drill
    program: tuple[str, ...]
    began: float
    record: Record = field(default_factory=Record)

    def play(self) -> None:
        """Go through the incident from the page to the proof."""
        self._page()
        self._diagnose()
        self._relieve()
        self._roll()
        self._prove()

    def _page(self) -> None:
        found = self._sample("before anything is done")
        self.record.saturated = found
        self.record.timeline.append((self.drill.saturated_after, "the database refuses the app"))
        leaked = probe.leaked_pids(self._state())
        self.record.leaked = frozenset(
            session for session in found.sessions if session[0] in leaked
        )
        self.record.culprit = saturation.LEAKING
        self.record.paged_at = self._mark("the on-call is paged")
        self._heading(f"export RUNBOOK_INVENTORY={shlex.quote(str(self.drill.inventory))}")

    def _diagnose(self) -> None:
        if self._run(*_DIAGNOSE):
            self.record.diagnosed_at = self._mark("diagnosed")
        self.record.cause, self.record.blamed = self._read_diagnosis()

    def _relieve(self) -> None:
        self._run(*_TERMINATE, "--dry-run")
        self.record.rehearsed = self._sample("after the rehearsal")
        self.record.terminated_in_rehearsal = probe.terminated_pids(self._state())
        self._run(*_TERMINATE, "--yes")
        self.record.relieved = self._sample("after the termination")
        if self.record.relieved.login.accepted:
            self._mark("relieved: the app gets in again")

    def _roll(self) -> None:
        self._run(*_ROLL, "--dry-run")
        before = self._counts()
        done = self._run(*_ROLL, "--yes")
        after = self._counts()
        self._note_requests(before, after)
        self.record.rolled = self._sample("after the rolling restart", patience=done * _HEALTHY_S)
        if scorecard.restarted(self._before_roll(), self.record.rolled):
            self._mark("rolled: the app servers were restarted")

    def _before_roll(self) -> probe.Sample:
        assert self.record.relieved is not None  # noqa: S101 - measured one act earlier
        return self.record.relieved

    def _prove(self) -> None:
        self._run(*_DIAGNOSE)
        self.record.final = self._sample("at the end")
        self.record.terminated = probe.terminated_pids(self._state())
        if self.record.final.healthy:
            self._mark("healthy")

    def _note_requests(self, before: dict[str, int], after: dict[str, int]) -> None:
        if not before or not after:
            return
        self.record.rolling_sent = after["sent"] - before["sent"]
        self.record.rolling_failed = after["failed"] - before["failed"]
        self.record.rolling_moved = after["moved"] - before["moved"]

    def _counts(self) -> dict[str, int]:
        time.sleep(0.3)  # the traffic publishes its counts every 0.2 s
        return probe.traffic_counts(self.drill.state_dir)

    def _state(self) -> state.State:
        found = state.load(self.drill.state_dir)
        if found is None:
            raise DrillError(f"the drill in {self.drill.state_dir} was removed while it was played")
        return found

    def _mark(self, text: str) -> float:
        moment = time.monotonic() - self.began
        self.record.timeline.append((moment, text))
        return moment

    def _sample(self, when: str, *, patience: float = 0.0) -> probe.Sample:
        """Measure, say what came of it; wait up to `patience` seconds for good news."""
        deadline = time.monotonic() + patience
        found = self._measure()
        while not found.healthy and time.monotonic() < deadline:
            time.sleep(0.2)
            found = self._measure()
        self.console.print(Text(f"\nmeasured {when}: {_in_words(found)}", style="dim"))
        return found

    def _measure(self) -> probe.Sample:
        try:
            return probe.sample(self.drill.state_dir, self._state())
        except (psycopg.Error, OSError) as error:
            raise DrillError(f"the drill's database does not answer: {error}") from None

    def _heading(self, line: str) -> None:
        self.console.print()
        self.console.print(Text(f"$ {line}", style="bold"), soft_wrap=True)

    def _run(self, *words: str) -> bool:
        """Run one command of the on-call in the user's terminal; tell whether it ended well."""
        self._heading(shlex.join(["runbook", *words]))
        code = _run_in_terminal(self._argv(words), self._environment())
        if code:
            ended = "did not end in time" if code is _TIMED_OUT else f"exit code {code}"
            failure = f"{shlex.join(['runbook', *words])} ({ended})"
            self.record.failed_commands.append(failure)
            self.console.print(Text(f"failed: {failure}", style="bold red"))
        return not code

    def _read_diagnosis(self) -> tuple[str | None, tuple[str, ...]]:
        """Ask for the diagnosis once more, as data, to judge it by."""
        try:
            done = subprocess.run(
                self._argv([*_DIAGNOSE, "--format", "json"]),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=_FAREWELL_S,
            )
        except subprocess.TimeoutExpired:
            return None, ()
        return read_cause(done.stdout)

    def _argv(self, words: Sequence[str]) -> list[str]:
        return [*self.program, *words, "-i", str(self.drill.inventory)]

    def _environment(self) -> dict[str, str]:
        # A rehearsal has no place among the records of real incidents, nor may its locks stand in
        # the way of a real service of the same name; both go with the drill.
        return {**os.environ, "RUNBOOK_STATE": str(self.drill.state_dir / "records")}


class _TimedOut(int):
    """The exit code of a command that had to be killed."""


_TIMED_OUT = _TimedOut(-signal.SIGKILL)


def _run_in_terminal(argv: list[str], environment: dict[str, str]) -> int:
    # The command inherits our terminal itself, so that it looks as it does without a drill.
    sys.stdout.flush()
    process = subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL)
    try:
        return process.wait(timeout=_COMMAND_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        return _TIMED_OUT
    except signals.ToldToStopError:
        process.send_signal(signal.SIGTERM)
        raise
    finally:
        with signals.undisturbed():
            _see_off(process)


def _see_off(process: subprocess.Popen[bytes]) -> None:
    """Let a command that was interrupted finish what it has in hand, but not for ever."""
    for harder in (process.terminate, process.kill):
        try:
            process.wait(timeout=_FAREWELL_S)
        except subprocess.TimeoutExpired:
            harder()
    process.wait()


def read_cause(document: bytes) -> tuple[str | None, tuple[str, ...]]:
    """Return the cause that a diagnosis names, and the hosts whose sessions it blames."""
    try:
        finding: Any = json.loads(document)["finding"]
        owners = [owner for owner in finding.get("owners", ()) if owner.get("concerned", 0)]
        blamed = sorted(
            {str(owner.get("host") or owner.get("application_name")) for owner in owners}
        )
        return str(finding["cause"]), tuple(blamed)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None, ()


def _in_words(found: probe.Sample) -> str:
    door = "accepted" if found.login.accepted else "refused"
    ready = sum(found.ready.values())
    slots = f"{found.used} of {cluster.USABLE} slots in use"
    return f"{slots}, app role {door}, {ready} of {len(found.ready)} servers ready"
