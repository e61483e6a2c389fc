"""`runbook doctor` on real hosts: one thing broken each, named, and mended by what it printed."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .command import Command, Ran, invocations, sessions
from .lab import DB, SHOP_SUDO, UNIT, Host, Lab, password

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HBA = "/etc/lab-postgresql/pg_hba.conf"
HBA_TEXT = (Path(__file__).parent / "image" / "pg_hba.conf").read_text()
SUDOERS = "/etc/sudoers.d/runbook"
RESCUE = "oncall_rescue"

Check = dict[str, Any]


@pytest.fixture(autouse=True)
def _put_back(lab: Lab) -> Iterator[None]:
    """Undo what `Lab.reset` does not know of."""
    yield
    lab.exec(lab.db, ["systemctl", "start", "ssh", "postgresql"])
    lab.put(lab.db, HBA, HBA_TEXT)
    if lab.psql(f"SELECT count(*) FROM pg_roles WHERE rolname = '{RESCUE}'") == "0":
        lab.psql(f"CREATE ROLE {RESCUE} LOGIN REPLICATION PASSWORD '{password(RESCUE)}'")
    lab.psql("SELECT pg_reload_conf()")
    for host in lab.hosts.values():
        lab.exec(host, ["rm", "-f", SUDOERS])


def checks(ran: Ran) -> dict[tuple[str, str], Check]:
    """Return a report's checks by name and subject."""
    return {(check["name"], check["subject"]): check for check in ran.json()["checks"]}


def doctor(runbook: Command, *words: str, code: int) -> dict[tuple[str, str], Check]:
    """Run the doctor, expect an exit code, and return its checks."""
    return checks(runbook("doctor", *words, "--format", "json", code=code))


def missing(found: dict[tuple[str, str], Check]) -> set[tuple[str, str]]:
    """Return what is missing."""
    return {key for key, check in found.items() if check["status"] == "missing"}


def broken(runbook: Command, name: str, subject: str) -> Check:
    """Return the one check that is missing; every other one must be as it was."""
    found = doctor(runbook, code=1)
    assert missing(found) == {(name, subject)}
    return found[name, subject]


def mended(runbook: Command, name: str, subject: str) -> None:
    """See that nothing is missing any more."""
    found = doctor(runbook, code=0)
    assert found[name, subject]["status"] == "ok", found[name, subject]


def run_psql(lab: Lab, mend: str) -> None:
    r"""Run statements as they were printed; `\password` would ask for what is known here."""
    for line in mend.splitlines():
        if line.startswith("\\password "):
            role = line.split()[1]
            lab.psql(f"ALTER ROLE {role} PASSWORD '{password(role)}'")
        else:
            lab.psql(line)


def add_sudoers(lab: Lab, host: Host, *lines: str) -> None:
    """Install sudoers lines as they were printed, with visudo's own check."""
    lab.put(host, SUDOERS, "".join(f"{line}\n" for line in lines), mode=0o440)
    done = lab.exec(host, ["visudo", "-c", "-f", SUDOERS])
    assert done.rc == 0, done


@pytest.fixture
def local(runbook: Command) -> Command:
    """The command, with the rung `local` declared as well."""
    runbook.declare(databases={DB: {"local": {}}})
    return runbook


# ---- nothing broken ------------------------------------------------------------------------


def test_in_a_healthy_lab_every_door_opens_and_nothing_is_touched(lab: Lab, local: Command) -> None:
    for host in lab.apps:
        lab.http(host, "/warm?n=1", "POST")
    before = (sessions(lab), invocations(lab))
    found = doctor(local, code=0)
    assert (sessions(lab), invocations(lab)) == before
    rungs = {f"rung-{rung}" for rung in ("connect", "local", "rescue", "os")}
    assert {found[rung, DB]["status"] for rung in rungs} == {"ok"}
    expected = {("login", host) for host in lab.hosts} | {("sudo-psql", DB), ("sudo-sh", DB)}
    for host in lab.apps:
        expected |= {("sudo-restart", host.name), ("sudo-ss", host.name)}
        expected |= {(name, f"shop on {host.name}") for name in ("unit", "gates", "sessions")}
    assert {found[key]["status"] for key in expected} == {"ok"}
    warned = {name for (name, _), check in found.items() if check["status"] == "warning"}
    assert warned == {"idle_in_transaction_session_timeout"}


