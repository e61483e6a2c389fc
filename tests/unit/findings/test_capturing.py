"""A capture is judged as the look itself was, and holds no secret: it is made to be shared."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from runbook.findings.capturing import capture, cleaned, excerpt
from runbook.findings.masking import masked
from runbook.model.capture import from_plain
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory
from runbook.model.leaks import LeakPolicy
from runbook.model.processes import ServerProcess, ServerProcesses
from runbook.model.sessions import LaterLook, PoolerLook
from runbook.model.sockets import HostSockets, Socket
from unit.findings.world import JUDGE, SHOP, fleet, hidden, many, session, snapshot

if TYPE_CHECKING:
    from runbook.model.sessions import Snapshot

#: Everything in an inventory that is nobody else's business; each is looked for in the capture.
SECRETS = ("s3cr3t-var", "tok3n-in-url", "ca-bundle.pem")
#: Of these, what errors repeat for people: where a secret is kept, and how a host is reached.
REPEATED = (
    "ONCALL_PW", "/run/secrets/rescue", "pass show db/admin", "/keys/id_prod", "known_hosts_prod",
    "jump.internal",
)  # fmt: skip


def full() -> Fleet:
    """An inventory in which everything is declared that an inventory may declare."""
    ssh = {"identity_file": "/keys/id_prod", "known_hosts": "known_hosts_prod"}
    hosts: dict[str, Any] = {
        f"web-0{n}": {
            "address": f"10.0.1.{n}",
            "groups": ["web"],
            "vars": {"role": "app", "unit_no": n, "db_password": "s3cr3t-var"},
            "ssh": {**ssh, "jump": "ops@jump.internal"},
        }
        for n in (1, 2, 3)
    }
    door = {"host": "10.0.0.5", "user": "oncall", "sslrootcert": "/etc/ca-bundle.pem"}
    return Fleet(
        Inventory.model_validate(
            {
                "version": 1,
                "hosts": {**hosts, "db-01": {"address": "10.0.0.5"}},
                "groups": {"web": {"vars": {"dc": "eu-1"}}},
                "databases": {
                    "db": {
                        "host": "db-01",
                        "connect": {**door, "password": {"env": "ONCALL_PW"}},
                        "admin": {
                            "user": "postgres",
                            "password": {"command": ["pass", "show", "db/admin"]},
                        },
                        "rescue": {"user": "res", "password": {"file": "/run/secrets/rescue"}},
                        "protect": {"roles": ["boss"]},
                        "max_terminated": 7,
                    },
                    "twin": {"connect": {**door, "dbname": "other"}},
                    "elsewhere": {"connect": {**door, "host": "10.9.9.9"}},
                },
                "services": {
                    "shop": {
                        **SHOP,
                        "hosts": "role=app",
                        "application_name": "shop-${host.vars.unit_no}-${host.vars.dc}",
                        "gates": [{"http": {"url": "http://u:tok3n-in-url@h/health"}}],
                    },
                    "twins": {**SHOP, "hosts": "web & !web-03", "database": "twin"},
                    "far": {**SHOP, "hosts": "web", "database": "elsewhere"},
                },
                "pgbouncers": {
                    "b": {
                        "host": "db-01",
                        "database": "db",
                        "admin": {"user": "pgb", "password": {"env": "ONCALL_PW"}},
                    }
                },
            }
        )
    )


def leak(count: int = 68) -> list[Any]:
    return [
        *many(count, application_name="shop-3-eu-1", client_addr="10.0.1.3", state_age_s=400),
        *many(8, application_name="shop-1-eu-1"),
        *many(4, role="boss", application_name="report"),
        *many(5, state="idle in transaction", application_name="shop-2-eu-1", state_age_s=900),
        *hidden(3),
        session(superuser=True),
    ]


def whole() -> Snapshot:
    """A snapshot in which every part of it has something."""
    process = ServerProcess(
        pid=7, kind="client", role="app", database="shop", client_addr=None, client_port=None,
        state="idle", waiting=False, age_s=3.0, start_ticks=99, switches=4, title="postgres: app",
    )  # fmt: skip
    socket = Socket(
        local_addr="10.0.1.3", local_port=4, peer_addr="10.0.0.5", peer_port=5432, pid=9
    )
    return snapshot(
        leak(),
        extra={"lock-waits": [{"pid": 1001, "blockers": [1002, 0]}]},
        rung="rescue",
        refusals=(("connect", "FATAL: sorry, too many clients already"),),
        failed={"slots": "permission denied"},
        processes=ServerProcesses(
            host="db-01", processes=(process,), settings={"port": "5432"}, version="16.4",
            at="2026-01-01T02:17:00Z",
        ),
        hosts=(
            HostSockets(
                host="web-03", addresses=("10.0.1.3",), sockets=(socket,), sees_processes=True,
                units={9: "shop.service"},
            ),
        ),
        poolers=(PoolerLook(name="b", version="1.24.1", rows={"pools": [{"cl_waiting": 3}]}),),
        later=LaterLook(after_s=2.0, sessions=frozenset({(1, "a", "b"), (2, "c", "d")})),
    )  # fmt: skip


def seen_live(seen: Snapshot) -> Snapshot:
    """Return a snapshot as a look makes it: with the values in its statements masked."""
    sessions = tuple(replace(s, query=masked(s.query)) for s in seen.sessions)
    return replace(seen, sessions=sessions)


def saved(seen: Snapshot, inventory: Fleet) -> Any:
    plain = capture(seen, inventory, saved_at="2026-01-01T02:17:00Z", version="1.2.3")
    return json.loads(json.dumps(plain))


def test_nothing_of_a_snapshot_is_lost() -> None:
    seen = seen_live(whole())
    assert from_plain(saved(seen, full())).snapshot == seen


@pytest.mark.parametrize(
    ("seen", "inventory"),
    [
        (snapshot(leak()), full()),
        (snapshot(many(97)), fleet()),
        (snapshot(many(97)), fleet({})),
        (snapshot(hidden(97)), fleet()),
        (snapshot([]), fleet()),
        (snapshot(many(30, client_addr="10.9.9.9")), fleet()),
        (snapshot(many(20, client_addr="10.0.0.5")), full()),
    ],
)
def test_a_capture_is_judged_as_the_look_was(seen: Snapshot, inventory: Fleet) -> None:
    seen = seen_live(seen)
    again = from_plain(saved(seen, inventory))
    restored = Fleet(again.inventory, "capture")
    assert JUDGE.diagnose(again.snapshot, restored) == JUDGE.diagnose(seen, inventory)
    policy = LeakPolicy()
    assert JUDGE.leaks(again.snapshot, restored, policy) == JUDGE.leaks(seen, inventory, policy)


@pytest.mark.parametrize("secret", [*SECRETS, *REPEATED])
def test_no_secret_no_reference_and_no_login_of_a_host_is_in_it(secret: str) -> None:
    seen = whole()
    if secret in REPEATED:
        said = f"connect failed: {secret} is not there"
        seen = replace(seen, refusals=(("connect", said),), failed={"x": said})
    text = json.dumps(saved(seen, full()), ensure_ascii=False)
    assert secret not in text
    assert text.count("… is not there") == 2 * (secret in REPEATED)


def test_the_excerpt_has_what_this_server_needs_and_no_other() -> None:
    kept = excerpt("db", full())
    assert set(kept.databases) == {"db", "twin"}
    assert set(kept.services) == {"shop", "twins"}
    assert kept.services["shop"].hosts == "web-01, web-02, web-03"
    assert kept.hosts["web-01"].vars == {"unit_no": 1, "dc": "eu-1"}
    assert not kept.services["shop"].gates
    assert kept.databases["db"].max_terminated == 7
    assert kept.databases["db"].protect.roles == ("boss",)


@pytest.mark.parametrize(
    ("key", "text", "kept"),
    [
        ("query", "SELECT * FROM t WHERE card = '4711'", "SELECT * FROM t WHERE card = '…'"),
        ("statement", "ALTER ROLE x PASSWORD 'abc'", "ALTER ROLE x PASSWORD …"),
        ("gid", "x password=hunter2 y", "x password=… y"),
        ("title", "psql --password hunter2 -h db", "psql --password … -h db"),
        ("error", "postgres://app:hunter2@db/shop", "postgres://app:…@db/shop"),
        ("error", "the key /home/ana/.ssh/id_x is refused", "the key … is refused"),
        ("error", 'setting PASSWORD "hun ter2" failed', "setting PASSWORD … failed"),
        ("primary_conninfo", "host=a user=b", "…"),
        ("password", "hunter2", "…"),
        ("error", "password authentication failed for user x", None),
        ("application_name", "shop-web-01", None),
    ],
)
def test_what_may_hold_a_secret_is_taken_out(key: str, text: str, kept: str | None) -> None:
    rows = {"rows": [{key: text, "n": 3}]}
    assert cleaned(rows) == {"rows": [{key: text if kept is None else kept, "n": 3}]}


def test_a_setting_that_is_a_secret_is_known_by_its_name() -> None:
    rows = [{"key": "auth_password", "value": "hunter2"}, {"key": "pool_size", "value": "20"}]
    assert "hunter2" not in json.dumps(cleaned(rows))
    assert cleaned(rows)[1] == rows[1]
