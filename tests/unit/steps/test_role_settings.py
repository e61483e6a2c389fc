"""The steps `role_settings` and `role_guards`, against a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from pydantic import ValidationError

from runbook.adapters.postgres import PostgresDoor
from runbook.model.effects import ChangeSql, Together
from runbook.model.errors import (
    ChangeInRehearsal,
    DoorError,
    MissingGrant,
    RunbookError,
    Unreachable,
)
from runbook.model.fleet import Fleet
from runbook.model.step import StepContext
from runbook.steps.role_guards import ROLE_GUARDS
from runbook.steps.role_settings import ROLE_SETTINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runbook.model.plan import Result
    from unit.postgres_server import Server

ADMIN = {"admin": {"user": "postgres"}}


class Driven:
    """Drives the step as the engine does: a change that was not shown is a defect."""

    def __init__(self, server: Server, **database: Any) -> None:
        self.fleet = server.fleet(**(database or ADMIN))
        self.made: list[ChangeSql] = []

    def run(self, *, before: Callable[[int], None] = lambda _nth: None, **args: Any) -> Result:
        """Prepare and act; `before` is called with the number of each change that is made."""
        given = ROLE_SETTINGS.args.model_validate({"database": "db", **args})
        prepared = self.phase("prepare", given)
        if not prepared.good:
            return prepared
        return self.phase("act", given, prepared, before)

    def phase(
        self,
        phase: str,
        args: Any,
        prepared: Result | None = None,
        before: Callable[[int], None] = lambda _nth: None,
        step: Any = ROLE_SETTINGS,
    ) -> Result:
        door = PostgresDoor(self.fleet, rehearsal=prepared is None)
        given = {} if prepared is None else {"prepared": prepared.data}
        judge: Any = None
        context = StepContext(fleet=self.fleet, judge=judge, target="db", given=given)
        drive = step.phases[phase](args, context)
        value: Any = None
        send: Any = drive.send
        try:
            while True:
                effect = send(value)
                if isinstance(effect, ChangeSql):
                    assert prepared is not None
                    assert effect.footprint() <= set(prepared.touches)
                    before(len(self.made))
                    self.made.append(effect)
                if isinstance(effect, Together):  # what hosts are set to: none of them is there
                    value, send = tuple(Unreachable("no route") for _ in effect.effects), drive.send
                    continue
                try:
                    value, send = door.perform(effect), drive.send
                except DoorError as error:
                    value, send = error, drive.throw
        except StopIteration as stop:
            result: Result = stop.value
            return result
        finally:
            door.close()


@pytest.fixture
def shop(server: Server) -> Iterator[str]:
    """A role with a setting of its own, and one for the database `shop` alone."""
    server.admin('CREATE ROLE "Shop\'s" LOGIN CONNECTION LIMIT 7')
    server.admin("ALTER ROLE \"Shop's\" SET idle_session_timeout = '1.5h'")
    server.admin("ALTER ROLE \"Shop's\" IN DATABASE shop SET lock_timeout = '4s'")
    yield "Shop's"
    server.admin('ALTER ROLE "Shop\'s" IN DATABASE shop RESET ALL')
    server.admin('DROP ROLE "Shop\'s"')


def has(server: Server, role: str) -> tuple[list[str], int]:
    """What the catalogue has of a role in all databases: its settings, its limit."""
    settings = server.admin(
        "SELECT unnest(s.setconfig) FROM pg_db_role_setting s JOIN pg_roles r"
        f" ON r.oid = s.setrole WHERE r.rolname = $${role}$$ AND s.setdatabase = 0"
    )
    limit = server.admin(f"SELECT rolconnlimit FROM pg_roles WHERE rolname = $${role}$$")
    return sorted(row[0] for row in settings), limit[0][0]


def test_it_sets_what_was_shown_and_its_undo_restores_to_the_letter(
    server: Server, shop: str
) -> None:
    driven, before = Driven(server), has(server, shop)
    done = driven.run(
        role=shop,
        set={
            "idle_in_transaction_session_timeout": "90s",
            "idle_session_timeout": "30m",
            "tcp_keepalives_idle": "1m",
            "tcp_keepalives_count": 6,
        },
        connection_limit=8,
    )
    assert done.status == "ok", done
    assert has(server, shop) == (
        [
            "idle_in_transaction_session_timeout=90s",
            "idle_session_timeout=30min",
            "tcp_keepalives_count=6",
            "tcp_keepalives_idle=1min",
        ],
        8,
    )
    assert all(change.as_admin for change in driven.made)
    assert driven.run(settings=[f"{shop}.idle_session_timeout=1800s"]).data["changed"] == []
    for line in done.by_hand:
        server.admin(line.partition(";")[0])
    assert has(server, shop) == before


def test_an_undo_puts_back_only_what_still_stands_as_it_was_left(server: Server, shop: str) -> None:
    driven, before = Driven(server), has(server, shop)
    lines = driven.run(role=shop, set={"idle_session_timeout": "30m"}, connection_limit=8).data
    back: dict[str, Any] = {
        "restore": [f"{shop}.{x['name']}={x['before']}" for x in lines["changed"]],
        "expected": [f"{shop}.{x['name']}={x['after']}" for x in lines["changed"]],
    }
    server.admin('ALTER ROLE "Shop\'s" CONNECTION LIMIT 9')
    refused = driven.run(**back)
    assert refused.status == "refused"
    assert "connection_limit is 9, and not 8" in refused.summary
    assert has(server, shop) == (["idle_session_timeout=30min"], 9)
    server.admin('ALTER ROLE "Shop\'s" CONNECTION LIMIT 8')
    assert driven.run(**back).status == "ok"
    assert has(server, shop) == before
    assert driven.run(**back).data["changed"] == []


def test_what_moved_since_it_was_shown_stops_all_of_it(server: Server, shop: str) -> None:
    driven = Driven(server)
    args = ROLE_SETTINGS.args.model_validate(
        {"database": "db", "role": shop, "set": {"lock_timeout": "5s"}, "connection_limit": 8}
    )
    prepared = driven.phase("prepare", args)
    server.admin('ALTER ROLE "Shop\'s" CONNECTION LIMIT 5')
    result = driven.phase("act", args, prepared)
    assert result.status == "failed"
    assert "was 7 when it was shown, and is 5" in result.summary
    assert not driven.made


def test_one_that_was_cut_off_in_the_middle_is_gone_on_with(server: Server, shop: str) -> None:
    driven = Driven(server)
    args = ROLE_SETTINGS.args.model_validate(
        {"database": "db", "role": shop, "set": {"lock_timeout": "5s"}, "connection_limit": 8}
    )
    prepared = driven.phase("prepare", args)
    server.admin("ALTER ROLE \"Shop's\" SET lock_timeout = '5s'")
    result = driven.phase("act", args, prepared)
    assert result.status == "ok"
    assert [change.sql for change in driven.made] == ['ALTER ROLE "Shop\'s" CONNECTION LIMIT 8']
    assert len(result.data["changed"]) == 2


def test_a_failure_in_the_middle_tells_what_is_done_and_how_it_is_undone(
    server: Server, shop: str
) -> None:
    server.admin('GRANT "Shop\'s" TO oncall WITH ADMIN OPTION; ALTER ROLE oncall CREATEROLE')

    def meddle(nth: int) -> None:
        if nth == 1:
            server.admin("ALTER ROLE oncall NOCREATEROLE")

    driven = Driven(server, connect={"user": "oncall"})
    result = driven.run(before=meddle, role=shop, set={"lock_timeout": "5s"}, connection_limit=8)
    assert not driven.made[0].as_admin
    assert result.status == "failed"
    assert "set Shop's.lock_timeout = 5s; not Shop's.connection_limit = 8" in result.summary
    assert result.by_hand == ('ALTER ROLE "Shop\'s" RESET lock_timeout;  -- undoes it',)


def test_only_in_one_database_and_what_goes_before_is_told(server: Server, shop: str) -> None:
    driven = Driven(server)
    wide = ROLE_SETTINGS.args.model_validate(
        {"database": "db", "role": shop, "set": {"lock_timeout": "5s"}}
    )
    assert driven.phase("prepare", wide).data["lines"][0]["hidden_in"] == ["shop"]
    result = driven.run(role=shop, set={"lock_timeout": "2s"}, in_database="shop")
    assert result.data["changed"][0]["before"] == "4s"
    assert has(server, shop)[0] == ["idle_session_timeout=1.5h"]
    near = driven.run(role=shop, set={"lock_timeout": "2s"}, in_database="shopp")
    assert (near.status, near.hint) == ("refused", "did you mean 'shop'?")


def test_whom_it_does_not_touch(server: Server) -> None:
    driven = Driven(server)

    def refused(role: str, **more: Any) -> str:
        result = driven.run(role=role, **{"set": {"lock_timeout": "5s"}, **more})
        assert result.status == "refused", result
        return f"{result.summary} | {result.hint}"

    assert "runbook itself comes in by" in refused("postgres")
    assert "runbook itself comes in by" in refused("oncall")
    assert "has REPLICATION" in refused("rescue")
    assert "cannot log in" in refused("pg_monitor")
    assert "no role 'crwd' | did you mean 'crowd'?" in refused("crwd")
    with server.crowd(3):
        assert "app has 3 sessions now: with a limit of 2" in refused("app", connection_limit=2)
    assert not driven.made


def test_without_a_right_it_names_the_statements_that_give_it(server: Server, shop: str) -> None:
    driven = Driven(server, connect={"user": "oncall"})
    refused = driven.run(role=shop, set={"lock_timeout": "5s"})
    assert refused.status == "refused"
    assert "may not alter Shop's, and databases.db declares neither" in refused.summary
    for statement in filter(str.strip, refused.hint.split(";")):
        server.admin(statement)
    try:
        assert driven.run(role=shop, set={"lock_timeout": "5s"}).status == "ok"
    finally:
        server.admin("ALTER ROLE oncall NOCREATEROLE")


def test_what_is_set_really_ends_a_session(server: Server) -> None:
    Driven(server).run(role="app", set={"idle_in_transaction_session_timeout": "50ms"})
    try:
        with server.connect("app") as connection:
            connection.autocommit = False
            connection.execute("SELECT 1")
            alive = f"SELECT 1 FROM pg_stat_activity WHERE pid = {connection.info.backend_pid}"
            while server.admin(alive):
                pass
            with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
                connection.execute("SELECT 1")
    finally:
        server.admin("ALTER ROLE app RESET ALL")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"role": "a", "set": {"lock_timeout": 5}}, "no duration"),
        ({"role": "a", "set": {"work_mem": "1GB"}}, "Extra inputs"),
        ({"role": "a", "connection_limit": 0}, "not between 1 and"),
        ({"set": {"lock_timeout": "5s"}}, "role goes with set"),
        ({"role": "a"}, "role goes with set"),
        ({}, "nothing to set"),
        ({"settings": ["a.lock_timeut=5s"]}, "did you mean 'lock_timeout'"),
        ({"settings": ["lock_timeout=5s"]}, "is no ROLE.NAME=VALUE"),
        ({"settings": ["a.tcp_keepalives_idle=1500ms"]}, "no whole number of seconds"),
        ({"settings": ["a.lock_timeout=1h", "a.lock_timeout=2h"]}, "given twice"),
        ({"restore": ["a.lock_timeout=5'; DROP"]}, "nothing that PostgreSQL could have"),
        ({"role": "a", "connection_limit": 5, "in_database": "x"}, "the role's own"),
        ({"restore": ["a.lock_timeout=5s"], "expected": ["b.lock_timeout=6s"]}, "not among"),
    ],
)
def test_what_makes_no_sense_is_refused(args: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ROLE_SETTINGS.args.model_validate({"database": "db", **args})


def test_a_superusers_door_is_opened_for_no_rehearsal_and_only_where_one_is_declared(
    server: Server,
) -> None:
    change = ChangeSql(database="db", sql="ALTER ROLE app RESET ALL", as_admin=True)
    errors: tuple[tuple[bool, type[RunbookError]], ...] = (
        (True, ChangeInRehearsal),
        (False, MissingGrant),
    )
    for rehearsal, error in errors:
        door = PostgresDoor(server.fleet(), rehearsal=rehearsal)
        with pytest.raises(error):
            door.perform(change)
        door.close()


# ---- what is proposed ----------------------------------------------------------------------


def guards(server: Server, *, bouncer: bool = False, **service: Any) -> dict[str, Any]:
    """What is proposed for a service with these keys, by parameter."""
    driven = Driven(server)
    inventory = driven.fleet.inventory.model_dump(mode="json")
    inventory["hosts"] = {f"web-{n}": {} for n in range(2)}
    inventory["services"] = {
        "shop": {"hosts": "all", "database": "db", "application_name": "test app", **service}
    }
    if bouncer:
        inventory["pgbouncers"] = {
            "pgb": {"address": "x", "database": "db", "admin": {"user": "x"}}
        }
    driven.fleet = Fleet(type(driven.fleet.inventory).model_validate(inventory))
    args = ROLE_GUARDS.args.model_validate({"database": "db"})
    data = driven.phase("act", args, step=ROLE_GUARDS).data
    return {"unguarded": data["unguarded"], **{g["name"]: g for g in data["guards"]}}


def test_what_is_proposed_has_its_reason(server: Server) -> None:
    pool = {"processes": 2, "size": 1, "idle_timeout": "10m", "surge": "50%"}
    told = guards(server, role="app", pool=pool)
    values = {name: g["value"] for name, g in told.items() if name != "unguarded"}
    assert values == {
        "idle_in_transaction_session_timeout": "5min",
        "idle_session_timeout": "12min",
        "tcp_keepalives_idle": "1min",
        "tcp_keepalives_interval": "10s",
        "tcp_keepalives_count": "6",
        "connection_limit": "6",
    }
    why = told["connection_limit"]["why"]
    assert why == "its budget: shop 3 hosts (1 for a deploy) x 2 processes x 1 = 6"


def test_what_is_not_proposed_has_its_reason_too(server: Server) -> None:
    size = {"processes": 2, "size": 5}
    over = guards(server, role="app", pool=size)
    assert "the server has 10 usable slots" in over["connection_limit"]["why"]
    assert "declares neither idle_timeout nor" in over["idle_session_timeout"]["why"]
    behind = guards(server, role="app", pool={**size, "idle_timeout": "10m"}, bouncer=True)
    assert "behind a pooler it stays 0" in behind["idle_session_timeout"]["why"]
    assert behind["connection_limit"]["value"] is None
    assert guards(server)["unguarded"] == [
        "shop: services.shop.role is not declared, and no session of it is seen now"
    ]
    assert "is a superuser" in guards(server, role="postgres")["unguarded"][0]
    with server.crowd(5):
        seen = guards(server, pool={"processes": 1, "size": 1})
        assert seen["connection_limit"]["role"] == "app"
        assert "it has 5 sessions now" in seen["connection_limit"]["why"]
