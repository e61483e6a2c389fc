"""A rolling restart behind balancers: nobody notices, and no host is left out unseen."""

from __future__ import annotations

import shlex
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from .command import Command, invocations, starts
from .lab import BALANCER_SOCKET, Host, Lab, until
from .test_rolling_restart import RESTART, SOON, changed, order, restarting, slow_start

if TYPE_CHECKING:
    from collections.abc import Iterator

#: srv_op_state and srv_admin_state, as HAProxy tells them.
IN_ROTATION = (2, 0)
DRAINED = 8


def behind(*balancers: Host, **drain: Any) -> dict[str, Any]:
    """The drain of the shop behind these HAProxies, as the inventory declares it."""
    on = [host.name for host in balancers]
    haproxy = {"on": on if len(on) > 1 else on[0], "socket": BALANCER_SOCKET, "backend": "shop"}
    return {"haproxy": haproxy, "deadline": "20s", **drain}


def places(lab: Lab, balancer: Host | None = None) -> dict[str, tuple[int, int]]:
    """Where an HAProxy has each app host, in its own words."""
    return {app.name: lab.haproxy_state(balancer or lab.db, app.name) for app in lab.apps}


def everywhere(lab: Lab, place: tuple[int, int] = IN_ROTATION) -> dict[str, tuple[int, int]]:
    """All app hosts in the same place."""
    return {app.name: place for app in lab.apps}


class Traffic(threading.Thread):
    """One user who asks a balancer without a pause, and keeps every answer."""

    def __init__(self, port: int, path: str = "/healthz") -> None:
        super().__init__(daemon=True)
        self._url = f"http://127.0.0.1:{port}{path}"
        self._over = threading.Event()
        self.answers: list[int] = []

    def run(self) -> None:
        """Ask until told to stop; what is no answer counts as 0."""
        while not self._over.is_set():
            try:
                with urllib.request.urlopen(self._url, timeout=20) as reply:
                    self.answers.append(reply.status)
            except urllib.error.HTTPError as error:
                self.answers.append(error.code)
            except OSError:
                self.answers.append(0)

    def stop(self) -> None:
        """Let the last request end."""
        self._over.set()
        self.join(30)


@contextmanager
def traffic(lab: Lab, users: int = 4) -> Iterator[list[Traffic]]:
    """Several users at work while the context lasts."""
    threads = [Traffic(lab.db.balancer_port) for _ in range(users)]
    for thread in threads:
        thread.start()
    try:
        yield threads
    finally:
        for thread in threads:
            thread.stop()


def failed(threads: list[Traffic]) -> list[int]:
    """The answers that no user should have seen."""
    return [code for thread in threads for code in thread.answers if code != 200]


def restart_under_load(lab: Lab, runbook: Command) -> list[Traffic]:
    """Restart every host while users are at work; each unit is started exactly once."""
    before, started = invocations(lab), [starts(lab, host) for host in lab.apps]
    with traffic(lab) as users:
        until(lambda: sum(len(user.answers) for user in users) > 20, "traffic")
        runbook(*RESTART, "--yes")
        seen = sum(len(user.answers) for user in users)
        until(lambda: sum(len(user.answers) for user in users) > seen + 20, "traffic after it")
    assert changed(before, invocations(lab)) == ["app-1", "app-2", "app-3"]
    assert [starts(lab, host) for host in lab.apps] == [count + 1 for count in started]
    return users


def by_hand(lab: Lab, line: str) -> None:
    """Do what a printed line says, on the host that it names, as the login that it names."""
    said, _, ssh = line.strip().partition(" | ")
    words = shlex.split(ssh)
    assert f"-p {lab.db.ssh_port}" in ssh
    remote = " ".join(words[words.index("oncall@127.0.0.1") + 1 :])
    # The two shells on its way read it, as they would.
    done = lab.exec(lab.db, ["sh", "-c", f"{said} | {remote}"], user="oncall")
    assert done.rc == 0, done


# ---- all goes well


