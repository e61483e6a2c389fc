"""A session has lost its client only when every condition of the proof holds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from runbook.findings import app_hosts, later_look
from runbook.findings.sockets import address_book
from runbook.findings.view import View
from runbook.model.effects import Answers, AskDatabase, ReadCommand
from runbook.model.errors import Unreachable
from runbook.model.leaks import LeakPolicy, TerminationPlan
from runbook.model.processes import ServerProcess, ServerProcesses
from runbook.model.sessions import LaterLook, Session, Snapshot
from runbook.model.sockets import HostSockets, Socket
from unit.findings.world import JUDGE, SHOP, fleet, heard, many, session, snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runbook.model.diagnosis import Finding

SERVER = [{"address": "10.0.0.5", "port": 5432}]


def at(sessions: Sequence[Session], first_port: int = 40000) -> list[Session]:
    """Return sessions with a client port of their own each."""
    return [replace(s, client_port=first_port + n) for n, s in enumerate(sessions)]


def socket_of(held: Session, pid: int | None = None) -> Socket:
    return Socket(
        local_addr=held.client_addr or "",
        local_port=held.client_port or 0,
        peer_addr="10.0.0.5",
        peer_port=5432,
        process="gunicorn" if pid else None,
        pid=pid,
    )


def web(sockets: Sequence[Socket] = (), **given: Any) -> HostSockets:
    """Return what web-01 told: it reaches the server from 10.0.1.1."""
    values: dict[str, Any] = {
        "host": "web-01",
        "addresses": ("127.0.0.1", "10.0.1.1"),
        "sockets": tuple(sockets),
        "sees_processes": True,
        "units": dict.fromkeys(range(7, 30), "shop.service"),
        "source": "10.0.1.1",
    }
    return HostSockets(**{**values, **given})


def later(sessions: Sequence[Session], *hosts: HostSockets) -> LaterLook:
    seen = frozenset((s.pid, s.backend_start or "", s.state_change or "") for s in sessions)
    return LaterLook(after_s=2.0, sessions=seen, hosts=hosts)


def seen(
    sessions: Sequence[Session], first: HostSockets, second: HostSockets, **given: Any
) -> Snapshot:
    """Return a snapshot in which all sessions are there, unchanged, at the second look."""
    extra = {"server-address": SERVER, **given.pop("extra", {})}
    both = {"hosts": (first,), "later": later(sessions, second), **given}
    return snapshot(sessions, extra=extra, **both)


def prove(found: Snapshot, inventory: Any = None, **policy: Any) -> TerminationPlan:
    return JUDGE.leaks(found, inventory or fleet(), LeakPolicy(**policy))


def orphaned(found: Snapshot) -> set[int]:
    return {p.session.pid for p in prove(found).sessions if p.rule == "orphan"}


def leak(found: Snapshot) -> Finding:
    told = JUDGE.diagnose(found, fleet())
    return next(f for f in (told.finding, *told.also) if f.cause == "leaked-sessions")


GONE = at(many(6))


def test_no_socket_in_two_looks_is_a_client_that_is_gone() -> None:
    alive = at(many(3), 50000)
    held = web([socket_of(s) for s in alive])
    found = seen([*GONE, *alive], held, held)
    assert orphaned(found) == {s.pid for s in GONE}
    assert prove(found).sessions[0].proof == (
        "its client is gone: web-01 has no 10.0.1.1:40005, in two looks"
    )
    finding = leak(found)
    assert (finding.cause, finding.confidence) == ("leaked-sessions", "certain")
    assert finding.title.startswith("6 leaked sessions: ")
    assert "6 sessions from 10.0.1.1: web-01 has no socket for them" in finding.evidence[0]


def test_it_is_proved_though_the_host_has_no_connection_left_at_all() -> None:
    assert orphaned(seen(GONE, web(), web())) == {s.pid for s in GONE}


def unchanged_but(which: Session, **given: Any) -> LaterLook:
    return later([replace(s, **given) if s is which else s for s in GONE], web())


STRANGER = Socket(local_addr="10.0.1.1", local_port=9, peer_addr="10.0.0.5", peer_port=5432)
HELD = web([socket_of(s) for s in GONE])


@pytest.mark.parametrize(
    "given",
    [
        {"hosts": (HELD,)},
        {"later": later(GONE, HELD)},
        {"later": None},
        {"later": LaterLook(after_s=0.0, error="no door", hosts=(web(),))},
        {"later": later(GONE)},
        {"later": later([], web())},
        {"hosts": (web(error="no connection"),)},
        {"later": later(GONE, web(error="no connection"))},
        {"hosts": (web(forwards="it forwards packets"),)},
        {"later": later(GONE, web(forwards="it forwards packets"))},
        # Translated: the address is none of the host's own, or not any more.
        {"hosts": (web(addresses=("127.0.0.1", "192.168.0.7")),)},
        {"later": later(GONE, web(addresses=("127.0.0.1",)))},
        # Two hosts have it: a container bridge, a copied machine.
        {"hosts": (web(), web(host="web-02"))},
        # The server may know this host by another address.
        {"hosts": (web(source="10.5.5.5"),)},
        {"hosts": (web(source=""),)},
        {"hosts": (web([STRANGER]),), "later": later(GONE, web([STRANGER]))},
    ],
)
def test_short_of_any_condition_nothing_is_proved(given: dict[str, Any]) -> None:
    assert orphaned(seen(GONE, web(), web(), **given)) == set()


def test_a_session_that_moved_between_the_looks_has_a_client() -> None:
    first = GONE[0]
    for moved in ({"pid": 1}, {"backend_start": "later"}, {"state_change": "later"}):
        found = seen(GONE, web(), web(), later=unchanged_but(first, **moved))
        assert orphaned(found) == {s.pid for s in GONE[1:]}


def test_where_the_server_sees_one_of_its_ends_the_route_does_not_matter() -> None:
    alive = session(client_port=50000)
    held = web([socket_of(alive)], source="10.5.5.5")
    assert orphaned(seen([*GONE, alive], held, held)) == {s.pid for s in GONE}
    elsewhere = web([replace(socket_of(alive), peer_port=6379)], source="10.5.5.5")
    assert orphaned(seen([*GONE, alive], elsewhere, elsewhere)) == set()


def test_the_loopback_is_everybodys() -> None:
    local = [replace(s, client_addr="127.0.0.1") for s in GONE]
    assert orphaned(seen(local, web(source="127.0.0.1"), web(source="127.0.0.1"))) == set()


def test_a_client_of_both_families_is_one_client() -> None:
    mapped = [replace(s, client_addr="::ffff:10.0.1.1") for s in GONE]
    held = web([socket_of(s) for s in GONE])
    assert orphaned(seen(mapped, held, held)) == set()
    assert len(orphaned(seen(mapped, web(), web()))) == 6


@pytest.mark.parametrize(
    ("special", "goes"),
    [
        ({"state": "idle in transaction"}, True),
        ({"state": "idle in transaction", "has_xid": True}, True),
        ({"state": "idle in transaction (aborted)"}, True),
        ({"query": "LISTEN jobs"}, True),
        ({"state": "active"}, False),
        ({"superuser": True}, False),
        ({"replication": True}, False),
        ({"ours": True}, False),
        ({"backend_type": "walsender"}, False),
        ({"application_name": "pg_dump"}, False),
        ({"query": "UPDATE alembic_version SET version_num='1'"}, False),
        ({"role": "batch_1"}, False),
        ({"hidden": True, "state": None}, False),
    ],
)
def test_which_sessions_without_a_client_may_go(special: dict[str, Any], goes: bool) -> None:
    sessions = [replace(s, **special) for s in GONE]
    plan = prove(seen(sessions, web(), web()), fleet(protect={"roles": ["batch_*"]}))
    assert len(plan.sessions) == (6 if goes else 0)


def test_an_advisory_lock_without_its_client_protects_nobody() -> None:
    locks = [{"pid": s.pid} for s in GONE]
    assert len(orphaned(seen(GONE, web(), web(), extra={"advisory-locks": locks}))) == 6
    assert len(orphaned(seen(GONE, web(), web(), extra={"advisory-locks": None}))) == 6


def test_no_floor_is_kept_of_orphans_and_the_living_keep_theirs() -> None:
    """16 sessions against a pool of 10: six have no client, and the pool is within its size."""
    alive = at(many(10, state_age_s=9000), 50000)
    held = web([socket_of(s) for s in alive])
    plan = prove(seen([*GONE, *alive], held, held))
    assert {p.session.pid for p in plan.sessions} == {s.pid for s in GONE}
    fewer = prove(seen([*GONE, *alive], held, held), max_sessions=2)
    assert {p.rule for p in fewer.sessions} == {"orphan"}


def test_orphans_go_before_what_is_over_the_pool() -> None:
    alive = at(many(18, state_age_s=9000), 50000)
    held = web([socket_of(s) for s in alive])
    plan = prove(seen([*GONE, *alive], held, held))
    assert [p.rule for p in plan.sessions] == ["orphan"] * 6 + ["over_pool"] * 4
    assert plan.sessions[-1].proof.startswith("18 sessions, pool of 10; among those idle longest")


def test_a_silent_transaction_without_a_client_is_a_leak_and_no_other_cause() -> None:
    silent = [replace(s, state="idle in transaction", xact_age_s=60.0) for s in GONE]
    told = JUDGE.diagnose(seen(silent, web(), web()), fleet())
    assert "leaked-sessions" in {f.cause for f in (told.finding, *told.also)}
    assert "idle-in-transaction" not in {f.cause for f in (told.finding, *told.also)}


def test_a_few_orphans_do_not_make_the_rest_certain() -> None:
    alive = at(many(18), 50000)
    held = web([socket_of(s) for s in alive])
    assert leak(seen([*GONE[:1], *alive], held, held)).confidence == "strong"
    assert leak(seen([*GONE, *alive[:12]], held, held)).confidence == "certain"


# ---- processes


def test_only_the_process_over_its_pool_loses_sessions() -> None:
    """Two workers may open five each: one holds nine, the other four, idle for longer."""
    leaky, healthy = at(many(9)), at(many(4, state_age_s=9000), 50000)
    held = web([*(socket_of(s, 7) for s in leaky), *(socket_of(s, 8) for s in healthy)])
    found = seen([*leaky, *healthy], held, held)
    plan = prove(found)
    # Thirteen are three over ten: of the two figures the smaller is taken.
    assert [p.session.pid for p in plan.sessions] == [s.pid for s in reversed(leaky[-3:])]
    assert plan.sessions[0].proof == (
        "13 sessions, pool of 10; gunicorn pid 7 (shop.service) holds 9 and may open 5: among its 4"
        " idle longest"
    )
    finding = leak(found)
    assert [(p.pid, p.sessions, p.budget) for p in finding.owners[0].processes] == [
        (7, 9, 5),
        (8, 4, 5),
    ]
    line = "gunicorn pid 7 (shop.service) on web-01 holds 9 connections, a process may open 5"
    assert line in finding.evidence


def test_more_processes_than_declared_each_within_its_pool_leak_nothing() -> None:
    """A deploy's overlap: the old workers drain while the new ones serve."""
    sessions = at(many(20))
    held = web([socket_of(s, 7 + n % 4) for n, s in enumerate(sessions)])
    found = seen(sessions, held, held)
    assert prove(found).sessions == ()
    told = JUDGE.diagnose(found, fleet())
    assert "leaked-sessions" not in {f.cause for f in (told.finding, *told.also)}


