"""What a PgBouncer's pool leaves to others before the same server, and whom it has already."""

from __future__ import annotations

from typing import Any

import pytest

from runbook.model.effects import Together
from runbook.model.fleet import Fleet
from runbook.model.host_files import sha256
from runbook.model.inventory import Inventory
from runbook.model.pgbouncer_host import HostSeen, parse_look
from runbook.steps import pgbouncer_setup
from runbook.steps.bouncer_host import CannotSetUp, refuse
from runbook.steps.bouncer_subject import Bouncer, BouncerArgs, Survey, bouncer_of
from runbook.steps.bouncer_wish import _sizes
from unit.steps.shop_world import outcome
from unit.steps.test_pgbouncer_way_back import OURS

TOLD = Survey(
    usable=97, server_version=150000, databases=("shop",), roles=("app",), why="", version=(1, 18)
)


def service(hosts: str) -> dict[str, Any]:
    url = {"env_file": "/etc/app.env", "key": "DATABASE_URL"}
    return {
        "hosts": hosts,
        "database": "db",
        "gates": [{"tcp": {"host": "10.0.1.1", "port": 1}}],
        "settings": {"url": url},
        "pool": {"size": 10},
    }


def bouncer(**others: Any) -> Bouncer:
    entry = {"host": "db-1", "database": "db", "admin": {"user": "console"}}
    hosts = {f"web-{n}": {"address": f"10.0.1.{n}", "groups": ["web"]} for n in (1, 2)}
    document = {
        "version": 1,
        "hosts": {"db-1": {"address": "10.0.0.5"}, "job-1": {"address": "10.0.2.1"}, **hosts},
        "databases": {
            "db": {
                "connect": {"host": "10.0.0.5", "user": "oncall"},
                "budget": {"direct": 2, "reserve": 20},
            }
        },
        "pgbouncers": {"a": entry, **{name: {**entry, **more} for name, more in others.items()}},
        "services": {"shop": service("web"), "jobs": service("job-1")},
    }
    fleet = Fleet(Inventory.model_validate(document))
    return bouncer_of(BouncerArgs(pgbouncer="a", services="jobs"), fleet, auth=False)


def look(text: str = OURS, **said: str) -> HostSeen:
    more = "".join(f"{key}={value}\n" for key, value in said.items())
    found = parse_look(
        f"root=0\nsystemd=/bin/systemctl\nconfig=absent\nauth=absent\ndropin=absent\ntext={text}\n"
        f"{more}end=0\n"
    )
    assert found is not None
    return found


def led(*hosts: str) -> Survey:
    """Return what is told where shop's two hosts are led to these."""
    drive = pgbouncer_setup._inside(bouncer(), TOLD, look())
    effect = drive.send(None)
    assert isinstance(effect, Together)
    texts = [f"DATABASE_URL=postgres://u:p@{host}/x\n" for host in hosts]
    answers = [outcome(0, f"file 640 root:root 1 {sha256(text)}\n{text}") for text in texts]
    with pytest.raises(StopIteration) as stop:
        drive.send(tuple(answers))
    told: Survey = stop.value.value
    return told


def test_a_service_that_is_behind_it_already_is_not_counted_as_outside() -> None:
    assert _sizes(bouncer(), TOLD).pool == 97 - 2 - 20 - 20 - 1
    inside = _sizes(bouncer(), led("10.0.0.5:6432", "db-1:6432"))
    assert inside.pool == 97 - 2 - 20 - 1
    assert inside.because_clients.startswith("30 declared")


def test_hosts_that_are_not_led_there_yet_keep_their_slots() -> None:
    halved = _sizes(bouncer(), led("10.0.0.5:6432", "10.0.0.5:5432"))
    assert halved.pool == 97 - 2 - 20 - 20 - 1
    assert halved.because_clients.startswith("30 declared")


def test_a_second_pgbouncers_pool_is_left_to_it() -> None:
    both = _sizes(bouncer(b={"pool": {"size": 15, "reserve": 1}}), TOLD)
    assert both.pool == 97 - 2 - 20 - 20 - 16 - 1
    assert "16 other PgBouncers' pools" in both.because_pool
    assert not both.warnings
    unknown = _sizes(bouncer(b={}), TOLD)
    assert unknown.pool == 97 - 2 - 20 - 20 - 1
    assert "pgbouncers.b" in unknown.warnings[0]


def test_a_mask_without_a_package_is_a_killed_installs() -> None:
    masked = {"LoadState": "masked", "apt": "yes", "simulated": "ok"}
    refuse(bouncer(), look(**masked))
    with pytest.raises(CannotSetUp, match="is masked"):
        refuse(bouncer(), look(**masked, binary="/usr/sbin/pgbouncer"))
