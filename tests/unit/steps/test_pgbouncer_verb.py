"""The verb `pgbouncer`, driven by hand where the lab's 1.18 cannot go; the lab has the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from runbook.adapters.pgbouncer import PgBouncerDoor
from runbook.doors import LateJudge, open_doors
from runbook.model.effects import (
    AskPgBouncer,
    ConsoleAnswers,
    ConsoleReply,
    Now,
    Observe,
    Owe,
    Paid,
    Sleep,
    TellPgBouncer,
)
from runbook.model.errors import ChangeInRehearsal, ConnectionLost, Unreachable
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory
from runbook.model.step import StepContext
from runbook.steps.pgbouncer import PGBOUNCER, PgbouncerArgs

if TYPE_CHECKING:
    from runbook.model.plan import Result

CLIENT = {
    "id": 12,
    "database": "shop",
    "user": "app",
    "addr": "10.0.1.1",
    "port": 50000,
    "application_name": "shop-web-01",
}


def fleet() -> Fleet:
    return Fleet(
        Inventory.model_validate(
            {
                "version": 1,
                "databases": {"db": {"connect": {"host": "10.0.0.5", "user": "oncall"}}},
                "pgbouncers": {
                    "bouncer-01": {
                        "address": "127.0.0.1",
                        "port": 1,
                        "database": "db",
                        "admin": {"user": "boss"},
                    }
                },
            }
        )
    )


class Console:
    """A console as 1.24 has it: what is told it does, and it knows what it was told."""

    def __init__(self, version: str = "1.24.1", **rows: list[dict[str, Any]]) -> None:
        self.version = version
        self.clock = 0.0
        #: Server connections that clients keep.
        self.kept = 0
        self.paused = False
        self.told: list[str] = []
        #: What the next command comes to, when it is not carried out.
        self.answer: ConsoleReply | Exception | None = None
        self.kept_off = False
        self.events: list[str] = []
        config: list[dict[str, Any]] = [{"key": "admin_users", "value": "root, boss"}]
        config += [{"key": "pool_mode", "value": "transaction"}]
        self.rows = {"config": config, "clients": [dict(CLIENT)], "servers": [], **rows}

    def answers(self) -> ConsoleAnswers:
        state = {"name": "shop", "paused": int(self.paused), "disabled": 0}
        pool = {"database": "shop", "user": "app", "sv_active": self.kept, "sv_idle": 0}
        rows: dict[str, Any] = {**self.rows, "databases": [state], "pools": [pool]}
        return ConsoleAnswers(pgbouncer="bouncer-01", version=self.version, rows=rows)

    def tell(self, effect: TellPgBouncer) -> ConsoleReply:
        self.told.append(f"{effect.command} {effect.subject}".strip())
        answer, self.answer = self.answer, None
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            return answer
        if effect.command == "KILL_CLIENT":
            self.rows["clients"] = []
        self.paused = {"PAUSE": True, "RESUME": False}.get(effect.command, self.paused)
        return ConsoleReply(ok=True)

    def outcome(self, effect: Any) -> Any:
        match effect:
            case AskPgBouncer():
                return self.answers()
            case TellPgBouncer():
                return self.tell(effect)
            case Now():
                return self.clock
            case Sleep(seconds=seconds):
                self.clock += seconds
                return True
            case Owe(key=key) | Paid(key=key):
                self.events.append(f"{type(effect).__name__} {key}")
                return None
        assert isinstance(effect, Observe)
        return None


def play(console: Console, phase: str, given: dict[str, Any] | None = None, **args: Any) -> Result:
    checked = PgbouncerArgs.model_validate({"pgbouncer": "bouncer-01", **args})
    context = StepContext(fleet=fleet(), judge=LateJudge(), target="bouncer-01", given=given or {})
    drive = PGBOUNCER.phases[phase](checked, context)
    send: Any = drive.send
    value: Any = None
    while True:
        try:
            effect = send(value)
        except StopIteration as stop:
            result: Result = stop.value
            return result
        try:
            value, send = console.outcome(effect), drive.send
        except Exception as error:  # noqa: BLE001 - as the driver throws it into the step
            value, send = error, drive.throw


def kill(console: Console) -> Result:
    words: dict[str, Any] = {"action": "kill_client", "client": "12"}
    prepared = play(console, "prepare", **words)
    if not prepared.good:
        return prepared
    return play(console, "act", {"prepared": prepared.data}, **words)


def test_one_client_is_cut_off_if_it_is_the_one_that_was_shown() -> None:
    console = Console()
    result = kill(console)
    assert result.summary == "client 12 was cut off: shop/app from 10.0.1.1:50000 (shop-web-01)"
    assert console.told == ["KILL_CLIENT 12"]

    console = Console()
    words: dict[str, Any] = {"action": "kill_client", "client": "12"}
    prepared = play(console, "prepare", **words)
    assert prepared.touches == ("PgBouncer bouncer-01: KILL_CLIENT 12",)
    console.rows["clients"] = [{**CLIENT, "port": 50001}]
    moved = play(console, "act", {"prepared": prepared.data}, **words)
    assert moved.status == "failed"
    assert console.told == []


@pytest.mark.parametrize(
    ("console", "why"),
    [
        (Console("1.23.1"), "KILL_CLIENT came with 1.24"),
        (Console(clients=[]), "has no client 12"),
        (Console(clients=[{**CLIENT, "database": "pgbouncer"}]), "is a console"),
        (Console(config=[{"key": "admin_users", "value": "root"}]), "not in its admin_users"),
        (Console(config=[]), "does not tell its admin_users"),
    ],
)
def test_what_may_not_be_done_is_refused_before_anything_changes(
    console: Console, why: str
) -> None:
    result = kill(console)
    assert result.status == "refused"
    assert why in result.summary
    assert console.told == []


def test_a_pause_that_does_not_empty_is_taken_back_and_paid() -> None:
    console = Console()
    console.kept = 2
    result = play(console, "act", action="pause", database="shop", wait="3s")
    assert result.status == "failed"
    assert "was not paused, and is resumed: after 3.0s clients still keep 2" in result.summary
    assert console.told == ["PAUSE shop", "RESUME shop"]
    assert console.events == ["Owe resume bouncer-01/shop", "Paid resume bouncer-01/shop"]


def test_a_pause_that_never_came_there_owes_nothing() -> None:
    for answer in (Unreachable("away"), ConnectionResetError()):
        console = Console()
        console.answer = answer
        with pytest.raises(type(answer)):
            play(console, "act", action="pause", database="shop")
        paid = "Paid resume bouncer-01/shop" in console.events
        assert paid is isinstance(answer, Unreachable)


def test_a_lost_answer_leaves_the_debt_and_the_settling_looks_first() -> None:
    console = Console()
    console.answer = ConnectionLost("cut")
    with pytest.raises(ConnectionLost):
        play(console, "act", action="pause", database="shop")
    assert console.events == ["Owe resume bouncer-01/shop"]
    owed = {"owed": {"key": "resume bouncer-01/shop", "by_hand": ["psql"]}}
    for paused in (True, False):
        console.paused, console.told = paused, []
        result = play(console, "settle", owed, action="pause", database="shop")
        assert result.good
        assert console.told == (["RESUME shop"] if paused else [])
    console.paused, console.answer = True, Unreachable("away")
    still = play(console, "settle", owed, action="pause", database="shop")
    assert (still.status, still.by_hand) == ("failed", ("psql",))


def test_after_a_crash_it_is_looked_at_first() -> None:
    console = Console()
    console.paused = True
    crashed = {"crashed": {"intended": ("on PgBouncer bouncer-01: PAUSE shop",)}}
    result = play(console, "act", crashed, action="pause", database="shop")
    assert result.good
    assert console.told == []
    assert console.events == ["Owe resume bouncer-01/shop"]
    # Paused since it was shown, and not by us.
    assert play(console, "act", action="pause", database="shop").status == "failed"
    assert console.told == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"action": "kill_client"},
        {"action": "kill_client", "client": "0x12; SHUTDOWN"},
        {"action": "pause", "client": "12"},
        {"action": "disable"},
        {"action": "reload", "database": "shop"},
        {"action": "resume", "wait": "3s"},
        {"action": "pause", "expect": {"a": "b"}},
        {"action": "pause", "database": "a\nb"},
        {"action": "shutdown"},
    ],
)
def test_arguments_that_do_not_fit(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PgbouncerArgs.model_validate({"pgbouncer": "bouncer-01", **wrong})


def test_the_door_refuses_in_a_rehearsal_and_takes_no_other_words() -> None:
    pause = TellPgBouncer(pgbouncer="bouncer-01", command="PAUSE", subject="shop")
    rehearsed = open_doors(fleet(), rehearsal=True)[TellPgBouncer]
    with pytest.raises(ChangeInRehearsal):
        rehearsed.perform(pause)
    door = PgBouncerDoor(fleet())
    with pytest.raises(Unreachable):
        door.perform(pause)
    for command, subject in (("KILL_CLIENT", "1; SHUTDOWN"), ("PAUSE", "a\nSHUTDOWN")):
        with pytest.raises(ValueError, match="is no"):
            door.perform(
                TellPgBouncer(pgbouncer="bouncer-01", command=command, subject=subject)  # type: ignore[arg-type]
            )