def test_processes_with_room_left_do_not_make_up_for_one_that_leaks() -> None:
    sessions = at(many(12))
    held = web([socket_of(s, 7 if n < 10 else n) for n, s in enumerate(sessions)])
    assert len(prove(seen(sessions, held, held)).sessions) == 2


def test_a_proxy_on_the_host_is_no_worker_of_the_service() -> None:
    """HAProxy holds the connections of all of its clients: the count of the host has to do."""
    sessions = at(many(12))
    held = web([socket_of(s, 7) for s in sessions], units={7: "haproxy.service"})
    found = seen(sessions, held, held)
    assert prove(found).sessions == ()
    ours = web([socket_of(s, 7) for s in sessions])
    assert len(prove(seen(sessions, ours, ours)).sessions) == 2


def test_a_socket_of_another_machine_with_that_address_names_no_process() -> None:
    sessions = at(many(14))
    held = web([socket_of(s, 7) for s in sessions])
    found = seen(sessions, held, held, hosts=(held, web(host="web-02")))
    assert leak(found).owners[0].processes == ()


def test_what_several_processes_share_is_counted_once_and_blamed_on_none() -> None:
    sessions = at(many(18))
    held = web([*(socket_of(s, 7) for s in sessions[:7]), *(socket_of(s) for s in sessions[7:])])
    plan = prove(seen(sessions, held, held))
    assert len(plan.sessions) == 4  # by the count of the host, as without processes
    assert plan.sessions[0].proof.startswith("18 sessions, pool of 10; among those idle longest")


