"""A rehearsal looks at everything and changes nothing: the hosts and the database bear witness."""

from __future__ import annotations

import re
from typing import Any

import pytest

from .command import Command, invocations, sessions, wait_settled
from .lab import DB, UNIT, Host, Lab

RESTART = ("remediate", DB, "--rolling-restart")
TERMINATE = ("remediate", DB, "--terminate-idle", "-p", "headroom=90%", "-p", "watch=0s")

_TOUCHED = re.compile(rf"(Starting|Started|Stopping|Stopped|Reloading) {UNIT}|systemctl restart")
_STATEMENT = re.compile(r"oncall\w*@\w* .*?LOG:  statement: (.*)")
#: The door's own preamble, and questions; nothing else may be in a rehearsal's log.
_LOOKS = ("begin transaction", "set local", "select", "with", "declare", "fetch", "rollback")
_SIGNALS = ("pg_terminate_backend", "pg_cancel_backend")


class Witness:
    """What hosts and database have written down themselves since the witness was called."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._cursors = {host.name: self._cursor(host) for host in lab.apps}
        self._log_from = len(lab.pg_log())
        self._units = invocations(lab)
        self._sessions = sessions(lab)

    def _cursor(self, host: Host) -> str:
        said = self._lab.exec(host, ["journalctl", "--show-cursor", "-n", "0", "-q"]).stdout
        return said.partition("cursor: ")[2].strip()

    def journal(self, host: Host) -> str:
        """Everything that journald of a host has had since, from every process."""
        self._lab.exec(host, ["journalctl", "--sync"])
        done = self._lab.exec(
            host,
            ["journalctl", "--no-pager", "-o", "cat", f"--after-cursor={self._cursors[host.name]}"],
        )
        assert done.rc == 0, done
        return done.stdout

    def statements(self) -> list[str]:
        """Every statement of the on-call's roles since."""
        log = self._lab.pg_log()[self._log_from :].replace("\n\t", " ")
        return _STATEMENT.findall(log)

    def signals(self) -> list[str]:
        """Those that end or cancel somebody's session."""
        return [s for s in self.statements() if any(word in s for word in _SIGNALS)]

    def touched(self) -> dict[str, list[str]]:
        """What speaks of a start, a stop or a restart, by host."""
        lines = {host.name: self.journal(host).splitlines() for host in self._lab.apps}
        found = {
            name: [line for line in said if _TOUCHED.search(line)] for name, said in lines.items()
        }
        return {name: said for name, said in found.items() if said}

    def logins(self) -> list[str]:
        """The hosts that let the on-call in."""
        return [
            h.name for h in self._lab.apps if "Accepted publickey for oncall" in self.journal(h)
        ]

    def nothing_changed(self) -> None:
        """Say under oath."""
        assert self.touched() == {}
        assert self.signals() == []
        assert invocations(self._lab) == self._units
        assert sessions(self._lab) == self._sessions


@pytest.fixture
def leaking(lab: Lab) -> Lab:
    """The lab with a full log, warm pools, and a leak that is old enough to be judged."""
    lab.configure_db(log_statement="all")
    lab.http(lab.apps[0], "/warm?n=4", "POST")
    lab.leak(lab.apps[1], 21)
    wait_settled(lab, "shop-app-2", 21)
    return lab


def only_looks(statements: list[str]) -> None:
    """Nothing but questions in read-only transactions."""
    assert statements
    for message in statements:
        parts = [part.strip().casefold() for part in message.split("; ") if part.strip()]
        assert all(part.startswith(_LOOKS) for part in parts), message
        assert "read only" in parts[0], message


def test_a_rehearsed_restart_changes_nothing_and_a_real_one_leaves_its_traces(
    leaking: Lab, runbook: Command
) -> None:
    lab = leaking
    witness = Witness(lab)
    ran = runbook(*RESTART, "--dry-run")
    witness.nothing_changed()
    assert witness.logins() == ["app-1", "app-2", "app-3"], "it did not really look"
    only_looks(witness.statements())
    assert any("pg_stat_activity" in statement for statement in witness.statements())
    for host in lab.apps:
        assert f"{host.name}: sudo systemctl restart {UNIT}" in ran.stdout
    assert "3 batches of 1, 1, 1" in ran.stdout
    not_exercised(ran.stdout, "the restarts themselves", "the gates after a restart")
    assert "nothing was changed" in ran.stdout
    # The same witness would have told: this is what it says of the real thing.
    witness = Witness(lab)
    runbook(*RESTART, "--yes")
    assert list(witness.touched()) == ["app-1", "app-2", "app-3"]


def test_a_rehearsed_termination_changes_nothing_and_a_real_one_leaves_its_traces(
    leaking: Lab, runbook: Command
) -> None:
    lab = leaking
    witness = Witness(lab)
    ran = runbook(*TERMINATE, "--dry-run")
    witness.nothing_changed()
    only_looks(witness.statements())
    assert witness.logins() == ["app-1", "app-2"]  # who there holds which connection
    named = {
        int(line.split()[0]) for line in ran.stdout.splitlines() if re.match(r"\s*\d+ +shop", line)
    }
    leaked = lab.psql("SELECT pid FROM pg_stat_activity WHERE application_name = 'shop-app-2'")
    assert len(named) == 11
    assert named < {int(pid) for pid in leaked.splitlines()}
    not_exercised(ran.stdout, "whether the sessions come straight back")
    witness = Witness(lab)
    runbook(*TERMINATE, "--yes")
    assert witness.signals()
    gone = set(map(str, named)) - {key.split()[0] for key in sessions(lab)}
    assert len(gone) == 11


def not_exercised(text: str, *lines: str) -> None:
    """It says itself what looking could not try."""
    _, found, rest = text.partition("NOT exercised by looking:")
    assert found
    for line in lines:
        assert line in rest


@pytest.mark.parametrize(
    ("playbook", "target"), [("rolling-restart", "shop"), ("terminate-idle", DB)]
)
def test_a_playbook_rehearses_in_the_same_way(
    leaking: Lab, runbook: Command, playbook: str, target: str
) -> None:
    witness = Witness(leaking)
    all_of_them = ("-p", "headroom=90%") if target == DB else ()
    ran = runbook("run", playbook, target, "--dry-run", "--format", "json", *all_of_them)
    witness.nothing_changed()
    only_looks(witness.statements())
    told: dict[str, Any] = ran.json()
    assert (told["rehearsal"], told["status"]) == (True, "rehearsed")
    assert {step["status"] for step in told["steps"]} == {"rehearsed"}
    assert runbook("runs", "list").stdout.count("(rehearsal)") == 1


def test_a_rehearsal_says_no_where_the_real_run_would(lab: Lab, runbook: Command) -> None:
    before = invocations(lab)
    crowded = runbook(*RESTART, "--dry-run", "-p", "batches=3", "-p", "min_available=1", code=3)
    assert "can never leave 1 healthy" in crowded.said
    lab.spoil(lab.apps[2], "masked")
    masked = runbook(*RESTART, "--dry-run", code=3)
    assert f"app-3: {UNIT} is masked" in masked.said
    assert invocations(lab) == before
