"""The way back from a PgBouncer: where app servers are led, and who is still led to it."""

from __future__ import annotations

import base64
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from runbook.cli import pgbouncer_remove
from runbook.model.bouncer_place import server_for_apps
from runbook.model.effects import Together
from runbook.model.errors import Unreachable, UsageError
from runbook.model.fleet import Fleet
from runbook.model.host_files import sha256
from runbook.model.inventory import Inventory
from runbook.model.pgbouncer_host import HostSeen, parse_look
from runbook.model.plan import Result
from runbook.model.step import StepContext
from runbook.model.systemd import Unfit
from runbook.steps import pgbouncer_retire, pgbouncer_setup
from runbook.steps.bouncer_host import CannotSetUp
from runbook.steps.bouncer_subject import BouncerArgs, bouncer_of
from runbook.steps.rolling_args import RollingArgs, wanted
from runbook.steps.rolling_files import Looked, judged
from unit.steps.shop_world import outcome

URL = {"env_file": "/etc/shop.env", "key": "DATABASE_URL"}


def world(upstream: str | None = "127.0.0.1", connect: str = "10.0.0.5", **entry: Any) -> Fleet:
    bouncer = {"host": "db-1", "database": "db", "admin": {"user": "console"}, **entry}
    document = {
        "version": 1,
        "hosts": {
            "db-1": {"address": "10.0.0.5"},
            "web-1": {"address": "10.0.1.1", "groups": ["web"]},
            "web-2": {"address": "10.0.1.2", "groups": ["web"]},
        },
        "databases": {"db": {"connect": {"host": connect, "port": 5433, "user": "oncall"}}},
        "pgbouncers": {"a": {**bouncer, "upstream": upstream}},
        "services": {
            "shop": {
                "hosts": "web",
                "unit": "shop.service",
                "database": "db",
                "application_name": "shop",
                "gates": [{"http": {"url": "http://${host.address}:8000/healthz"}}],
                "settings": {"url": URL},
            }
        },
    }
    return Fleet(Inventory.model_validate(document))


@pytest.mark.parametrize(
    ("upstream", "place"),
    [
        ("127.0.0.1", ("10.0.0.5", 5433)),
        ("localhost", ("10.0.0.5", 5433)),
        ("::1", ("10.0.0.5", 5433)),
        (None, ("10.0.0.5", 5433)),
        ("pg.example.com", ("pg.example.com", 5432)),
    ],
)
def test_app_servers_are_never_led_to_the_bouncers_own_loopback(
    upstream: str | None, place: tuple[str, int]
) -> None:
    assert server_for_apps("a", world(upstream)) == place


@pytest.mark.parametrize("connect", ["127.0.0.2", "LOCALHOST.", "0.0.0.0", "::ffff:127.0.0.1"])
def test_where_no_address_leads_there_it_is_refused_with_the_way(connect: str) -> None:
    with pytest.raises(UsageError, match="no address by which app servers reach") as caught:
        server_for_apps("a", world(connect=connect))
    assert "--run RUN" in str(caught.value.hint)


def test_a_plan_that_leaves_the_step_out_is_not_refused_for_it() -> None:
    looked = led_back("postgres://u:p@10.0.0.5:6432/x", connect="127.0.0.1")
    assert isinstance(looked, Unfit)
    assert "no address by which app servers reach" in looked.problem


def led_back(url: str, **more: Any) -> Looked | Unfit:
    fleet = world(**more)
    args = RollingArgs.model_validate({"service": "shop", "url": {"behind": "a"}})
    found = wanted(args, fleet.service("shop"), fleet.host("web-1"), fleet)
    assert found is not None
    return judged(found, [file(url)], "R1")


def file(url: str) -> Any:
    text = f"DATABASE_URL={url}\n"
    return outcome(0, f"file 640 root:root 1 {sha256(text)}\n{text}")


