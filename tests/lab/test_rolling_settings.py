"""A rolling restart that carries a new setting to each host, and takes it back where it fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runbook.model.setting_text import assignments, with_drop_in, with_env

from .command import QUICK, Command, starts
from .lab import SHOP_SUDO, UNIT, Host, Lab, in_parallel, password, until

SWEEP = bool(os.environ.get("RUNBOOK_CRASH_SWEEP"))
VICTIM = "lab-victim.service"

SH = "oncall ALL=(root) NOPASSWD: /usr/bin/sh"
RELOAD = "oncall ALL=(root) NOPASSWD: /usr/bin/systemctl daemon-reload"
ENV = "/etc/shop.env"
DROP_IN = "/etc/systemd/system/shop.service.d/50-runbook.conf"
SETTINGS = {
    "size": {"env_file": ENV, "key": "POOL_SIZE"},
    # The shop's own unit does not read it from there: it is no longer in the file.
    "overflow": {"environment": "MAX_OVERFLOW"},
    "url": {"env_file": ENV, "key": "DATABASE_URL"},
}
READY = {"http": {"url": "http://${host.address}:${host.vars.health_port}/ready"}}
ROLL = ("run", "rolling-restart", "shop")


@pytest.fixture
def shop(lab: Lab, runbook: Command) -> Lab:
    """The lab, with sudo rules for what settings need."""

    def prepare(host: Host) -> None:
        lab.sudoers(host, SHOP_SUDO, SH, RELOAD)
        lab.exec(host, ["sed", "-i", "/MAX_OVERFLOW/d", ENV])

    in_parallel(prepare, lab.apps)
    rolling = {"gate": {"deadline": "3s"}}
    runbook.declare_shop(settings=SETTINGS, gates=[READY], rolling=rolling)
    return lab


def lead(folder: Path, host: str, port: int) -> str:
    """A playbook of one's own that leads the connection string elsewhere."""
    path = folder / "lead.yaml"
    path.write_text(
        "version: 1\nname: lead\ntarget: {kind: service}\nsteps:\n  - name: lead\n"
        f"    rolling: {{service: '${{target}}', url: {{host: {host}, port: {port}}}}}\n"
    )
    return str(path)


def files(lab: Lab) -> list[str]:
    """What each host's settings are."""
    return [lab.exec(host, ["sh", "-c", f"cat {ENV} {DROP_IN}"]).stdout for host in lab.apps]


def all_starts(lab: Lab) -> list[int]:
    """How often the shop was started on each host."""
    return [starts(lab, host) for host in lab.apps]


def pool(lab: Lab, host: Host) -> str:
    """What the app's own pool says of itself."""
    return str(lab.http(host, "/pool").json()["status"])


def run_id(runbook: Command) -> str:
    """The last run's id."""
    return str(runbook("runs", "list", "--format", "json").json()[0]["run_id"])


def test_new_sizes_reach_every_host_and_restore_takes_them_back(
    shop: Lab, runbook: Command, tmp_path: Path
) -> None:
    before, at_first = files(shop), all_starts(shop)
    words = (*ROLL, "-p", "size=7", "-p", "overflow=3")
    assert "POOL_SIZE 5 -> 7" in runbook(*words, "--dry-run").said
    assert (files(shop), all_starts(shop)) == (before, at_first)
    ran = runbook(*words, "--yes")
    assert all("Pool size: 7" in pool(shop, host) for host in shop.apps)
    assert all_starts(shop) == [count + 1 for count in at_first]
    for host in shop.apps:
        pid = shop.show(host, UNIT)["MainPID"]
        environ = shop.exec(host, ["cat", f"/proc/{pid}/environ"]).stdout.split("\0")
        assert {"POOL_SIZE=7", "MAX_OVERFLOW=3"} <= set(environ)
    changed_by = run_id(runbook)
    assert f"runbook run rolling-restart shop -p restore={changed_by}" in ran.said
    back = runbook(*ROLL, "-p", f"restore={changed_by}", "--yes")
    assert files(shop) == before, back
    assert all_starts(shop) == [count + 2 for count in at_first]
    assert all("Pool size: 5" in pool(shop, host) for host in shop.apps)
    again = runbook(*ROLL, "-p", "restore=20200101-000000-dead", "--yes")
    assert "has not changed its settings: left alone" in again.said
    assert all_starts(shop) == [count + 2 for count in at_first]
    secret = password("shop").encode()
    kept = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if secret in path.read_bytes()]


def test_a_connection_string_to_nowhere_fails_on_the_canary_which_is_moved_back(
    shop: Lab, runbook: Command, tmp_path: Path
) -> None:
    before, at_first = files(shop), all_starts(shop)
    ran = runbook("run", lead(tmp_path, "lab-db", 9), "shop", "--yes", code=1)
    assert "DATABASE_URL lab-db:5432 -> lab-db:9" in ran.said
    assert "is put back as it was, and the host is healthy again" in ran.said
    assert files(shop) == before
    first, second, third = at_first
    assert all_starts(shop) == [first + 2, second, third]
    assert shop.http(shop.apps[0], "/ready").status == 200
    assert password("shop") not in ran.said
    resumed = runbook("runs", "resume", run_id(runbook), "--yes", code=1)
    assert "healthy again" in resumed.said
    assert all_starts(shop) == [first + 2, second, third]


