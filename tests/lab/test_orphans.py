"""Sessions whose client is gone: proved by the host's own sockets, ended, and no other one."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .command import Command, Ran, connections, sessions, wait_settled
from .docker_engine import docker
from .lab import DB, UNIT, Host, Lab, password, until

if TYPE_CHECKING:
    from collections.abc import Iterator

TERMINATE = ("remediate", DB, "--terminate-idle")
#: More headroom than can be had: everything that is proved has to go.
ALL = ("--yes", "--format", "json", "-p", "headroom=90%", "-p", "watch=0s")
REHEARSE = ("--dry-run", "--format", "json", "-p", "headroom=100%")

#: Opens, asks and closes, over and over, in so many threads: a pool that keeps nothing.
RESTLESS = """
import sys, threading, psycopg2
def work():
    while True:
        c = psycopg2.connect(sys.argv[1]); c.autocommit = True
        c.cursor().execute("SELECT count(*), pg_sleep(0.01) FROM items"); c.close()
for _ in range(4): threading.Thread(target=work).start()
"""


def shown(ran: Ran) -> list[Any]:
    """Return the sessions that a rehearsal or a run has shown."""
    return list(next(iter(ran.json()["looks"].values()))["data"]["sessions"])


def orphaned(ran: Ran) -> set[int]:
    """Return the pids that were shown as having no client."""
    return {session["pid"] for session in shown(ran) if session["rule"] == "orphan"}


def pids(lab: Lab, application: str) -> set[int]:
    """Return an application's sessions."""
    sql = f"SELECT pid FROM pg_stat_activity WHERE application_name = '{application}'"
    return {int(row) for row in lab.psql(sql).splitlines()}


def drop_sockets(lab: Lab, host: Host) -> None:
    """Take a host's connections to the database away, without a word to the server.

    As a host that loses its power, or a firewall that forgets: nothing is sent while they go.
    """
    cut, back = "ip rule add blackhole pref 1", "ip rule del pref 1"
    drop = f"ss -K dst {lab.db.address} dport = 5432"
    done = lab.exec(host, ["sh", "-c", f"{cut} && {drop}; {back}"])
    assert done.rc == 0, done


def warm(lab: Lab, host: Host, count: int) -> None:
    """Let an app open a healthy pool of so many sessions."""

    def filled() -> bool:
        lab.http(host, "/warm?n=5", "POST")
        held = lab.exec(host, ["ss", "-Htn", "dst", lab.db.address]).stdout
        return len(held.splitlines()) >= count

    until(filled, f"{count} pooled connections of {host.name}")


def test_a_host_that_died_and_came_back_has_left_its_sessions_behind(
    lab: Lab, runbook: Command
) -> None:
    healthy, dead, _ = lab.apps
    warm(lab, healthy, 5)
    lab.leak(dead, 12)
    lab.leak(dead, 4, "in_transaction")
    assert lab.ask(dead, "/hold?id=5", 1) == 1  # has locked a row, so it has a transaction id
    left = pids(lab, "shop-app-2")
    assert len(left) == 17
    address = dead.address
    lab.stop_host(dead, sudden=True)
    lab.start_host(dead)
    assert dead.address == address
    warm(lab, dead, 5)
    alive = pids(lab, "shop-app-2") - left
    wait_settled(lab, "shop-app-2", len(left | alive))

    finding = runbook.diagnose()["finding"]
    assert finding["cause"] == "leaked-sessions"
    assert finding["confidence"] == "certain"
    assert "17 leaked sessions" in finding["title"]
    assert "the clients of all 17 are gone" in finding["title"]
    assert finding["evidence"][0].startswith(
        f"17 sessions from {address}: app-2 has no socket for them, in two looks"
    )
    assert finding["command"] == f"runbook remediate {DB} --terminate-idle"

    before = sessions(lab)
    ran = runbook(*TERMINATE, *ALL)
    assert orphaned(ran) == left
    went = {int(key.split()[0]) for key in before.keys() - sessions(lab).keys()}
    assert went == left
    assert pids(lab, "shop-app-2") == alive
    assert lab.http(dead, "/ready").status == 200


