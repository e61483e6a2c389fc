"""pgbouncer.ini from the pool budget: every value with its reason beside it.

What a version does not know is left out: PgBouncer does not start for a key that it does not know.
Versions as NEWS.md of PgBouncer tells them; 1.18 was tried.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from runbook.model.inventory import BouncerTls
from runbook.model.pgbouncer_auth import AUTH_QUERY

Mode = Literal["session", "transaction", "statement"]

#: Since when: auth_dbname for every database; named prepared statements in transaction mode.
_AUTH_DBNAME = (1, 19)
_PREPARED = (1, 21)
#: Prepared statements that each server connection keeps; an app has tens, not thousands.
_MOST_PREPARED = 200
#: Descriptors beside clients and servers: sockets that listen, DNS, the log.
_SPARE_FILES = 100
#: A rolling deploy has old and new processes of a host side by side.
_DEPLOY = 2
#: Connections of people, monitoring and consoles, on top of the services' own.
_OTHERS = 20
#: Clients where a service declares no pool: nobody knows how many it has.
_UNDECLARED = 1000

_HEADER = "; Written by `runbook pgbouncer introduce {name}`; sha256 of what follows: "
_OURS = re.compile(
    r"; Written by `runbook pgbouncer introduce (?P<name>\S+)`;"
    r" sha256 of what follows: (?P<digest>[0-9a-f]{64})\n"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """How many connections, on both sides, and the arithmetic that led there."""

    pool: int
    reserve: int
    #: Server connections of one database, whatever its roles want.
    per_database: int
    clients: int
    because_pool: str
    because_clients: str
    #: What does not add up, for people.
    warnings: tuple[str, ...] = ()

    @property
    def open_files(self) -> int:
        """Descriptors that the process may need."""
        return self.clients + self.per_database + _SPARE_FILES


class NoRoom(Exception):
    """The budget leaves no server connection for PgBouncer; the message has the arithmetic."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What of a server's slots is for PgBouncer."""

    usable: int
    #: Past every pool; kept free; and of services that stay with the server itself.
    direct: int
    reserve: int
    others: int
    databases: int
    roles: int
    #: Of other PgBouncers before the same server, for each database and role.
    beside: int = 0

    @property
    def pairs(self) -> int:
        """Pairs of database and role, each of which has a pool."""
        return self.databases * self.roles

    @property
    def left(self) -> int:
        """Slots for all pools together; auth_query keeps one connection in each database."""
        kept = self.direct + self.reserve + self.others + self.beside * self.pairs
        return self.usable - kept - self.databases

    def arithmetic(self) -> str:
        """Return it as it is written on paper."""
        kinds = (
            (self.direct, "direct"),
            (self.reserve, "kept free"),
            (self.others, "services that stay outside"),
            (self.beside * self.pairs, "other PgBouncers' pools"),
            (self.databases, "for auth_query"),
        )
        less = "".join(f" - {count} {what}" for count, what in kinds if count)
        return f"{self.usable} usable{less} = {self.left}"


def sizes(
    budget: Budget,
    *,
    size: int | None,
    reserve: int,
    clients: int | None,
    declared: Sequence[int | None],
) -> Sizes:
    """Return the sizes; `declared` is what each service may open in all, None where unknown.

    Raises:
        NoRoom: not even one server connection for each pair of database and role is left.
    """
    pairs = budget.pairs
    over = "" if pairs == 1 else f", over {pairs} pairs of database and role"
    because = budget.arithmetic() + over + (f", less {reserve} in reserve" if reserve else "")
    fair = budget.left // pairs - reserve
    if fair < 1:
        raise NoRoom(f"no room for a pool: {because}")
    warnings = []
    if size is not None and size > fair:
        warnings.append(
            f"pool.size {size} is more than the budget has for each ({fair}: {because});"
            " max_db_connections holds it back"
        )
    known = [count for count in declared if count is not None]
    many, why = _clients(known, len(known) < len(declared))
    return Sizes(
        pool=size or fair,
        reserve=reserve,
        # One more in each database is auth_query's own.
        per_database=budget.left // budget.databases + 1,
        clients=clients or many,
        because_pool=because if size is None else "as the inventory says",
        because_clients="as the inventory says" if clients else why,
        warnings=tuple(warnings),
    )


