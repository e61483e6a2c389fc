"""`remediate --rolling-restart`: proved restarts, one batch after the other, and where it halts."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from .command import Command, Ran, invocations, sessions, starts
from .lab import DB, UNIT, Host, Lab, until

if TYPE_CHECKING:
    from collections.abc import Iterator

RESTART = ("remediate", DB, "--rolling-restart")
SOON = ("-p", "deadline=2s")


def by_host(ran: Ran) -> dict[str, Any]:
    """Return the result of each host that was come to."""
    targets: dict[str, Any] = ran.json()["steps"][0]["targets"]
    return targets


def order(ran: Ran) -> list[str]:
    """Return the hosts in the order in which their restarts were begun."""
    lines = (line.split() for line in ran.stderr.splitlines())
    return [words[1].rstrip(":") for words in lines if words[2:3] == ["restarting:"]]


def changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return the hosts whose unit has started since."""
    return [host for host in before if before[host] != after[host]]


def healthy(lab: Lab, host: Host) -> bool:
    """Whether the shop of a host answers."""
    return lab.http(host, "/healthz").status == 200


def slow_start(lab: Lab, host: Host, seconds: int) -> None:
    """Let the next start of the shop take a while."""
    lab.spoil_start(host, f"sleep {seconds}")


def restarting(lab: Lab, host: Host, before: str) -> None:
    """Return once systemd itself is at the restart."""

    def under_way() -> bool:
        shown = lab.show(host)
        return shown["ActiveState"] == "activating" and shown["InvocationID"] != before

    until(under_way, f"the restart on {host.name}")


# ---- all goes well


def test_every_host_is_restarted_once_one_after_the_other(lab: Lab, runbook: Command) -> None:
    for host in lab.apps:
        lab.http(host, "/warm?n=3", "POST")
    lab.leak(lab.apps[1], 14)
    before, units, started = sessions(lab), invocations(lab), [starts(lab, h) for h in lab.apps]
    ran = runbook(*RESTART, "--yes")
    assert changed(units, invocations(lab)) == ["app-1", "app-2", "app-3"] == order(ran)
    assert [starts(lab, h) for h in lab.apps] == [count + 1 for count in started]
    assert all(healthy(lab, host) for host in lab.apps)
    # The database gate has seen them go: leaked and pooled ones alike.
    assert not before.keys() & sessions(lab).keys()
    assert "3 batches of 1, 1, 1" in ran.stderr
    told = runbook("runs", "show", "last").said
    assert told.count("about to:") == 3 == told.count("done:")


def test_a_canary_then_the_rest_and_only_the_hosts_that_were_meant(
    lab: Lab, runbook: Command
) -> None:
    before = invocations(lab)
    alone = runbook(
        "remediate", "--rolling-restart", "--service", "shop", "--yes", "-p", "hosts=app-2"
    )
    assert changed(before, invocations(lab)) == ["app-2"] == order(alone)
    before = invocations(lab)
    both = runbook(*RESTART, "--yes", "-p", "batches=1,2", "-p", "min_available=33%")
    assert changed(before, invocations(lab)) == ["app-1", "app-2", "app-3"]
    assert order(both)[0] == "app-1"
    assert "2 batches of 1, 2" in both.stderr


def test_a_host_that_is_down_already_goes_first(lab: Lab, runbook: Command) -> None:
    first, second, third = lab.apps
    lab.exec(third, ["systemctl", "stop", UNIT])
    lab.break_health(second)
    before = invocations(lab)
    ran = runbook(*RESTART, "--yes", "-p", "min_available=1")
    assert order(ran) == ["app-2", "app-3", "app-1"]
    assert changed(before, invocations(lab)) == ["app-1", "app-2", "app-3"]
    assert all(healthy(lab, host) for host in (first, second, third))


def test_a_service_with_commands_of_its_own(lab: Lab, runbook: Command) -> None:
    show = ["/usr/bin/systemctl", "show", "--property=InvocationID", "--value", UNIT]
    commands = {"restart": ["/usr/bin/systemctl", "restart", UNIT], "status": show}
    runbook.declare_shop(manager={"command": commands})
    before = invocations(lab)
    ran = runbook(*RESTART, "--yes")
    assert changed(before, invocations(lab)) == ["app-1", "app-2", "app-3"] == order(ran)


# ---- a host that does not come back


