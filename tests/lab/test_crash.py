"""A rolling restart that loses its process, or its network, at any point, and is resumed.

What is proved comes from the hosts: their own journald says how often each unit was started. By
default one run is killed again and again, and cut off at each change; `make crash` tries every
event and every command, each in a run of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runbook.adapters.journal import SqliteJournal
from runbook.engine.resume import open_obligations

from .command import Command
from .lab import SHOP_SUDO, UNIT, Host, Lab, in_parallel, until

if TYPE_CHECKING:
    from collections.abc import Iterator

SWEEP = bool(os.environ.get("RUNBOOK_CRASH_SWEEP"))
#: A unit of the test's own: it restarts in milliseconds, and as often as it is asked to.
VICTIM = "lab-victim.service"
VICTIM_UNIT = """[Unit]
StartLimitIntervalSec=0
[Service]
Type=exec
ExecStart=/bin/sleep infinity
"""
#: While it is there, the host is in rotation.
ROTATION = "/tmp/lab-in-rotation"
RUN = ("remediate", "--rolling-restart", "--service", "victim", "--yes")
_LONGEST_S = 60
#: More than the events of one host, twice: each process comes one further.
_MOST_PROCESSES = 200


@pytest.fixture
def victims(lab: Lab) -> Lab:
    """The lab with a service that is drained, restarted and gated on each app host."""

    def prepare(host: Host) -> None:
        lab.put(host, f"/etc/systemd/system/{VICTIM}", VICTIM_UNIT)
        lab.sudoers(host, SHOP_SUDO, SHOP_SUDO.replace(UNIT, VICTIM))
        lab.exec(host, ["systemctl", "daemon-reload"])
        lab.exec(host, ["systemctl", "start", VICTIM])
        lab.exec(host, ["touch", ROTATION], user="oncall")

    in_parallel(prepare, lab.apps)
    return lab


def service() -> dict[str, Any]:
    """The service as the inventory declares it."""
    drain = {
        "command": {
            "drain": ["rm", "-f", ROTATION],
            "undrain": ["touch", ROTATION],
            "status": ["test", "-e", ROTATION],
        }
    }
    return {
        "hosts": "app",
        "unit": VICTIM,
        "drain": drain,
        "gates": [{"http": {"url": "http://${host.address}:${host.vars.health_port}/healthz"}}],
        "rolling": {
            "batches": [1],
            "settle": "100ms",
            "gate": {"successes": 2, "interval": "20ms", "deadline": "10s"},
            "admit_deadline": "2s",
        },
    }


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How one process ended."""

    code: int
    said: str


@dataclass(frozen=True, kw_only=True)
class Seen:
    """How a host stands."""

    starts: int
    in_rotation: bool
    active: bool


def look(lab: Lab, host: Host) -> Seen:
    """Ask a host's own journald and systemd; one command, since each takes a while."""
    script = (
        f"journalctl -u {VICTIM} -o cat | grep -c ^Started; test -e {ROTATION}; echo $?;"
        f" systemctl is-active -q {VICTIM}; echo $?"
    )
    starts, rotation, active = lab.exec(host, ["sh", "-c", script]).stdout.split()
    return Seen(starts=int(starts), in_rotation=rotation == "0", active=active == "0")


