"""A lab led behind a PgBouncer that is set up from nothing, under load, and led back."""

from __future__ import annotations

import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from .command import Command, invocations, starts
from .lab import BALANCER_SUDO, DB, Host, Lab, in_parallel, password, until
from .test_drain import Traffic, behind

if TYPE_CHECKING:
    from collections.abc import Iterator

BOUNCER = "bouncer-01"
UNIT = "pgbouncer.service"
INI = "/etc/pgbouncer/pgbouncer.ini"
USERS = "/etc/pgbouncer/userlist.txt"
DROPIN = "/etc/systemd/system/pgbouncer.service.d"
INTRODUCE = ("pgbouncer", "introduce", BOUNCER, "--yes")
REMOVE = ("pgbouncer", "remove", BOUNCER, "--yes")
ROLE = "pgb_auth"
#: More than PostgreSQL has slots for, many times over.
CLIENTS = 1000
ALL_SUDO = "oncall ALL=(root,postgres) NOPASSWD: ALL"


@pytest.fixture
def moving(lab: Lab, runbook: Command) -> Iterator[Lab]:
    """The lab, with what an introduction needs of rights and declarations; all undone after."""
    for role in (ROLE, "pgb_admin"):
        secret = lab.folder / f"{role}.password"
        secret.write_text(password(role) + "\n")
    in_parallel(lambda host: lab.sudoers(host, ALL_SUDO, BALANCER_SUDO), lab.hosts.values())
    declare(lab, runbook)
    yield lab
    forget(lab)


#: Puts the image's own package back, stopped and disabled, without the start that comes with it.
FORGET = f"""
systemctl kill -s KILL {UNIT} 2>/dev/null; systemctl disable --now -q {UNIT} 2>/dev/null
rm -rf {DROPIN} {INI}* {USERS}*
echo 'exit 101' > /usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d
dpkg --force-confmiss -i /opt/debs/pgbouncer_*.deb >/dev/null 2>&1 || exit 1
rm /usr/sbin/policy-rc.d
systemctl daemon-reload; systemctl disable -q {UNIT} 2>/dev/null; systemctl reset-failed
"""


def forget(lab: Lab) -> None:
    """Make the database's host one that has never seen a PgBouncer but the image's own, stopped."""
    done = lab.exec(lab.db, ["sh", "-c", FORGET])
    assert done.rc == 0, done
    lab.psql(
        f"DROP SCHEMA IF EXISTS runbook_pgbouncer CASCADE; DROP ROLE IF EXISTS {ROLE};"
        " ALTER ROLE shop NOSUPERUSER"
    )


def declare(lab: Lab, runbook: Command, shop: dict[str, Any] | None = None, **more: Any) -> None:
    """Declare the PgBouncer that is to come, with keys laid over its entry, and over the shop's."""

    def secret(role: str) -> dict[str, Any]:
        return {"user": role, "password": {"file": str(lab.folder / f"{role}.password")}}

    entry = {
        "host": DB,
        "database": DB,
        "address": "127.0.0.1",
        "port": lab.db.bouncer_port,
        "clients": DB,
        "client_port": 6432,
        "upstream": DB,
        "admin": secret("pgb_admin"),
        "auth": secret(ROLE),
        **more,
    }
    url = {"env_file": "/etc/shop.env", "key": "DATABASE_URL"}
    ready = "http://${host.address}:${host.vars.health_port}/ready"
    keys = {"settings": {"url": url}, "gates": [{"http": {"url": ready}}], **(shop or {})}
    runbook.declare(
        databases={DB: {"local": {"port": 5432}}},
        pgbouncers={BOUNCER: entry},
        services={"shop": keys},
    )


def urls(lab: Lab) -> list[str]:
    """What each app server's settings say, to the byte."""
    return [lab.exec(host, ["cat", "/etc/shop.env"]).stdout for host in lab.apps]


def touched(lab: Lab) -> list[str]:
    """What an introduction would leave on the database's host and in the database."""
    found = lab.exec(lab.db, ["sh", "-c", f"ls -d {DROPIN}/* {INI}.runbook* 2>/dev/null"]).stdout
    roles = lab.psql(f"SELECT rolname FROM pg_roles WHERE rolname = '{ROLE}'")
    active = lab.exec(lab.db, ["systemctl", "is-active", UNIT]).stdout.strip()
    return [*found.split(), *roles.split(), *([active] if active != "inactive" else [])]


