"""Whose sessions they are: told apart where they can be, never guessed where they cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from runbook.findings.attribution import Attribution, attribute
from runbook.model.application_name import as_server_keeps
from runbook.model.leaks import LeakPolicy
from runbook.model.sockets import HostSockets
from unit.findings import consoles
from unit.findings.world import HOSTS, JUDGE, SHOP, fleet, many, session, snapshot

if TYPE_CHECKING:
    from runbook.model.sessions import PoolerLook, Session

SAME_NAME = {**SHOP, "application_name": "shop"}
BOUNCER = {"host": "web-01", "database": "db", "admin": {"user": "stats"}}


def places(found: Attribution) -> list[tuple[str | None, str | None, int]]:
    return [(h.service, h.host, len(h.sessions)) for h in found.holders]


def test_by_the_name_that_the_template_gives() -> None:
    seen = snapshot([*many(3), session(application_name="shop-web-02", client_addr="10.0.1.2")])
    assert places(attribute(seen, fleet())) == [("shop", "web-01", 3), ("shop", "web-02", 1)]


def test_a_name_is_cut_as_the_server_cuts_it() -> None:
    long = "x" * 70
    services = {"shop": {**SHOP, "application_name": long + "${host.name}"}}
    seen = snapshot([session(application_name="x" * 63, client_addr="10.0.1.2")])
    assert places(attribute(seen, fleet(services))) == [("shop", "web-02", 1)]


def test_names_beyond_ascii_are_spelled_as_the_server_does() -> None:
    assert as_server_keeps("café", 150000) == "caf??"
    assert as_server_keeps("café", 160000) == r"caf\xc3\xa9"


def test_one_name_on_all_hosts_is_told_apart_by_address() -> None:
    seen = snapshot(
        [
            *many(2, application_name="shop"),
            session(application_name="shop", client_addr="10.0.1.3"),
        ]
    )
    assert places(attribute(seen, fleet({"shop": SAME_NAME}))) == [
        ("shop", "web-01", 2),
        ("shop", "web-03", 1),
    ]


def test_behind_nat_the_budget_is_that_of_all_hosts() -> None:
    seen = snapshot(many(25, application_name="shop", client_addr="192.0.2.1"))
    (holder,) = attribute(seen, fleet({"shop": SAME_NAME})).holders
    assert holder.host == "web-01, web-02, web-03"
    assert holder.budget == 30


def test_name_and_address_that_contradict_each_other_prove_nothing() -> None:
    """Two hosts with one configuration, or two behind one address, must not look like a leak."""
    seen = snapshot([*many(10), *many(10, client_addr="10.0.1.2")])
    found = attribute(seen, fleet())
    assert places(found) == [("shop", "web-01", 10), ("shop", "web-02", 10)]
    assert [bool(holder.doubt) for holder in found.holders] == [False, True]
    assert any("come from 10.0.1.2, which is web-02" in note for note in found.notes)


@pytest.mark.parametrize("other", [{"role": "cron"}, {"database": "stats"}])
def test_one_name_of_several_roles_or_databases_proves_nothing(other: dict[str, Any]) -> None:
    (holder,) = attribute(snapshot([*many(3), session(**other)]), fleet()).holders
    assert "a count proves nothing" in holder.doubt
    assert attribute(snapshot(many(3)), fleet()).notes == ()


def test_by_address_alone_one_name_is_one_pool_and_several_are_not() -> None:
    services = {"shop": {"hosts": "web", "database": "db", "pool": {"size": 5}}}
    seen = snapshot([*many(3, application_name="a"), session(application_name="b")])
    (holder,) = attribute(seen, fleet(services)).holders
    assert "several names ('a', 'b')" in holder.doubt
    (holder,) = attribute(snapshot(many(3, application_name="a")), fleet(services)).holders
    assert holder.doubt == ""


def test_an_unknown_machine_with_a_known_name_is_not_held_against_the_pool() -> None:
    seen = snapshot([*many(10), *many(10, client_addr="10.9.9.9")])
    found = attribute(seen, fleet())
    assert [(len(h.sessions), bool(h.doubt)) for h in found.holders] == [(10, False), (10, True)]
    assert any("10.9.9.9" in note for note in found.notes)


@pytest.mark.parametrize(
    ("given", "mapped"),
    [
        ({"role": "app"}, True),
        ({"role": "report"}, False),
        ({"role": "app", "application_name": "psql"}, False),
        ({"role": "app", "client_addr": "10.0.9.9"}, False),
        ({"role": "app", "client_addr": "::ffff:10.0.1.1"}, True),
    ],
)
def test_without_a_declared_name_address_and_role_decide(
    given: dict[str, Any], mapped: bool
) -> None:
    services = {"shop": {"hosts": "web", "database": "db", "role": "app", "pool": {"size": 5}}}
    seen = snapshot([session(**{"application_name": "gunicorn", **given})])
    (holder,) = attribute(seen, fleet(services)).holders
    assert (holder.service == "shop") is mapped


def test_services_that_share_a_name_and_a_host_are_not_told_apart() -> None:
    services = {"shop": SAME_NAME, "admin": SAME_NAME}
    (holder,) = attribute(snapshot(many(15, application_name="shop")), fleet(services)).holders
    assert holder.service is None
    assert holder.budget == 20
    assert "cannot be told apart" in holder.doubt


def test_services_that_share_a_name_are_told_apart_by_role() -> None:
    services = {"shop": {**SAME_NAME, "role": "app"}, "admin": {**SAME_NAME, "role": "boss"}}
    seen = snapshot(many(3, application_name="shop", role="boss"))
    assert places(attribute(seen, fleet(services))) == [("admin", "web-01", 3)]


def test_through_a_pgbouncer_counts_prove_nothing() -> None:
    found = attribute(snapshot(many(30)), fleet(pgbouncers={"bouncer-01": BOUNCER}))
    assert "PgBouncer bouncer-01" in found.holders[0].doubt


def test_what_fits_nobody_stays_in_its_own_words() -> None:
    seen = snapshot(
        [
            session(application_name="", role="cron", client_addr=None),
            *many(2, role="x", application_name="y"),
        ]
    )
    found = attribute(seen, fleet(hosts=HOSTS, services={}))
    assert [h.owner(0).label for h in found.holders] == [
        "y from 10.0.1.1",
        "cron from a local socket",
    ]


# ---- through a PgBouncer whose console has answered


def through(
    sessions: list[Session],
    console: PoolerLook,
    services: dict[str, Any] | None = None,
    **given: Any,
) -> Attribution:
    known = fleet(services, pgbouncers={"bouncer-01": consoles.BOUNCER})
    return attribute(snapshot(sessions, poolers=(console,), **given), known)


def from_bouncer(count: int, **given: Any) -> list[Session]:
    """Sessions from the PgBouncer's address, with the name of whoever had them last."""
    return [
        session(**{"client_addr": "10.0.0.5", "client_port": 42000 + n, **given})
        for n in range(count)
    ]