# ---- from the operating system alone


def blind(sessions: Sequence[Session], **given: Any) -> Snapshot:
    bare = [replace(s, application_name="", query="") for s in sessions]
    return replace(snapshot(bare, extra={}, **given), extra={}, rung="os")


BY_ADDRESS = {"shop": {"hosts": "web", "database": "db", "role": "app", "pool": {"size": 10}}}
FULL = {"max_connections": 24}  # 21 usable


def test_seen_by_the_operating_system_only_what_the_headroom_needs_goes() -> None:
    found = blind(many(18), limits=FULL)
    plan = prove(found, fleet(BY_ADDRESS))
    assert plan.wanted == 2
    assert [p.session.pid for p in plan.sessions] == [
        s.pid for s in reversed(found.sessions[-4:-2])
    ]
    assert "advisory" in plan.blind
    assert plan.sessions[0].proof.endswith("advisory lock or LISTENs is not known")
    assert prove(blind(many(18)), fleet(BY_ADDRESS)).sessions == ()  # there is room


@pytest.mark.parametrize(
    "special",
    [
        {"state_age_s": None},
        {"state": "idle in transaction", "state_age_s": 9000.0},
        {"role": "postgres"},
        {"role": "oncall"},
    ],
)
def test_seen_by_the_operating_system_what_is_not_known_is_spared(special: dict[str, Any]) -> None:
    services = {"shop": {key: v for key, v in BY_ADDRESS["shop"].items() if key != "role"}}
    found = blind([replace(s, **special) for s in many(20)], limits=FULL)
    assert prove(found, fleet(services)).sessions == ()