def test_orphans_in_every_slot_are_ended_though_their_app_cannot_come_back(
    lab: Lab, runbook: Command
) -> None:
    dead = lab.apps[1]
    assert lab.leak(dead, 37) == 37
    drop_sockets(lab, dead)
    lab.exec(dead, ["systemctl", "restart", UNIT])
    lab.wait_ready(dead)
    assert lab.http(dead, "/ready").status == 503
    wait_settled(lab, "shop-app-2", 37)
    diagnosis = runbook.diagnose()
    assert diagnosis["server"]["rung"] == "rescue"
    assert diagnosis["finding"]["confidence"] == "certain"
    assert "all 37" in diagnosis["finding"]["title"]
    ran = runbook(*TERMINATE, "--yes", "--format", "json", "-p", "watch=0s")
    assert len(orphaned(ran)) == 37  # no floor is kept of what nobody uses
    assert len(sessions(lab)) <= 37 - 8
    assert lab.http(dead, "/ready").status == 200


def test_a_process_that_holds_too_many_is_named_and_the_others_are_spared(
    lab: Lab, runbook: Command
) -> None:
    leaky = lab.apps[2]
    guilty = lab.http(leaky, "/leak?how=detached&n=14", "POST").json()["pid"]
    warm(lab, leaky, 24)  # both workers' pools are full
    pool = holders(lab, leaky)
    assert sorted(map(len, pool.values())) == [5, 19]
    wait_settled(lab, "shop-app-3", 24)
    finding = runbook.diagnose()["finding"]
    owner = finding["owners"][0]
    assert [(p["pid"], p["sessions"], p["budget"]) for p in owner["processes"]] == [
        (guilty, 19, 5),
        (next(pid for pid in pool if pid != guilty), 5, 5),
    ]
    assert {(p["name"], p["unit"], p["host"]) for p in owner["processes"]} == {
        ("gunicorn", UNIT, "app-3")
    }
    line = f"gunicorn pid {guilty} ({UNIT}) on app-3 holds 19 connections, a process may open 5"
    assert line in finding["evidence"]
    assert (
        f"gunicorn pid {guilty} ({UNIT}): 19 sessions, may open 5" in runbook("diagnose", DB).said
    )
    ran = runbook(*TERMINATE, *ALL)
    taken = {session["pid"] for session in shown(ran)}
    assert len(taken) == 14
    spared = next(ports for pid, ports in pool.items() if pid != guilty)
    assert spared <= holders(lab, leaky)[next(pid for pid in pool if pid != guilty)]


def holders(lab: Lab, host: Host) -> dict[int, set[str]]:
    """Return the client ends that each process of a host holds, by its pid."""
    found: dict[int, set[str]] = {}
    for line in lab.exec(host, ["ss", "-Htnp", "dst", lab.db.address]).stdout.splitlines():
        _, _, _, end, _, users = line.split(None, 5)
        found.setdefault(int(users.split("pid=")[1].split(",")[0]), set()).add(end)
    return found


def test_without_sudo_orphans_are_proved_and_processes_are_said_to_be_unseen(
    lab: Lab, runbook: Command
) -> None:
    dead = lab.apps[0]
    lab.sudoers(dead)
    lab.leak(dead, 15)
    drop_sockets(lab, dead)
    wait_settled(lab, "shop-app-1", 15)
    diagnosis = runbook.diagnose()
    assert diagnosis["finding"]["confidence"] == "certain"
    told = (
        "app-1: which process holds a connection is not shown; a line for its sudoers: oncall"
        " ALL=(root) NOPASSWD: /usr/bin/ss"
    )
    assert diagnosis["unseen"] == [told]


def test_a_host_that_does_not_answer_proves_nothing(lab: Lab, runbook: Command) -> None:
    gone = lab.apps[1]
    lab.leak(gone, 30)
    lab.stop_host(gone, sudden=True)
    wait_settled(lab, "shop-app-2", 30)
    diagnosis = runbook.diagnose()
    assert diagnosis["finding"]["confidence"] == "likely"  # by count
    assert any(line.startswith("app-2: who holds their") for line in diagnosis["unseen"])
    ran = runbook(*TERMINATE, *REHEARSE)
    # 20 too many; two at either end may be strangers, and the ten opened first the pool itself.
    assert len(shown(ran)) == 8
    assert orphaned(ran) == set()