def test_a_session_is_owned_by_the_client_behind_the_pgbouncer() -> None:
    """What the session calls itself is what its last client but one may have said."""
    sessions = from_bouncer(3, application_name="old")
    servers, clients = consoles.linked(sessions, addr="10.0.1.2", application_name="shop-web-02")
    found = through(sessions, consoles.look(servers, clients))
    assert places(found) == [("shop", "web-02", 3)]
    owner = found.holders[0].owner(3)
    assert owner.label == "shop on web-02 through bouncer-01"
    assert (owner.client_addr, owner.application_name) == ("10.0.1.2", "shop-web-02")
    assert found.notes == ()


def test_a_client_is_found_by_its_address_where_no_name_is_declared() -> None:
    services = {"shop": {"hosts": "web", "database": "db", "pool": {"size": 5}}}
    sessions = from_bouncer(2)
    servers, clients = consoles.linked(sessions, addr="10.0.1.3", application_name="gunicorn")
    found = through(sessions, consoles.look(servers, clients), services)
    assert places(found) == [("shop", "web-03", 2)]


def test_a_client_on_the_pgbouncers_own_host_is_that_hosts() -> None:
    services = {"jobs": {"hosts": "db-01", "database": "db", "pool": {"size": 5}}}
    for addr in ("unix", "127.0.0.1"):
        sessions = from_bouncer(1)
        servers, clients = consoles.linked(sessions, addr=addr, application_name="jobs")
        found = through(sessions, consoles.look(servers, clients), services)
        assert places(found) == [("jobs", "db-01", 1)]


def test_what_no_client_has_is_the_pgbouncers_own_pool() -> None:
    sessions = from_bouncer(7)
    rows = [consoles.server(f"0x{s.pid}", s) for s in sessions]
    found = through(sessions, consoles.look(rows, [], database={"reserve_pool": 2}))
    (holder,) = found.holders
    assert holder.label == "PgBouncer bouncer-01, pool shop/app"
    assert (holder.service, holder.budget, holder.idle_timeout_s) == (None, 7, 600.0)
    assert found.notes == ()


def test_a_link_that_only_one_end_names_is_not_believed() -> None:
    """Servers and clients are listed one after the other, and a link moves in between."""
    (busy,) = from_bouncer(1)
    servers, clients = consoles.linked([busy])
    clients[0]["link"] = "0xelsewhere"
    (holder,) = through([busy], consoles.look(servers, clients)).holders
    assert holder.pool is not None
    servers, clients = consoles.linked([busy])
    servers[0]["link"] = "0xother"
    (holder,) = through([busy], consoles.look(servers, clients)).holders
    assert holder.pool is not None


@pytest.mark.parametrize("differs", [{"remote_pid": 1}, {"local_port": 1}])
def test_a_session_that_matches_no_server_connection_is_in_doubt_as_ever(
    differs: dict[str, int],
) -> None:
    sessions = from_bouncer(1)
    servers, clients = consoles.linked(sessions)
    found = through(sessions, consoles.look([{**servers[0], **differs}], clients))
    (holder,) = found.holders
    assert (holder.bouncer, holder.service) == ("", "shop")
    assert "come through PgBouncer bouncer-01" in holder.doubt
    assert found.notes == (holder.doubt,)


