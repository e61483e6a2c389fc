"""What a PostgreSQL server's host tells of its sessions without a connection, by one script.

The script is POSIX sh, goes to the host's shell on stdin, and runs no program for each process:
5,000 backends are read by a handful of greps. Titles come last and end in NUL, because they may
hold anything: whatever a role is called, it cannot pass for another part of the answer.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runbook.model.processes import SUPERUSER, ProcessKind, ServerProcess, ServerProcesses

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTINGS = (
    "max_connections",
    "superuser_reserved_connections",
    "reserved_connections",
    "max_wal_senders",
    "cluster_name",
)

#: Sets `found` to the postmaster that listens on $port, and `how` to what proves it. Several
#: clusters may be on one host: postmaster.pid in a postmaster's working directory (its data
#: directory) has its port, and its socket's lock file its pid; where neither may be read, its
#: own sockets or its arguments tell.
_FIND = r"""
postmasters() {
    grep -h -e '^[0-9]* (postgres) ' -e '^[0-9]* (postmaster) ' -e '^[0-9]* (edb-postgres) ' \
        /proc/[0-9]*/stat 2>/dev/null </dev/null |
        awk '{ parent[$1] = $4; child[$4] = 1 }
             END { for (pid in parent) if (!(parent[pid] in parent) && pid in child) print pid }'
}
find_postmaster() {
    found= how= ports= blind= count=0
    locked=
    if [ -r "$lock" ]; then read -r locked <"$lock"; fi
    listening=$(ss -Hltnp "sport = :$port" 2>/dev/null </dev/null)
    for master in $(postmasters); do
        count=$((count + 1))
        file=/proc/$master/cwd/postmaster.pid
        if [ -r "$file" ]; then
            { read -r pid && read -r _ && read -r _ && read -r listens; } <"$file"
            if [ "$pid" = "$master" ]; then
                ports="$ports $listens"
                if [ "$listens" = "$port" ]; then found=$master how=pidfile; fi
                continue
            fi
        fi
        if [ "$locked" = "$master" ]; then found=$master how=lock; continue; fi
        case $listening in *"pid=$master,"*) found=$master how=socket; continue ;; esac
        case " $(tr '\0' ' ' <"/proc/$master/cmdline" 2>/dev/null) " in
        *" -p $port "* | *" -p$port "* | *"port=$port "*) found=$master how=arguments ;;
        *) blind="$blind $master" ;;
        esac
    done
    if [ -z "$found" ] && [ "$count" = 1 ] && [ -n "$blind" ]; then found=${blind# } how=only; fi
}
"""

_LOOK = r"""
main() {
    LC_ALL=C PATH=$PATH:/usr/sbin:/sbin:/usr/bin:/bin port=@PORT@ lock=@LOCK@
    export LC_ALL PATH
    cd /
    read -r uptime _ </proc/uptime
    echo "look $(id -un) $(getconf CLK_TCK 2>/dev/null || echo 100) $uptime"
    echo "at $(date -u +%Y-%m-%dT%H:%M:%SZ)"
    find_postmaster
    if [ -z "$found" ]; then echo "none $count$ports"; return; fi
    echo "postmaster $how $(cat "/proc/$found/stat")"
    children=$(grep -h "^[0-9]* (.*) [A-Za-z] $found " /proc/[0-9]*/stat 2>/dev/null </dev/null)
    printf '%s\n' "$children" | sed 's/^/child /'
    files() { printf '%s\n' "$children" | awk -v name="$1" 'NF { print "/proc/" $1 "/" name }'; }
    grep -H '^voluntary_ctxt_switches' $(files status) /dev/null 2>/dev/null </dev/null
    clients
    settings
    echo titles
    grep -aHzZ -m1 . $(files cmdline) /dev/null 2>/dev/null </dev/null
    printf '@END@'
}
clients() {
    if ! command -v ss >/dev/null; then echo "noss"; return; fi
    ss -Htni state established "sport = :$port" 2>/dev/null </dev/null | awk '
        /^[ \t]/ {
            silent = sent = "-"
            for (i = 1; i <= NF; i++) {
                if ($i ~ /^lastrcv:/) silent = substr($i, 9)
                if ($i ~ /^bytes_received:/) sent = substr($i, 16)
            }
            print "client", peer, silent, sent
            next
        }
        { peer = $4 }'
}
settings() {
    exe=$(readlink "/proc/$found/exe" 2>/dev/null)
    [ -x "$exe" ] || return
    echo "version $("$exe" -V 2>/dev/null </dev/null)"
    PGDATA=$(readlink "/proc/$found/cwd") EXE=$exe xargs -0 sh -c '
        shift
        for name in @SETTINGS@; do
            (value=$("$EXE" -C "$name" "$@" </dev/null) && echo "setting $name $value") &
        done
        wait' _ <"/proc/$found/cmdline" 2>/dev/null
}
main
"""

#: Right before the signal each session is looked at once more, and everything about it must be as
#: it was seen: the process, whose child it is, its state, and that nothing has happened since.
#: While `ss` runs the session might move: a sleeping process without a switch since did not.
_SIGNAL = r"""
main() {
    LC_ALL=C PATH=$PATH:/usr/sbin:/sbin:/usr/bin:/bin port=@PORT@ lock=@LOCK@
    export LC_ALL PATH
    cd /
    find_postmaster
    echo "signal ${found:-none}"
    [ -n "$found" ] || return
@CALLS@
}
look() {
    { IFS= read -r line <"/proc/$pid/stat"; } 2>/dev/null || return 1
    began= parent= run=
    facts ${line##*) }
    switches= title=
    while read -r key value; do
        [ "$key" = voluntary_ctxt_switches: ] && switches=$value
    done 2>/dev/null <"/proc/$pid/status"
    IFS= read -r title 2>/dev/null <"/proc/$pid/cmdline"
    [ "$began" = "$ticks" ] && [ "$parent" = "$found" ]
}
facts() { run=$1 parent=$2; shift 19; began=$1; }
same_state() { case $title in "postgres: "*" $state") return 0 ;; esac; return 1; }
has_sent() {
    peer=${title% "$state"} peer=${peer##* }
    address=${peer%(*} peer=${peer##*(} peer=${peer%)}
    case $address in *[!0-9a-fA-F:.]*) return 1 ;; *:*) address="[$address]" ;; esac
    case $peer in '' | *[!0-9]*) return 1 ;; esac
    peer="dst = $address:$peer"
    told=$(ss -Htni state established "sport = :$port and $peer" 2>/dev/null </dev/null)
    case "$told " in *" bytes_received:$1 "*) return 0 ;; esac
    return 1
}
one() {
    pid=$1 ticks=$2 mark=$3 number=$4 state=$5
    for try in 1 2 3 4 5; do
        look || { echo "gone $pid"; return; }
        same_state || break
        before=$switches
        if [ "$mark" = received ]; then
            has_sent "$number" || break
            look && same_state || break
        else
            before=$number
        fi
        if [ "$run" = S ] && [ "$switches" = "$before" ]; then
            kill -TERM "$pid" 2>/dev/null && echo "signalled $pid" || echo "denied $pid"
            return
        fi
        [ "$mark" = received ] || break
    done
    echo "moved $pid"
}
main
"""

#: `user db 10.0.0.5(43210) idle`, `user db [local] idle`; roles and databases may hold blanks, so
#: the last thing that looks like a peer is the peer: what follows is a command's tag.
_PEER = re.compile(
    r"(?P<who>\S.*) (?:(?P<local>\[local\])|(?P<addr>[^\s()]+)\((?P<port>\d{1,5})\))"
    r"(?: (?P<activity>.*))?",
    re.DOTALL,
)
#: The answer's last word: without it something is missing.
_END = "\0end of titles\0"
_IDLE = ("idle", "idle in transaction", "idle in transaction (aborted)")
_LOGGING_IN = ("authentication", "startup", "initializing")


class LookFailed(Exception):
    """The host's answer holds no server: what it said, and what to do about it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def look_script(port: int, socket_dir: str) -> str:
    """Return the script that tells the processes of the server on `port`."""
    text = _at(_FIND + _LOOK, port, socket_dir).replace("@END@", _END.replace("\0", r"\0"))
    return text.replace("@SETTINGS@", " ".join(SETTINGS))


