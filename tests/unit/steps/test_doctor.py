"""The doctor: what is missing is named with what mends it, and one fault is told once."""

from __future__ import annotations

from typing import Any

import pytest

from runbook.model.effects import (
    AskPgBouncer,
    Change,
    ConsoleAnswers,
    HttpGet,
    HttpReply,
    ReadCommand,
    RungTried,
    SecretTried,
    ShowUnit,
    TryRung,
    TrySecret,
    UnitState,
)
from runbook.model.errors import HostKeyRejected, SecretMissing, Unreachable, UsageError
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory
from runbook.model.step import StepContext
from runbook.model.sudo import LIST_ARGV
from runbook.steps.doctor import DOCTOR, DoctorArgs
from runbook.steps.doctor_scope import scope_of
from unit.steps.doctor_world import DB_RULES, World, command, document, one, role, row, rung
from unit.steps.shop_world import UNIT


def faults(world: World, target: str | None = None) -> dict[tuple[str, str], str]:
    """Return everything that is not ok, by check and subject."""
    checks = world.report(target).checks
    return {(c.name, c.subject): c.status for c in checks if c.status != "ok"}


_CREATE_RESCUE = """CREATE ROLE "rescue" LOGIN REPLICATION;
GRANT pg_monitor, pg_signal_backend TO "rescue";
\\password rescue"""


# ---- nothing wrong -------------------------------------------------------------------------


def test_a_well_kept_world_has_nothing_to_mend() -> None:
    world = World()
    report = world.report()
    assert [c for c in report.checks if c.status != "ok"] == []
    assert report.verdict == "Every door would open."
    names = {(c.name, c.subject) for c in report.checks}
    assert {(f"rung-{r}", "db") for r in ("connect", "admin", "local", "rescue", "os")} <= names
    assert {("sudo-restart", "web-1"), ("sudo-ss", "web-2"), ("sudo-psql", "db-host")} <= names
    assert {("unit", "shop on web-1"), ("gates", "shop on web-2"), ("console", "bouncer")} <= names
    assert ("secret", "databases.db.rescue.password") in names


def test_it_only_looks() -> None:
    world = World()
    world.report()
    assert not [look for look in world.looked if isinstance(look, Change)]
    assert not DOCTOR.changes(DoctorArgs())
    assert not [look for look in world.looked if getattr(look, "sudo", False)]


def test_rungs_never_compete_for_a_slot() -> None:
    world = World()
    world.report()
    rungs = [
        {look.rung for look in stage if isinstance(look, TryRung)} - {"os"}
        for stage in world.stages
    ]
    assert rungs == [{"connect"}, {"admin"}, {"local"}, {"rescue"}]


def test_a_target_leaves_out_what_does_not_belong_to_it() -> None:
    world = World()
    whole = document()
    whole["databases"]["other"] = {"connect": {"host": "10.0.0.6", "user": "oncall"}}
    world.document = whole
    report = world.report("db")
    assert {c.subject for c in report.checks if c.name == "login"} == {"db-host", "web-1", "web-2"}
    assert not [c for c in report.checks if c.subject == "other"]
    assert report.target == "db"