def test_without_the_console_a_name_loses_the_address_that_pgbouncer_has_added() -> None:
    known = fleet(pgbouncers={"bouncer-01": consoles.BOUNCER})
    named = "shop-web-02 - 10.0.1.2:50000"
    for address, service in (("10.0.0.5", "shop"), ("10.7.7.7", None)):
        seen = snapshot([session(application_name=named, client_addr=address)])
        assert attribute(seen, known).holders[0].service == service


def test_over_a_unix_socket_the_process_is_enough() -> None:
    sessions = from_bouncer(1, client_addr=None, client_port=-1)
    servers, clients = consoles.linked(sessions, addr="10.0.1.2", application_name="shop-web-02")
    rows = [{**servers[0], "addr": "unix", "local_port": 6432}]
    assert places(through(sessions, consoles.look(rows, clients))) == [("shop", "web-02", 1)]


def test_no_session_of_a_pgbouncer_is_ever_proved_leaked_by_a_pools_arithmetic() -> None:
    """Neither as its client's nor as its own, however many and however old."""
    services = {"shop": {**SHOP, "pool": {"size": 5, "max_lifetime": "1m", "retires_idle": True}}}
    known = fleet(services, pgbouncers={"bouncer-01": consoles.BOUNCER})
    sessions = from_bouncer(40, state_age_s=5000.0, age_s=9000.0)
    servers, clients = consoles.linked(sessions[:20])
    servers += [consoles.server(f"0x{s.pid}", s) for s in sessions[20:]]
    seen = snapshot(sessions, poolers=(consoles.look(servers, clients),))
    plan = JUDGE.leaks(seen, known, LeakPolicy())
    assert plan.sessions == ()
    direct = many(40, state_age_s=5000.0, age_s=9000.0)
    assert JUDGE.leaks(snapshot([*sessions, *direct]), known, LeakPolicy()).sessions


def test_direct_sessions_are_held_against_the_pool_beside_those_of_a_pgbouncer() -> None:
    sessions = from_bouncer(3)
    servers, clients = consoles.linked(sessions)
    found = through([*sessions, *many(12)], consoles.look(servers, clients))
    assert [(len(h.sessions), h.bouncer, bool(h.doubt)) for h in found.holders] == [
        (12, "", False),
        (3, "bouncer-01", True),
    ]


def test_clients_are_counted_by_service_whether_they_wait_or_not() -> None:
    sessions = from_bouncer(2)
    servers, clients = consoles.linked(sessions)
    clients += [consoles.client(f"0xi{n}") for n in range(3)]
    clients += [
        consoles.client("0xw", state="waiting", addr="10.0.1.2", application_name="shop-web-02"),
        consoles.client("0xu", state="waiting", addr="10.7.7.7", application_name="cron"),
    ]
    found = through(sessions, consoles.look(servers, clients))
    assert [(g.label, len(g.clients), g.waiting) for g in found.callers] == [
        ("shop on web-01", 5, 0),
        ("shop on web-02", 1, 1),
        ("cron from 10.7.7.7", 1, 1),
    ]


def test_clients_of_another_servers_pools_are_not_counted() -> None:
    (here,) = from_bouncer(1)
    servers, clients = consoles.linked([here])
    servers.append(consoles.server("0x9", session(client_port=1), database="stock"))
    clients += [consoles.client(f"0xo{n}", database="stock") for n in range(5)]
    found = through([here], consoles.look(servers, clients))
    assert [len(group.clients) for group in found.callers] == [1]


# ---- addresses that hosts call their own


def told(**addresses: str) -> tuple[HostSockets, ...]:
    """Hosts that were looked at, each with one address; underscores are dashes."""
    return tuple(
        HostSockets(
            host=name.replace("_", "-"),
            addresses=(address,),
            sockets=(),
            sees_processes=False,
            units={},
        )
        for name, address in addresses.items()
    )


def test_an_address_that_a_host_calls_its_own_is_that_hosts() -> None:
    services = {"shop": {"hosts": "web", "database": "db", "pool": {"size": 5}}}
    seen = snapshot(many(2, client_addr="172.20.0.7"), hosts=told(web_02="172.20.0.7"))
    assert places(attribute(seen, fleet(services))) == [("shop", "web-02", 2)]
    assert places(attribute(snapshot(many(2, client_addr="172.20.0.7")), fleet(services))) == [
        (None, None, 2)
    ]


def test_a_host_with_several_addresses_of_its_own_is_held_to_its_pool_with_all_of_them() -> None:
    sessions = [*many(6), *many(7, client_addr="172.20.0.7")]
    seen = snapshot(sessions, hosts=told(web_01="172.20.0.7"))
    (holder,) = attribute(seen, fleet()).holders
    assert (len(holder.sessions), holder.doubt) == (13, "")


def test_a_pgbouncer_is_known_by_an_address_that_its_host_calls_its_own() -> None:
    seen = snapshot(many(3, client_addr="172.20.0.9"), hosts=told(db_01="172.20.0.9"))
    known = fleet(pgbouncers={"bouncer-01": consoles.BOUNCER})
    assert "come through PgBouncer bouncer-01" in attribute(seen, known).holders[0].doubt
