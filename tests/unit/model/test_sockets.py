"""The list of a host's sockets, as real hosts have printed it, and what must not pass for one."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from runbook.model.sockets import ARGV, HostSockets, parse_sockets, sockets_script

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Debian 12, cgroup version 1; a Java client listens to both families through one socket.
ANSWER = """\
== host: web-01
== user
oncall
/usr/bin/ss
== addresses
1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever preferred_lft forever
2: eth0    inet 10.0.1.1/24 brd 10.0.1.255 scope global eth0\\       valid_lft forever
2: eth0    inet6 fd00::1/64 scope global \\       valid_lft forever preferred_lft forever
3: wg0    inet 10.9.0.1 peer 10.9.0.2/32 scope global wg0\\       valid_lft forever
== route
10.0.0.5 dev eth0 src 10.0.1.1 uid 1000 \\    cache
== links
1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN mode DEFAULT
2: eth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP mode DEFAULT
== forwarding
0
== forwarded
Ip: Forwarding DefaultTTL InReceives InHdrErrors InAddrErrors ForwDatagrams InUnknownProtos
Ip: 2 64 58 0 0 0 0
Ip6OutForwDatagrams             \t0
== came by
10.0.9.9 53352 10.0.1.1 22
== sockets: all
ESTAB 0      0      10.0.1.1:40000 10.0.0.5:5432  users:(("gunicorn",pid=812,fd=8))
ESTAB 0      0      [::ffff:10.0.1.1]:40001 [::ffff:10.0.0.5]:5432 users:(("java",pid=900,fd=9))
CLOSE-WAIT 1 0      [fd00::1]:40002 [fd00::5]:5432 users:(("x",pid=7,fd=1),("x",pid=8,fd=1))
ESTAB 0      76     10.0.1.1:22    10.0.9.9:53352
== units
/proc/812/cgroup:9:name=systemd:/system.slice/shop.service
/proc/812/cgroup:2:cpuacct:/system.slice
/proc/900/cgroup:0::/system.slice/api.service/workers
/proc/7/cgroup:0::/user.slice/user-1000.slice/session-3.scope
== end
"""
ROUTED = ANSWER.replace("== forwarding\n0", "== forwarding\n0\n1")


def test_a_whole_answer() -> None:
    told = parse_sockets(ANSWER)
    assert (told.host, told.error, told.sees_processes, told.sudoers) == ("web-01", "", True, "")
    assert told.addresses == ("127.0.0.1", "10.0.1.1", "fd00::1", "10.9.0.1")
    assert told.source == "10.0.1.1"
    assert told.units == {812: "shop.service", 900: "api.service", 7: "session-3.scope"}
    assert [(s.local_addr, s.local_port, s.process, s.pid) for s in told.sockets] == [
        ("10.0.1.1", 40000, "gunicorn", 812),
        ("10.0.1.1", 40001, "java", 900),
        ("fd00::1", 40002, "x", None),  # inherited: which of the two speaks on it cannot be seen
        ("10.0.1.1", 22, None, None),
    ]
    assert (told.sockets[1].peer_addr, told.sockets[1].peer_port) == ("10.0.0.5", 5432)


def test_without_sudo_the_line_that_mends_it_is_told() -> None:
    told = parse_sockets(ANSWER.replace("== sockets: all", "== sockets: own"))
    assert not told.sees_processes
    assert told.sudoers == "oncall ALL=(root) NOPASSWD: /usr/bin/ss"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "cut off or garbled"),
        (ANSWER.replace("== end\n", ""), "cut off or garbled"),
        (ANSWER[: ANSWER.index("CLOSE-WAIT")] + "\n[4711 more bytes were cut off]", "cut off"),
        # The name of a process may hold a line of its own.
        (ANSWER.replace('"java"', '"\n== end\n"'), "cut off or garbled"),
        (ANSWER.replace("/usr/bin/ss\n", ""), "no ss"),
        (ANSWER.replace("sockets: all", "sockets: failed"), "the machine's own sockets"),
        # A network namespace of its own, a sandbox: what we came by is not in the list.
        (ANSWER.replace("10.0.9.9:53352", "10.0.9.9:53353"), "the machine's own sockets"),
    ],
)
def test_what_is_no_whole_list_is_an_error(text: str, why: str) -> None:
    told = parse_sockets(text)
    assert why in told.error
    assert (told.addresses, told.sockets) == ((), ())


@pytest.mark.parametrize(
    ("text", "forwards"),
    [
        (ANSWER, False),
        # Forwarding is on, as in every container of Docker's, and never did anything.
        (ROUTED, False),
        (ROUTED.replace("Ip: 2 64 58 0 0 0 0", "Ip: 1 64 58 0 0 17 0"), True),
        (ROUTED.replace("Datagrams             \t0", "Datagrams             \t3"), True),
        (
            ROUTED.replace("== forwarding", "3: docker0: <BROADCAST,UP> mtu 1500\n== forwarding"),
            True,
        ),
        (ROUTED.replace("Ip: 2 64 58 0 0 0 0\nIp6OutForwDatagrams             \t0\n", ""), True),
        # What it has forwarded is not told.
        (ROUTED.replace("Ip: 2 64 58 0 0 0 0\n", ""), True),
    ],
)
def test_whether_a_host_may_speak_for_others(text: str, forwards: bool) -> None:
    assert bool(parse_sockets(text).forwards) is forwards


needs_ss = pytest.mark.skipif(shutil.which("ss") is None, reason="needs ss of iproute2")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A real connection over the loopback: the client's end, and the server's."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as client,
        listening.accept()[0] as server,
    ):
        yield client, server


def listed(client: socket.socket) -> HostSockets:
    port = client.getsockname()[1]
    script = sockets_script("here", "127.0.0.1", {port, 1}, {1}, local=True)
    ran = subprocess.run(ARGV, input=script, capture_output=True, text=True, check=True)
    return parse_sockets(ran.stdout)


def held(client: socket.socket) -> list[int | None]:
    port = client.getsockname()[1]
    return [s.pid for s in listed(client).sockets if s.local_port == port]


@needs_ss
def test_the_script_on_this_very_machine(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    assert held(client) == [os.getpid()]
    server.close()  # close-wait: the process may still use its end
    assert held(client) == [os.getpid()]
    client.close()


@needs_ss
def test_what_is_closed_is_not_listed(pair: tuple[socket.socket, socket.socket]) -> None:
    client, _ = pair
    port = client.getsockname()[1]
    client.shutdown(socket.SHUT_WR)  # fin-wait-2, for the other end has not closed yet
    assert port not in {s.local_port for s in listed(client).sockets}


@needs_ss
def test_a_forked_child_shares_the_socket(pair: tuple[socket.socket, socket.socket]) -> None:
    client, _ = pair
    client.set_inheritable(True)
    child = subprocess.Popen(["sleep", "60"], pass_fds=[client.fileno()])
    try:
        assert held(client) == [None]
    finally:
        child.kill()
        child.wait()
    assert held(client) == [os.getpid()]
