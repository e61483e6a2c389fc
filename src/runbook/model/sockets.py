"""The TCP connections of an app host, as `ss` lists them: who still holds which socket.

One script asks all of it in one command, and ends with a line of its own: output that was cut off
would pass for sockets that are not there. Over SSH the list must hold the very connection that the
script came by; a list without it is of another network namespace, or of nothing.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from itertools import pairwise

from runbook.model.sudo import sudoers_line

#: More client ports than this do not fit into one argument of a command (128 KiB on Linux).
MOST_PORTS = 16_000
#: Bytes of a list that are kept: as many lines with their processes.
KEPT_BYTES = 2_000_000

#: $1 our name of the host; $2 the server's address; $3 its clients' ports and $4 its own, with
#: commas between; $5 `ssh` or `local`. Of the sockets, those in states in which a process may still
#: use its end are listed: in `fin-wait` it has closed it, and only the last word has not been
#: answered. Root is shown whose they are; others see them all as well, without processes.
_SCRIPT = r"""
look() {
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
open='state established state syn-sent state syn-recv state close-wait'
mine=''; test "$5" = local || mine=$SSH_CONNECTION
echo "== host: $1"
echo "== user"; id -un; command -v ss
echo "== addresses"; ip -o addr show
echo "== route"; test -z "$2" || ip -o route get "$2"
echo "== links"; ip -o link show
echo "== forwarding"; cat /proc/sys/net/ipv[46]/conf/*/forwarding | sort -u
echo "== forwarded"; grep '^Ip:' /proc/net/snmp; grep ForwDatagrams /proc/net/snmp6
echo "== came by"; echo "$mine"
if test "$(id -u)" = 0; then as=all; out=$(ss -Htnp $open) || as=failed
elif out=$(sudo -n ss -Htnp $open 2>/dev/null); then as=all
else as=own; out=$(ss -Htnp $open) || as=failed; fi
out=$(printf '%s\n' "$out" | awk -v clients="$3" -v servers="$4" -v mine="$mine" '
  BEGIN { n = split(clients, c, ","); for (i = 1; i <= n; i++) client[c[i]] = 1
          n = split(servers, s, ","); for (i = 1; i <= n; i++) server[s[i]] = 1
          split(mine, m, " ") }
  { a = $4; sub(/.*:/, "", a); b = $5; sub(/.*:/, "", b)
    if (a in client || b in server || (a == m[4] && b == m[2])) print }')
echo "== sockets: $as"; printf '%s\n' "$out"
pids=$(printf '%s\n' "$out" | grep -o 'pid=[0-9]*' | sort -u | sed 's,pid=,/proc/,; s,$,/cgroup,')
echo "== units"; test -z "$pids" || grep -sH . $pids
echo "== end"
}
"""
#: The script comes by standard input: an error then names this, and not the whole of it.
ARGV = ("sh", "-s", "open-sockets")

#: What a whole answer is made of, in this order and nothing else: the name of a process is chosen
#: by whoever runs it, and may hold a line of its own.
_PARTS = (
    "host",
    "user",
    "addresses",
    "route",
    "links",
    "forwarding",
    "forwarded",
    "came by",
    "sockets",
    "units",
    "end",
)

#: `users:(("gunicorn",pid=812,fd=8),("gunicorn",pid=813,fd=8))`
_USER = re.compile(r'\("(?P<name>.*?)",pid=(?P<pid>\d+),fd=\d+\)')
_CGROUP = re.compile(r"/proc/(?P<pid>\d+)/cgroup:\d+:(?P<of>[^:]*):(?P<path>.*)")
_UNIT = re.compile(r"[^/]+\.(?:service|scope)$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Socket:
    """One open TCP connection of a host, mostly to a database's port."""

    local_addr: str
    local_port: int
    peer_addr: str
    peer_port: int
    #: The process that holds it; None where we may not see other users' processes.
    process: str | None = None
    #: None also when several processes hold it: a fork inherits its parent's sockets, and which of
    #: them speaks on one cannot be seen.
    pid: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class HostSockets:
    """What one host told of its connections to a database."""

    #: The inventory's host.
    host: str
    #: The host's own addresses: a session that comes from none of them was translated on its way.
    addresses: tuple[str, ...]
    sockets: tuple[Socket, ...]
    #: Whether the processes were shown to us (root, or `sudo -n ss`).
    sees_processes: bool
    #: systemd units of the processes, by pid, where they are known.
    units: dict[int, str]
    #: Why there is nothing here, with what would mend it; "" when the host answered.
    error: str = ""
    #: The one of its addresses from which it reaches the server; "" when it was not told which.
    source: str = ""
    #: Why a session from its address may be another machine's or a container's; "" if it cannot.
    forwards: str = ""
    #: The sudoers line with which the processes would be shown; "" when they are.
    sudoers: str = ""


def sockets_script(
    host: str, server: str, clients: Collection[int], ports: Collection[int], *, local: bool
) -> str:
    """Return what `ARGV` reads to list a host's sockets.

    Args:
        host: the inventory's name of the host; it comes back with the answer.
        server: the database server's address, or "" when it is not known.
        clients: the client ports of the server's sessions, `MOST_PORTS` at most.
        ports: the ports under which the server may be dialled.
        local: whether the host is this very machine, so that no SSH connection leads there.
    """
    listed = (",".join(map(str, sorted(set(numbers)))) for numbers in (clients, ports))
    words = (host, server, *listed, "local" if local else "ssh")
    return f"{_SCRIPT}look {shlex.join(words)} </dev/null\n"


def unanswered(host: str, error: str) -> HostSockets:
    """Return a host that told nothing, and why."""
    return HostSockets(
        host=host, addresses=(), sockets=(), sees_processes=False, units={}, error=error
    )


def parse_sockets(text: str) -> HostSockets:
    """Parse what the script printed; anything but a whole answer is an error that says why."""
    headings, parts = _sections(text)
    host = dict(headings).get("host", "a host")
    if tuple(name for name, _ in headings) != _PARTS:
        return unanswered(host, "the list of its sockets came cut off or garbled")
    user, program = [*parts["user"], "", ""][:2]
    if not program:
        return unanswered(host, "it has no ss (package iproute2)")
    sockets = tuple(socket for line in parts["sockets"] if (socket := _socket(line)))
    listed = dict(headings)["sockets"]
    if listed == "failed" or not _came_by(parts["came by"], sockets):
        return unanswered(host, "its ss does not show the machine's own sockets")
    sees = listed == "all"
    return HostSockets(
        host=host,
        addresses=tuple(_addresses(parts["addresses"])),
        sockets=sockets,
        sees_processes=sees,
        units=_units(parts["units"]),
        source=plain(_after("src", " ".join(parts["route"]).split())),
        forwards=_forwards(parts),
        sudoers="" if sees else sudoers_line(user, (program,)),
    )


@lru_cache(maxsize=4096)  # asked of every session several times, and few addresses differ
def plain(address: str) -> str:
    """Return an address in its one spelling: an IPv4 address mapped into IPv6 is that address."""
    bare = address.strip("[]").partition("%")[0]
    try:
        known = ip_address(bare)
    except ValueError:
        return bare
    mapped = getattr(known, "ipv4_mapped", None)
    return str(mapped or known)


def _sections(text: str) -> tuple[list[tuple[str, str]], dict[str, list[str]]]:
    """Return the headings in order, each with the word after it, and the lines under each."""
    headings: list[tuple[str, str]] = []
    parts: dict[str, list[str]] = {}
    for line in text.split("\n"):
        if line.startswith("== "):
            name, _, word = line.removeprefix("== ").partition(": ")
            headings.append((name, word))
            parts[name] = []
        elif headings and line.strip():
            parts[headings[-1][0]].append(line)
    return headings, parts


def _socket(line: str) -> Socket | None:
    """Parse `ESTAB 0 0 10.0.1.1:40000 10.0.0.5:5432 users:(…)`; None for anything else."""
    words = line.split(None, 5)
    if len(words) < 5:
        return None
    local_addr, _, local_port = words[3].rpartition(":")
    peer_addr, _, peer_port = words[4].rpartition(":")
    if not (local_port.isdigit() and peer_port.isdigit()):
        return None
    users = dict(_users(words[5] if len(words) > 5 else ""))
    names = set(users.values())
    return Socket(
        local_addr=plain(local_addr),
        local_port=int(local_port),
        peer_addr=plain(peer_addr),
        peer_port=int(peer_port),
        process=names.pop() if len(names) == 1 else None,
        pid=next(iter(users)) if len(users) == 1 else None,
    )


def _users(text: str) -> list[tuple[int, str]]:
    return [(int(found["pid"]), found["name"]) for found in _USER.finditer(text)]


def _addresses(lines: list[str]) -> list[str]:
    """Return the addresses of `2: eth0    inet 10.0.1.1/24 brd …`; a peer's is not the host's."""
    found = (_after("inet", line.split()) or _after("inet6", line.split()) for line in lines)
    return [plain(address.partition("/")[0]) for address in found if address]


def _after(word: str, words: list[str]) -> str:
    return next((b for a, b in pairwise(words) if a == word), "")


def _came_by(lines: list[str], sockets: tuple[Socket, ...]) -> bool:
    """Whether our own SSH connection is among the sockets; true where there is none to look for."""
    if not lines:
        return True
    words = lines[0].split()
    if len(words) != 4:
        return False
    ours = (plain(words[2]), words[3], plain(words[0]), words[1])
    return any(
        (s.local_addr, str(s.local_port), s.peer_addr, str(s.peer_port)) == ours for s in sockets
    )


def _units(lines: list[str]) -> dict[int, str]:
    """Return the units of `/proc/812/cgroup:0::/system.slice/shop.service`, either cgroup version.

    The innermost unit of the path is the process's: a unit may keep cgroups of its own below.
    """
    units: dict[int, str] = {}
    for line in lines:
        found = _CGROUP.fullmatch(line)
        if not found or found["of"] not in {"", "name=systemd"}:
            continue
        inner = [part for part in found["path"].split("/") if _UNIT.fullmatch(part)]
        if inner:
            units[int(found["pid"])] = inner[-1]
    return units


def _forwards(parts: dict[str, list[str]]) -> str:
    """Say why a session from the host's address may be somebody else's; "" when it cannot be.

    A container's or another machine's connection gets the host's address when the host forwards
    and translates it, and is then in no list of the host's own sockets. A host that forwards
    nothing has none; one that may, and never did, over its one link, has none either.
    """
    if parts["forwarding"] and "1" not in parts["forwarding"]:
        return ""
    links = [line for line in parts["links"] if ": lo:" not in line]
    forwarded = _forwarded(parts["forwarded"])
    if len(links) == 1 and forwarded == 0:
        return ""
    return (
        "it forwards packets (net.ipv4.ip_forward), so containers or machines behind it may bear"
        " its address"
    )


def _forwarded(lines: list[str]) -> int | None:
    """Return how many packets the host has forwarded; None when it does not tell."""
    table = [line.split() for line in lines if line.startswith("Ip:")]
    if len(table) != 2 or "ForwDatagrams" not in table[0] or len(table[0]) != len(table[1]):
        return None
    # A host without IPv6 has no second count.
    counts = [_after("Ip6OutForwDatagrams", line.split()) for line in lines]
    counts.append(table[1][table[0].index("ForwDatagrams")])
    return sum(int(count) for count in counts if count.isdigit())