class Trial:
    """One run of a state folder of its own: begun with a fault, and resumed without."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        folder.mkdir()
        self._lab = lab
        self._folder = folder
        command = Command(lab, folder)
        command.declare(services={"victim": service(), "shop": None})
        self._env = {
            **command.env,
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "RUNBOOK_POINTS": str(folder / "points"),
        }
        self._before = self._starts()

    def begin(self, fault: str) -> Ended:
        """Begin the run with a fault planted."""
        return self._run("-m", "lab.faulty", fault, *RUN)

    def resume(self, fault: str = "none") -> Ended:
        """Go on with the run, as `runbook runs resume ID --yes` does."""
        run_id = self._record().run_id
        return self._run("-m", "lab.faulty", fault, "runs", "resume", run_id, "--yes")

    def done(self) -> bool:
        """Whether the run came to its end."""
        return bool(self._record().status == "done")

    def last_point(self) -> str:
        """What the run came to last, in words."""
        return " ".join(self.points()[-1])

    def points(self) -> list[tuple[str, str]]:
        """The points that the run came by: event or command, and what it was."""
        lines = (self._folder / "points").read_text().splitlines()
        return [(kind, what) for kind, _, what in (line.partition("\t") for line in lines)]

    def faults(self) -> list[str]:
        """What is not as it should be, now that the run is over; nothing, if all is well."""
        found = []
        record = self._record()
        if record.status != "done":
            found.append(f"the run is {record.status}")
        found += [f"owed: {debt.what}" for debt in self._owed()]
        with ThreadPoolExecutor() as pool:
            for wrong in pool.map(self._faults_on, self._lab.apps):
                found += wrong
        return found

    def _faults_on(self, host: Host) -> list[str]:
        # What systemd did a moment ago may not have reached its journal yet.
        until(lambda: look(self._lab, host).starts > self._before[host.name], f"{host.name}: start")
        seen = look(self._lab, host)
        times = seen.starts - self._before[host.name]
        found = [] if times == 1 else [f"{host.name} was started {times} times"]
        found += [] if seen.in_rotation else [f"{host.name} was left drained"]
        return found if seen.active else [*found, f"{host.name} does not run"]

    def _record(self) -> Any:
        journal = self._journal()
        try:
            return journal.runs(1)[0]
        finally:
            journal.close()

    def _owed(self) -> Any:
        journal = self._journal()
        try:
            kept = journal.run(journal.runs(1)[0].run_id)
            assert kept is not None
            assert journal.verify() == []
            return open_obligations(kept.events)
        finally:
            journal.close()

    def _journal(self) -> SqliteJournal:
        return SqliteJournal(self._folder / "state" / "journal.db")

    def _starts(self) -> dict[str, int]:
        with ThreadPoolExecutor() as pool:
            seen = pool.map(lambda host: look(self._lab, host), self._lab.apps)
            return {host.name: one.starts for host, one in zip(self._lab.apps, seen, strict=True)}

    def _run(self, *words: str) -> Ended:
        done = subprocess.run(
            [sys.executable, *words],
            env=self._env,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_LONGEST_S,
            check=False,
        )
        assert "Traceback" not in done.stdout, done.stdout
        return Ended(code=done.returncode, said=done.stdout)


@dataclass(frozen=True, kw_only=True)
class Point:
    """A point at which a fault can be planted."""

    #: The number among its kind, from 1.
    number: int
    what: str


def every_point(victims: Lab, folder: Path, kind: str) -> list[Point]:
    """The points of a run without a fault, of one kind."""
    trial = Trial(victims, folder)
    assert trial.begin("none").code == 0
    labels = [what for each, what in trial.points() if each == kind]
    return [Point(number=number, what=what) for number, what in enumerate(labels, 1)]


def chosen(points: list[Point], fault: str) -> Iterator[Point]:
    """Of each change, and of the lock before any, the middle one.

    That is on the second host: one is done by then, and one has not begun. A lock that was taken
    and one that was not look alike from here.
    """
    alike: dict[str, list[Point]] = {}
    for point in points:
        if point.what.startswith("change") or (point.what == "lock" and fault == "gone-before"):
            alike.setdefault(point.what, []).append(point)
    for some in alike.values():
        yield some[len(some) // 2]


def test_without_a_fault_the_run_is_done(victims: Lab, tmp_path: Path) -> None:
    trial = Trial(victims, tmp_path / "trial")
    ended = trial.begin("none")
    assert ended.code == 0, ended.said
    assert trial.faults() == []


@pytest.mark.parametrize(("moment", "kind"), [("after", "intended"), ("before", "changed")])
def test_killed_at_a_journal_event_and_resumed(
    victims: Lab, tmp_path: Path, moment: str, kind: str
) -> None:
    """Around a restart: its intent is kept, and either it was not sent, or nobody heard of it."""
    points = every_point(victims, tmp_path / "whole", "event")
    restarts = [
        point for point in points if point.what.startswith(f"{kind} restart sudo systemctl")
    ]
    assert len(restarts) == len(victims.apps), points
    trouble = {}
    for point in points if SWEEP else restarts[1:2]:
        trial = Trial(victims, tmp_path / f"{point.number}")
        killed = trial.begin(f"killed-{moment}:{point.number}")
        assert killed.code == -9, killed.said
        # Killed after its last event, it is done: there is nothing to go on with.
        resumed = trial.resume() if not trial.done() else Ended(code=0, said="")
        found = trial.faults()
        if resumed.code != 0 or found:
            trouble[f"{moment} {point}"] = (found, killed.said, resumed.said)
    assert not trouble, explained(trouble)


@pytest.mark.parametrize("fault", ["cut-before", "cut-after", "gone-before", "gone-after"])
def test_cut_off_at_a_command_and_resumed(victims: Lab, tmp_path: Path, fault: str) -> None:
    points = every_point(victims, tmp_path / "whole", "command")
    trouble = {}
    for point in points if SWEEP else chosen(points, fault):
        trial = Trial(victims, tmp_path / f"{point.number}")
        ended = trial.begin(f"{fault}:{point.number}")
        resumed = trial.resume() if ended.code != 0 else ended
        found = trial.faults()
        if resumed.code != 0 or found:
            trouble[f"{fault} {point}"] = (found, ended.said, resumed.said)
    assert not trouble, explained(trouble)


def test_one_run_is_killed_at_one_event_after_the_other(victims: Lab, tmp_path: Path) -> None:
    """Each process of it comes one event further than the last one did, by its own count."""
    trial = Trial(victims, tmp_path / "trial")
    killed: list[str] = []
    ended = trial.begin("killed-after:1")
    while ended.code == -9:
        killed.append(trial.last_point())
        assert len(killed) < _MOST_PROCESSES, killed
        ended = trial.resume(next_fault(len(killed)))
    assert ended.code == 0, (killed, ended.said)
    assert trial.faults() == [], killed
    assert any("intended" in point for point in killed), killed


def next_fault(number: int) -> str:
    """How the process after so many is killed: after an event, or before one.

    Before an event is after the command that it tells of. A sweep does both at each number.
    """
    if SWEEP:
        number, before = divmod(number, 2)
    else:
        before = number % 2
    return f"killed-before:{number + 2}" if before else f"killed-after:{number + 1}"


def explained(trouble: dict[str, tuple[list[str], str, str]]) -> str:
    """What went wrong at which point, and what was said."""
    return "\n\n".join(
        f"=== {point}: {json.dumps(found)}\n--- first\n{first}\n--- resumed\n{second}"
        for point, (found, first, second) in trouble.items()
    )