@contextmanager
def restless(lab: Lab, host: Host) -> Iterator[None]:
    """Keep a host opening and closing connections."""
    target = f"host={DB} dbname=shop user=shop password={password('shop')}"
    conninfo = f"{target} application_name=shop-{host.name}"
    argv = ["docker", "exec", host.container, "python3", "-c", RESTLESS, conninfo]
    worker = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        lab.exec(host, ["pkill", "-KILL", "-f", "SELECT count"])
        worker.wait(timeout=30)


def test_a_busy_healthy_pool_has_no_orphans_however_often_one_looks(
    lab: Lab, runbook: Command
) -> None:
    for host in lab.apps[:2]:
        warm(lab, host, 10)
    lab.ask(lab.apps[1], "/surge?seconds=600", 5)
    with restless(lab, lab.apps[0]), restless(lab, lab.apps[2]):
        for _ in range(3):
            diagnosis = runbook.diagnose()
            assert diagnosis["slots"]["percent"] >= 50
            assert diagnosis["finding"]["confidence"] != "certain", diagnosis["finding"]
            assert orphaned(runbook(*TERMINATE, *REHEARSE)) == set()


def test_behind_nat_a_missing_socket_proves_nothing(lab: Lab, runbook: Command) -> None:
    """They come from the gateway's address, which is none of the host's own."""
    with connections(lab, 24, "shop-app-2"):
        warm(lab, lab.apps[1], 5)
        wait_settled(lab, "shop-app-2", 29)
        assert orphaned(runbook(*TERMINATE, *REHEARSE)) == set()


def test_what_a_host_translates_for_a_container_is_not_held_against_it(
    lab: Lab, runbook: Command
) -> None:
    """A network namespace behind masquerading bears the host's address, and has no socket there."""
    host = lab.apps[1]
    warm(lab, host, 5)
    with boxed(lab, host, 24) as inner:
        before = sessions(lab)
        address = lab.psql(
            "SELECT DISTINCT client_addr FROM pg_stat_activity WHERE application_name = 'boxed'"
        )
        assert address == host.address
        wait_settled(lab, "boxed", inner)
        diagnosis = runbook.diagnose()
        assert diagnosis["finding"]["confidence"] != "certain"
        assert any("it forwards packets" in line for line in diagnosis["unseen"])
        assert orphaned(runbook(*TERMINATE, *REHEARSE)) == set()
        assert sessions(lab) == before


BOXED = """
import sys, time, psycopg2
held = [psycopg2.connect(sys.argv[1]) for _ in range(int(sys.argv[2]))]
for c in held: c.autocommit = True; c.cursor().execute("SELECT 1")
time.sleep(600)
"""
#: A container's network by hand: a pair of links, a route, and the host translates.
BOX = """
mkdir -p /run/netns && ip netns add box
ip link add outer type veth peer name inner netns box
ip addr add 10.99.0.1/24 dev outer && ip link set outer up
ip -n box addr add 10.99.0.2/24 dev inner && ip -n box link set inner up
ip -n box route add default via 10.99.0.1
"""
UNBOX = "ip netns del box; ip link del outer"


@contextmanager
def boxed(lab: Lab, host: Host, count: int) -> Iterator[int]:
    """Hold sessions from a network namespace of a host that translates their address."""
    assert lab.exec(host, ["sh", "-ec", BOX]).rc == 0
    inside = docker("inspect", "--format", "{{.State.Pid}}", host.container).strip()
    rule = ["POSTROUTING", "-s", "10.99.0.0/24", "-j", "MASQUERADE"]
    tables = ["nsenter", "-t", inside, "-n", "iptables", "-t", "nat"]
    subprocess.run([*tables, "-A", *rule], check=True)
    target = f"hostaddr={lab.db.address} dbname=shop user=shop password={password('shop')}"
    argv = ["docker", "exec", host.container, "ip", "netns", "exec", "box", "python3", "-c", BOXED]
    held = subprocess.Popen([*argv, f"{target} application_name=boxed", str(count)])
    try:
        until(lambda: len(pids(lab, "boxed")) == count, f"{count} sessions from the namespace")
        yield count
    finally:
        lab.exec(host, ["pkill", "-KILL", "-f", "time.sleep.600"])
        held.wait(timeout=30)
        subprocess.run([*tables, "-D", *rule], check=True)
        lab.exec(host, ["sh", "-c", UNBOX])
