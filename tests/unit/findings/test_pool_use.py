"""Who holds a real server's connections, over a window: now, at most, at work, and whose."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from runbook.adapters.postgres import PostgresDoor
from runbook.findings.judge import FindingsJudge
from runbook.model.effects import AskDatabase, Now, Say, Sleep, Together
from runbook.model.errors import ConnectionLost, DoorError, Unreachable
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory
from unit.postgres_server import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runbook.model.pool_facts import PoolFacts
    from unit.postgres_server import Server

HOSTS = {"web-01": {"address": "127.0.0.1"}, "web-02": {"address": "127.0.0.1"}}
SHOP = {"hosts": "all", "database": "db", "application_name": "shop-${host.name}"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of its own, with pg_stat_statements."""
    with running(max_connections=30, shared_preload_libraries="pg_stat_statements") as started:
        yield started


@pytest.fixture
def statements(server: Server) -> Iterator[Callable[[str], None]]:
    """Returns what puts pg_stat_statements into a schema; takes it out again, come what may."""

    def create(schema: str) -> None:
        server.admin(f"CREATE EXTENSION pg_stat_statements SCHEMA {schema}")

    yield create
    server.admin("DROP EXTENSION IF EXISTS pg_stat_statements")


@dataclass
class Looking:
    """Drives a look at a real server; what happens between two counts is the test's."""

    server: Server
    fleet: Fleet
    #: Called at each pause with its number, from 1.
    meanwhile: Callable[[int], None] = lambda _number: None
    #: Number of the question to the server that fails.
    breaks: int = 0
    asked: list[AskDatabase] = field(default_factory=list)
    pauses: int = 0

    def run(self, window_s: float = 0.4) -> PoolFacts:
        door = PostgresDoor(self.fleet, rehearsal=True)
        drive = FindingsJudge().pool_use("db", self.fleet, window_s=window_s, hosts=False)
        send: Any = drive.send
        value: Any = None
        try:
            while True:
                effect = send(value)
                try:
                    value, send = self._perform(effect, door), drive.send
                except DoorError as error:
                    value, send = error, drive.throw
        except StopIteration as end:
            facts: PoolFacts = end.value
            return facts
        finally:
            door.close()

    def _perform(self, effect: Any, door: PostgresDoor) -> Any:
        match effect:
            case AskDatabase():
                self.asked.append(effect)
                if len(self.asked) == self.breaks:
                    raise ConnectionLost("db: the connection broke")
                return door.perform(effect)
            case Sleep():
                self.pauses += 1
                self.meanwhile(self.pauses)
                return True
            case Now():
                return time.monotonic()
            case Say():
                return None
            case Together(effects=effects):
                return tuple(Unreachable(f"{each.sentence()}: silent") for each in effects)
        raise TypeError(f"unexpected: {effect!r}")


def fleet(server: Server, shop: dict[str, Any] | None = None, **more: Any) -> Fleet:
    """Return the server's inventory with two hosts and the shop."""
    given = server.fleet(**more.pop("db", {})).inventory.model_dump(exclude_none=True)
    services = more.pop("services", {"shop": shop or SHOP})
    return Fleet(Inventory.model_validate({**given, "hosts": HOSTS, "services": services, **more}))


def look(server: Server, **given: Any) -> PoolFacts:
    window_s = given.pop("window_s", 0.4)
    meanwhile = given.pop("meanwhile", lambda _number: None)
    return Looking(server, fleet(server, **given), meanwhile).run(window_s)


@contextmanager
def crowd(server: Server, count: int, name: str, user: str = "app") -> Iterator[list[Any]]:
    with server.crowd(count, user, application_name=name) as held:
        yield list(held)