@pytest.mark.parametrize("host", ["10.0.0.5:6432", "10.0.0.5:5433"])
def test_who_is_led_to_the_bouncer_is_led_back_and_who_is_back_stays(host: str) -> None:
    looked = led_back(f"postgres://u:p@{host}/x")
    assert isinstance(looked, Looked)
    assert looked.wishes[0].new == "DATABASE_URL=postgres://u:p@10.0.0.5:5433/x\n"


@pytest.mark.parametrize("host", ["replica:5432", "10.0.0.5", "10.0.0.6:6432"])
def test_who_is_led_elsewhere_is_left_there(host: str) -> None:
    looked = led_back(f"postgres://u:p@{host}/x")
    assert isinstance(looked, Unfit)
    assert f"it leads to {host}, not to PgBouncer a (10.0.0.5:6432)" in looked.problem


# ---- stopping it ----------------------------------------------------------------------------

RUNS = """\
root=0
binary=/usr/sbin/pgbouncer
package=ii
ActiveState=active
UnitFileState=enabled
conffile=
config={config}
text={text}
auth=absent
dropin=absent
end=0
"""
OURS = base64.b64encode(
    b"; Written by `runbook pgbouncer introduce a`; sha256 of what follows: " + b"0" * 64 + b"\n"
).decode()


def seen(config: str = "file 640 postgres:postgres 1.0 aa", text: str = OURS) -> HostSeen:
    found = parse_look(RUNS.format(config=config, text=text))
    assert found is not None
    return found


def context(fleet: Fleet) -> StepContext:
    judge: Any = None
    return StepContext(fleet=fleet, judge=judge, target="db", given={})


def look(monkeypatch: pytest.MonkeyPatch, found: HostSeen) -> None:
    def look_at(_bouncer: Any) -> Any:
        yield from ()
        return found

    monkeypatch.setattr(pgbouncer_retire, "look_at", look_at)


def act(monkeypatch: pytest.MonkeyPatch, *answers: Any) -> Result | None:
    """Return what came of it; None where it went on to ask the console who is there."""
    look(monkeypatch, seen())
    args = pgbouncer_retire.PgBouncerRetireArgs(pgbouncer="a")
    drive = pgbouncer_retire.act(args, context(world()))
    effect = drive.send(None)
    assert isinstance(effect, Together)
    assert len(effect.effects) == len(answers)
    try:
        drive.send(answers)
    except StopIteration as stop:
        result: Result = stop.value
        return result
    return None


def test_a_bouncer_is_not_stopped_while_an_idle_host_is_led_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    direct, through = file("postgres://u:p@10.0.0.5:5433/x"), file("postgres://u:p@db-1:6432/x")
    result = act(monkeypatch, direct, through)
    assert result is not None
    assert result.status == "failed"
    assert "shop on web-2" in result.summary
    assert "web-1" not in result.summary
    assert "runbook pgbouncer remove a --service shop" in result.hint
    assert "left running" in result.hint


def test_a_bouncer_is_stopped_where_nobody_is_led_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert act(monkeypatch, file("postgres://u:p@10.0.0.5:5433/x"), outcome(0, "absent\n")) is None


def test_a_rehearsal_that_has_led_nobody_back_shows_the_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    look(monkeypatch, seen())
    args = pgbouncer_retire.PgBouncerRetireArgs(pgbouncer="a")
    assumed = replace(context(world()), rehearsal=True)
    said: Any = pgbouncer_retire.act(args, assumed).send(None)
    assert "systemctl stop" in said.text


def test_a_host_that_cannot_be_looked_at_may_be_led_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = Unreachable("web-2 does not answer")
    result = act(monkeypatch, file("postgres://u:p@10.0.0.5:5433/x"), gone)
    assert result is not None
    assert "shop on web-2: web-2 does not answer" in result.summary


