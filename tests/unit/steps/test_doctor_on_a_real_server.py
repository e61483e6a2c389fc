"""The doctor against a real PostgreSQL: what it prints mends what was broken, word for word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from runbook.doors import open_doors
from runbook.model.effects import Together
from runbook.model.errors import DoorError
from runbook.steps.doctor import examine
from runbook.steps.doctor_roles import literal
from unit.postgres_server import PASSWORD, running
from unit.steps.doctor_world import one

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runbook.model.doctor import Check, DoctorReport
    from runbook.model.fleet import Fleet
    from unit.postgres_server import Server

#: Names that have to be quoted, so that a mend which forgets it fails.
ONCALL, RESCUE, DBA = 'on "call"', "res'cue", "The DBA"
ROLES = f"""
CREATE ROLE {{0}} LOGIN PASSWORD {literal(PASSWORD)};
CREATE ROLE {{1}} LOGIN REPLICATION PASSWORD {literal(PASSWORD)};
CREATE ROLE {{2}} LOGIN SUPERUSER PASSWORD {literal(PASSWORD)};
GRANT pg_monitor, pg_signal_backend TO {{0}}, {{1}};
GRANT pg_use_reserved_connections TO {{0}};
ALTER SYSTEM SET idle_in_transaction_session_timeout = '5min';
SELECT pg_reload_conf()"""


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@pytest.fixture(scope="module")
def kept() -> Iterator[Server]:
    """A server in whose roles and settings nothing is missing."""
    with running(max_connections=12, reserved_connections="2", max_wal_senders="3") as server:
        for statement in ROLES.format(quoted(ONCALL), quoted(RESCUE), quoted(DBA)).split(";\n"):
            server.admin(statement)
        yield server


def fleet_of(server: Server, **database: Any) -> Fleet:
    doors = {"connect": {"user": ONCALL}, "rescue": {"user": RESCUE}, "admin": {"user": DBA}}
    whole = server.fleet()
    connect = whole.inventory.databases["db"].connect.model_dump(exclude_none=True)
    return server.fleet(**{**doors, "connect": {**connect, "user": ONCALL}, **database})


def report_of(fleet: Fleet) -> DoctorReport:
    """Examine with the real doors, opened as for a rehearsal: a Change would be refused."""
    doors = open_doors(fleet, rehearsal=True)

    def look(effect: Any) -> Any:
        try:
            return doors[type(effect)].perform(effect)
        except DoorError as error:
            return error

    drive, outcome = examine(None, fleet), None
    try:
        while True:
            effect = drive.send(outcome)
            assert isinstance(effect, Together)
            outcome = tuple(look(each) for each in effect.effects)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        for door in set(doors.values()):
            door.close()


def faults(server: Server, **database: Any) -> dict[str, Check]:
    """Return what is not well of the database and its secrets, by the check's name."""
    report = report_of(fleet_of(server, **database))
    found = [c for c in report.checks if c.area in {"databases", "secrets"}]
    assert "Traceback" not in report.model_dump_json()
    return {c.name: c for c in found if c.status in {"missing", "warning"}}


def run(server: Server, mend: str) -> None:
    r"""Run a mend as it stands; psql's `\password` sets the password that is known here."""
    for line in mend.splitlines():
        role = line.removeprefix("\\password ")
        statement = f"ALTER ROLE {role} PASSWORD {literal(PASSWORD)}" if role != line else line
        server.admin(statement)


#: No host is declared: that is all there is to say of a server that is well kept.
NO_HOST = {"rung-os"}


def test_a_well_kept_server_has_nothing_missing(kept: Server) -> None:
    assert set(faults(kept)) == NO_HOST