def test_each_session_is_counted_once_and_by_whose_it_is(server: Server) -> None:
    with (
        crowd(server, 3, "shop-web-01") as first,
        crowd(server, 2, "shop-web-02"),
        crowd(server, 1, "psql", "sees"),
    ):
        first[0].execute("BEGIN")
        found = look(server)
    (shop,) = found.services
    (other,) = found.others
    assert (found.server.used, found.server.peak, found.server.usable) == (6, 6, 28)
    assert [(h.host, h.now) for h in shop.hosts] == [("web-01", 3), ("web-02", 2)]
    assert shop.now == 5
    assert (other.now, other.label) == (1, "psql from 127.0.0.1")
    assert shop.now + other.now == found.server.used
    assert (shop.busy_mean, shop.busy_peak) == (1.0, 1)
    assert found.samples == 2
    assert found.at.startswith("20")


def test_the_peak_is_the_most_of_the_window_and_now_the_last(server: Server) -> None:
    held: list[Any] = []

    def between(number: int) -> None:
        if number == 1:
            held.extend(server.connect(application_name="shop-web-01") for _ in range(4))
            held[0].execute("BEGIN")
        if number == 2:
            pids = [connection.info.backend_pid for connection in held]
            for connection in held:
                connection.close()
            server.settle(pids)

    with crowd(server, 1, "shop-web-01"):
        found = look(server, window_s=1.0, meanwhile=between)
    (shop,) = found.services
    assert (shop.now, shop.peak, shop.busy_peak) == (1, 5, 1)
    assert shop.busy_mean == pytest.approx(1 / 3, abs=0.01)
    assert found.server.peak >= 5
    assert [(h.host, h.now, h.peak) for h in shop.hosts] == [("web-01", 1, 5), ("web-02", 0, 0)]


def test_a_role_that_sees_nothing_still_counts_and_says_what_is_missing(server: Server) -> None:
    with crowd(server, 3, "shop-web-01") as held:
        held[0].execute("BEGIN")
        found = look(server, db={"connect": {"user": "blind"}})
    (shop,) = found.services
    assert (shop.now, shop.busy_mean, shop.busy_peak) == (3, None, None)
    assert any('GRANT pg_monitor TO "blind"' in line or "GRANT pg_monitor TO blind" in line
               for line in found.unseen)  # fmt: skip


def test_hosts_with_one_name_are_not_told_apart_and_that_is_said(server: Server) -> None:
    shop = {**SHOP, "application_name": "shop", "hosts": "web-02"}
    two = {**shop, "hosts": "all"}
    hosts = {name: {"address": "10.0.0.2"} for name in HOSTS}
    with crowd(server, 2, "shop"):
        found = Looking(server, fleet(server, two, hosts=hosts)).run()
    (use,) = found.services
    assert (use.now, use.hosts) == (2, ())
    assert any("shop cannot be told apart by host" in line for line in found.unseen)


def test_a_full_server_lets_the_administrator_in(server: Server) -> None:
    with crowd(server, server.usable, "it's \N{SNOWMAN} odd-%s ${host.name}"):
        found = look(server, db={"admin": {"user": "postgres"}})
    assert (found.server.used, found.server.usable) == (server.usable, server.usable)
    assert found.services[0].now == 0
    assert [other.now for other in found.others] == [server.usable]


def test_what_comes_in_is_counted_by_database_and_by_role(
    server: Server, statements: Callable[[str], None]
) -> None:
    statements("public")
    with crowd(server, 1, "shop-web-01") as (client,):

        def work(number: int) -> None:
            if number == 2:
                for _ in range(200):
                    client.execute("SELECT pg_catalog.pg_sleep(0.001)")
                client.execute("SELECT pg_catalog.pg_stat_force_next_flush()")
                client.execute("SELECT 1")

        found = look(server, window_s=1.0, meanwhile=work)
    (shop,) = found.services
    assert shop.rate_per_s is not None
    assert shop.rate_per_s * found.window_s > 100
    assert shop.statements_per_s is not None
    # 200 and a few: the window is told to a tenth of a second, so their product is not exact.
    assert shop.statements_per_s * found.window_s > 100
    assert shop.statement_ms is not None
    assert shop.statement_ms > 0.5
    assert not [line for line in found.unseen if "pg_stat_statements" in line]