@pytest.mark.parametrize("pager", [False, True])
def test_the_text_fits_80_columns_and_ends_in_the_verdict(
    lab: Lab, local: Command, pager: bool
) -> None:
    ran = local.start("doctor", DB, columns=80, pager=pager).finish()
    lines = ran.stdout.splitlines()
    assert max(map(len, lines)) <= 80, ran
    assert lines[-1] == "Every door would open; 1 warning."
    assert "4 of 4 answer" in ran.said
    every = local("doctor", "--all").stdout
    assert "ok  rung-rescue of lab-db" in every


def test_a_warning_is_mended_by_what_it_prints(lab: Lab, local: Command) -> None:
    warned = doctor(local, code=0)["idle_in_transaction_session_timeout", DB]
    run_psql(lab, warned["mend"])
    mended(local, "idle_in_transaction_session_timeout", DB)
    assert local("doctor").stdout.endswith("\nEvery door would open.\n")


def test_another_name_than_a_databases_is_told_the_nearest(runbook: Command) -> None:
    assert f"did you mean '{DB}'" in runbook("doctor", "lab-bd", code=2).said
    assert f"runbook doctor {DB}" in runbook("doctor", "shop", code=2).said


# ---- roles ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "right", "check"),
    [
        ("oncall", "pg_signal_backend", "connect-pg_signal_backend"),
        ("oncall", "pg_monitor", "connect-pg_monitor"),
        (RESCUE, "pg_signal_backend", "rescue-pg_signal_backend"),
    ],
)
def test_a_grant_that_was_revoked(
    lab: Lab, local: Command, role: str, right: str, check: str
) -> None:
    lab.psql(f"REVOKE {right} FROM {role}")
    found = broken(local, check, DB)
    assert found["mend"] == f'GRANT {right} TO "{role}";'
    run_psql(lab, found["mend"])
    mended(local, check, DB)


def test_a_rescue_role_that_is_not_there(lab: Lab, local: Command) -> None:
    lab.psql(f"DROP ROLE {RESCUE}")
    run_psql(lab, broken(local, "rung-rescue", DB)["mend"])
    mended(local, "rung-rescue", DB)


def test_a_rescue_role_without_replication(lab: Lab, local: Command) -> None:
    lab.psql(f"ALTER ROLE {RESCUE} NOREPLICATION")
    run_psql(lab, broken(local, "rung-rescue", DB)["mend"])
    mended(local, "rung-rescue", DB)


def test_no_line_of_pg_hba_for_the_rescue_role(lab: Lab, local: Command) -> None:
    everybody = "host  all         all         all       scram-sha-256\n"
    assert everybody in HBA_TEXT
    narrow = HBA_TEXT.replace(everybody, "host all oncall,shop all scram-sha-256\n")
    lab.put(lab.db, HBA, narrow)
    lab.psql("SELECT pg_reload_conf()")
    found = broken(local, "rung-rescue", DB)
    lab.put(lab.db, HBA, f"{narrow}{found['mend']}\n")
    lab.psql("SELECT pg_reload_conf()")
    mended(local, "rung-rescue", DB)


def test_a_rescue_role_that_the_inventory_does_not_have(lab: Lab, local: Command) -> None:
    local.declare(databases={DB: {"rescue": None, "local": {}}})
    lab.psql(f"DROP ROLE {RESCUE}")
    found = doctor(local, code=0)["rung-rescue", DB]
    assert found["status"] == "warning"
    run_psql(lab, found["mend"])
    local.declare(databases={DB: {"local": {}}})
    mended(local, "rung-rescue", DB)


# ---- secrets -------------------------------------------------------------------------------