@pytest.mark.parametrize(
    ("name", "said"), [("dbb", "'db'"), ("shop", "'db'"), ("bouncer", "runbook doctor db")]
)
def test_another_name_is_told_the_database_that_was_meant(name: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        scope_of(name, Fleet(Inventory.model_validate(document())))
    assert said in str(caught.value.hint)


# ---- hosts ---------------------------------------------------------------------------------


def test_a_dead_host_is_waited_for_once_and_hides_nothing_else() -> None:
    def dead(effect: Any) -> Any:
        if getattr(effect, "host", None) == "web-1":
            raise Unreachable("web-1: no connection: no answer in time", hint="is it up?")
        if isinstance(effect, HttpGet) and "10.0.1.1" in effect.url:
            return HttpReply(status=0, body="", error="connection refused", seconds=1)
        return None

    world = World(shut=dead)
    found = faults(world)
    assert found == {
        ("login", "web-1"): "missing",
        ("unit", "shop on web-1"): "skipped",
        ("gates", "shop on web-1"): "skipped",
    }
    assert len([x for x in world.looked if getattr(x, "host", None) == "web-1"]) == 1


def test_a_database_host_that_is_dead_skips_the_rungs_over_it() -> None:
    def dead(effect: Any) -> Any:
        if getattr(effect, "host", None) == "db-host":
            raise HostKeyRejected("db-host: its host key is not known", hint="compare it")
        return None

    world = World(shut=dead)
    assert faults(world) == {
        ("login", "db-host"): "missing",
        ("rung-local", "db"): "skipped",
        ("rung-os", "db"): "skipped",
    }
    assert {x.rung for x in world.looked if isinstance(x, TryRung)} == {
        "connect",
        "admin",
        "rescue",
    }


@pytest.mark.parametrize(
    ("host", "rules", "check", "status", "mend"),
    [
        (
            "web-1",
            "User oncall may run the following commands on web-1:\n    (root) NOPASSWD: /bin/ls\n",
            "sudo-restart",
            "missing",
            "oncall ALL=(root) NOPASSWD: /usr/bin/systemctl restart shop.service",
        ),
        ("web-1", "", "sudo-ss", "warning", "oncall ALL=(root) NOPASSWD: /usr/bin/ss"),
        ("db-host", "", "sudo-psql", "missing", "oncall ALL=(postgres) NOPASSWD: /usr/bin/psql"),
        (
            "db-host",
            DB_RULES.replace("(postgres)", "(root)"),
            "sudo-sh",
            "missing",
            "oncall ALL=(postgres) NOPASSWD: /bin/sh",
        ),
    ],
)
def test_a_sudo_rule_that_is_not_there(
    host: str, rules: str, check: str, status: str, mend: str
) -> None:
    def listing(effect: Any) -> Any:
        asked = isinstance(effect, ReadCommand) and (effect.host, effect.argv) == (host, LIST_ARGV)
        return command(0, rules) if asked else rung("local", "shut", "sudo: …")(effect)

    found = World(shut=listing).check(check, host)
    assert (found.status, found.mend) == (status, mend)
    assert "visudo -f /etc/sudoers.d/runbook" in found.hint


def test_a_rung_that_is_shut_for_want_of_a_rule_is_one_fault_not_two() -> None:
    def no_rule(effect: Any) -> Any:
        if isinstance(effect, ReadCommand) and (effect.host, effect.argv) == ("db-host", LIST_ARGV):
            return command(1, "", "sudo: a password is required\n")
        return rung("local", "shut", "sudo: a password is required")(effect)

    world = World(shut=no_rule)
    report = world.report()
    assert one(report, "rung-local", "db").status == "skipped"
    found = one(report, "sudo-psql", "db-host")
    assert found.status == "missing"
    assert "a password is required" in found.said


def test_a_door_that_opens_proves_its_rule_wherever_psql_lives() -> None:
    def listing(effect: Any) -> Any:
        rules = DB_RULES.replace("/usr/bin/psql", "/usr/pgsql-17/bin/psql")
        asked = isinstance(effect, ReadCommand) and effect.argv == LIST_ARGV
        return command(0, rules) if asked and effect.host == "db-host" else None

    assert World(shut=listing).check("sudo-psql", "db-host").status == "ok"


def test_root_and_a_host_without_sudo_need_no_rule() -> None:
    whole = document()
    whole["defaults"]["ssh"]["user"] = "root"
    report = World(document=whole, shut=lambda _e: None).report()
    assert not [c for c in report.checks if c.name in {"sudo-restart", "sudo-ss"}]


def test_who_logs_in_as_the_servers_user_needs_no_rule() -> None:
    whole = document()
    whole["hosts"]["db-host"]["ssh"] = {"user": "postgres"}
    report = World(document=whole).report()
    assert not [c for c in report.checks if c.name in {"sudo-psql", "sudo-sh"}]


# ---- secrets -------------------------------------------------------------------------------


def test_a_lost_secret_is_one_fault_not_two() -> None:
    def lost(effect: Any) -> Any:
        if isinstance(effect, TrySecret) and "rescue" in effect.where:
            return SecretTried(found=False, said="the file /c cannot be read", hint="ls -l /c")
        shut = rung("rescue", "shut", "the file /c cannot be read")
        return shut(effect)

    world = World(shut=lost)
    assert faults(world) == {
        ("secret", "databases.db.rescue.password"): "missing",
        ("rung-rescue", "db"): "skipped",
    }


def test_a_secret_that_others_can_read_is_a_warning() -> None:
    def open_file(effect: Any) -> Any:
        if isinstance(effect, TrySecret) and "rescue" in effect.where:
            return SecretTried(found=True, said="others can read /c", hint="chmod 600 /c")
        return None

    found = World(shut=open_file).check("secret", "databases.db.rescue.password")
    assert (found.status, found.mend) == ("warning", "chmod 600 /c")


# ---- rungs and rights ----------------------------------------------------------------------


def test_a_full_rung_is_a_warning_and_the_report_stays_well() -> None:
    world = World(shut=rung("connect", "full", "sorry, too many clients already"))
    report = world.report()
    assert one(report, "rung-connect", "db").status == "warning"
    assert report.well
    assert report.verdict == "Every door would open; 1 warning."


def test_a_shut_everyday_door_lets_the_others_be_tried_at_once() -> None:
    world = World(shut=rung("connect", "shut", "cannot be reached: no answer within 5s"))
    assert one(world.report(), "rung-connect", "db").status == "missing"
    tried = [{x.rung for x in stage if isinstance(x, TryRung)} for stage in world.stages]
    assert tried == [{"connect"}, {"admin", "local", "rescue", "os"}]


@pytest.mark.parametrize(
    ("fact", "mend"),
    [
        (
            {"oid": None},
            _CREATE_RESCUE,
        ),
        ({"login": False}, 'ALTER ROLE "rescue" LOGIN;'),
        ({"replication": False}, 'ALTER ROLE "rescue" REPLICATION;'),
        ({"expires_s": -5.0}, "ALTER ROLE \"rescue\" VALID UNTIL 'infinity';"),
        ({"connects": False}, 'GRANT CONNECT ON DATABASE "postgres" TO "rescue";'),
    ],
)
def test_the_catalogue_tells_why_a_door_is_shut(fact: dict[str, Any], mend: str) -> None:
    roles = [role("oncall"), role("dba"), role("rescue", **{"oid": 9, **fact})]
    world = World(
        row=row(roles=roles), shut=rung("rescue", "shut", "password authentication failed")
    )
    found = world.check("rung-rescue", "db")
    assert (found.status, found.mend) == ("missing", mend)
    assert found.hint == "as a superuser of db, in psql"


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("10.9.8.7", "host  postgres  rescue  10.9.8.7/32  scram-sha-256"),
        ("fd00::7", "host  postgres  rescue  fd00::7/128  scram-sha-256"),
    ],
)
def test_no_line_of_pg_hba_lets_us_in(address: str, line: str) -> None:
    said = f'no pg_hba.conf entry for host "{address}", user "rescue", database "postgres"'
    found = World(shut=rung("rescue", "shut", said)).check("rung-rescue", "db")
    assert (found.status, found.mend) == ("missing", line)
    assert "pg_reload_conf" in found.hint