def test_what_was_edited_by_hand_since_it_was_shown_is_left_alone(
    shop: Lab, runbook: Command
) -> None:
    at_first = all_starts(shop)
    running = runbook.start(*ROLL, "-p", "size=7", columns=200)
    running.wait_for("[y/N]")
    edited = shop.apps[0]
    shop.exec(edited, ["sh", "-c", f"echo '# mine' >> {ENV}"])
    running.answer("y")
    ran = running.finish(1)
    assert f"nothing was restarted: {ENV} has changed since it was shown" in ran.said
    assert files(shop)[0].endswith("# mine\n")
    assert "POOL_SIZE=5" in files(shop)[0]
    assert all_starts(shop) == at_first


ODD = [
    "plain",
    "a b  c ",
    " x",
    "it's",
    'say "so"',
    "back\\slash\\",
    "$HOME ${HOME} $$",
    "100% %h %%",
    "`id` #no ;comment",
    "two\nlines\tand a tab",
    "p%40ss:w@rd=é…",
    "'\"\\$`%",
    "",
]
WHOLE = "postgresql://u:p%40:%25'x$y@db:5432/x?options=-c%20a%3Db"


def test_a_real_process_gets_any_value_as_it_was_written(lab: Lab) -> None:
    """Values with odd characters, by both ways, and lines that systemd reads in its own way."""
    host = lab.apps[0]
    values = {f"V{number}": value for number, value in enumerate([*ODD, WHOLE])}
    by_file = "# so\nexport NO=1\nQUOTED='x'\nJOINED=a\\\n b\nMIXED=\"a\"'b' c\nLATE=x\"y\"\n"
    known = {each.key: each.value for each in assignments(by_file) if " " not in each.key}
    drop_in: str | None = None
    for key, value in values.items():
        by_file = with_env(by_file, key, value)
        drop_in = with_drop_in(drop_in, f"D{key}", value, "R")
    assert drop_in is not None
    lab.put(host, "/etc/lab-odd.env", by_file)
    lab.put(host, "/etc/systemd/system/lab-odd.service.d/50-runbook.conf", drop_in)
    unit = "[Service]\nEnvironmentFile=/etc/lab-odd.env\nExecStart=/bin/sleep infinity\n"
    lab.put(host, "/etc/systemd/system/lab-odd.service", unit)
    lab.exec(host, ["systemctl", "daemon-reload"])
    assert lab.exec(host, ["systemctl", "start", "lab-odd.service"]).rc == 0
    pid = lab.show(host, "lab-odd.service")["MainPID"]
    until(lambda: "sleep" in lab.exec(host, ["cat", f"/proc/{pid}/comm"]).stdout, "the process")
    said = lab.exec(host, ["cat", f"/proc/{pid}/environ"]).stdout
    environ = dict(pair.split("=", 1) for pair in said.split("\0") if pair)
    assert "NO" not in environ
    expected = {**known, **values, **{f"D{key}": value for key, value in values.items()}}
    assert {key: environ.get(key) for key in expected} == expected


# ---- killed on the way ---------------------------------------------------------------------

VICTIM_ENV = "/etc/lab-victim.env"
VICTIM_DROP_IN = f"/etc/systemd/system/{VICTIM}.d/50-runbook.conf"
#: It tells the values that its process was started with.
VICTIM_UNIT = f"""[Unit]
StartLimitIntervalSec=0
[Service]
Type=exec
EnvironmentFile={VICTIM_ENV}
Environment=PROCESSES=1
ExecStart=/bin/sh -c 'echo $SIZE $PROCESSES > /run/lab-victim; exec sleep infinity'
"""
SIZES = {
    "size": {"env_file": VICTIM_ENV, "key": "SIZE"},
    "processes": {"environment": "PROCESSES"},
}
#: The app is well but for one size.
GATE = {"command": {"argv": ["sh", "-c", "! grep -q ^99 /run/lab-victim"]}}


@pytest.fixture
def victims(lab: Lab) -> Lab:
    """The lab with a service that starts in milliseconds, and that one size makes ill."""

    def prepare(host: Host) -> None:
        lab.put(host, f"/etc/systemd/system/{VICTIM}", VICTIM_UNIT)
        lab.put(host, VICTIM_ENV, "SIZE=5\n")
        lab.sudoers(host, SHOP_SUDO.replace(UNIT, VICTIM), SH, RELOAD)
        lab.exec(host, ["systemctl", "daemon-reload"])
        lab.exec(host, ["systemctl", "start", VICTIM])

    in_parallel(prepare, lab.apps)
    return lab