def secret(runbook: Command, file: Path, text: str) -> None:
    """Let the everyday password come from a file."""
    file.write_text(text)
    file.chmod(0o600)
    given = {"password": {"file": str(file)}}
    runbook.declare(databases={DB: {"connect": given, "local": {}}})


def test_a_wrong_password(lab: Lab, runbook: Command, tmp_path: Path) -> None:
    secret(runbook, tmp_path / "secret", "not the password")
    ran = runbook("doctor", "--format", "json", code=1)
    found = checks(ran)
    assert missing(found) == {("rung-connect", DB)}
    assert found["rung-connect", DB]["mend"] == "\\password oncall"
    # Rights are learned over another door.
    assert found["connect-pg_monitor", DB]["status"] == "ok"
    assert "not the password" not in ran.said
    secret(runbook, tmp_path / "secret", password("oncall"))
    mended(runbook, "rung-connect", DB)


def test_a_password_file_that_is_not_there(runbook: Command, tmp_path: Path) -> None:
    secret(runbook, tmp_path / "secret", "")
    (tmp_path / "secret").unlink()
    found = broken(runbook, "secret", f"databases.{DB}.connect.password")
    assert str(tmp_path / "secret") in found["said"]


def test_a_password_file_that_others_can_read(runbook: Command, tmp_path: Path) -> None:
    secret(runbook, tmp_path / "secret", password("oncall"))
    (tmp_path / "secret").chmod(0o644)
    ran = runbook("doctor", "--format", "json")
    key = ("secret", f"databases.{DB}.connect.password")
    found = checks(ran)[key]
    assert found["status"] == "warning"
    assert password("oncall") not in ran.said
    subprocess.run(shlex.split(found["mend"]), check=True)
    mended(runbook, *key)


# ---- hosts and sudo ------------------------------------------------------------------------


def test_a_sudo_rule_that_is_gone(lab: Lab, local: Command) -> None:
    app = lab.apps[1]
    lab.sudoers(app, "oncall ALL=(root) NOPASSWD: /usr/bin/ss")
    found = broken(local, "sudo-restart", app.name)
    assert found["mend"] == SHOP_SUDO
    add_sudoers(lab, app, found["mend"])
    mended(local, "sudo-restart", app.name)


def test_no_sudo_rules_on_the_database_host(lab: Lab, local: Command) -> None:
    lab.sudoers(lab.db)
    found = doctor(local, DB, code=1)
    assert {("sudo-psql", DB), ("sudo-sh", DB)} == missing(found)
    assert found["rung-local", DB]["status"] == "skipped"
    add_sudoers(lab, lab.db, *(found[name, DB]["mend"] for name in ("sudo-psql", "sudo-sh")))
    mended(local, "rung-local", DB)


def stop_sshd(lab: Lab, host: Host) -> None:
    lab.exec(host, ["systemctl", "stop", "ssh"])


def power_off(lab: Lab, host: Host) -> None:
    lab.stop_host(host)


def cut_off(lab: Lab, host: Host) -> None:
    lab.cut_network(host)


@pytest.mark.parametrize("fault", [stop_sshd, power_off, cut_off])
def test_a_host_that_does_not_answer_hides_no_other(
    lab: Lab, runbook: Command, fault: Callable[[Lab, Host], None]
) -> None:
    runbook.declare(databases={DB: {"local": {}}}, defaults={"ssh": {"connect_timeout": "2s"}})
    app, *others = lab.apps
    try:
        fault(lab, app)
        found = doctor(runbook, code=1)
    finally:
        lab.exec(app, ["systemctl", "start", "ssh"])
    assert missing(found) == {("login", app.name)}
    assert found["unit", f"shop on {app.name}"]["status"] == "skipped"
    for host in others:
        assert found["sudo-restart", host.name]["status"] == "ok"
        assert found["unit", f"shop on {host.name}"]["status"] == "ok"
    assert found["rung-rescue", DB]["status"] == "ok"