def test_without_walsenders_a_full_rescue_door_is_no_passing_matter() -> None:
    said = "number of requested standby connections exceeds max_wal_senders (currently 0)"
    world = World(row=row(max_wal_senders=0), shut=rung("rescue", "full", said))
    found = world.check("rung-rescue", "db")
    assert found.status == "missing"
    assert found.mend.startswith("ALTER SYSTEM SET max_wal_senders = 10;")


def test_the_last_walsender_slot_is_a_warning() -> None:
    found = World(row=row(max_wal_senders=2, wal_senders=2)).check("rescue-walsenders", "db")
    assert (found.status, found.mend) == ("warning", "ALTER SYSTEM SET max_wal_senders = 4;")


@pytest.mark.parametrize(
    ("roles", "check", "status", "mend"),
    [
        (
            [role("oncall", reads_all=False), role("dba"), role("rescue")],
            "connect-pg_monitor",
            "missing",
            'GRANT pg_monitor TO "oncall";',
        ),
        (
            [role("oncall"), role("dba"), role("rescue", signals=False)],
            "rescue-pg_signal_backend",
            "missing",
            'GRANT pg_signal_backend TO "rescue";',
        ),
        (
            [role("oncall"), role("dba", superuser=False), role("rescue")],
            "admin-superuser",
            "missing",
            'ALTER ROLE "dba" SUPERUSER;',
        ),
        (
            [role("oncall", reserved=False), role("dba"), role("rescue")],
            "connect-reserved",
            "warning",
            'GRANT pg_use_reserved_connections TO "oncall";',
        ),
        (
            [role("oncall", expires_s=86400.0), role("dba"), role("rescue")],
            "connect-expires",
            "warning",
            "ALTER ROLE \"oncall\" VALID UNTIL 'infinity';",
        ),
    ],
)
def test_a_right_that_is_missing(
    roles: list[dict[str, Any]], check: str, status: str, mend: str
) -> None:
    found = World(row=row(roles=roles)).check(check, "db")
    assert (found.status, found.mend) == (status, mend)