class Trial:
    """One run of a state folder of its own: begun with a fault, and resumed without."""

    def __init__(self, lab: Lab, folder: Path, size: int) -> None:
        folder.mkdir()
        self._lab, self._folder, self._size = lab, folder, size
        self.command = Command(lab, folder)
        gate = {"successes": 2, "interval": "50ms", "deadline": "1s"}
        rolling = {**QUICK, "batches": [1], "gate": gate}
        service = {"hosts": "app", "unit": VICTIM, "settings": SIZES, "rolling": rolling}
        self.command.declare(services={"victim": {**service, "gates": [GATE]}, "shop": None})
        self._before = self._looked()

    def begin(self, fault: str) -> Any:
        """Begin the run with a fault planted; return how it ended."""
        words = ("-p", f"size={self._size}", "-p", "processes=3", "--yes")
        return self._run(fault, "run", "rolling-restart", "victim", *words)

    def resume(self) -> Any:
        """Go on with the run."""
        return self._run("none", "runs", "resume", run_id(self.command), "--yes")

    def _run(self, fault: str, *words: str) -> Any:
        env = {
            **self.command.env,
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "RUNBOOK_POINTS": str(self._folder / "points"),
        }
        argv = [sys.executable, "-m", "lab.faulty", fault, *words]
        done = subprocess.run(
            argv, env=env, cwd=self._folder, capture_output=True, text=True, check=False
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def points(self) -> list[str]:
        """The events of the run, in order."""
        lines = (self._folder / "points").read_text().splitlines()
        return [line.partition("\t")[2] for line in lines if line.startswith("event")]

    def _looked(self) -> list[tuple[int, str]]:
        script = (
            f"journalctl -u {VICTIM} -o cat | grep -c ^Started; cat /run/lab-victim {VICTIM_ENV};"
            f" ls {VICTIM_DROP_IN} 2>/dev/null | wc -l; systemctl show -P ActiveState {VICTIM}"
        )
        said = [
            self._lab.exec(host, ["sh", "-c", script]).stdout.split() for host in self._lab.apps
        ]
        return [(int(starts), " ".join(rest)) for starts, *rest in said]

    def seen(self) -> list[tuple[int, str]]:
        """By host: starts since the trial began, and how its files and its process are."""
        pairs = zip(self._before, self._looked(), strict=True)
        return [(now - then, looks) for (then, _), (now, looks) in pairs]


#: On a host: what the process was started with, the file, drop-ins, the unit's state.
NEW, OLD = "6 3 SIZE=6 1 active", "5 1 SIZE=5 0 active"
WELL = (0, [(1, NEW)] * 3)
TAKEN_BACK = (1, [(2, OLD), (0, OLD), (0, OLD)])


@pytest.mark.parametrize(("size", "ends"), [(6, WELL), (99, TAKEN_BACK)])
def test_killed_at_any_point_and_resumed(
    victims: Lab, tmp_path: Path, size: int, ends: tuple[int, Any]
) -> None:
    """Each host is started as often as without the fault, and ends as it would have."""
    whole = Trial(victims, tmp_path / "whole", size)
    done = whole.begin("none")
    assert (done.returncode, whole.seen()) == ends, done.stdout + done.stderr
    points = whole.points()
    trouble = {}
    for number in chosen(points):
        in_parallel(lambda host: start_anew(victims, host), victims.apps)
        trial = Trial(victims, tmp_path / f"{number}", size)
        killed = trial.begin(f"killed-after:{number}")
        assert killed.returncode == -9, killed.stderr
        resumed = trial.resume()
        if (resumed.returncode, trial.seen()) != ends:
            trouble[f"{number} {points[number - 1]}"] = (
                trial.seen(),
                killed.stderr,
                resumed.stderr,
            )
    assert not trouble, "\n\n".join(
        f"=== {point}: {seen}\n--- first\n{first}\n--- resumed\n{second}"
        for point, (seen, first, second) in trouble.items()
    )


def chosen(points: list[str]) -> list[int]:
    """Numbers of the points at which a run is killed: on the first host, around some changes."""
    every = range(1, len(points) + 1)
    if SWEEP:
        return [number for number in every if "preflight" not in points[number - 1]]
    changes = [
        n for n in every if points[n - 1].startswith(("intended restart", "changed restart"))
    ]
    restarts = [n for n in changes if "systemctl restart" in points[n - 1]]
    removed = [n for n in changes if "remove" in points[n - 1]]
    if removed:
        # Its first restart was made; a file is being put back; its second is not heard of.
        return [restarts[1], removed[0], restarts[2]]
    return [changes[0], next(n for n in changes if points[n - 1].endswith("daemon-reload"))]


def start_anew(lab: Lab, host: Host) -> None:
    """Put a host back to where a trial begins."""
    lab.put(host, VICTIM_ENV, "SIZE=5\n")
    script = f"rm -rf {VICTIM_DROP_IN}*; systemctl daemon-reload; systemctl restart {VICTIM}"
    lab.exec(host, ["sh", "-c", script])