def test_with_the_database_host_gone_the_app_hosts_are_told(lab: Lab, local: Command) -> None:
    lab.stop_host(lab.db)
    try:
        found = doctor(local, code=1)
    finally:
        lab.start_host(lab.db)
    assert missing(found) == {("login", DB), ("rung-connect", DB)}
    assert {found[f"rung-{r}", DB]["status"] for r in ("local", "rescue", "os")} == {"skipped"}
    for host in lab.apps:
        assert found["login", host.name]["status"] == "ok"
        assert found["unit", f"shop on {host.name}"]["status"] == "ok"
    assert found["grants", DB]["status"] == "skipped"


# ---- services ------------------------------------------------------------------------------


def test_a_stopped_app(lab: Lab, local: Command) -> None:
    app = lab.apps[0]
    lab.exec(app, ["systemctl", "stop", UNIT])
    found = broken(local, "unit", f"shop on {app.name}")
    ssh, *words = shlex.split(found["mend"])
    known = f"UserKnownHostsFile={lab.folder / 'known_hosts'}"
    subprocess.run([ssh, "-o", known, *words], check=True, capture_output=True)
    lab.wait_ready(app)
    mended(local, "unit", f"shop on {app.name}")


def test_a_gate_that_fails_while_the_app_runs(lab: Lab, local: Command) -> None:
    app = lab.apps[2]
    lab.break_health(app)
    found = broken(local, "gates", f"shop on {app.name}")
    assert "500" in found["said"]
    done = subprocess.run(shlex.split(found["mend"]), check=True, capture_output=True, text=True)
    assert " 500 " in done.stdout


def test_a_unit_that_must_be_loaded_anew(lab: Lab, local: Command) -> None:
    app = lab.apps[0]
    lab.exec(app, ["touch", f"/lib/systemd/system/{UNIT}"])
    try:
        found = broken(local, "unit", f"shop on {app.name}")
    finally:
        lab.exec(app, ["systemctl", "daemon-reload"])
    assert "sudo systemctl daemon-reload" in found["hint"]
    mended(local, "unit", f"shop on {app.name}")


def test_sessions_under_another_name_than_the_declared_one(lab: Lab, local: Command) -> None:
    lab.http(lab.apps[0], "/warm?n=2", "POST")
    local.declare(
        databases={DB: {"local": {}}},
        services={"shop": {"application_name": "store-${host.name}"}},
    )
    found = doctor(local, code=0)["sessions", "shop on app-1"]
    assert found["status"] == "warning"
    assert "shop-app-1" in found["said"]
    assert found["mend"] == "PGAPPNAME=store-app-1"


# ---- on a bad day --------------------------------------------------------------------------


def test_a_saturated_server_is_no_missing_door(lab: Lab, local: Command) -> None:
    assert lab.leak(lab.apps[0], 37) == 37
    before = sessions(lab)
    found = doctor(local, code=0)
    assert sessions(lab) == before
    assert found["rung-connect", DB]["status"] == "warning"
    assert found["rung-rescue", DB]["status"] == "ok"
    assert found["connect-pg_signal_backend", DB]["status"] == "ok"
    assert "over its declared pool of 10" in found["sessions", "shop on app-1"]["said"]


# ---- PgBouncer -----------------------------------------------------------------------------


def test_a_console_that_lets_nobody_in(lab: Lab, runbook: Command) -> None:
    lab.start_pgbouncer(lab.db)
    entry = lab.bouncer_entry(lab.db)
    runbook.declare(databases={DB: {"local": {}}}, pgbouncers={"bouncer": entry})
    mended(runbook, "console", "bouncer")
    other = {
        "user": "nobody_special",
        "password": {"file": f"{lab.folder}/nobody_special.password"},
    }
    runbook.declare(
        databases={DB: {"local": {}}}, pgbouncers={"bouncer": {**entry, "admin": other}}
    )
    setting, _, user = broken(runbook, "console", "bouncer")["mend"].partition(" = ")
    lab.start_pgbouncer(lab.db, **{setting: f"bouncer_stats, {user}"})
    mended(runbook, "console", "bouncer")