def _at(script: str, port: int, socket_dir: str) -> str:
    lock = shlex.quote(f"{socket_dir}/.s.PGSQL.{port}.lock")
    return script.replace("@PORT@", str(port)).replace("@LOCK@", lock)


def signal_script(port: int, socket_dir: str, calls: list[tuple[int, int, str, int, str]]) -> str:
    """Return the script that signals sessions: (pid, start ticks, mark, number, state) each.

    Raises:
        ValueError: for a mark or a state that is none; nothing else reaches the shell.
    """
    lines = []
    for pid, ticks, mark, number, state in calls:
        if mark not in {"received", "switches"} or state not in _IDLE:
            raise ValueError(f"a session {state!r} by {mark!r} cannot be signalled from the host")
        lines.append(f"    one {pid:d} {ticks:d} {mark} {number:d} '{state}'")
    return _at(_FIND + _SIGNAL, port, socket_dir).replace("@CALLS@", "\n".join(lines))


@dataclass(kw_only=True)
class _Told:
    """The script's answer, line by line."""

    user: str = ""
    hertz: int = 100
    uptime: float = 0.0
    at: str = ""
    #: How the postmaster was told, and its line of /proc/PID/stat.
    how: str = ""
    postmaster: str = ""
    children: list[str] = field(default_factory=list)
    switches: dict[int, int] = field(default_factory=dict)
    #: By the client's address and port: seconds of silence, bytes sent.
    clients: dict[tuple[str, int], tuple[float | None, int | None]] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    version: str = ""
    no_ss: bool = False
    titles: dict[int, str] = field(default_factory=dict)