def test_with_a_drain_no_request_fails_and_without_one_some_do(lab: Lab, runbook: Command) -> None:
    # No checks of its own: whether it sends to a dead host is up to us alone.
    lab.start_haproxy(lab.db, checked=False)
    assert failed(restart_under_load(lab, runbook))
    runbook.declare_shop(drain=behind(lab.db))
    assert not failed(restart_under_load(lab, runbook))
    assert places(lab) == everywhere(lab)


def test_two_balancers_are_both_drained_and_both_put_back(lab: Lab, runbook: Command) -> None:
    second = lab.apps[2]
    for balancer in (lab.db, second):
        lab.start_haproxy(balancer)
    runbook.declare_shop(drain=behind(lab.db, second))
    slow_start(lab, lab.apps[0], 3)
    before = lab.invocation_id(lab.apps[0])
    running = runbook.start(*RESTART, "--yes", "-p", "hosts=app-1")
    restarting(lab, lab.apps[0], before)
    while_away = [places(lab, balancer)["app-1"][1] for balancer in (lab.db, second)]
    ran = running.finish()
    assert while_away == [DRAINED, DRAINED]
    assert places(lab) == places(lab, second) == everywhere(lab)
    for state in ("drain", "ready"):
        for balancer in (lab.db, second):
            assert f"{balancer.name}: sudo set server shop/app-1 state {state}" in ran.said


def test_hooks_of_ones_own_on_another_host(lab: Lab, runbook: Command) -> None:
    log = "/tmp/rotation"
    script = f'echo "$1 $2" >> {log}; [ "$1" = status ] || echo $1 > /tmp/place-$2'
    ask = "case $(cat /tmp/place-$2 2>/dev/null) in out) exit 1;; esac"
    hook = f"#!/bin/sh\n{script}\n[ $1 != status ] || {{ {ask}; }}\n"
    lab.put(lab.db, "/usr/local/bin/rotation", hook, mode=0o755)
    command = {
        "on": "lab-db",
        "drain": ["/usr/local/bin/rotation", "out", "${host.name}"],
        "undrain": ["/usr/local/bin/rotation", "in", "${host.name}"],
        "status": ["/usr/local/bin/rotation", "status", "${host.name}"],
    }
    count = "/usr/bin/ss -Htn state established sport = :8000 | wc -l"
    runbook.declare_shop(drain={"command": command, "connections": ["sh", "-c", count]})
    runbook(*RESTART, "--yes")
    told = lab.exec(lab.db, ["cat", log]).stdout.splitlines()
    wanted = [f"{what} {app.name}" for app in lab.apps for what in ("out", "in")]
    assert [line for line in told if not line.startswith("status")] == wanted


# ---- what does not go well


def test_a_host_that_fails_its_gate_stays_drained(lab: Lab, runbook: Command) -> None:
    lab.start_haproxy(lab.db)
    runbook.declare_shop(drain=behind(lab.db))
    lab.break_health(lab.apps[0], after_restart=True)
    before = invocations(lab)
    ran = runbook(*RESTART, "--yes", *SOON, code=1)
    assert changed(before, invocations(lab)) == ["app-1"]
    assert places(lab)["app-1"][1] == DRAINED
    assert places(lab) == {**everywhere(lab), "app-1": places(lab)["app-1"]}
    assert "stays drained in lab-db" in ran.said
    line = next(line for line in ran.stdout.splitlines() if "state ready" in line and "ssh" in line)
    # The line does what it says: as it is printed, from the on-call's own terminal.
    lab.exec(lab.apps[0], ["rm", "/etc/shop/broken"])
    by_hand(lab, line)
    until(lambda: places(lab) == everywhere(lab), "the host put back by hand")


def test_a_drain_that_never_empties_is_undone_and_nothing_restarted(
    lab: Lab, runbook: Command
) -> None:
    lab.start_haproxy(lab.db)
    runbook.declare_shop(drain=behind(lab.db, connections=["echo", "3"], deadline="2s"))
    before = invocations(lab)
    ran = runbook(*RESTART, "--yes", code=1)
    assert invocations(lab) == before
    assert places(lab) == everywhere(lab)
    assert "not drained within 2.0s: 3 connections are left, 0 may be; it is back in" in ran.said