@pytest.mark.parametrize(("config", "text"), [("absent", ""), ("file 640 a:a 1.0 aa", "")])
def test_a_unit_that_runs_without_our_file_is_somebody_elses(
    monkeypatch: pytest.MonkeyPatch, config: str, text: str
) -> None:
    look(monkeypatch, seen(config, text))
    args = pgbouncer_retire.PgBouncerRetireArgs(pgbouncer="a")
    with pytest.raises(StopIteration) as stop:
        pgbouncer_retire.prepare(args, context(world())).send(None)
    assert stop.value.value.status == "refused"


@pytest.mark.parametrize(
    ("config", "users"),
    [("pgbouncer.ini", "userlist.txt"), ("b.ini", "b.userlist.txt"), ("c", "c.userlist.txt")],
)
def test_two_configurations_in_one_folder_have_an_auth_file_each(config: str, users: str) -> None:
    fleet = world(config=f"/etc/pgbouncer/{config}")
    bouncer = bouncer_of(BouncerArgs(pgbouncer="a"), fleet, auth=False)
    assert bouncer.auth_file == f"/etc/pgbouncer/{users}"


# ---- the run that introduced it ---------------------------------------------------------------


class Task:
    def __init__(self, node: str, state: str | None) -> None:
        self.node, self.phase = node, "restart"
        data = {"settings": {"state": state}}
        self.result = None if state is None else Result(status="ok", summary="", data=data)


class Run:
    """A run as the journal keeps it, and as its history tells it."""

    def __init__(self, run_id: str, *tasks: Task, bouncer: str = "a", **more: Any) -> None:
        self.run_id, self.tasks, self.params = run_id, tasks, {"pgbouncer": bouncer}
        self.playbook = more.get("playbook", "introduce-pgbouncer")
        self.rehearsal = more.get("rehearsal", False)


def test_the_run_that_led_there_is_found_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = "lead-to-pgbouncer[shop]"
    runs = [
        Run("nothing-to-do", Task(shop, "there already")),
        Run("not-healthy", Task(shop, "put back")),
        Run("came-to-no-host"),
        Run("rehearsal", Task(shop, "put"), rehearsal=True),
        Run("other-playbook", Task(shop, "put"), playbook="mine"),
        Run("other-bouncer", Task(shop, "put"), bouncer="b"),
        Run("other-service", Task("lead-to-pgbouncer[jobs]", "put")),
        Run("killed", Task(shop, None)),
        Run("first", Task(shop, "put")),
    ]
    monkeypatch.setattr("runbook.engine.history.history_of", lambda run: run)

    class Journal:
        def runs(self, _limit: int) -> list[Run]:
            return runs

        def run(self, run_id: str) -> Run:
            return next(run for run in runs if run.run_id == run_id)

    journal: Any = Journal()
    found = pgbouncer_remove.introductions(journal, "a", ("shop",))
    assert list(found) == ["killed", "first"]


# ---- another port --------------------------------------------------------------------------


def moved_to(port: int, url: str, *, active: bool = True) -> CannotSetUp | None:
    """Return the refusal to let a PgBouncer listen elsewhere than at 6432, if there is one."""
    bouncer = bouncer_of(BouncerArgs(pgbouncer="a"), world(), auth=False)
    text = "[pgbouncer]\nlisten_port = 6432\n"
    there: Any = SimpleNamespace(text=text, active=active)
    wish: Any = SimpleNamespace(listen_port=port)
    drive = pgbouncer_setup._refuse_to_leave(bouncer, wish, there)
    answer: Any = None
    try:
        while True:
            effect: Any = drive.send(answer)
            answer = tuple(file(url) for _ in effect.effects)
    except StopIteration:
        return None
    except CannotSetUp as no:
        return no


def test_a_port_that_app_servers_are_led_to_is_not_left() -> None:
    here = "postgres://u:p@10.0.0.5:6432/x"
    refused = moved_to(6543, here)
    assert refused is not None
    assert "shop on web-1, web-2" in refused.result.summary
    assert "runbook pgbouncer remove a" in refused.result.hint
    assert moved_to(6432, here) is None
    assert moved_to(6543, here, active=False) is None
    assert moved_to(6543, "postgres://u:p@10.0.0.5:5433/x") is None