def read_look(host: str, port: int, stdout: str) -> tuple[str, ServerProcesses]:
    """Return who the script ran as, and the server's processes as it told them.

    Raises:
        LookFailed: when no server on that port could be told, or the answer is garbage.
    """
    head, found, rest = stdout.partition("\ntitles\n")
    told = _Told()
    for line in head.split("\n"):
        word, _, text = line.partition(" ")
        if word == "none":
            raise _no_server(host, port, text)
        if reader := _READERS.get(word):
            reader(told, text)
        elif match := re.fullmatch(r"/proc/(\d+)/status:voluntary_ctxt_switches:\s+(\d+)", line):
            told.switches[int(match[1])] = int(match[2])
    if not told.postmaster or not found or not rest.endswith(_END):
        said = " ".join(stdout[:200].split()) or "nothing"
        raise LookFailed(
            f"{host} did not tell its processes to the end: {said}",
            f"is {host} a Linux host with GNU grep?",
        )
    told.titles = dict(_titles(rest))
    return told.user, _processes(host, port, told)


def _no_server(host: str, port: int, text: str) -> LookFailed:
    count, *ports = text.split()
    listen = f", on the ports {', '.join(ports)}" if ports else ""
    here = "no PostgreSQL runs there" if count == "0" else f"{count} servers run there{listen}"
    return LookFailed(
        f"{host} has no server that can be told to listen on port {port}: {here}",
        "databases.….local.port is the port on the server's own host; whose server is whose can be"
        " read only as the operating-system user that it runs as",
    )


def _read_look(told: _Told, text: str) -> None:
    told.user, hertz, uptime = text.split()
    told.hertz, told.uptime = int(hertz), float(uptime)


def _read_postmaster(told: _Told, text: str) -> None:
    told.how, _, told.postmaster = text.partition(" ")


def _read_client(told: _Told, text: str) -> None:
    peer, silent, sent = text.split()
    address, _, port = peer.rpartition(":")
    key = (address.strip("[]").removeprefix("::ffff:"), int(port))
    told.clients[key] = (
        int(silent) / 1000 if silent != "-" else None,
        int(sent) if sent != "-" else None,
    )


def _read_setting(told: _Told, text: str) -> None:
    name, _, value = text.partition(" ")
    told.settings[name] = value


def _read_version(told: _Told, text: str) -> None:
    match = re.search(r"\d+[\d.]*\S*", text)
    told.version = match[0] if match else ""


_READERS = {
    "look": _read_look,
    "at": lambda told, text: setattr(told, "at", text),
    "postmaster": _read_postmaster,
    "child": lambda told, text: told.children.append(text),
    "client": _read_client,
    "noss": lambda told, _: setattr(told, "no_ss", True),
    "setting": _read_setting,
    "version": _read_version,
}


def _titles(text: str) -> Iterator[tuple[int, str]]:
    """Yield pid and title; each comes as its file's name, NUL, the title, NUL."""
    parts = text.split("\0")
    for name, title in zip(parts[::2], parts[1::2], strict=False):
        if match := re.fullmatch(r"/proc/(\d+)/cmdline", name):
            yield int(match[1]), title