@pytest.mark.parametrize(
    ("breaks", "check"),
    [
        ("REVOKE pg_signal_backend FROM {0}", "connect-pg_signal_backend"),
        ("REVOKE pg_monitor FROM {0}", "connect-pg_monitor"),
        ("REVOKE pg_monitor FROM {1}", "rescue-pg_monitor"),
        ("REVOKE pg_use_reserved_connections FROM {0}", "connect-reserved"),
        ("ALTER ROLE {2} NOSUPERUSER", "admin-superuser"),
        ("ALTER ROLE {0} NOLOGIN", "rung-connect"),
        ("ALTER ROLE {1} NOREPLICATION", "rung-rescue"),
        ("ALTER ROLE {1} VALID UNTIL '2001-01-01'", "rung-rescue"),
        ("ALTER ROLE {0} VALID UNTIL 'tomorrow'", "connect-expires"),
        ("ALTER ROLE {0} PASSWORD 'another'", "rung-connect"),
        ("DROP ROLE {1}", "rung-rescue"),
        ("DROP ROLE {2}", "rung-admin"),
        ("ALTER SYSTEM SET track_activities = off; SELECT pg_reload_conf()", "track_activities"),
        (
            "ALTER SYSTEM RESET idle_in_transaction_session_timeout; SELECT pg_reload_conf()",
            "idle_in_transaction_session_timeout",
        ),
    ],
)
def test_what_is_printed_mends_what_was_broken(kept: Server, breaks: str, check: str) -> None:
    for statement in breaks.format(quoted(ONCALL), quoted(RESCUE), quoted(DBA)).split("; "):
        kept.admin(statement)
    found = faults(kept)
    try:
        assert set(found) == NO_HOST | {check}
    finally:
        run(kept, found[check].mend)
    assert set(faults(kept)) == NO_HOST


def test_a_role_that_may_not_connect(kept: Server) -> None:
    kept.admin("REVOKE CONNECT ON DATABASE shop FROM PUBLIC")
    kept.admin(f"GRANT CONNECT ON DATABASE shop TO {quoted(RESCUE)}")
    try:
        found = faults(kept)
        assert set(found) == NO_HOST | {"rung-connect"}
        run(kept, found["rung-connect"].mend)
        assert set(faults(kept)) == NO_HOST
    finally:
        kept.admin("GRANT CONNECT ON DATABASE shop TO PUBLIC")


def test_no_line_of_pg_hba(kept: Server) -> None:
    kept.admin("CREATE ROLE barred LOGIN REPLICATION")
    try:
        found = faults(kept, rescue={"user": "barred"})["rung-rescue"]
    finally:
        kept.admin("DROP ROLE barred")
    assert found.mend == "host  shop  barred  127.0.0.1/32  scram-sha-256"


def test_a_full_server_is_looked_at_all_the_same(kept: Server) -> None:
    # Superusers take the slots that are left to nobody else, and the last reserve with them.
    with kept.crowd(8), kept.crowd(4, "postgres"):
        report = report_of(fleet_of(kept))
        assert one(report, "rung-connect", "db").status == "warning"
        assert one(report, "rung-admin", "db").status == "warning"
        assert one(report, "rung-rescue", "db").status == "ok"
        assert one(report, "connect-pg_monitor", "db").status == "ok"
        assert report.well


def test_a_server_that_is_gone_leaves_nothing_guessed(kept: Server) -> None:
    gone = {"host": "127.0.0.1", "port": 1, "dbname": "shop", "user": ONCALL}
    report = report_of(fleet_of(kept, connect=gone))
    assert one(report, "rung-connect", "db").status == "missing"
    # One server that is gone is one fault.
    assert {one(report, f"rung-{rung}", "db").status for rung in ("admin", "rescue")} == {"skipped"}
    assert report.missing == 1
    assert one(report, "grants", "db").status == "skipped"


def test_a_lost_secret_is_named_by_its_place(kept: Server) -> None:
    lost = {"user": RESCUE, "password": {"env": "NO_SUCH_SECRET"}}
    report = report_of(fleet_of(kept, rescue=lost))
    found = one(report, "secret", "databases.db.rescue.password")
    assert found.status == "missing"
    assert "NO_SUCH_SECRET" in found.said
    assert one(report, "rung-rescue", "db").status == "skipped"


def test_no_secret_is_in_the_report(kept: Server) -> None:
    assert PASSWORD not in report_of(fleet_of(kept)).model_dump_json()
