"""The lab does what it says: otherwise no test on it proves anything."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import paramiko
import psycopg
import pytest

from .lab import DB, Host, Lab, password
from .units import WAYS_TO_FAIL

if TYPE_CHECKING:
    from collections.abc import Callable

RESTART = "sudo -n /usr/bin/systemctl restart"


def ssh(lab: Lab, host: Host, command: str, timeout: float = 10) -> tuple[int, str]:
    """Run a command as oncall over SSH, with strict host keys; return code and both outputs."""
    client = paramiko.SSHClient()
    client.load_host_keys(str(lab.folder / "known_hosts"))
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    with client:
        client.connect(
            "127.0.0.1",
            port=host.ssh_port,
            username="oncall",
            key_filename=str(lab.folder / "id_ed25519"),
            look_for_keys=False,
            allow_agent=False,
            timeout=timeout,
            banner_timeout=timeout,
        )
        _, out, _ = client.exec_command(f"{command} 2>&1")
        said = out.read().decode()
        return out.channel.recv_exit_status(), said


def connect(lab: Lab, user: str, **more: str) -> psycopg.Connection[tuple[object, ...]]:
    """Log in to the lab's database from outside."""
    conninfo = {"host": "127.0.0.1", "port": lab.db.pg_port, "dbname": "shop", "user": user}
    return psycopg.connect(**conninfo, password=password(user), **more)  # type: ignore[arg-type]


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> bool:
    """Whether a condition comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_oncall_logs_in_with_known_host_keys_and_is_nobody_special(lab: Lab) -> None:
    for host in lab.hosts.values():
        assert ssh(lab, host, "hostname; id -un") == (0, f"{host.name}\noncall\n")
    assert ssh(lab, lab.apps[0], "sudo -n id")[0] == 1


def test_a_wrong_host_key_is_refused(lab: Lab) -> None:
    first, second, *_ = lab.apps
    known = (lab.folder / "known_hosts").read_text()
    swapped = Host(name=first.name, container="", ssh_port=second.ssh_port)
    lines = [line for line in known.splitlines() if f":{first.ssh_port} " in line]
    client = paramiko.SSHClient()
    host_keys = client.get_host_keys()
    _, kind, key = lines[0].split()
    line = f"[127.0.0.1]:{swapped.ssh_port} {kind} {key}"
    entry = paramiko.hostkeys.HostKeyEntry.from_line(line)
    assert entry is not None
    host_keys.add(entry.hostnames[0], kind, entry.key)
    with client, pytest.raises(paramiko.BadHostKeyException):
        client.connect("127.0.0.1", port=swapped.ssh_port, username="oncall")


def test_restart_by_sudo_starts_anew(lab: Lab) -> None:
    host = lab.apps[0]
    before = lab.invocation_id(host)
    assert ssh(lab, host, f"{RESTART} shop.service") == (0, "")
    assert lab.invocation_id(host) != before
    assert wait_for(lambda: lab.http(host, "/healthz").status == 200)


def test_sudo_can_be_refused(lab: Lab) -> None:
    host = lab.apps[0]
    before = lab.invocation_id(host)
    lab.sudoers(host)
    rc, said = ssh(lab, host, f"{RESTART} shop.service")
    assert (rc, lab.invocation_id(host)) == (1, before)
    assert "password is required" in said


def test_a_leak_goes_over_the_pool_and_lasts_until_the_restart(lab: Lab) -> None:
    host = lab.apps[0]
    assert lab.leak(host, 17) == 17
    assert lab.sessions() == {"shop-app-1": 17}
    row = lab.psql(
        "SELECT DISTINCT state, query, client_addr FROM pg_stat_activity WHERE usename = 'shop'"
    )
    assert row == f"idle|COMMIT|{host.address}"
    ssh(lab, host, f"{RESTART} shop.service")
    assert wait_for(lambda: lab.sessions() == {})


def test_a_leak_through_the_pool_ends_with_the_pool(lab: Lab) -> None:
    host = lab.apps[0]
    assert lab.leak(host, 11, "in_transaction") == 10
    assert lab.psql("SELECT DISTINCT state FROM pg_stat_activity WHERE usename = 'shop'") == (
        "idle in transaction"
    )
    assert (lab.http(host, "/ready").status, lab.http(host, "/healthz").status) == (503, 200)
    lab.http(host, "/release", "POST")
    assert wait_for(lambda: lab.http(host, "/ready").status == 200)


def test_with_no_slot_left_only_the_rescue_role_gets_in(lab: Lab) -> None:
    lab.leak(lab.apps[0], 37)
    with pytest.raises(psycopg.OperationalError, match="remaining connection slots are reserved"):
        connect(lab, "oncall")
    with connect(lab, "oncall_rescue", replication="database") as connection:
        cursor = psycopg.ClientCursor(connection)
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = 'shop'")
        assert cursor.fetchone() == (37,)


def test_a_held_row_piles_up_waiters(lab: Lab) -> None:
    holder, waiter, _ = lab.apps
    assert lab.ask(holder, "/hold", 1) == 1
    assert lab.ask(waiter, "/lock", 8) == 8
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    assert wait_for(lambda: lab.psql(waiting) == "8")
    lab.http(holder, "/release", "POST")
    assert wait_for(lambda: lab.psql(waiting) == "0")


@pytest.mark.parametrize("path", ["/slow?seconds=60", "/surge?seconds=60"])
def test_busy_sessions_are_active_until_released(lab: Lab, path: str) -> None:
    host = lab.apps[0]
    assert lab.ask(host, path, 9) == 9
    active = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND usename = 'shop'"
    assert wait_for(lambda: int(lab.psql(active)) >= 8)


def test_health_breaks_until_the_restart_or_from_it_on(lab: Lab) -> None:
    first, second, _ = lab.apps
    lab.break_health(first)
    lab.break_health(second, after_restart=True)
    assert (lab.http(first, "/healthz").status, lab.http(second, "/healthz").status) == (500, 200)
    for host in (first, second):
        assert ssh(lab, host, f"{RESTART} shop.service")[0] == 0
    assert wait_for(lambda: lab.http(first, "/healthz").status == 200)
    assert wait_for(lambda: lab.http(second, "/healthz").status == 500)


@pytest.mark.parametrize(
    ("way", "rc"),
    [
        ("crash_loop", 0),
        ("dies_at_once", 0),
        ("deaf", 0),
        ("hanging_start", 1),
        ("missing_binary", 1),
        ("failed_condition", 0),
        ("masked", 1),
    ],
)
def test_units_fail_in_their_own_way(lab: Lab, way: str, rc: int) -> None:
    host = lab.apps[0]
    lab.spoil(host, way)
    assert lab.http(host, "/healthz").status == 200  # what runs stays up until the restart
    assert ssh(lab, host, f"{RESTART} shop.service", timeout=20)[0] == rc
    if way != "masked":
        assert wait_for(lambda: lab.http(host, "/healthz").status != 200)
    assert {"masked", *WAYS_TO_FAIL} >= {way}


def test_an_extra_unit_can_be_restarted_too(lab: Lab) -> None:
    host = lab.apps[0]
    lab.spoil(host, "deaf", unit="lab-deaf.service")
    assert ssh(lab, host, f"{RESTART} lab-deaf.service") == (0, "")
    assert lab.show(host, "lab-deaf.service")["ActiveState"] == "active"


def test_settings_last_until_reset(lab: Lab) -> None:
    lab.configure_db(max_connections=21, log_statement="all")
    assert lab.psql("SHOW max_connections") == "21"
    assert "SHOW max_connections" in lab.pg_log()
    lab.reset()
    assert lab.psql("SHOW max_connections") == "40"
    assert "SHOW max_connections" not in lab.pg_log()


def test_a_cut_host_hangs_and_a_stopped_one_refuses(lab: Lab) -> None:
    cut, stopped, _ = lab.apps
    lab.cut_network(cut)
    with pytest.raises(paramiko.SSHException):
        ssh(lab, cut, "true", timeout=1)
    lab.restore_network(cut)
    assert ssh(lab, cut, "true") == (0, "")
    lab.leak(stopped, 3)
    lab.stop_host(stopped, sudden=True)
    with pytest.raises(OSError, match="Unable to connect"):
        ssh(lab, stopped, "true", timeout=1)
    assert lab.sessions() == {f"shop-{stopped.name}": 3}  # nobody told PostgreSQL
    lab.reset()
    assert ssh(lab, stopped, "true") == (0, "")


def test_unprivileged_and_monitoring_roles_see_what_they_should(lab: Lab) -> None:
    lab.http(lab.apps[0], "/warm?n=2", "POST")
    seen = {}
    for role in ("nobody_special", "oncall"):
        with connect(lab, role) as connection:
            sql = "SELECT count(state) FROM pg_stat_activity WHERE usename = 'shop'"
            seen[role] = connection.execute(sql).fetchone()
    assert seen == {"nobody_special": (0,), "oncall": (2,)}


def test_the_inventory_names_what_there_is(lab: Lab) -> None:
    text = lab.inventory_yaml(services={"shop": {"rolling": {"batches": [2]}, "gates": None}})
    inventory = json.loads(text)
    assert list(inventory["hosts"]) == [DB, "app-1", "app-2", "app-3"]
    assert inventory["services"]["shop"]["rolling"]["batches"] == [2]
    assert "gates" not in inventory["services"]["shop"]