def test_the_local_door_is_for_the_servers_superuser() -> None:
    def as_app(effect: Any) -> Any:
        if isinstance(effect, TryRung) and effect.rung == "local":
            return RungTried(rung="local", verdict="opened", limits=row(role="app"))
        return None

    found = World(shut=as_app).check("local-superuser", "db")
    assert found.status == "missing"
    assert "app is no superuser" in found.said


def test_a_grant_without_reserved_slots_is_worth_nothing() -> None:
    found = World(row=row(reserved=0)).check("connect-reserved", "db")
    assert found.status == "warning"
    assert found.mend == "ALTER SYSTEM SET reserved_connections = 2;"
    assert "restart" in found.hint


def test_before_16_nobody_is_told_to_reserve_slots() -> None:
    report = World(row=row(version_num=150000, reserved=0)).report()
    assert not [c for c in report.checks if c.name == "connect-reserved"]


def test_rights_are_learned_over_whichever_door_opens() -> None:
    roles = [role("oncall", signals=False), role("dba"), role("rescue")]
    world = World(row=row(roles=roles), shut=rung("connect", "shut", "password …"))
    assert world.check("connect-pg_signal_backend", "db").status == "missing"


def test_with_no_door_open_the_rights_are_not_guessed() -> None:
    def all_shut(effect: Any) -> Any:
        return (
            rung(effect.rung, "shut", f"no {effect.rung}")(effect)
            if isinstance(effect, TryRung)
            else None
        )

    report = World(shut=all_shut).report()
    assert one(report, "grants", "db").status == "skipped"
    assert not [c for c in report.checks if c.name == "connect-pg_monitor"]
    assert one(report, "sessions", "shop on web-1").status == "skipped"
    assert {c.status for c in report.checks if c.area == "hosts"} == {"ok"}


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"track_activities": False}, "track_activities"),
        ({"superuser_reserved": 0}, "superuser_reserved_connections"),
        ({"idle_in_transaction_ends": False}, "idle_in_transaction_session_timeout"),
    ],
)
def test_a_setting_is_a_warning_at_most(changed: dict[str, Any], name: str) -> None:
    found = World(row=row(**changed)).check(name, "db")
    assert found.status == "warning"
    assert found.mend.startswith(f"ALTER SYSTEM SET {name} = ")


def test_a_standbys_roles_are_mended_on_its_primary() -> None:
    roles = [role("oncall", signals=False), role("dba"), role("rescue")]
    found = World(row=row(roles=roles, in_recovery=True)).check("connect-pg_signal_backend", "db")
    assert "primary" in found.hint


