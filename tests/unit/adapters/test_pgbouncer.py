"""What a PgBouncer's door says when there is no console behind it; tests/lab has real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from runbook.adapters.pgbouncer import PgBouncerDoor
from runbook.doors import open_doors
from runbook.model.effects import AskPgBouncer, Now
from runbook.model.errors import DatabaseLogin, DoorError, SecretMissing, Unreachable
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory
from unit.postgres_server import HOST, PASSWORD

if TYPE_CHECKING:
    from unit.postgres_server import Server


def fleet(**bouncer: Any) -> Fleet:
    """Return an inventory with one PgBouncer, on this machine unless told else."""
    given = {"address": HOST, "database": "db", "admin": {"user": "stats"}, **bouncer}
    return Fleet(
        Inventory.model_validate(
            {
                "version": 1,
                "hosts": {"db-01": {"address": HOST}},
                "databases": {"db": {"connect": {"host": HOST, "user": "oncall"}}},
                "pgbouncers": {"bouncer-01": {k: v for k, v in given.items() if v is not None}},
            }
        )
    )


def refused(known: Fleet) -> DoorError:
    """Ask, and return the error that came of it."""
    with pytest.raises(DoorError) as caught:
        PgBouncerDoor(known).perform(AskPgBouncer(pgbouncer="bouncer-01", shows=("pools",)))
    assert "PgBouncer bouncer-01" in caught.value.message
    return caught.value


def test_nobody_listens_there() -> None:
    for place in ({"port": 1}, {"port": 1, "address": None, "host": "db-01"}):
        error = refused(fleet(**place))
        assert isinstance(error, Unreachable)
        assert f"({HOST}:1) cannot be reached" in error.message
        assert "pgbouncers.bouncer-01.address" in (error.hint or "")


def test_an_inventory_that_does_not_say_where() -> None:
    error = refused(fleet(address=None))
    assert isinstance(error, Unreachable)
    assert error.hint == "give pgbouncers.bouncer-01 a host, or an address"


def test_a_postgresql_is_no_console(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGB_TEST_PASSWORD", PASSWORD)
    admin = {"user": "oncall", "password": {"env": "PGB_TEST_PASSWORD"}}
    error = refused(fleet(port=server.port, admin=admin))
    assert isinstance(error, DatabaseLogin)
    assert "is that PostgreSQL, and not PgBouncer?" in (error.hint or "")
    monkeypatch.setenv("PGB_TEST_PASSWORD", "wrong")
    error = refused(fleet(port=server.port, admin=admin))
    assert "check pgbouncers.bouncer-01.admin: its user" in (error.hint or "")
    assert "stats_users" in (error.hint or "")


def test_a_password_that_is_nowhere() -> None:
    error = refused(fleet(admin={"user": "stats", "password": {"env": "NO_SUCH_VARIABLE"}}))
    assert isinstance(error, SecretMissing)
    assert "NO_SUCH_VARIABLE" in error.message


@pytest.mark.parametrize("show", ["fds", "pools; SHUTDOWN", "FDS", "mem"])
def test_what_stops_its_event_loop_is_never_asked(show: str) -> None:
    effect = AskPgBouncer(pgbouncer="bouncer-01", shows=("pools", show))
    with pytest.raises(ValueError, match="not put to a PgBouncer"):
        PgBouncerDoor(fleet()).perform(effect)


def test_the_doors_lead_there() -> None:
    door = open_doors(fleet(port=1), rehearsal=True)[AskPgBouncer]
    with pytest.raises(Unreachable):
        door.perform(AskPgBouncer(pgbouncer="bouncer-01", shows=("pools",)))
    with pytest.raises(TypeError):
        PgBouncerDoor(fleet()).perform(Now())