def warm(lab: Lab, n: int = 5) -> None:
    """Let every app server use the database as it does on a working day."""
    for host in lab.apps:
        lab.http(host, f"/warm?n={n}", "POST")


def held(host: Host, count: int) -> list[psycopg.Connection[Any]]:
    """Open clients of the PgBouncer, each of which has asked something."""

    def client(_: int) -> psycopg.Connection[Any]:
        connection = psycopg.connect(
            host="127.0.0.1",
            port=host.bouncer_port,
            dbname="shop",
            user="shop",
            password=password("shop"),
            autocommit=True,
            prepare_threshold=None,
        )
        connection.execute("SELECT name FROM items WHERE id = 1")
        return connection

    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(client, range(count)))


def test_moved_behind_pgbouncer_under_load_and_back(moving: Lab, runbook: Command) -> None:
    """From no package at all to 1,000 clients on a PostgreSQL of 50; not one request fails."""
    lab = moving
    lab.configure_db(max_connections=50)
    lab.exec(lab.db, ["sh", "-c", "DEBIAN_FRONTEND=noninteractive apt-get purge -y -qq pgbouncer"])
    assert lab.exec(lab.db, ["sh", "-c", f"command -v pgbouncer; ls {INI}"]).stdout == ""
    lab.start_haproxy(lab.db)
    lab.sudoers(lab.db, ALL_SUDO)
    declare(
        lab,
        runbook,
        shop={"drain": behind(lab.db)},
        pool={"mode": "transaction", "max_client_conn": CLIENTS + 100},
    )
    before = urls(lab)
    lists = "/var/lib/apt/lists"
    lab.exec(lab.db, ["sh", "-c", f"mv {lists} {lists}.away; mkdir -p {lists}/partial"])
    said = runbook(*INTRODUCE, code=3).said
    assert "pgbouncer cannot be installed on lab-db" in said
    assert "apt-get download pgbouncer" in said
    lab.exec(lab.db, ["sh", "-c", f"rm -r {lists}; mv {lists}.away {lists}"])
    warm(lab)
    users = [Traffic(lab.db.balancer_port, "/ready") for _ in range(2)]
    for user in users:
        user.start()

    def asked() -> int:
        return sum(len(user.answers) for user in users)

    until(lambda: asked() > 20, "traffic")

    ran = runbook(*INTRODUCE, "--format", "json").json()

    assert ran["status"] == "done"
    proof = next(step for step in ran["steps"] if step["name"] == "services are behind it")
    moved = proof["targets"][DB]["data"]
    assert moved["direct"] == 0
    assert all(count > 0 for count in moved["clients_by_host"].values()), moved
    assert moved["now"] < moved["before"]
    run_id = ran["run_id"]

    # A second time there is nothing to set up, and nothing of it to show.
    again = runbook("pgbouncer", "introduce", BOUNCER, "--dry-run").said
    assert "runs on lab-db as it shall: nothing to do" in again
    assert "are there already" in again

    lift_file_limit()
    clients = held(lab.db, CLIENTS)
    try:
        server = int(lab.psql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'shop'"))
        assert server < 40
        assert clients[0].execute("SELECT 1").fetchone() == (1,)
        assert clients[-1].execute("SELECT 1").fetchone() == (1,)
        still = runbook(*REMOVE, "-p", "within=1s", code=2)
        assert "within" in still.said
    finally:
        for client in clients:
            client.close()

    runbook(*REMOVE, "--run", run_id)
    until_asked = asked() + 20
    until(lambda: asked() > until_asked, "traffic after it")
    for user in users:
        user.stop()
    answers = [code for user in users for code in user.answers]
    print(f"{len(answers)} requests while it was moved there and back")
    assert [code for code in answers if code != 200] == [], f"of {len(answers)} requests"
    assert urls(lab) == before
    assert lab.exec(lab.db, ["systemctl", "is-active", UNIT]).stdout.strip() == "inactive"
    assert lab.exec(lab.db, ["systemctl", "is-enabled", UNIT]).stdout.strip() == "disabled"
    assert lab.exec(lab.db, ["ls", INI]).rc == 0

    runbook(*REMOVE, "--purge")
    # What was there before is kept: it may have been somebody's.
    assert [path for path in touched(lab) if not path.startswith(f"{INI}.runbook")] == []
    assert lab.exec(lab.db, ["sh", "-c", "command -v pgbouncer"]).stdout == ""


#: None of them is written down anywhere but where it belongs.
SECRETS = (password(ROLE), password("pgb_admin"), "SCRAM-SHA-256$")


def secrets_in(runbook: Command) -> list[str]:
    """Files of the run's record that hold a secret."""
    files = [path for path in Path(runbook.env["RUNBOOK_STATE"]).rglob("*") if path.is_file()]
    assert files
    return [
        f"{path.name}: {secret}"
        for path in files
        for secret in SECRETS
        if secret.encode() in path.read_bytes()
    ]


def lift_file_limit() -> None:
    """Let this process hold so many sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4096:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))


def test_what_is_in_the_way_is_refused_before_anything_changes(
    moving: Lab, runbook: Command
) -> None:
    lab = moving
    before, running = urls(lab), invocations(lab)

    # Nobody says where the shop keeps its connection string.
    declare(lab, runbook, shop={"settings": {"url": None}})
    said = runbook(*INTRODUCE, code=2).said
    assert "services.shop.settings" in said
    declare(lab, runbook)

    # Somebody listens there.
    lab.put(lab.db, "/etc/systemd/system/lab-squatter.service", SQUATTER)
    lab.exec(lab.db, ["systemctl", "start", "lab-squatter.service"])
    until(lambda: ":6432" in lab.exec(lab.db, ["ss", "-ltn"]).stdout, "the squatter")
    said = runbook(*INTRODUCE, code=3).said
    assert "port 6432 on lab-db is taken by" in said
    assert "which is not pgbouncer.service" in said
    lab.exec(lab.db, ["systemctl", "stop", "lab-squatter.service"])

    # Somebody has set one up.
    theirs = "[databases]\nother = host=10.0.0.9\n[pgbouncer]\npool_mode = session\n"
    lab.put(lab.db, INI, theirs)
    said = runbook(*INTRODUCE, code=3).said
    assert "configured by somebody else" in said
    assert "[databases] other is there, and not in ours" in said
    assert "[pgbouncer] pool_mode differs: 'session', ours 'transaction'" in said
    assert lab.exec(lab.db, ["cat", INI]).stdout == theirs

    assert touched(lab) == []
    assert (urls(lab), invocations(lab)) == (before, running)


SQUATTER = """[Service]
ExecStart=/usr/bin/socat TCP-LISTEN:6432,fork,reuseaddr /dev/null
"""


def test_app_servers_that_cannot_use_it_are_left_or_led_back(moving: Lab, runbook: Command) -> None:
    lab = moving
    before, running = urls(lab), invocations(lab)

    # They do not reach it: no canary is sacrificed for that.
    declare(lab, runbook, clients="app-1")
    said = runbook(*INTRODUCE, code=1).said
    assert "app-1:6432 is not reached by 3 of 3 app servers" in said
    assert (urls(lab), invocations(lab)) == (before, running)

    # They reach it, and cannot log in by it: the canary is led back, and nothing else is touched.
    declare(lab, runbook)
    lab.psql("ALTER ROLE shop SUPERUSER")
    said = runbook(*INTRODUCE, code=1).said
    assert urls(lab) == before
    assert [h for h, i in invocations(lab).items() if running[h] != i] == ["app-1"]
    assert lab.http(lab.apps[0], "/ready").status == 200
    assert "app-1" in said

    # What was changed by hand meanwhile is not overwritten.
    lab.exec(lab.db, ["sh", "-c", f"echo 'verbose = 1' >> {INI}"])
    said = runbook(*INTRODUCE, code=3).said
    assert "was changed by hand since it was written" in said
    assert "[pgbouncer] verbose is there" in said


def test_killed_in_the_middle_and_resumed(moving: Lab, runbook: Command) -> None:
    lab = moving
    started = [starts(lab, host) for host in lab.apps]
    for moment in ("systemctl restart pgbouncer", "app-2: restarting"):
        words = INTRODUCE if moment.startswith("systemctl") else ("runs", "resume", "--yes")
        running = runbook.start(*words)
        running.wait_for(moment if moment.startswith("app") else f"> on {DB}: sudo {moment}")
        running.process.kill()
        running.process.wait()
    said = runbook("runs", "resume", "--yes")
    assert secrets_in(runbook) == []
    assert not any(secret in str(said) for secret in SECRETS)
    assert all("@lab-db:6432/" in url for url in urls(lab))
    assert [starts(lab, host) for host in lab.apps] == [count + 1 for count in started]
    assert lab.exec(lab.db, ["systemctl", "is-enabled", UNIT]).stdout.strip() == "enabled"
