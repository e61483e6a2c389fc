"""Hosts and databases that do not let us in, or answer with malice: nothing is left half done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .command import Command, Ran, connections, invocations, sessions, wait_settled
from .lab import DB, Lab, new_key

if TYPE_CHECKING:
    from pathlib import Path

RESTART = ("remediate", DB, "--rolling-restart", "--yes")
TERMINATE = ("remediate", DB, "--terminate-idle", "-p", "headroom=90%", "-p", "watch=0s")
#: What no terminal must ever get to see as it is, in a statement and in a name.
#: In a quoted name: values are masked before anybody sees them.
NASTY = 'SELECT 1 AS "\x1b[2J\x1b]0;own\x07 [bold red]FINE[/bold red] \u202e :skull: `rm -rf /`"'
NAME = "[blink]evil[/blink] | $(id)"


def refused_as_a_whole(lab: Lab, runbook: Command, *words: str, code: int = 3) -> Ran:
    """Run the rolling restart, which must not touch a single host."""
    before = invocations(lab)
    ran = runbook(*RESTART, *words, code=code)
    assert invocations(lab) == before
    return ran


# ---- SSH


def test_a_host_with_another_key_is_not_spoken_to(
    lab: Lab, runbook: Command, tmp_path: Path
) -> None:
    first, second, _ = lab.apps
    keys = dict(
        line.split(" ", 1) for line in (lab.folder / "known_hosts").read_text().splitlines()
    )
    keys[f"[127.0.0.1]:{second.ssh_port}"] = keys[f"[127.0.0.1]:{first.ssh_port}"]
    known = known_hosts(runbook, tmp_path, keys)
    ran = refused_as_a_whole(lab, runbook)
    assert f"app-2 (oncall@127.0.0.1:{second.ssh_port}): its host key has changed" in ran.said
    assert str(known) in ran.said
    assert f"ssh-keygen -R '[127.0.0.1]:{second.ssh_port}'" in ran.said


def test_a_host_whose_key_is_not_known_is_not_spoken_to(
    lab: Lab, runbook: Command, tmp_path: Path
) -> None:
    second = lab.apps[1]
    keys = dict(
        line.split(" ", 1) for line in (lab.folder / "known_hosts").read_text().splitlines()
    )
    del keys[f"[127.0.0.1]:{second.ssh_port}"]
    known = known_hosts(runbook, tmp_path, keys)
    ran = refused_as_a_whole(lab, runbook)
    assert f"app-2 (oncall@127.0.0.1:{second.ssh_port}): its host key is not known" in ran.said
    assert f"ssh-keyscan -p {second.ssh_port} 127.0.0.1 >> {known}" in ran.said


def known_hosts(runbook: Command, folder: Path, keys: dict[str, str]) -> Path:
    """Write a known_hosts file, and let the inventory name it."""
    known = folder / "known_hosts"
    known.write_text("".join(f"{name} {key}\n" for name, key in keys.items()))
    runbook.declare(defaults={"ssh": {"known_hosts": str(known)}})
    return known


def test_a_key_that_opens_nothing_is_named(lab: Lab, runbook: Command, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    stranger.touch(mode=0o600)
    stranger.write_text(new_key()[0])
    runbook.declare(defaults={"ssh": {"identity_file": str(stranger)}})
    ran = refused_as_a_whole(lab, runbook)
    assert "the login was refused" in ran.said
    assert str(stranger) in ran.said
    assert "ssh.identity_file" in ran.said
    runbook.declare(defaults={"ssh": {"identity_file": str(tmp_path / "nowhere")}})
    ran = refused_as_a_whole(lab, runbook)
    assert f"{tmp_path / 'nowhere'} (there is no such file)" in ran.said


def test_a_host_name_that_leads_nowhere_is_named(lab: Lab, runbook: Command) -> None:
    runbook.declare(hosts={"app-2": {"address": "app-2.lab.invalid"}})
    ran = refused_as_a_whole(lab, runbook)
    assert "the name app-2.lab.invalid cannot be resolved" in ran.said
    assert "hosts.app-2.address" in ran.said


def test_a_gate_that_cannot_be_asked_is_found_out_before_anything(
    lab: Lab, runbook: Command
) -> None:
    runbook.declare_shop(gates=[{"http": {"url": "http://shop.lab.invalid/healthz"}}])
    ran = refused_as_a_whole(lab, runbook)
    assert "the gate http://shop.lab.invalid/healthz cannot be asked" in ran.said


# ---- PostgreSQL


def test_a_wrong_password_names_the_role_and_where_it_comes_from(
    lab: Lab, runbook: Command, tmp_path: Path
) -> None:
    secret = tmp_path / "password"
    secret.write_text("not-this-one\n")
    runbook.declare(databases={DB: {"connect": {"password": {"file": str(secret)}}}})
    for words, code in ((("diagnose", DB), 1), ((*TERMINATE, "--yes"), 3), (RESTART, 3)):
        ran = runbook(*words, code=code)
        assert f"{DB} (127.0.0.1:{lab.db.pg_port}) refused 'oncall'" in ran.said
        assert "password authentication failed" in ran.said
        assert f"databases.{DB}.connect" in ran.said
        assert "not-this-one" not in ran.said


def test_a_missing_password_file_is_named(lab: Lab, runbook: Command, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    runbook.declare(databases={DB: {"connect": {"password": {"file": nowhere}}}})
    assert nowhere in runbook("diagnose", DB, code=1).said
    assert nowhere in refused_as_a_whole(lab, runbook).said


def test_a_database_that_is_down_is_told_from_a_full_one(lab: Lab, runbook: Command) -> None:
    assert lab.exec(lab.db, ["systemctl", "stop", "postgresql.service"]).rc == 0
    try:
        ran = runbook("diagnose", DB, code=1)
        check = runbook("diagnose", DB, "--check", code=3)
        restart = refused_as_a_whole(lab, runbook)
    finally:
        lab.exec(lab.db, ["systemctl", "start", "postgresql.service"])
    assert f"{DB} (127.0.0.1:{lab.db.pg_port}) cannot be reached" in ran.said
    assert " hint: " in ran.stderr
    assert check.stdout.startswith("RUNBOOK UNKNOWN - ")
    assert "the database gate cannot be asked" in restart.said


def test_a_database_host_that_does_not_answer_is_given_up_in_time(
    lab: Lab, runbook: Command
) -> None:
    runbook.declare(databases={DB: {"connect": {"connect_timeout": "1s"}}})
    lab.cut_network(lab.db)
    ran = runbook("diagnose", DB, code=1)
    lab.restore_network(lab.db)
    assert f"{DB} (127.0.0.1:{lab.db.pg_port}) cannot be reached" in ran.said
    assert "connect_timeout" in ran.said


def test_a_database_name_that_leads_nowhere_is_named(lab: Lab, runbook: Command) -> None:
    runbook.declare(databases={DB: {"connect": {"host": "db.lab.invalid"}}})
    ran = runbook("diagnose", DB, code=1)
    assert "db.lab.invalid" in ran.said
    assert f"databases.{DB}.connect.host" in ran.said


def test_a_role_that_sees_nothing_says_so_instead_of_healthy(lab: Lab, runbook: Command) -> None:
    secret = str(lab.folder / "nobody_special.password")
    connect = {"user": "nobody_special", "password": {"file": secret}}
    runbook.declare(databases={DB: {"connect": connect, "rescue": None}})
    lab.leak(lab.apps[0], 36)
    diagnosis = runbook.diagnose()
    assert diagnosis["slots"]["used"] == 36
    assert diagnosis["finding"]["cause"] != "healthy"
    assert 'GRANT pg_monitor TO "nobody_special";' in " ".join(diagnosis["unseen"])
    before = sessions(lab)
    ran = runbook(*TERMINATE, "--yes", code=3)
    assert 'GRANT pg_monitor TO "nobody_special";' in ran.said
    assert sessions(lab) == before


# ---- what the other side says is data


def test_names_and_statements_are_shown_and_never_obeyed(lab: Lab, runbook: Command) -> None:
    with connections(lab, 16, "shop-app-1") as leaked, connections(lab, 21, NAME) as others:
        for connection in (*leaked, *others):
            connection.execute(NASTY)
        wait_settled(lab, "shop-app-1", 16)
        shown = [
            runbook("diagnose", DB),
            runbook.start("diagnose", DB, columns=80).finish(),
            runbook("diagnose", DB, "--format", "markdown"),
            runbook("diagnose", DB, "--check", code=2),
            runbook(*TERMINATE, "--dry-run"),
            runbook(*TERMINATE, "--yes"),
            runbook("runs", "show", "last"),
        ]
        diagnosis = runbook.diagnose()
    # `finish` has seen to it that no control character came out: and nothing was swallowed either.
    assert "[bold red]FINE[/bold red]" in shown[0].said
    assert ":skull:" in shown[0].said
    assert "\\x1b" in shown[0].said
    assert "\\[bold red\\]FINE" in shown[2].stdout
    assert not any("\u202e" in ran.said for ran in shown[:5])
    assert {count["name"] for count in diagnosis["by_application"]} >= {NAME}


def test_an_undeclared_owner_is_named_by_its_own_words(lab: Lab, runbook: Command) -> None:
    with connections(lab, 35, NAME):
        ran = runbook("diagnose", DB)
    assert NAME in ran.said


def test_a_server_of_three_slots(lab: Lab, runbook: Command) -> None:
    lab.configure_db(max_connections=6)
    lab.leak(lab.apps[0], 3)
    wait_settled(lab, "shop-app-1", 3)
    diagnosis = runbook.diagnose()
    assert (diagnosis["slots"]["used"], diagnosis["slots"]["usable"]) == (3, 3)
    assert diagnosis["server"]["rung"] == "rescue"
    assert diagnosis["finding"]["cause"] == "pools-over-budget"
    runbook.declare_shop(pool={"processes": 1, "size": 1})
    before = sessions(lab)
    runbook(*TERMINATE, "--dry-run")
    assert sessions(lab) == before
    runbook(*TERMINATE, "--yes")
    # Two are over the pool, and two is the floor that every group keeps.
    assert len(sessions(lab)) == 2


@pytest.mark.parametrize("spec", ["app-9", "app-*!app"])
def test_hosts_that_the_service_does_not_run_on(lab: Lab, runbook: Command, spec: str) -> None:
    refused_as_a_whole(lab, runbook, "-p", f"hosts={spec}", code=2)