def _clients(known: Sequence[int], unknown: bool) -> tuple[int, str]:
    total = sum(known)
    many = -(-(total * _DEPLOY + _OTHERS) // 50) * 50
    why = f"{total} declared x {_DEPLOY} for a deploy + {_OTHERS}, rounded up to fifties"
    if unknown and many < _UNDECLARED:
        return _UNDECLARED, "a service declares no pool; a waiting client costs 2 kB"
    return max(100, many), why


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """All that the file says."""

    name: str
    version: tuple[int, int]
    mode: Mode
    databases: tuple[str, ...]
    upstream: str
    upstream_port: int
    listen_port: int
    sizes: Sizes
    auth_user: str
    auth_file: str
    admin: str
    #: As libpq's; None: as PgBouncer would do by itself, said aloud.
    server_tls: str | None = None
    server_ca: str | None = None
    tls: BouncerTls | None = None
    #: Whether the function is in one database alone: else in each.
    auth_dbname: str | None = None


def knows_auth_dbname(version: tuple[int, int]) -> bool:
    """Whether one database can hold the function for all."""
    return version >= _AUTH_DBNAME


def config_text(wish: Wish) -> str:
    """Return pgbouncer.ini."""
    body = "\n".join(
        [
            "; What is changed here by hand is noticed, and not overwritten unasked: change the",
            "; inventory and run it again, or take this file over by deleting the first line.",
            "",
            "[databases]",
            *_databases(wish),
            "",
            "[pgbouncer]",
            *_lines(_settings(wish)),
            "",
        ]
    )
    return _HEADER.format(name=wish.name) + _digest(body) + "\n" + body


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def whose(text: str) -> Literal["ours", "edited", "foreign"]:
    """Say who wrote a pgbouncer.ini: we; we, and somebody changed it since; somebody else."""
    found = _OURS.match(text)
    if found is None:
        return "foreign"
    return "ours" if _digest(text[found.end() :]) == found["digest"] else "edited"


def written_for(text: str) -> str:
    """Return the inventory's name that one of our files was written for; "" for a foreign one."""
    found = _OURS.match(text)
    return found["name"] if found else ""


def mode_in(text: str) -> Mode | None:
    """Return how a file of ours pools."""
    value = _parsed(text).get(("pgbouncer", "pool_mode"))
    return next((mode for mode in _MODES if mode == value), None)


def databases_in(text: str) -> tuple[str, ...]:
    """Return the databases that a file of ours leads to."""
    names = [key for section, key in _parsed(text) if section == "databases"]
    return tuple(n[1:-1].replace('""', '"') if n.startswith('"') else n for n in names)


def listen_port_in(text: str) -> int | None:
    """Return the port at which a file of ours lets PgBouncer listen."""
    value = _parsed(text).get(("pgbouncer", "listen_port"), "")
    return int(value) if value.isascii() and value.isdigit() else None


def _databases(wish: Wish) -> Iterator[str]:
    yield "; These alone can be reached through here: a name that is misspelled is told as such."
    for name in wish.databases:
        yield f"{_name(name)} = host={wish.upstream} port={wish.upstream_port}"


def _name(name: str) -> str:
    plain = re.fullmatch(r"[A-Za-z0-9_.-]+", _value(name))
    return name if plain else '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True)
class _Setting:
    key: str
    value: str | int
    why: str


def _lines(settings: Iterator[_Setting]) -> Iterator[str]:
    for setting in settings:
        yield f"; {setting.why}"
        yield f"{setting.key} = {setting.value}"


def _settings(wish: Wish) -> Iterator[_Setting]:
    yield from _listening(wish)
    yield from _pooling(wish)
    yield from _auth(wish)
    yield from _tls(wish)
    yield from _TIMES
    if wish.version >= _PREPARED and wish.mode != "session":
        yield _Setting(
            "max_prepared_statements",
            _MOST_PREPARED,
            "drivers' named prepared statements work in transaction mode as well",
        )


def _listening(wish: Wish) -> Iterator[_Setting]:
    yield _Setting("listen_addr", "*", "app servers come over the network")
    yield _Setting("listen_port", wish.listen_port, f"pgbouncers.{wish.name}.port")
    yield _Setting("unix_socket_dir", "", "nobody comes by a socket, so that no folder is needed")
    yield _Setting("logfile", "", "to stderr, which systemd's journal keeps")
    yield _Setting("pidfile", "", "systemd knows the process")
    yield _Setting(
        "ignore_startup_parameters", "extra_float_digits", "JDBC sends it with every login"
    )
    yield _Setting(
        "application_name_add_host",
        1,
        "PostgreSQL sees the client's address behind its name: whose session it is stays known",
    )


def _pooling(wish: Wish) -> Iterator[_Setting]:
    s = wish.sizes
    yield _Setting("pool_mode", wish.mode, _MODES[wish.mode])
    yield _Setting("default_pool_size", s.pool, f"for each database and role: {s.because_pool}")
    yield _Setting(
        "reserve_pool_size", s.reserve, "further ones for clients that have waited; see the next"
    )
    yield _Setting("reserve_pool_timeout", 3, "seconds that a client waits before the reserve")
    yield _Setting(
        "max_db_connections",
        s.per_database,
        "the hard cap of each database, whatever its roles want together: the budget's",
    )
    yield _Setting("max_client_conn", s.clients, f"clients in all: {s.because_clients}")


_MODES: Mapping[Mode, str] = {
    "transaction": "a server connection is a client's for one transaction: many clients, few slots",
    "session": "a server connection is a client's until it leaves: saves no slots while it is idle",
    "statement": "a server connection is a client's for one statement: no transactions at all",
}


def _auth(wish: Wish) -> Iterator[_Setting]:
    yield _Setting("auth_type", "scram-sha-256", "no password crosses the network")
    yield _Setting("auth_file", wish.auth_file, "of the two roles below alone")
    yield _Setting(
        "auth_user", _value(wish.auth_user), "asks PostgreSQL for everybody else's SCRAM secret"
    )
    yield _Setting(
        "auth_query", AUTH_QUERY, "a function that tells nothing of superusers, to this role alone"
    )
    if wish.auth_dbname is not None and knows_auth_dbname(wish.version):
        yield _Setting("auth_dbname", _value(wish.auth_dbname), "where that function is")
    yield _Setting("admin_users", _value(wish.admin), f"pgbouncers.{wish.name}.admin: the console")
    yield _Setting("stats_users", _value(wish.admin), "who may see pools and clients")


def _value(text: str) -> str:
    """Return a value; one that would end its line or begin a comment is no name of anything."""
    if re.search(r"[\r\n\0]", text):
        raise ValueError(f"{text!r} is of several lines")
    return text


def _tls(wish: Wish) -> Iterator[_Setting]:
    if wish.tls is not None:
        yield _Setting("client_tls_sslmode", wish.tls.mode, f"pgbouncers.{wish.name}.tls")
        yield _Setting("client_tls_cert_file", wish.tls.cert_file, "shown to app servers")
        yield _Setting("client_tls_key_file", wish.tls.key_file, "its key")
        if wish.tls.ca_file is not None:
            yield _Setting("client_tls_ca_file", wish.tls.ca_file, "who signs clients")
    said = "as runbook's own connection (connect.sslmode)" if wish.server_tls else "where offered"
    yield _Setting("server_tls_sslmode", wish.server_tls or "prefer", f"towards PostgreSQL: {said}")
    if wish.server_ca is not None:
        yield _Setting("server_tls_ca_file", wish.server_ca, "who signs the server")


_TIMES: tuple[_Setting, ...] = (
    _Setting(
        "server_idle_timeout", 300, "a slot that nobody has used for five minutes is given back"
    ),
    _Setting(
        "server_lifetime", 3600, "an hour: memory of long-lived backends is freed, DNS followed"
    ),
    _Setting(
        "server_connect_timeout", 5, "a server that does not answer is told soon; the default is 15"
    ),
    _Setting(
        "server_login_retry",
        3,
        "after a refused login the next try; with 15 recovery takes as long",
    ),
    _Setting(
        "query_wait_timeout",
        30,
        "a client that gets no slot is told so before it gives up; the default of 120 hides it",
    ),
    _Setting("client_login_timeout", 15, "half-open logins, as of port scans, hold no descriptor"),
    _Setting("client_idle_timeout", 0, "pools of the app keep idle connections: that is their use"),
    _Setting(
        "idle_transaction_timeout",
        0,
        "PostgreSQL's idle_in_transaction_session_timeout does it, by role: runbook pool guard",
    ),
    _Setting("tcp_keepalive", 1, "a dead host is noticed"),
    _Setting("tcp_keepidle", 60, "after a minute's silence; the kernel's own is two hours"),
    _Setting("tcp_keepintvl", 10, "asked again"),
    _Setting("tcp_keepcnt", 3, "and given up after three"),
)


# ---- the auth file and the unit ------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class AuthFile:
    """userlist.txt, with marks where secrets go."""

    content: str
    #: Mark -> the role whose secret goes there.
    marks: Mapping[str, str] = field(default_factory=dict)


def auth_file(auth_user: str, admin: str) -> AuthFile:
    """Return the auth file: auth_query's role, and who may see the console.

    PgBouncer has to log in as the first, so that its password stands there; of the second it only
    has to know the SCRAM secret. A role that is both stands there once.
    """
    roles = list(dict.fromkeys((auth_user, admin)))
    marks = {f"<secret {number}>": role for number, role in enumerate(roles)}
    for role in roles:
        if re.search(r"[\r\n\0]", role):
            raise ValueError(f"{role!r} is of several lines")
    lines = ('"{}" "{}"\n'.format(role.replace('"', '""'), mark) for mark, role in marks.items())
    return AuthFile(content="".join(lines), marks=marks)


def dropin_text(open_files: int) -> str:
    """Return the unit's drop-in: PgBouncer stops taking clients where its descriptors end."""
    return (
        "# Written by `runbook pgbouncer introduce`: clients, servers and some to spare.\n"
        f"[Service]\nLimitNOFILE={open_files}\n"
    )


# ---- a file that is there already ----------------------------------------------------------


def differences(theirs: str, ours: str) -> tuple[str, ...]:
    """Return what of their settings is not in ours, by name; other sections' values are secret."""
    a, b = _parsed(theirs), _parsed(ours)
    lines = []
    for (section, key), value in a.items():
        if (section, key) not in b:
            lines.append(f"[{section}] {key} is there, and not in ours")
        elif value != b[section, key]:
            shown = f": {value!r:.40}, ours {b[section, key]!r:.40}"
            lines.append(f"[{section}] {key} differs" + shown * (section == "pgbouncer"))
    missing = len(b.keys() - a.keys())
    if missing:
        lines.append(f"{missing} of our settings are not in it")
    return tuple(lines)


def _parsed(text: str) -> dict[tuple[str, str], str]:
    section, found = "", {}
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif line and line[0] not in ";#%" and "=" in line:
            key, _, value = line.partition("=")
            found[section, key.strip()] = value.strip()
    return found