def _processes(host: str, port: int, told: _Told) -> ServerProcesses:
    prefix = _prefix(told)
    room = _title_room(told.postmaster)
    processes = []
    for line in told.children:
        pid = int(line.split(" ", 1)[0])
        # What ended between two looks of the script is gone.
        if pid in told.titles and pid in told.switches:
            processes.append(_process(pid, line, told, prefix, room))
    return ServerProcesses(
        host=host,
        processes=tuple(processes),
        settings=told.settings,
        version=told.version,
        at=told.at,
        unseen=tuple(_unseen(host, port, told, processes)),
    )


def _prefix(told: _Told) -> str:
    """Return what every title begins with: `postgres: `, and the cluster_name, if it has one.

    The checkpointer, which every server has, bears both and nothing else.
    """
    for title in told.titles.values():
        match = re.fullmatch(r"(postgres: (?:.*: )?)checkpointer ?", title, re.DOTALL)
        if match:
            return match[1]
    return "postgres: "


def _title_room(postmaster: str) -> int | None:
    """Return how many bytes a title may have; None when it is not told.

    It is written over the arguments and the environment that the postmaster was started with
    (fields 48 to 51 of /proc/PID/stat), and cut where these end.
    """
    fields = postmaster.rpartition(") ")[2].split()
    if len(fields) < 49 or fields[45] == "0":
        return None
    return int(fields[48]) - int(fields[45])


@dataclass(frozen=True, kw_only=True)
class _Title:
    """What a title says."""

    kind: ProcessKind
    role: str | None = None
    database: str | None = None
    addr: str | None = None
    port: int | None = None
    activity: str = ""


def read_title(title: str, prefix: str = "postgres: ") -> _Title:
    """Return what a title says; what it does not say clearly is None, never guessed."""
    if not title.startswith("postgres: "):
        # It still bears the postmaster's arguments: it has not read a login yet.
        return _Title(kind="logging_in")
    match = _PEER.fullmatch(title.removeprefix(prefix).rstrip(" "))
    if match is None:
        return _Title(kind="other")
    who = match["who"].split(" ")
    activity = match["activity"] or ""
    kind: ProcessKind = "client"
    if who[0] == "walsender":
        kind, who = "walsender", who[1:]
    elif activity in _LOGGING_IN:
        kind = "logging_in"
    named = len(who) == 2
    return _Title(
        kind=kind,
        role=who[0] if named else None,
        database=who[1] if named else None,
        addr=match["addr"],
        port=int(match["port"]) if match["port"] else None,
        activity=activity,
    )


def _process(pid: int, line: str, told: _Told, prefix: str, room: int | None) -> ServerProcess:
    title = told.titles[pid]
    seen = read_title(title, prefix)
    fields = line.rpartition(") ")[2].split()
    ticks = int(fields[19])
    state, waiting = _state(seen)
    # A title that fills its room may be cut off: `idle` of `idle in transaction`.
    if room is not None and len(title.encode()) >= room - 2:
        state = ""
    silent, received = told.clients.get((seen.addr or "", seen.port or 0), (None, None))
    return ServerProcess(
        pid=pid,
        kind=seen.kind,
        role=seen.role,
        database=seen.database,
        client_addr=seen.addr,
        client_port=seen.port,
        state=state,
        waiting=waiting,
        age_s=max(0.0, round(told.uptime - ticks / told.hertz, 2)),
        start_ticks=ticks,
        switches=told.switches[pid],
        title=title,
        silent_s=silent,
        received=received,
    )


def _state(seen: _Title) -> tuple[str, bool]:
    """Return the state as pg_stat_activity names it, and whether it waits for a lock."""
    if seen.kind not in {"client", "walsender"} or not seen.activity:
        return "", False
    activity = seen.activity.removesuffix(" waiting")
    return (activity if activity in _IDLE else "active"), activity != seen.activity


def _unseen(host: str, port: int, told: _Told, processes: list[ServerProcess]) -> Iterator[str]:
    clients = [p for p in processes if p.kind == "client"]
    yield (
        f"which roles are superusers, apart from {SUPERUSER!r}: their sessions are taken for those"
        " of ordinary roles"
    )
    if told.how == "only":
        yield f"{host}: which port its one server listens on; it is taken for the one on {port}"
    if told.no_ss:
        yield f"{host}: how long clients have been silent: `ss` is not there (package iproute2)"
    if any(not p.state for p in clients):
        yield (
            "what some sessions do: their titles do not tell (update_process_title is off, or they"
            " are cut)"
        )
    if any(p.role is None for p in clients):
        yield "whose some sessions are: a role or a database with blanks in its name"