def test_seen_by_the_operating_system_orphans_need_a_declared_pool() -> None:
    given: dict[str, Any] = {"hosts": (web(),), "later": later(GONE, web()), "limits": FULL}
    crowd = many(14, client_addr="10.9.9.9")
    found = blind([*GONE, *crowd], **given)
    assert [p.rule for p in prove(found, fleet(BY_ADDRESS)).sessions] == ["orphan"] * 4
    assert prove(found, fleet({})).sessions == ()
    silent = [replace(s, state="idle in transaction") for s in GONE]
    assert prove(blind([*silent, *crowd], **given), fleet(BY_ADDRESS)).sessions == ()


def test_on_a_door_with_sql_nothing_is_said_to_be_blind() -> None:
    assert prove(snapshot(many(14))).blind == ""


# ---- the witnesses


def view(sessions: Sequence[Session], inventory: Any = None, **given: Any) -> View:
    extra = {"server-address": SERVER}
    return View(snapshot=snapshot(sessions, extra=extra, **given), fleet=inventory or fleet(SHOPS))


SHOPS = {"shop": SHOP}


def test_hosts_are_asked_once_slots_are_tight_or_a_pool_is_over() -> None:
    assert app_hosts.looks(view(many(5))) == ()
    (asked,) = app_hosts.looks(view(at(many(11))))
    assert isinstance(asked, ReadCommand)
    assert asked.host == "web-01"
    assert "look web-01 10.0.0.5 40000,40001" in asked.stdin
    assert asked.stdin.endswith(" 5432 ssh </dev/null\n")
    tight = [*many(5), *many(65, application_name="?", client_addr="10.9.9.9")]
    assert [
        look.host for look in app_hosts.looks(view(tight)) if isinstance(look, ReadCommand)
    ] == [
        "web-01",
        "web-02",
        "web-03",
    ]


def test_hosts_beyond_the_bound_are_told() -> None:
    hosts: dict[str, Any] = {
        f"w{n}": {"address": f"10.1.0.{n + 1}", "groups": ["web"]}
        for n in range(app_hosts.MOST_HOSTS + 2)
    }
    sessions = [session(application_name=f"shop-{name}", client_addr=None) for name in hosts]
    inventory = fleet({"shop": {**SHOP, "pool": {"size": 1}}}, hosts=hosts)
    crowd = many(40, application_name="shop-w0", client_addr=None)
    found = view([*crowd, *sessions], inventory, hosts=(web(),))
    assert len(app_hosts.looks(found)) == app_hosts.MOST_HOSTS
    (line,) = (line for line in app_hosts.unseen(found) if "not asked" in line)
    assert line.startswith("w40, w41: ")


def test_a_host_that_fails_is_told_with_its_name() -> None:
    error = Unreachable("web-01 (oncall@10.0.1.1:22): no connection: timed out", hint="")
    found = app_hosts.take(snapshot(many(5)), heard(error, host="web-01"))
    assert (found.hosts[0].host, found.hosts[0].error) == ("web-01", "no connection: timed out")
    told = app_hosts.unseen(View(snapshot=found, fleet=fleet()))
    assert told == ("web-01: who holds their connections was not told: no connection: timed out",)