@pytest.mark.parametrize("bad", ["app-1", "app-2"])
def test_a_host_that_fails_its_gate_halts_and_the_rest_is_untouched(
    lab: Lab, runbook: Command, bad: str
) -> None:
    host = lab.hosts[bad]
    lab.break_health(host, after_restart=True)
    before = invocations(lab)
    ran = runbook(*RESTART, "--yes", *SOON, code=1)
    reached = ["app-1"] if bad == "app-1" else ["app-1", "app-2"]
    assert changed(before, invocations(lab)) == reached == order(ran)
    assert "HALTED" in ran.stdout
    assert "answered 500, not 200" in ran.said
    left = [name for name in before if name not in reached]
    assert f"Not touched: {', '.join(left)}" in ran.stdout
    by_hand = [line for line in ran.stdout.splitlines() if line.startswith("  ssh ")]
    assert all(f"-p {host.ssh_port} " in line for line in by_hand)
    for what in ("systemctl status", "journalctl", f"sudo /usr/bin/systemctl restart {UNIT}"):
        assert any(what in line for line in by_hand), ran


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("crash_loop", "did not"),
        ("missing_binary", "the restart exited with 1"),
        ("failed_condition", "a Condition of the unit does not hold"),
    ],
)
def test_a_unit_that_does_not_start_is_found_out(
    lab: Lab, runbook: Command, way: str, said: str
) -> None:
    before = invocations(lab)
    lab.spoil(lab.apps[0], way)
    ran = runbook(*RESTART, "--yes", *SOON, "-p", "settle=2s", "--format", "json", code=1)
    assert ran.json()["status"] == "halted"
    assert ran.json()["not_reached"] == ["app-2", "app-3"]
    assert {name: result["status"] for name, result in by_host(ran).items()} == {"app-1": "failed"}
    assert said in by_host(ran)["app-1"]["summary"], ran
    after = invocations(lab)
    assert [after[name] for name in ("app-2", "app-3")] == [before["app-2"], before["app-3"]]


def test_a_database_without_room_halts_at_the_canary(lab: Lab, runbook: Command) -> None:
    lab.leak(lab.apps[2], 8)
    before = invocations(lab)
    ran = runbook(*RESTART, "--yes", *SOON, "-p", "headroom=30", code=1)
    assert changed(before, invocations(lab)) == ["app-1"]
    assert "the database gate did not pass" in ran.said
    assert "8 slots are in use, more than 37 usable less 30" in ran.said


