"""The step `terminate`: its drives over a real server, with hand-made proof."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from runbook.adapters.postgres import PostgresDoor
from runbook.doors import LateJudge
from runbook.model.effects import (
    Answers,
    AskDatabase,
    Drive,
    Effect,
    Now,
    Question,
    Say,
    SignalSessions,
    Sleep,
    ask,
)
from runbook.model.errors import ConnectionLost, DoorError, SlotRefused
from runbook.model.leaks import (
    LeakedSession,
    LeakPolicy,
    ShortLimit,
    Spared,
    TerminationPlan,
)
from runbook.model.sessions import Limits, Session, Snapshot
from runbook.model.step import StepContext
from runbook.steps.terminate import TERMINATE
from runbook.steps.terminate_args import TerminateArgs
from unit.postgres_server import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runbook.model.fleet import Fleet
    from runbook.model.plan import Result
    from unit.postgres_server import Server

_SESSIONS = Question(
    name="sessions",
    sql="""SELECT a.pid, a.backend_type, a.datname AS database, a.usename AS role,
    a.application_name, host(a.client_addr) AS client_addr, a.client_port,
    a.backend_start::text AS backend_start, a.state_change::text AS state_change, a.state,
    a.query, r.rolsuper AS superuser, a.pid = pg_backend_pid() AS ours
    FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid ORDER BY a.backend_start""",
)


@dataclass
class HandMade(LateJudge):
    """A judge for whom every idle session of `app` is leaked."""

    can_signal: bool = True
    can_read_all: bool = True
    blind: bool = False
    roles: tuple[str, ...] = ("app",)
    #: Roles whose own limit lacks headroom.
    short: tuple[str, ...] = ()

    def examine(self, database: str, fleet: Fleet, *, hosts: bool = True) -> Drive[Snapshot]:  # noqa: ARG002
        answers = yield from ask(AskDatabase(database=database, questions=(_SESSIONS,)))
        return self._snapshot(database, answers)

    def _snapshot(self, database: str, answers: Answers) -> Snapshot:
        limits = Limits(
            version_num=180000,
            version="18",
            max_connections=12,
            superuser_reserved=2,
            reserved=0,
            max_wal_senders=2,
            in_recovery=False,
            role="oncall",
            can_read_all=self.can_read_all,
            can_signal=self.can_signal,
            is_superuser=False,
            server_time="",
        )
        rest: dict[str, Any] = dict.fromkeys(
            ("wait_event_type", "wait_event", "age_s", "xact_age_s", "query_age_s", "state_age_s")
        )
        rest |= {"has_xid": False, "leader_pid": None, "replication": False}
        rows = [Session(**row, **rest) for row in answers.rows["sessions"]]
        return Snapshot(database=database, limits=limits, sessions=tuple(rows))

    def leaks(self, snapshot: Snapshot, fleet: Fleet, policy: LeakPolicy) -> TerminationPlan:  # noqa: ARG002
        found = [s for s in snapshot.clients if s.role in self.roles and s.idle and not self.blind]
        return TerminationPlan(
            sessions=tuple(
                LeakedSession(session=s, rule="over_pool", proof="by hand", owner="app")
                for s in found
            ),
            spared=(Spared(reason="floor", pids=(1, 2)),),
            wanted=1 if self.short else 0,
            short=tuple(ShortLimit(kind="role", name=role) for role in self.short),
        )

    def diagnose(self, snapshot: Snapshot, fleet: Fleet, policy: LeakPolicy | None = None) -> Any:
        raise NotImplementedError

    def pool_use(self, database: str, fleet: Fleet, *, window_s: float, hosts: bool = True) -> Any:
        raise NotImplementedError


@dataclass
class World:
    """Drives a step over a real door; sleeps are counted, short ones slept."""

    fleet: Fleet
    door: PostgresDoor
    judge: HandMade = field(default_factory=HandMade)
    slept: list[float] = field(default_factory=list)
    interrupted: bool = False
    effects: list[Effect[Any]] = field(default_factory=list)
    #: Called with each effect before it is performed; may raise a DoorError.
    meddle: Callable[[Effect[Any]], None] = lambda _effect: None

    def run(self, phase: str, given: Any = None, **args: Any) -> Result:
        context = StepContext(
            fleet=self.fleet, judge=self.judge, target="db", given={"prepared": given}
        )
        arguments = TerminateArgs.model_validate({"database": "db", **args})
        steps = TERMINATE.phases[phase](arguments, context)
        send: Any = steps.send
        value: Any = None
        while True:
            try:
                effect = send(value)
            except StopIteration as stop:
                result: Result = stop.value
                return result
            try:
                value, send = self._perform(effect), steps.send
            except DoorError as error:
                value, send = error, steps.throw

    def both(self, **args: Any) -> Result:
        return self.run("act", self.run("prepare", **args).data, **args)

    def _perform(self, effect: Effect[Any]) -> Any:
        self.effects.append(effect)
        self.meddle(effect)
        match effect:
            case Say():
                return None
            case Now():
                return time.monotonic()
            case Sleep(seconds=seconds):
                self.slept.append(seconds)
                time.sleep(min(seconds, 0.05))
                return not (self.interrupted and effect.cut_short)
        return self.door.perform(effect)


@pytest.fixture
def world(server: Server) -> Iterator[World]:
    fleet = server.fleet()
    door = PostgresDoor(fleet, rehearsal=False)
    yield World(fleet=fleet, door=door)
    door.close()


def _pids(server: Server) -> list[int]:
    with server.connect("postgres") as admin:
        rows = admin.execute(
            "SELECT pid FROM pg_stat_activity WHERE usename = 'app' ORDER BY backend_start"
        ).fetchall()
        asked_by = admin.info.backend_pid
    # A superuser that is still on its way out would count as one more slot in use.
    while Path(f"/proc/{asked_by}").exists():
        time.sleep(0.001)
    return [pid for (pid,) in rows]


# ---- prepare -------------------------------------------------------------------------------


def test_prepare_names_every_session_and_changes_nothing(world: World, server: Server) -> None:
    with server.crowd(9):
        result = world.run("prepare")
        assert result.status == "ok"
        assert len(result.touches) == 9
        assert [s["pid"] for s in result.data["sessions"]] == _pids(server)
        assert (result.data["used"], result.data["usable"], result.data["wanted"]) == (9, 10, 1)
        assert result.not_exercised
    assert not any(isinstance(effect, SignalSessions) for effect in world.effects)


def test_the_smaller_cap_wins(world: World, server: Server) -> None:
    world.fleet = server.fleet(max_terminated=3)
    with server.crowd(9):
        assert len(world.run("prepare", max_sessions=5).touches) == 3
        assert len(world.run("prepare", max_sessions=2).touches) == 2


@pytest.mark.parametrize(
    ("judge", "grant"),
    [
        (HandMade(can_signal=False), 'GRANT pg_signal_backend TO "oncall"'),
        (HandMade(can_read_all=False), 'GRANT pg_monitor TO "oncall"'),
    ],
)
def test_without_a_grant_it_is_refused_with_the_grant(
    world: World, judge: HandMade, grant: str
) -> None:
    world.judge = judge
    result = world.run("prepare")
    assert result.status == "refused"
    assert grant in result.summary


def test_nothing_is_terminated_while_enough_slots_are_free(world: World, server: Server) -> None:
    with server.crowd(2):
        prepared = world.run("prepare")
        assert prepared.touches == ()
        result = world.run("act", prepared.data)
        assert len(_pids(server)) == 2
    assert (result.status, result.data["verdict"]) == ("ok", "nothing_to_do")


# ---- act -----------------------------------------------------------------------------------


def test_it_stops_at_the_headroom_oldest_first(world: World, server: Server) -> None:
    with server.crowd(9):
        pids = _pids(server)
        result = world.both(headroom="50%", watch=[])
        assert result.status == "ok"
        assert result.data["terminated"] == pids[:4]
        assert _pids(server) == pids[4:]
        assert result.data["before"]["used"] == 9
        assert result.data["after"]["used"] == 5
        assert "9 -> 5 of 10 slots" in result.summary


def test_only_what_was_shown_and_still_is_proved_goes(world: World, server: Server) -> None:
    with server.crowd(8) as crowd:
        prepared = world.run("prepare", headroom="100%")
        pids = _pids(server)
        crowd[0].execute(b"SELECT 1")  # it woke up meanwhile
        with server.crowd(1):  # and this one was not shown
            late = _pids(server)[-1]
            result = world.run("act", prepared.data, headroom="100%", watch=[])
            assert _pids(server) == [pids[0], late]
        assert result.data["terminated"] == pids[1:]
        assert result.data["moved"] == [pids[0]]
        assert not result.data["headroom_reached"]


def test_a_session_that_moves_at_the_last_moment_is_left_alone(
    world: World, server: Server
) -> None:
    with server.crowd(3) as crowd:

        def wake(effect: Effect[Any]) -> None:
            if isinstance(effect, SignalSessions) and not crowd[1].closed:
                crowd[1].execute(b"SELECT 1")

        world.meddle = wake
        pids = _pids(server)
        result = world.both(headroom="100%", watch=[], batch_share="100%")
        assert result.data["terminated"] == [pids[0], pids[2]]
        assert result.data["moved"] == [pids[1]]


def test_batches_are_bounded(world: World, server: Server) -> None:
    with server.crowd(8):
        world.both(headroom="100%", watch=[], batch_max=3, batch_share="100%")
        sizes = [len(e.sessions) for e in world.effects if isinstance(e, SignalSessions)]
        assert sizes == [3, 3, 2]


def test_a_lost_connection_leaves_the_batch_in_doubt(world: World, server: Server) -> None:
    with server.crowd(9):
        pids = _pids(server)

        def cut(effect: Effect[Any]) -> None:
            done = sum(isinstance(e, SignalSessions) for e in world.effects)
            if isinstance(effect, SignalSessions) and done == 3:
                raise ConnectionLost("the line is dead")

        world.meddle = cut
        result = world.both(headroom="100%")
        assert result.status == "unknown"
        assert result.data["terminated"] == pids[:2]
        assert result.data["in_doubt"] == [pids[2]]
        assert "the line is dead" in result.summary
        assert any(str(pids[2]) in line for line in result.by_hand)
        assert len(result.touches) == 3


def test_a_refused_slot_between_batches_ends_it_with_what_is_known(
    world: World, server: Server
) -> None:
    with server.crowd(9):

        def refuse(effect: Effect[Any]) -> None:
            signalled = any(isinstance(e, SignalSessions) for e in world.effects)
            if isinstance(effect, AskDatabase) and signalled:
                raise SlotRefused("no slot", hint="try again")

        world.meddle = refuse
        result = world.both(headroom="100%")
        assert result.status == "failed"
        # It was signalled; that it has gone was not seen any more.
        assert result.data["terminated"] == []
        assert len(result.data["lingering"]) == 1
        assert "1 signalled and still there" in result.summary
        assert "no slot (try again)" in result.summary


def test_a_role_that_may_not_signal_after_all_is_refused(world: World, server: Server) -> None:
    world.door = PostgresDoor(server.fleet(connect={"user": "sees"}), rehearsal=False)
    with server.crowd(9):
        result = world.both(watch=[])
        world.door.close()
        assert result.status == "refused"
        assert "GRANT pg_signal_backend TO sees" in result.summary
        assert len(_pids(server)) == 9


def test_what_may_not_be_signalled_is_told_apart_from_what_moved(
    world: World, server: Server
) -> None:
    world.judge = HandMade(roles=("app", "postgres"))
    with server.connect("postgres") as boss, server.crowd(3) as crowd:
        pids = _pids(server)

        def wake(effect: Effect[Any]) -> None:
            if isinstance(effect, SignalSessions):
                crowd[0].execute(b"SELECT 1")

        world.meddle = wake
        result = world.both(headroom="100%", watch=[], batch_share="100%")
        assert result.data["terminated"] == pids[1:]
        assert result.data["denied"] == [boss.info.backend_pid]
        assert result.data["moved"] == pids[:1]
        assert "1 not permitted: a superuser's session needs a superuser" in result.summary


def test_in_a_batch_of_which_nothing_goes_moved_and_denied_are_told_apart(
    world: World, server: Server
) -> None:
    world.judge = HandMade(roles=("app", "postgres"))
    with server.crowd(1) as crowd, server.connect("postgres") as boss:

        def wake(effect: Effect[Any]) -> None:
            if isinstance(effect, SignalSessions):
                crowd[0].execute(b"SELECT 1")

        world.meddle = wake
        result = world.both(headroom="100%", watch=[], batch_share="100%")
        assert result.data["denied"] == [boss.info.backend_pid]
        assert result.data["moved"] == _pids(server)
        assert result.status == "refused"


def test_only_sessions_under_a_full_limit_are_taken_for_it(world: World, server: Server) -> None:
    secret = PASSWORD.replace("'", "''")
    server.admin(f"CREATE ROLE small LOGIN CONNECTION LIMIT 4 PASSWORD '{secret}'")
    server.admin(f"CREATE ROLE lone LOGIN CONNECTION LIMIT 1 PASSWORD '{secret}'")
    world.judge = HandMade(roles=("app", "small"), short=("small",))
    try:
        with (
            server.crowd(2),
            server.crowd(3, "small"),
            server.crowd(1, "lone"),
        ):
            others = _pids(server)
            prepared = world.run("prepare", headroom="30%")
            assert {s["role"] for s in prepared.data["sessions"]} == {"small"}
            result = world.run("act", prepared.data, headroom="30%", watch=[])
            assert len(result.data["terminated"]) == 1
            assert result.data["headroom_reached"]
            assert _pids(server) == others
            # The server says that the limit is still short, whatever was terminated before.
            more = world.both(headroom="80%", watch=[], max_sessions=1)
            assert "80% headroom not reached" in more.summary
    finally:
        server.admin("DROP ROLE small")
        server.admin("DROP ROLE lone")


# ---- watch ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("back", "verdict", "waits"),
    [(0, "stayed_away", [15.0]), (4, "came_back", [15.0]), (2, "partly_back", [15.0, 45.0])],
)
def test_sessions_that_come_straight_back_are_told(
    world: World, server: Server, back: int, verdict: str, waits: list[float]
) -> None:
    opened: list[Any] = []

    def refill(effect: Effect[Any]) -> None:
        if isinstance(effect, Sleep) and effect.seconds == 15.0:
            opened.extend(server.connect("app") for _ in range(back))

    world.meddle = refill
    with server.crowd(9):
        result = world.both(headroom="50%")
        for connection in opened:
            connection.close()
    assert result.status == "ok"
    assert result.data["verdict"] == verdict
    assert result.data["came_back"] == {"app": {"terminated": 4, "came_back": back}}
    assert [s for s in world.slept if s > 1] == waits
    assert ("--rolling-restart" in result.summary) == (verdict == "came_back")


def test_an_interrupt_ends_the_watch_when_all_is_done(world: World, server: Server) -> None:
    world.interrupted = True
    with server.crowd(9):
        result = world.both(headroom="50%", batch_max=9, batch_share="100%")
    assert result.status == "ok"
    assert len(result.data["terminated"]) == 4
    assert result.data["verdict"] == "not_watched"


def test_an_interrupt_begins_no_further_batch(world: World, server: Server) -> None:
    world.interrupted = True
    with server.crowd(9) as held:
        result = world.both(headroom="50%", batch_max=1)
        left = sum(not connection.closed and _answers(connection) for connection in held)
    assert result.status == "failed"
    assert result.data["interrupted"] is True
    assert len(result.data["terminated"]) == 1
    assert left == 8
    assert "no further batch was begun" in result.summary


def _answers(connection: Any) -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def test_blockers_go_whatever_the_headroom(world: World, server: Server) -> None:
    with server.crowd(2):
        result = world.both(which="blockers", watch=[])
        assert len(result.data["terminated"]) == 2


def test_a_time_that_is_no_time_never_becomes_sql(world: World, server: Server) -> None:
    with server.crowd(9):
        prepared = world.run("prepare").data
        evil = {**prepared["sessions"][0], "backend_start": "'; DROP TABLE x; --"}
        data = {**prepared, "sessions": [evil]}
        result = world.run("act", data, watch=[])
        assert result.data["terminated"] == []
        assert len(_pids(server)) == 9


def test_it_repeats_safely_after_a_crash(world: World, server: Server) -> None:
    with server.crowd(9):
        prepared = world.run("prepare").data
        world.run("act", prepared, watch=[])
        left = _pids(server)
        result = world.run("act", prepared, watch=[])
        assert _pids(server) == left
    assert result.data["verdict"] == "nothing_to_do"
