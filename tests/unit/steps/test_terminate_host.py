"""The step `terminate` where no connection is left: by the host's processes, and back by SQL."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from runbook.adapters.local_command import LocalDoor
from runbook.adapters.postgres import PostgresDoor
from runbook.findings.limits import QUESTION as LIMITS
from runbook.findings.sessions import QUESTION as SESSIONS
from runbook.findings.snapshot import assemble
from runbook.model.effects import AskDatabase, Drive, Effect, Now, SignalSessions, ask
from runbook.model.fleet import Fleet
from runbook.model.inventory import Host
from runbook.model.leaks import LeakedSession, LeakPolicy, TerminationPlan
from runbook.model.sessions import Snapshot
from runbook.steps.terminate_args import TerminateArgs
from runbook.steps.terminate_batches import Progress
from unit.steps.test_terminate import HandMade, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from unit.postgres_server import Server


class ByProcesses(HandMade):
    """A judge for whom every idle session of `app` is leaked, however it was seen."""

    def examine(self, database: str, fleet: Fleet, *, hosts: bool = True) -> Drive[Snapshot]:  # noqa: ARG002
        asked = AskDatabase(database=database, questions=(LIMITS, SESSIONS))
        return assemble(database, (yield from ask(asked)))

    def leaks(self, snapshot: Snapshot, fleet: Fleet, policy: LeakPolicy) -> TerminationPlan:  # noqa: ARG002
        found = [s for s in snapshot.clients if s.role == "app" and s.idle]
        found.sort(key=lambda s: -(s.age_s or 0.0))
        return TerminationPlan(
            sessions=tuple(
                LeakedSession(session=s, rule="over_pool", proof="by hand", owner="app")
                for s in found
            ),
            spared=(),
            blind="seen by the host alone" if snapshot.rung == "os" else "",
        )


@pytest.fixture
def world_of(server: Server) -> Iterator[Callable[..., World]]:
    """A world whose only way in is the host, unless `connect` says otherwise."""
    doors = []

    def make(user: str = "crowd") -> World:
        local = {"os_user": server.os_user, "socket_dir": "/nowhere", "port": server.port}
        declared = server.fleet(host="db-01", local=local, connect={"user": user})
        hosts = {"db-01": Host(connection="local")}
        fleet = Fleet(declared.inventory.model_copy(update={"hosts": hosts}))
        host_door = LocalDoor(fleet, rehearsal=False)
        doors.append(PostgresDoor(fleet, rehearsal=False, hosts=host_door))
        return World(fleet=fleet, door=doors[-1], judge=ByProcesses())

    yield make
    for door in doors:
        door.close()


def signalled(world: World) -> list[Any]:
    return [s for e in world.effects if isinstance(e, SignalSessions) for s in e.sessions]


def test_by_the_host_from_the_first_look_to_the_last(
    world_of: Callable[..., World], server: Server
) -> None:
    world = world_of()
    with server.crowd(9) as crowd:
        pids = [connection.info.backend_pid for connection in crowd]
        result = world.both(headroom="50%", watch=["1s"])
    assert (result.status, result.data["verdict"]) == ("ok", "stayed_away")
    assert sorted(result.data["terminated"]) == sorted(pids[:4])
    assert (result.data["before"]["used"], result.data["after"]["used"]) == (9, 5)
    assert result.data["headroom_reached"]
    assert "seen by the host alone" in result.summary
    assert all(s.backend_start.startswith("ticks ") for s in signalled(world))


def test_who_moves_between_look_and_signal_is_left_alone(
    world_of: Callable[..., World], server: Server
) -> None:
    world = world_of()
    with server.crowd(3) as crowd:
        woken = crowd[1].info.backend_pid

        def speak(effect: Effect[Any]) -> None:
            if isinstance(effect, SignalSessions):
                crowd[1].execute(b"SELECT 1")

        world.meddle = speak
        result = world.both(headroom="100%", watch=[], batch_max=10, batch_share="100%")
        assert crowd[1].execute(b"SELECT 1").fetchone() == (1,)
    assert result.data["moved"] == [woken]
    assert len(result.data["terminated"]) == 2


def test_the_ladder_opens_between_the_looks(world_of: Callable[..., World], server: Server) -> None:
    """Shown by the host, signalled there; looked at by SQL from then on."""
    blind, seeing = world_of(), world_of("oncall")
    with server.crowd(6) as crowd:
        pids = [connection.info.backend_pid for connection in crowd]
        prepared = blind.run("prepare", headroom="100%").data
        crowd[0].execute(b"SELECT 1")  # it woke up since it was shown
        result = seeing.run("act", prepared, headroom="100%", watch=["1s"])
        assert crowd[0].execute(b"SELECT 1").fetchone() == (1,)
    assert result.status == "ok"
    assert sorted(result.data["terminated"]) == sorted(pids[1:])
    assert result.data["moved"] == pids[:1]
    assert (result.data["before"]["used"], result.data["after"]["used"]) == (6, 1)
    assert result.data["verdict"] == "stayed_away"
    assert result.data["blind"]
    assert all(s.backend_start.startswith("ticks ") for s in signalled(seeing))


def test_sessions_that_come_back_are_counted_without_their_names(
    world_of: Callable[..., World], server: Server
) -> None:
    world = world_of()
    back: list[Any] = []
    with server.crowd(4):

        def refill(effect: Effect[Any]) -> None:
            if (
                not back
                and type(effect).__name__ == "Sleep"
                and getattr(effect, "cut_short", False)
            ):
                back.extend(server.connect(application_name="another name") for _ in range(4))

        prepared = world.run("prepare", headroom="100%").data
        seeing = world_of("oncall")
        seeing.meddle = refill
        result = seeing.run("act", prepared, headroom="100%", watch=["1s"])
    for connection in back:
        connection.close()
    server.settle([connection.info.backend_pid for connection in back if not connection.closed])
    assert result.data["verdict"] == "came_back"
    assert result.data["came_back"] == {"app": {"terminated": 4, "came_back": 4}}


def test_what_was_shown_by_sql_is_never_signalled_by_the_host(
    world_of: Callable[..., World], server: Server
) -> None:
    seeing, blind = world_of("oncall"), world_of()
    with server.crowd(3) as crowd:
        prepared = seeing.run("prepare", headroom="100%").data
        result = blind.run("act", prepared, headroom="100%", watch=[])
        for connection in crowd:
            assert connection.execute(b"SELECT 1").fetchone() == (1,)
    assert result.status == "failed"
    assert "no connection slot left" in result.summary
    assert result.data["terminated"] == []


def test_without_sudo_it_is_refused_with_the_line_that_is_missing(
    world_of: Callable[..., World],
) -> None:
    world = world_of()
    look = world.judge.examine

    def no_owner(database: str, fleet: Fleet, *, hosts: bool = True) -> Drive[Snapshot]:
        seen = yield from look(database, fleet, hosts=hosts)
        assert seen.processes is not None
        told = replace(seen.processes, as_owner=False, unseen=("db-01: … NOPASSWD: /bin/sh",))
        limits = replace(seen.limits, can_signal=False, can_read_all=False)
        return replace(seen, processes=told, limits=limits)

    world.judge.examine = no_owner  # type: ignore[method-assign]
    result = world.run("prepare")
    assert result.status == "refused"
    assert "NOPASSWD: /bin/sh" in result.summary


def test_limits_that_the_host_does_not_tell_do_not_go_on_counting(
    world_of: Callable[..., World], server: Server
) -> None:
    world = world_of()
    answers = world.door.perform(AskDatabase(database="db", questions=(LIMITS,)))
    progress = Progress(
        args=TerminateArgs(database="db"),
        before={},
        after={},
        shown={1: {"role": "app", "database": "shop"}},
        limits=[{"kind": "role", "name": "app", "connlimit": 2, "used": 2}],
    )
    assert progress.look(answers)
    assert progress.short == {}


def test_who_came_before_the_first_batch_does_not_count_as_back(
    world_of: Callable[..., World], server: Server
) -> None:
    world = world_of()
    came: list[Any] = []

    class Slow:
        """A door whose last look takes its time to come back."""

        def perform(self, effect: Any) -> Any:
            answer = world_door.perform(effect)
            if any(q.name == "newcomers" for q in getattr(effect, "questions", ())):
                time.sleep(1.0)
            return answer

    def others(effect: Effect[Any]) -> None:
        if isinstance(effect, Now) and not came:
            came.extend(server.connect() for _ in range(4))

    with server.crowd(4):
        prepared = world.run("prepare", headroom="100%").data
        world_door, world.door = world.door, Slow()  # type: ignore[assignment]
        world.meddle = others
        result = world.run("act", prepared, headroom="100%", watch=["1s"])
    pids = [connection.info.backend_pid for connection in came]
    for connection in came:
        connection.close()
    server.settle(pids)
    assert len(result.data["terminated"]) == 4
    assert result.data["verdict"] == "stayed_away"


def test_a_full_server_is_not_knocked_at_again_and_again(
    world_of: Callable[..., World], server: Server
) -> None:
    world = world_of()

    class Deaf:
        """A door behind which signals are told as sent, and nobody goes."""

        def perform(self, effect: Any) -> Any:
            if isinstance(effect, SignalSessions):
                return tuple(session.pid for session in effect.sessions)
            return world_door.perform(effect)

    with server.crowd(2) as crowd:
        prepared = world.run("prepare", headroom="100%").data
        world_door, world.door = world.door, Deaf()  # type: ignore[assignment]
        more: Any = {"watch": [], "batch_max": 10, "batch_share": "100%"}
        result = world.run("act", prepared, headroom="100%", **more)
        pids = {connection.info.backend_pid for connection in crowd}
    assert set(result.data["lingering"]) == pids
    pauses = [seconds for seconds in world.slept if seconds]
    assert len(pauses) > 2
    assert all(seconds >= 0.5 for seconds in pauses[2:])