@pytest.fixture
def silent_url() -> Iterator[str]:
    """A URL that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/healthz"


def test_a_health_url_that_never_answers_halts_at_the_canary(
    lab: Lab, runbook: Command, silent_url: str
) -> None:
    runbook.declare_shop(gates=[{"http": {"url": silent_url, "timeout": "300ms"}}])
    before = invocations(lab)
    ran = runbook(*RESTART, "--yes", *SOON, code=1)
    assert changed(before, invocations(lab)) == ["app-1"]
    assert "the health gate did not pass within 2.0s" in ran.said
    assert silent_url in ran.said, ran


# ---- hosts that must not be touched


def test_a_masked_unit_is_refused_before_anything(lab: Lab, runbook: Command) -> None:
    before = invocations(lab)
    lab.spoil(lab.apps[2], "masked")
    ran = runbook(*RESTART, "--yes", code=3)
    assert f"app-3: {UNIT} is masked" in ran.said
    assert f"systemctl unmask {UNIT}" in ran.said
    assert invocations(lab) == before


def test_a_unit_that_is_not_there_is_refused_before_anything(lab: Lab, runbook: Command) -> None:
    before = invocations(lab)
    runbook.declare_shop(unit="shopp.service")
    ran = runbook(*RESTART, "--yes", code=3)
    assert "systemd has no unit shopp.service" in ran.said
    assert "services.NAME.unit" in ran.said
    assert invocations(lab) == before


@pytest.mark.parametrize(
    "rule", ["", "oncall ALL=(root) PASSWD: /usr/bin/systemctl restart shop.service"]
)
def test_sudo_that_would_refuse_is_found_out_before_anything(
    lab: Lab, runbook: Command, rule: str
) -> None:
    before = invocations(lab)
    rules = [rule, "oncall ALL=(root) NOPASSWD: /usr/bin/true"] if rule else []
    lab.sudoers(lab.apps[2], *rules)
    ran = runbook(*RESTART, "--yes", code=3)
    assert "app-3: sudo for" in ran.said
    assert "oncall ALL=(root) NOPASSWD: /usr/bin/systemctl restart shop.service" in ran.said
    assert invocations(lab) == before


def test_an_unreachable_host_counts_as_failed(lab: Lab, runbook: Command) -> None:
    first, away, last = lab.apps
    lab.stop_host(away)
    units = [lab.invocation_id(host) for host in (first, last)]
    ran = runbook(*RESTART, "--yes", code=3)
    assert "app-2 not reachable" in ran.said
    assert f"127.0.0.1:{away.ssh_port}" in ran.said
    assert [lab.invocation_id(host) for host in (first, last)] == units
    # With one failure allowed the others are restarted; a success it is not.
    runbook.declare_shop(rolling={"max_failures": 1, "min_available": "1"})
    ran = runbook(*RESTART, "--yes", code=1)
    assert order(ran) == ["app-1", "app-3"]
    assert all(lab.invocation_id(host) not in units for host in (first, last))
    assert "app-2" in ran.stdout


def test_a_batch_that_would_take_too_many_is_never_begun(lab: Lab, runbook: Command) -> None:
    before = invocations(lab)
    ran = runbook(*RESTART, "--yes", "-p", "batches=2", "-p", "min_available=2", code=3)
    assert "can never leave 2 healthy" in ran.said
    assert invocations(lab) == before


# ---- cut off half-way


def test_a_connection_lost_during_the_restart_is_looked_into_and_not_repeated(
    lab: Lab, runbook: Command
) -> None:
    host = lab.apps[0]
    before, started = lab.invocation_id(host), starts(lab, host)
    slow_start(lab, host, 2)
    running = runbook.start(*RESTART, "--yes", "-p", "hosts=app-1")
    restarting(lab, host, before)
    # sshd's process for this login goes; systemd's job goes on.
    assert lab.exec(host, ["pkill", "-KILL", "-u", "oncall", "sshd"]).rc == 0
    ran = running.finish()
    assert "the connection was lost" in ran.stderr
    assert starts(lab, host) == started + 1
    assert healthy(lab, host)


def test_a_network_that_is_cut_and_mended_meanwhile(lab: Lab, runbook: Command) -> None:
    host = lab.apps[0]
    before, started = lab.invocation_id(host), starts(lab, host)
    slow_start(lab, host, 2)
    running = runbook.start(*RESTART, "--yes", "-p", "hosts=app-1")
    restarting(lab, host, before)
    lab.cut_network(host)
    until(lambda: lab.show(host)["ActiveState"] == "active", "the end of the restart")
    lab.restore_network(host)
    running.finish()
    assert starts(lab, host) == started + 1
    assert healthy(lab, host)


#: No login any more, and those that there are end.
SHUT = "systemctl stop ssh.service; pkill -KILL -u oncall sshd"


@contextmanager
def no_ssh(lab: Lab, host: Host) -> Iterator[None]:
    """Give sshd back afterwards."""
    try:
        yield
    finally:
        lab.exec(host, ["systemctl", "start", "ssh.service"])


def test_a_host_that_vanishes_during_the_restart_is_unknown(lab: Lab, runbook: Command) -> None:
    host, *others = lab.apps
    before, started = lab.invocation_id(host), starts(lab, host)
    untouched = [lab.invocation_id(other) for other in others]
    slow_start(lab, host, 2)
    with no_ssh(lab, host):
        running = runbook.start(*RESTART, "--yes", "-p", "deadline=1s")
        restarting(lab, host, before)
        assert lab.exec(host, ["sh", "-c", SHUT]).rc == 0
        ran = running.finish(4)
    assert "UNKNOWN" in ran.stdout
    assert "Not touched: app-2, app-3" in ran.stdout
    assert f"-p {host.ssh_port}" in ran.stdout
    until(lambda: healthy(lab, host), "the restart that went on by itself")
    assert starts(lab, host) == started + 1
    assert [lab.invocation_id(other) for other in others] == untouched


def test_ctrl_c_finishes_the_host_in_flight_and_starts_no_other(lab: Lab, runbook: Command) -> None:
    before = invocations(lab)
    slow_start(lab, lab.apps[1], 2)
    running = runbook.start(*RESTART, "--yes")
    running.wait_for("app-2: restarting")
    running.interrupt()
    ran = running.finish(130)
    assert changed(before, invocations(lab)) == ["app-1", "app-2"]
    assert healthy(lab, lab.apps[1])
    assert "SIGINT: finishing app-2 (restarting), then stopping" in ran.stderr
    assert "INTERRUPTED" in ran.stdout
    assert "Not touched: app-3" in ran.stdout


def test_ctrl_c_twice_stops_waiting_and_says_what_goes_on(lab: Lab, runbook: Command) -> None:
    host = lab.apps[0]
    before = lab.invocation_id(host)
    slow_start(lab, host, 15)
    running = runbook.start(*RESTART, "--yes")
    restarting(lab, host, before)
    running.interrupt()
    running.wait_for("Once more")
    running.interrupt()
    ran = running.finish(130)
    assert lab.show(host)["ActiveState"] == "activating", "it did not stop waiting"
    assert "still going on elsewhere" in ran.said
    told = runbook("runs", "show", "last").said
    assert "status interrupted" in told
    assert f"app-1: sudo systemctl restart {UNIT}" in told