def test_an_extension_that_is_missing_is_told_with_the_statement_that_makes_it(
    server: Server,
) -> None:
    (line,) = [w for w in look(server).unseen if "pg_stat_statements" in w]
    assert "CREATE EXTENSION pg_stat_statements" in line


def test_a_function_that_poses_as_the_extensions_is_not_called(
    server: Server, statements: Callable[[str], None]
) -> None:
    """Whoever may create in the extension's schema gets none of our rights."""
    server.admin("CREATE SCHEMA stats AUTHORIZATION app")
    statements("stats")
    body = "$$ BEGIN RAISE 'a trojan ran as %', current_user; END $$"
    with server.connect("app") as app:
        for arguments in ("text", "anyelement", "bool, bool DEFAULT true"):
            app.execute(
                f"CREATE FUNCTION stats.pg_stat_statements({arguments}) RETURNS int"
                f" LANGUAGE plpgsql AS {body}".encode()
            )
    try:
        with crowd(server, 1, "shop-web-01"):
            found = look(server, window_s=1.0)
        assert "trojan" not in " ".join(found.unseen)
    finally:
        server.admin("DROP SCHEMA stats CASCADE")


def test_a_database_of_two_services_tells_neither_ones_rate(server: Server) -> None:
    services = {"shop": SHOP, "billing": {**SHOP, "application_name": "billing-${host.name}"}}
    with crowd(server, 1, "shop-web-01"), crowd(server, 1, "billing-web-01"):
        found = look(server, services=services)
    assert {s.service: (s.now, s.rate_per_s) for s in found.services} == {
        "shop": (1, None),
        "billing": (1, None),
    }


def test_one_connection_and_one_cheap_question_a_count(server: Server) -> None:
    at_once: list[int] = []

    def count(_number: int) -> None:
        (row,) = server.admin(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'runbook%'"
        )
        at_once.append(row[0])

    looking = Looking(server, fleet(server), count)
    with crowd(server, 2, "shop-web-01"):
        found = looking.run(2.0)
    assert at_once == [1, 1, 1, 1]
    assert found.samples == 5
    between = [[q.name for q in asked.questions] for asked in looking.asked[1:-1]]
    assert between == [["pool-sample"]] * 3
    assert found.services[0].now == 2
    assert not [other for other in found.others if other.label.startswith("runbook")]


def test_a_count_that_fails_is_told_and_the_rest_goes_on(server: Server) -> None:
    with crowd(server, 2, "shop-web-01"):
        found = Looking(server, fleet(server), breaks=2).run(1.5)
    assert (found.server.used, found.samples) == (2, 3)
    assert any("the connection broke" in line for line in found.unseen)


def test_the_first_look_that_fails_is_the_error(server: Server) -> None:
    with pytest.raises(ConnectionLost):
        Looking(server, fleet(server), breaks=1).run()


def test_no_window_is_one_look_and_no_rates(server: Server) -> None:
    with crowd(server, 1, "shop-web-01"):
        found = look(server, window_s=0.0)
    assert (found.samples, found.window_s, found.services[0].rate_per_s) == (1, 0.0, None)
    assert found.services[0].now == 1


def test_a_silent_console_is_told(server: Server) -> None:
    bouncer = {"address": "10.9.9.9", "database": "db", "admin": {"user": "stats"}}
    found = look(server, pgbouncers={"bouncer-01": bouncer})
    assert any(line.startswith("PgBouncer bouncer-01") for line in found.unseen)
    assert (found.bouncers, found.behind_bouncer) == ((), ())


def test_superusers_and_the_server_itself_are_told(server: Server) -> None:
    with crowd(server, 2, "backup", "postgres"):
        found = look(server)
    assert found.server.superuser_sessions == 2
    assert (found.server.superuser_reserved, found.server.reserved) == (2, 0)
    assert found.server.version_num >= 180000
    assert found.server.in_recovery is False
