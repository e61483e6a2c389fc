"""What a PostgreSQL server's host told of its sessions, without a connection, read back.

What a title does not say clearly is not guessed; see `server_scripts` for how it was asked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runbook.model.processes import SUPERUSER, ProcessKind, ServerProcess, ServerProcesses
from runbook.model.server_scripts import END, IDLE, TITLES

if TYPE_CHECKING:
    from collections.abc import Iterator

#: `user db 10.0.0.5(43210) idle`, `user db [local] idle`; roles and databases may hold blanks, so
#: the last thing that looks like a peer is the peer: what follows is a command's tag.
_PEER = re.compile(
    r"(?P<who>\S.*) (?:(?P<local>\[local\])|(?P<addr>[^\s()]+)\((?P<port>\d{1,5})\))"
    r"(?: (?P<activity>.*))?",
    re.DOTALL,
)
_CLIENT = re.compile(
    r"(?P<address>\S+):(?P<port>\d{1,5}) (?P<silent>\d+|-) (?P<sent>\d+|-)", re.ASCII
)
#: What pg_control keeps of the settings that slots are counted by.
_STARTED_WITH = ("max_connections", "max_wal_senders")
_LOGGING_IN = ("authentication", "startup", "initializing")


class LookFailed(Exception):
    """The host's answer holds no server: what it said, and what to do about it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(kw_only=True)
class _Told:
    """The script's answer, line by line."""

    user: str = ""
    hertz: int = 100
    #: When the script looked, in clock ticks since boot, as the starts of processes are told.
    now: int = 0
    at: str = ""
    #: How the postmaster was told, and its line of /proc/PID/stat.
    how: str = ""
    postmaster: str = ""
    children: list[str] = field(default_factory=list)
    switches: dict[int, int] = field(default_factory=dict)
    #: By the client's address and port: seconds of silence, bytes sent.
    clients: dict[tuple[str, int], tuple[float | None, int | None]] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    #: What the server was started with (pg_controldata); `state` says whether it is so still.
    control: dict[str, str] = field(default_factory=dict)
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
        if word == "rivals":
            raise _rivals(host, port, text)
        if reader := _READERS.get(word):
            reader(told, text)
        elif match := re.fullmatch(r"/proc/(\d+)/status:voluntary_ctxt_switches:\s+(\d+)", line):
            told.switches[int(match[1])] = int(match[2])
    if not told.postmaster or not found or not rest.endswith(END):
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


def _rivals(host: str, port: int, count: str) -> LookFailed:
    return LookFailed(
        f"{host} has {count} servers on port {port}, and nothing tells which one is meant",
        "databases.….local.socket_dir is the folder of its socket, which tells them apart",
    )


def _read_look(told: _Told, text: str) -> None:
    told.user, hertz, now = text.split()
    told.hertz, told.now = int(hertz), int(now)


def _read_postmaster(told: _Told, text: str) -> None:
    told.how, _, told.postmaster = text.partition(" ")


def _read_client(told: _Told, text: str) -> None:
    # A connection that is just ending shows `*:*`; it is no session's, and no reason to give up.
    match = _CLIENT.fullmatch(text)
    if match is None:
        return
    silent, sent = match["silent"], match["sent"]
    key = (match["address"].strip("[]").removeprefix("::ffff:"), int(match["port"]))
    told.clients[key] = (
        int(silent) / 1000 if silent != "-" else None,
        int(sent) if sent != "-" else None,
    )


def _read_setting(told: _Told, text: str) -> None:
    name, _, value = text.partition(" ")
    told.settings[name] = value


def _read_control(told: _Told, text: str) -> None:
    name, _, value = text.partition(" ")
    told.control[name] = value


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
    "control": _read_control,
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
        settings={**told.settings, **_running(told)},
        version=told.version,
        at=told.at,
        unseen=tuple(_unseen(host, port, told, processes)),
    )


def _running(told: _Told) -> dict[str, str]:
    """Return what the server runs with, where its files may say what a restart waits for.

    A standby's pg_control has the values of its primary.
    """
    if told.control.get("state") != "in production":
        return {}
    return {name: told.control[name] for name in _STARTED_WITH if name in told.control}


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
    # A title that fills its room may be cut off: `idle` of `idle in transaction`. One that is not
    # kept up says what was.
    cut_off = room is not None and len(title.encode()) >= room - 2
    if cut_off or told.settings.get(TITLES) != "on":
        state, waiting = "", False
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
        age_s=max(0.0, round((told.now - ticks) / told.hertz, 2)),
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
    return (activity if activity in IDLE else "active"), activity != seen.activity


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
    if titles := _stale_titles(told):
        yield titles
    elif any(not p.state for p in clients):
        yield "what some sessions do: their titles do not tell, or are cut"
    yield from _pending(host, told)
    if any(p.role is None for p in clients):
        yield "whose some sessions are: a role or a database with blanks in its name"


def _stale_titles(told: _Told) -> str:
    value = told.settings.get(TITLES)
    if value == "on":
        return ""
    why = f"{TITLES} is {value}" if value else f"whether {TITLES} is on cannot be read"
    return f"what sessions do, idle or at work: their titles need not be kept up ({why})"


def _pending(host: str, told: _Told) -> Iterator[str]:
    """What of the settings may be other than they are told, because a restart is due."""
    running = _running(told)
    if not told.settings:
        return
    if "max_connections" not in running:
        yield (
            f"{host}: a change of max_connections that waits for a restart: the files were read,"
            " and pg_controldata does not tell what the server was started with"
        )
    elif late := [name for name in running if told.settings.get(name) != running[name]]:
        yield (
            f"{host}: whether the superusers' and other reserves are as its files have them: a"
            f" change of {' and '.join(late)} waits for a restart"
        )