def test_the_second_look_is_taken_when_clients_seem_gone() -> None:
    settled = view(GONE, hosts=(web(),))
    assert [type(look) for look in later_look.looks(settled)] == [AskDatabase]
    assert [look.host for look in app_hosts.again(settled) if isinstance(look, ReadCommand)] == [
        "web-01"
    ]
    assert later_look.looks(view(GONE, hosts=(HELD,))) == ()
    assert app_hosts.again(view(GONE, hosts=(HELD,))) == ()
    fresh = [replace(s, state_age_s=0.5) for s in GONE]
    assert app_hosts.again(view(fresh, hosts=(web(),))) == ()


def rows(sessions: Sequence[Session], aged: float = 2.5) -> list[dict[str, Any]]:
    return [
        {
            "pid": s.pid,
            "backend_start": s.backend_start or "",
            "state_change": s.state_change or "",
            "age_s": None if s.age_s is None else s.age_s + aged,
        }
        for s in sessions
    ]


def test_what_the_server_says_the_second_time() -> None:
    first = snapshot(GONE)
    answers = Answers(rung="rescue", rows={"sessions-later": rows(GONE[:4])})
    second = later_look.take(first, heard(answers)).later
    assert second is not None
    assert second.after_s == pytest.approx(2.5)
    assert second.sessions == later(GONE[:4]).sessions
    nobody = later_look.take(
        first, heard(Answers(rung="connect", rows={"sessions-later": []}))
    ).later
    assert nobody is not None
    assert (nobody.after_s, nobody.sessions, nobody.error) == (2.0, frozenset(), "")


@pytest.mark.parametrize(
    "outcome",
    [
        Unreachable("db: no door", hint=""),
        Answers(rung="connect", rows={}, failed={"sessions-later": "timed out"}),
    ],
)
def test_a_second_look_that_fails_says_so(outcome: Any) -> None:
    second = later_look.take(snapshot(GONE), heard(outcome)).later
    assert second is not None
    assert second.sessions is None
    assert second.error


def test_a_second_look_by_another_kind_of_door_finds_nobody_again() -> None:
    none = ServerProcesses(host="db-01", processes=(), settings={}, version="", at="")
    for first, second in (
        (snapshot(GONE), Answers(rung="os", rows={}, processes=none)),
        (blind(GONE), Answers(rung="connect", rows={"sessions-later": rows(GONE)})),
    ):
        told = later_look.take(first, heard(second)).later
        assert told is not None
        assert told.sessions is None
        assert "another door" in told.error


def test_the_second_look_at_processes() -> None:
    first = blind([replace(s, backend_start="ticks 5", state_change="switches 9") for s in GONE])
    process = ServerProcess(
        pid=GONE[0].pid,
        kind="client",
        role="app",
        database="shop",
        client_addr="10.0.1.1",
        client_port=40000,
        state="idle",
        waiting=False,
        age_s=903.0,
        start_ticks=5,
        switches=9,
        title="postgres: app shop 10.0.1.1(40000) idle",
    )
    every = (process, replace(process, pid=1, kind="other"))
    look = ServerProcesses(host="db-01", processes=every, settings={}, version="", at="")
    told = later_look.take(first, heard(Answers(rung="os", rows={}, processes=look))).later
    assert told is not None
    assert told.sessions == frozenset({(GONE[0].pid, "ticks 5", "switches 9")})
    assert told.after_s == pytest.approx(3.0)


def test_both_kinds_of_a_second_look_are_kept() -> None:
    answers = Answers(rung="connect", rows={"sessions-later": rows(GONE)})
    one = app_hosts.take_again(later_look.take(snapshot(GONE), heard(answers)), ())
    other = later_look.take(app_hosts.take_again(snapshot(GONE), ()), heard(answers))
    assert one.later == other.later
    assert one.later is not None
    assert (one.later.error, one.later.sessions) == ("", later(GONE).sessions)


def test_the_address_book_holds_what_one_host_alone_has() -> None:
    shared = snapshot(
        [],
        hosts=(
            web(addresses=("127.0.0.1", "10.0.1.1", "172.17.0.1", "fe80::1", "::ffff:10.0.1.9")),
            web(host="web-02", addresses=("127.0.0.1", "10.0.1.2", "172.17.0.1")),
        ),
    )
    assert address_book(shared) == {
        "10.0.1.1": "web-01",
        "10.0.1.9": "web-01",
        "10.0.1.2": "web-02",
    }
