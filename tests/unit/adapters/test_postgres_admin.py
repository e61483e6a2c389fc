"""What only a superuser may, on a real server: auth_query's role and function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from runbook.adapters.postgres_admin import AdminDoor
from runbook.model.errors import ChangeInRehearsal, DatabaseError, DatabaseLogin
from runbook.model.inventory import Secret
from runbook.model.pgbouncer_auth import (
    AUTH_QUERY,
    LOOK,
    VERIFIER,
    AuthSeen,
    drop_function,
    drop_role,
    look_for,
    make_function,
    make_role,
)
from runbook.model.scram import fits
from runbook.model.setup_effects import AdminLook, AdminSql, Hole, PasswordFits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unit.postgres_server import Server

ROLE = 'pgb "auth"'
HOLE = Hole(secret=Secret(env="TEST_PG_PASSWORD"), where="pgbouncers.b.auth.password")


@pytest.fixture
def door(server: Server) -> Iterator[AdminDoor]:
    door = AdminDoor(server.fleet(admin={"user": "postgres"}), rehearsal=False)
    yield door
    for statement in (*drop_function(), drop_role(ROLE)):
        server.admin(statement)


def seen(door: AdminDoor) -> AuthSeen:
    look = AdminLook(database="db", dbname="shop", sql=LOOK, parameters=look_for(ROLE))
    return AuthSeen(dbname="shop", row=door.perform(look).rows[0])


def sql(*statements: str, **more: Any) -> AdminSql:
    return AdminSql(database="db", dbname="shop", statements=statements, shown=("x",), **more)


def set_up(door: AdminDoor) -> None:
    door.perform(sql(make_role(ROLE, exists=False), holes={VERIFIER: HOLE}))
    door.perform(sql(*make_function(ROLE, schema_exists=False)))


def test_from_nothing_to_a_role_that_can_look_logins_up(server: Server, door: AdminDoor) -> None:
    nothing = seen(door)
    assert not nothing.row["role"]
    assert not nothing.row["schema"]
    assert not nothing.function_sound
    assert nothing.problem(ROLE) is None
    set_up(door)
    assert seen(door).function_sound
    assert seen(door).problem(ROLE) is None
    query = AUTH_QUERY.replace("$1", "%s")
    with server.connect(ROLE) as connection:
        found = connection.execute(query.encode(), ["app"]).fetchone()
        assert found is not None
        assert found[0] == "app"
        from unit.postgres_server import PASSWORD

        assert fits(PASSWORD, found[1])
        # No superuser's secret and no replication role's; and nothing for what is not there.
        for login in ("postgres", "rescue", "nobody at all"):
            assert connection.execute(query.encode(), [login]).fetchone() == (None, None)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT passwd FROM pg_shadow")
    with (
        server.connect("app") as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(query.encode(), ["app"])


def test_the_server_writes_no_verifier_down(server: Server, door: AdminDoor) -> None:
    server.admin("ALTER SYSTEM SET log_statement = 'all'")
    server.admin("SELECT pg_reload_conf()")
    try:
        server.admin("SELECT 'the log is on'")
        set_up(door)
    finally:
        server.admin("ALTER SYSTEM RESET log_statement")
        server.admin("SELECT pg_reload_conf()")
    log = server.log.read_text()
    assert "the log is on" in log
    assert "CREATE FUNCTION runbook_pgbouncer" in log
    assert "SCRAM-SHA-256" not in log


def test_a_password_is_compared(server: Server, door: AdminDoor) -> None:
    set_up(door)
    look = PasswordFits(database="db", role=ROLE, hole=HOLE)
    assert door.perform(look)
    server.admin('ALTER ROLE "pgb ""auth""" PASSWORD \'another\'')
    assert not door.perform(look)
    assert not door.perform(PasswordFits(database="db", role="nobody", hole=HOLE))


@pytest.mark.parametrize(
    ("spoil", "sound", "problem"),
    [
        (
            "GRANT EXECUTE ON FUNCTION runbook_pgbouncer.user_lookup(text) TO app",
            False,
            "is granted to app, too",
        ),
        ("ALTER FUNCTION runbook_pgbouncer.user_lookup(text) OWNER TO app", False, ""),
        ("ALTER FUNCTION runbook_pgbouncer.user_lookup(text) RESET ALL", False, ""),
        ("ALTER SCHEMA runbook_pgbouncer OWNER TO app", False, "belongs to somebody"),
        ('ALTER ROLE "pgb ""auth""" SUPERUSER', True, "has rights of its own"),
        ('GRANT pg_monitor TO "pgb ""auth"""', True, "is a member of other roles"),
    ],
)
def test_what_somebody_has_changed_is_seen(
    server: Server, door: AdminDoor, spoil: str, sound: bool, problem: str
) -> None:
    set_up(door)
    server.admin(spoil)
    now = seen(door)
    assert now.function_sound is sound
    told = now.problem(ROLE)
    assert problem in (told[0] if told is not None else ""), told
    if not problem:
        assert told is None
        door.perform(sql(*make_function(ROLE, schema_exists=True)))
        assert seen(door).function_sound
    server.admin('ALTER ROLE "pgb ""auth""" NOSUPERUSER')


def test_half_of_it_is_never_there(door: AdminDoor) -> None:
    with pytest.raises(DatabaseError, match="nonsense"):
        door.perform(sql(make_role("half", exists=False), "nonsense", holes={VERIFIER: HOLE}))
    look = "SELECT count(*) AS n FROM pg_catalog.pg_roles WHERE rolname = 'half'"
    rows = door.perform(AdminLook(database="db", dbname="shop", sql=look)).rows
    assert rows[0]["n"] == 0


def test_a_rehearsal_looks_and_changes_nothing(server: Server) -> None:
    door = AdminDoor(server.fleet(admin={"user": "postgres"}), rehearsal=True)
    assert not seen(door).row["role"]
    with pytest.raises(ChangeInRehearsal):
        set_up(door)


def test_no_door_that_leads_in_as_a_superuser(server: Server) -> None:
    door = AdminDoor(server.fleet(), rehearsal=False)
    with pytest.raises(DatabaseLogin, match="connect: 'oncall' is no superuser") as refused:
        seen(door)
    assert "give databases.db an `admin`" in str(refused.value.hint)


def test_a_function_that_others_look_logins_up_with_is_not_replaced(
    server: Server, door: AdminDoor
) -> None:
    set_up(door)
    server.admin("GRANT EXECUTE ON FUNCTION runbook_pgbouncer.user_lookup TO app")
    problem = seen(door).problem(ROLE)
    assert problem is not None
    assert "granted to app" in problem[0]
    assert 'REVOKE EXECUTE ON FUNCTION runbook_pgbouncer.user_lookup(text) FROM "app"' in problem[1]
    server.admin('REVOKE EXECUTE ON FUNCTION runbook_pgbouncer.user_lookup(text) FROM "app"')
    assert seen(door).problem(ROLE) is None
    # To everybody is nobody's in particular: it is made anew, for the role alone.
    server.admin("GRANT EXECUTE ON FUNCTION runbook_pgbouncer.user_lookup TO PUBLIC")
    assert seen(door).problem(ROLE) is None
    assert not seen(door).function_sound