@pytest.mark.parametrize(
    ("left_out", "check", "status", "mend"),
    [
        (("rescue",), "rung-rescue", "warning", 'CREATE ROLE "oncall_rescue" LOGIN REPLICATION;'),
        (("admin",), "rung-admin", "ok", ""),
        (("local",), "rung-local", "ok", ""),
        (("admin", "local"), "rung-local", "warning", "local: {os_user: postgres}"),
        (("admin", "local", "host"), "rung-admin", "warning", "admin: {user: …, password: …}"),
        (("local", "host"), "rung-os", "warning", "host: NAME"),
    ],
)
def test_a_rung_that_is_not_declared(
    left_out: tuple[str, ...], check: str, status: str, mend: str
) -> None:
    whole = document()
    for key in left_out:
        del whole["databases"]["db"][key]
    world = World(document=whole)
    report = world.report()
    found = one(report, check, "db")
    assert (found.status, found.mend.partition("\n")[0]) == (status, mend)
    assert report.well


# ---- services ------------------------------------------------------------------------------


def test_a_service_that_is_down_is_one_fault_with_its_start() -> None:
    def down(effect: Any) -> Any:
        if isinstance(effect, ShowUnit) and effect.host == "web-1":
            return UnitState(properties={**UNIT, "ActiveState": "inactive", "SubState": "dead"})
        if isinstance(effect, HttpGet) and "10.0.1.1" in effect.url:
            return HttpReply(status=0, body="", error="connection refused", seconds=0)
        return None

    world = World(shut=down)
    report = world.report()
    unit = one(report, "unit", "shop on web-1")
    assert unit.status == "missing"
    assert unit.mend == "ssh oncall@10.0.1.1 sudo /usr/bin/systemctl restart shop.service"
    assert one(report, "gates", "shop on web-1").status == "skipped"
    assert report.missing == 1


def test_a_unit_that_must_not_be_restarted() -> None:
    def changed(effect: Any) -> Any:
        if isinstance(effect, ShowUnit):
            return UnitState(properties={**UNIT, "NeedDaemonReload": "yes"})
        return None

    found = World(shut=changed).check("unit", "shop on web-1")
    assert found.status == "missing"
    assert "daemon-reload" in found.hint


def test_a_gate_that_fails_while_the_service_runs() -> None:
    def ill(effect: Any) -> Any:
        sick = HttpReply(status=500, body="no", error="", seconds=0)
        return sick if isinstance(effect, HttpGet) and "10.0.1.2" in effect.url else None

    report = World(shut=ill).report()
    found = one(report, "gates", "shop on web-2")
    assert (found.status, found.mend) == ("missing", "curl -i 'http://10.0.1.2:8000/healthz'")
    assert "500" in found.said
    assert one(report, "gates", "shop on web-1").status == "ok"


def sessions(*entries: tuple[str, int]) -> list[dict[str, Any]]:
    return [{"application": n, "role": 7, "address": None, "sessions": c} for n, c in entries]


def test_sessions_under_another_name_are_told() -> None:
    world = World(row=row(sessions=sessions(("gunicorn", 9), ("runbook oncall@here", 1))))
    found = world.check("sessions", "shop on web-1")
    assert found.status == "warning"
    assert "9 that nobody declares: gunicorn (9)" in found.said
    assert found.mend == "PGAPPNAME=shop-web-1"


def test_what_may_not_be_seen_is_not_counted_as_nothing() -> None:
    world = World(row=row(can_read_all=False, sessions=None))
    found = world.check("sessions", "shop on web-1")
    assert found.status == "skipped"
    assert "does not see" in found.said


def test_sessions_of_our_own_roles_are_nobodys_app() -> None:
    ours = [{"application": "psql", "role": 100, "address": None, "sessions": 3}]
    assert World(row=row(sessions=ours)).check("sessions", "shop on web-1").status == "skipped"


