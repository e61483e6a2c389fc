"""Setting a PgBouncer up, and taking it away, leaves others before the same server alone."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import pytest

from runbook.model.effects import ChangeCommand, CommandOutcome, Say
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory
from runbook.model.pgbouncer_config import Sizes, Wish
from runbook.model.pgbouncer_host import HostSeen, parse_look
from runbook.model.plan import Result
from runbook.model.step import StepContext
from runbook.steps import pgbouncer_retire, pgbouncer_role, pgbouncer_setup
from runbook.steps.bouncer_host import CannotSetUp
from runbook.steps.bouncer_subject import BouncerArgs, Survey, bouncer_of

LOOK = """\
root=0
systemd=/usr/bin/systemctl
binary=/usr/sbin/pgbouncer
package=ii
conffile=
config=file 640 postgres:postgres 1.0 aa
auth=file 640 postgres:postgres 1.0 bb
dropin=absent
end=0
"""


def entry(user: str, port: int) -> dict[str, Any]:
    return {
        "host": "db-1",
        "database": "db",
        "port": port,
        "config": f"/etc/pgbouncer-{port}/pgbouncer.ini",
        "admin": {"user": "console", "password": {"env": "A"}},
        "auth": {"user": user, "password": {"env": user.upper()}},
    }


def context(**bouncers: Any) -> StepContext:
    document = {
        "version": 1,
        "hosts": {"db-1": {"address": "10.0.0.5"}},
        "databases": {"db": {"connect": {"host": "10.0.0.5", "user": "oncall"}}},
        "pgbouncers": bouncers,
    }
    judge: Any = None
    fleet = Fleet(Inventory.model_validate(document))
    return StepContext(fleet=fleet, judge=judge, target="db", given={})


def seen(text: str = LOOK) -> HostSeen:
    found = parse_look(text)
    assert found is not None
    return found


def at_once(drive: Generator[Any, Any, Result]) -> Result:
    """Return what a drive answers without a look at anything."""
    with pytest.raises(StopIteration) as stop:
        drive.send(None)
    result: Result = stop.value.value
    return result


@pytest.mark.parametrize(("absent", "user"), [(True, "pgb_a"), (True, "pgb_b"), (False, "pgb_b")])
def test_the_function_of_another_pgbouncer_is_not_taken_away(absent: bool, user: str) -> None:
    ctx = context(a=entry("pgb_a", 6432), b=entry(user, 6433))
    args = pgbouncer_role.PgBouncerRoleArgs(pgbouncer="b", absent=absent)
    result = at_once(pgbouncer_role.prepare(args, ctx))
    assert result.status == "refused"
    assert "PgBouncer a stands before the same server" in result.summary


def test_the_package_of_another_pgbouncer_is_not_purged(monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = context(a=entry("pgb_a", 6432), b=entry("pgb_a", 6433))

    def look_at(_bouncer: Any) -> Any:
        yield from ()
        head = "; Written by `runbook pgbouncer introduce b`; sha256 of what follows: "
        text = base64.b64encode(f"{head}{'0' * 64}\n".encode()).decode()
        return seen(f"text={text}\n{LOOK}")

    monkeypatch.setattr(pgbouncer_retire, "look_at", look_at)
    args = pgbouncer_retire.PgBouncerRetireArgs(pgbouncer="b", purge=True)
    result = at_once(pgbouncer_retire.prepare(args, ctx))
    assert result.status == "refused"
    assert "PgBouncer a is on db-1 as well" in result.summary


def test_databases_that_are_led_through_it_already_stay() -> None:
    body = '\n[databases]\nshop = host=h port=5432\n"odd ""db" = host=h port=5432\n'
    digest = hashlib.sha256(body.encode()).hexdigest()
    head = f"; Written by `runbook pgbouncer introduce a`; sha256 of what follows: {digest}\n"
    text = base64.b64encode((head + body).encode()).decode()
    told = Survey(
        usable=97, server_version=150000, databases=("jobs",), roles=(), why="seen", version=(1, 18)
    )
    args = pgbouncer_setup.PgBouncerSetupArgs(pgbouncer="a")
    ours = seen(f"text={text}\n{LOOK}")
    kept = pgbouncer_setup._kept(args, told, ours)
    assert kept.databases == ("jobs", 'odd "db', "shop")
    given = pgbouncer_setup.PgBouncerSetupArgs(pgbouncer="a", databases="jobs")
    assert pgbouncer_setup._kept(given, told, ours) is told
    assert pgbouncer_setup._kept(args, told, seen()) is told


def test_somebody_elses_users_are_kept_beside_ours() -> None:
    ctx = replace(context(a=entry("pgb_a", 6432)), run_id="R1")
    bouncer = bouncer_of(BouncerArgs(pgbouncer="a"), ctx.fleet)
    sizes = Sizes(
        pool=1, reserve=0, per_database=2, clients=100, because_pool="", because_clients=""
    )
    wish = Wish(
        name="a",
        version=(1, 18),
        mode="session",
        databases=("shop",),
        upstream="10.0.0.5",
        upstream_port=5432,
        listen_port=6432,
        sizes=sizes,
        auth_user="pgb_a",
        auth_file=bouncer.auth_file,
        admin="console",
    )
    changes = pgbouncer_setup._Wanted(bouncer, wish, seen(), "cc").changes(ctx)
    lines = {line for change in changes for line in change.footprint()}
    kept = f"{bouncer.auth_file} was as {bouncer.auth_file}.runbook-R1"
    assert any(line.endswith(kept) for line in lines), lines


def install(drive: Any, asked: list[str]) -> None:
    """Drive an installation whose apt-get finds no package."""
    answer: Any = None
    while True:
        effect = drive.send(answer)
        assert isinstance(effect, Say | ChangeCommand)
        answer = None
        if isinstance(effect, ChangeCommand):
            asked.append(effect.argv[1])
            failed = "apt-get" in effect.argv
            answer = CommandOutcome(
                exit_code=100 if failed else 0, stdout="", stderr="E: no", seconds=0.1
            )


def test_a_package_that_does_not_come_leaves_no_mask_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bouncer = bouncer_of(BouncerArgs(pgbouncer="a"), context(a=entry("pgb_a", 6432)).fleet)

    def look_at(_bouncer: Any) -> Any:
        yield from ()
        return seen(LOOK.replace("binary=/usr/sbin/pgbouncer", "binary="))

    monkeypatch.setattr(pgbouncer_setup, "look_at", look_at)
    drive = pgbouncer_setup._install(bouncer, {"installed": False}, [])
    asked: list[str] = []
    with pytest.raises(CannotSetUp, match="apt-get"):
        install(drive, asked)
    assert asked == ["mask", "DEBIAN_FRONTEND=noninteractive", "unmask"]
