"""A rolling restart that loses its process, or its network, at any point, and is resumed.

What is proved comes from the hosts: their own journald says how often each unit was started. By
default one point of each kind is tried; `make crash` tries every one.
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

    def resume(self) -> Ended:
        """Go on with the run, as `runbook runs resume ID --yes` does."""
        return self._run("-m", "runbook", "runs", "resume", self._record().run_id, "--yes")

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

    kind: str
    #: The number among its kind.
    number: int
    what: str
    #: Whether a command was performed since the event before: else before it is after that one.
    fresh: bool


def every_point(victims: Lab, folder: Path) -> list[Point]:
    """The points of a run without a fault."""
    trial = Trial(victims, folder)
    assert trial.begin("none").code == 0
    found, counts, before = [], {"event": 0, "command": 0}, ""
    for kind, what in trial.points():
        counts[kind] += 1
        fresh = kind == "command" or before == "command"
        found.append(Point(kind=kind, number=counts[kind], what=what, fresh=fresh))
        before = kind
    return found


def chosen(points: list[Point]) -> Iterator[Point]:
    """Every point in a sweep; else of each kind the middle one.

    That is on the second host: one is done by then, and one has not begun.
    """
    alike: dict[str, list[Point]] = {}
    for point in points:
        alike.setdefault(point.what, []).append(point)
    for some in alike.values():
        yield from some if SWEEP else some[len(some) // 2 :][:1]


def test_without_a_fault_the_run_is_done(victims: Lab, tmp_path: Path) -> None:
    trial = Trial(victims, tmp_path / "trial")
    ended = trial.begin("none")
    assert ended.code == 0, ended.said
    assert trial.faults() == []


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_at_a_journal_event_and_resumed(victims: Lab, tmp_path: Path, moment: str) -> None:
    points = [p for p in every_point(victims, tmp_path / "whole") if p.kind == "event"]
    trouble = {}
    for point in chosen([p for p in points if SWEEP or moment == "after" or p.fresh]):
        trial = Trial(victims, tmp_path / f"{point.number}")
        killed = trial.begin(f"killed-{moment}:{point.number}")
        assert killed.code == -9, killed.said
        resumed = trial.resume()
        found = trial.faults()
        if resumed.code != 0 or found:
            trouble[f"{moment} {point}"] = (found, killed.said, resumed.said)
    assert not trouble, explained(trouble)


@pytest.mark.parametrize("fault", ["cut-before", "cut-after", "gone-before", "gone-after"])
def test_cut_off_at_a_command_and_resumed(victims: Lab, tmp_path: Path, fault: str) -> None:
    points = [p for p in every_point(victims, tmp_path / "whole") if p.kind == "command"]
    trouble = {}
    for point in chosen([p for p in points if SWEEP or tried(p, fault)]):
        trial = Trial(victims, tmp_path / f"{point.number}")
        ended = trial.begin(f"{fault}:{point.number}")
        resumed = trial.resume() if ended.code != 0 else ended
        found = trial.faults()
        if resumed.code != 0 or found:
            trouble[f"{fault} {point}"] = (found, ended.said, resumed.said)
    assert not trouble, explained(trouble)


def tried(point: Point, fault: str) -> bool:
    """Whether a point is tried outside of a sweep: a look that was answered is like none."""
    return fault.endswith("before") or not point.what.startswith("look")


def explained(trouble: dict[str, tuple[list[str], str, str]]) -> str:
    """What went wrong at which point, and what was said."""
    return "\n\n".join(
        f"=== {point}: {json.dumps(found)}\n--- first\n{first}\n--- resumed\n{second}"
        for point, (found, first, second) in trouble.items()
    )