def test_with_a_declared_role_only_its_own_sessions_are_suspected() -> None:
    whole = document()
    whole["services"]["shop"]["role"] = "app"
    entries = [
        {"application": "gunicorn", "role": 7, "address": None, "sessions": 2},
        {"application": "cron", "role": 8, "address": None, "sessions": 4},
    ]
    roles = [role("oncall"), role("dba"), role("rescue"), role("app", oid=7)]
    world = World(document=whole, row=row(roles=roles, sessions=entries))
    assert "2 that nobody declares: gunicorn (2);" in world.check("sessions", "shop on web-1").said


def test_an_idle_pool_is_no_fault() -> None:
    world = World(row=row(sessions=sessions(("shop-web-1", 2), ("cron", 1))))
    report = world.report()
    assert one(report, "sessions", "shop on web-1").status == "ok"
    assert one(report, "sessions", "shop on web-2").status == "skipped"


def test_more_sessions_than_the_pool_declares() -> None:
    found = World(row=row(sessions=sessions(("shop-web-1", 6)))).check("sessions", "shop on web-1")
    assert found.status == "warning"
    assert "6 sessions" in found.said


@pytest.mark.parametrize(
    ("key", "check"),
    [
        ("pool", "no-pool"),
        ("gates", "no-gates"),
        ("application_name", "no-application_name"),
        ("database", "no-database"),
    ],
)
def test_what_a_service_does_not_declare(key: str, check: str) -> None:
    whole = document()
    del whole["services"]["shop"][key]
    found = World(document=whole).check(check, "shop")
    assert found.status == "warning"
    assert found.mend.startswith(f"{key}: ")


def test_a_database_that_no_service_uses() -> None:
    whole = document()
    whole["services"] = {}
    found = World(document=whole).check("no-service", "db")
    assert found.status == "warning"
    assert "database: db" in found.mend


def test_a_playbook_that_begins_with_it_ends_there() -> None:
    world = World(shut=rung("rescue", "shut", "no"))
    judge: Any = None
    context = StepContext(fleet=world.fleet, judge=judge, target="db")
    result = world.run(DOCTOR.phases["act"](DoctorArgs(database="db"), context))
    assert (result.status, result.data["report"]["missing"]) == ("failed", 1)
    assert "runbook doctor db" in result.hint
    well = World()
    result = well.run(DOCTOR.phases["act"](DoctorArgs(database="db"), context))
    assert (result.status, result.summary) == ("ok", "Every door would open.")


def test_an_empty_inventory_is_not_well() -> None:
    report = World(document={"version": 1}).report()
    assert not report.well
    assert [c.name for c in report.checks] == ["empty"]


# ---- PgBouncer -----------------------------------------------------------------------------


def test_a_console_that_refuses_to_tell() -> None:
    def denied(effect: Any) -> Any:
        if isinstance(effect, AskPgBouncer):
            failed = {"pools": "not allowed"}
            return ConsoleAnswers(pgbouncer="bouncer", version="1.18", rows={}, failed=failed)
        return None

    found = World(shut=denied).check("console", "bouncer")
    assert (found.status, found.mend) == ("missing", "stats_users = stats")


def test_a_console_without_its_password_is_one_fault() -> None:
    def lost(effect: Any) -> Any:
        if isinstance(effect, TrySecret) and "bouncer" in effect.where:
            return SecretTried(found=False, said="not set")
        if isinstance(effect, AskPgBouncer):
            raise SecretMissing("bouncer: not set")
        return None

    assert faults(World(shut=lost)) == {
        ("secret", "pgbouncers.bouncer.admin.password"): "missing",
        ("console", "bouncer"): "skipped",
    }


def test_a_long_answer_that_was_cut_short_is_an_answer() -> None:
    def busy(effect: Any) -> Any:
        if isinstance(effect, AskPgBouncer):
            rows: dict[str, list[dict[str, Any]]] = {"pools": [{"database": "shop"}]}
            cut = {"pools": "10001 rows; the first 10000 were read"}
            return ConsoleAnswers(pgbouncer="bouncer", version="1.18", rows=rows, failed=cut)
        return None

    assert World(shut=busy).check("console", "bouncer").status == "ok"