def test_a_host_that_somebody_drained_before_is_left_so(lab: Lab, runbook: Command) -> None:
    lab.start_haproxy(lab.db)
    lab.haproxy(lab.db, "set server shop/app-2 state drain")
    runbook.declare_shop(drain=behind(lab.db), rolling={"min_available": "1"})
    before = invocations(lab)
    ran = runbook(*RESTART, "--yes")
    assert changed(before, invocations(lab)) == ["app-1", "app-2", "app-3"]
    # It gave no capacity, so it goes first.
    assert order(ran)[0] == "app-2"
    assert places(lab) == {**everywhere(lab), "app-2": (IN_ROTATION[0], DRAINED)}
    assert "before this run: it is left so, and not put back" in ran.said
    assert "out of rotation in lab-db as before this run" in ran.said


def test_drained_hosts_do_not_count_as_available(lab: Lab, runbook: Command) -> None:
    lab.start_haproxy(lab.db)
    lab.haproxy(lab.db, "set server shop/app-2 state drain")
    runbook.declare_shop(drain=behind(lab.db), rolling={"min_available": "2"})
    before = invocations(lab)
    ran = runbook(*RESTART, "--yes", "-p", "hosts=app-1", code=3)
    assert invocations(lab) == before
    assert places(lab) == {**everywhere(lab), "app-2": (IN_ROTATION[0], DRAINED)}
    assert "app-2: lab-db has shop/app-2 drained" in ran.said


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"backend": "shopp"}, "Can't find backend"),
        ({"server": "srv-${host.name}"}, "knows no server srv-app-1 in the backend shop"),
        ({"socket": "/run/nowhere.sock"}, "sudo for `/usr/bin/socat"),
        ({"on": "app-2"}, "on app-2, sudo for"),
    ],
)
def test_a_balancer_that_would_not_do_it_is_found_out_before_anything(
    lab: Lab, runbook: Command, wrong: dict[str, str], said: str
) -> None:
    lab.start_haproxy(lab.db)
    drain = behind(lab.db)
    drain["haproxy"] |= wrong
    runbook.declare_shop(drain=drain)
    before = invocations(lab)
    ran = runbook(*RESTART, "--yes", code=3)
    assert said in ran.said
    assert invocations(lab) == before
    assert places(lab) == everywhere(lab)


def test_a_rehearsal_drains_nothing_and_shows_every_command(lab: Lab, runbook: Command) -> None:
    lab.start_haproxy(lab.db)
    runbook.declare_shop(drain=behind(lab.db))
    before = invocations(lab)
    ran = runbook(*RESTART, "--dry-run")
    assert places(lab) == everywhere(lab)
    assert invocations(lab) == before
    for app in lab.apps:
        for state in ("drain", "ready"):
            assert f"lab-db: sudo set server shop/{app.name} state {state}" in ran.said
    assert "draining, and the way back into rotation" in ran.said


# ---- Ctrl-C


def test_ctrl_c_while_draining_puts_the_host_back_and_restarts_nothing(
    lab: Lab, runbook: Command
) -> None:
    lab.start_haproxy(lab.db)
    runbook.declare_shop(drain=behind(lab.db, connections=["echo", "3"], deadline="60s"))
    before = invocations(lab)
    running = runbook.start(*RESTART, "--yes")
    running.wait_for("app-1: draining")
    until(lambda: places(lab)["app-1"][1] == DRAINED, "the drain")
    running.interrupt()
    ran = running.finish(130)
    assert invocations(lab) == before
    assert places(lab) == everywhere(lab)
    assert "INTERRUPTED" in ran.stdout
    assert "it is back in rotation" in ran.said
    assert "Not touched: app-2, app-3" in ran.stdout


def test_ctrl_c_after_the_drain_sees_the_host_through(lab: Lab, runbook: Command) -> None:
    lab.start_haproxy(lab.db)
    runbook.declare_shop(drain=behind(lab.db))
    slow_start(lab, lab.apps[0], 2)
    before = invocations(lab)
    running = runbook.start(*RESTART, "--yes")
    restarting(lab, lab.apps[0], before["app-1"])
    running.interrupt()
    ran = running.finish(130)
    assert changed(before, invocations(lab)) == ["app-1"]
    assert places(lab) == everywhere(lab)
    assert "INTERRUPTED" in ran.stdout
