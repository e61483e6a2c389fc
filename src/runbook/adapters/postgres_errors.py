"""Turns what libpq and the server say into our errors: which kind it is, and what to do next."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from runbook.model.document import visible
from runbook.model.errors import (
    DatabaseError,
    DatabaseLogin,
    DoorError,
    MissingGrant,
    SlotRefused,
    Unreachable,
)

if TYPE_CHECKING:
    from runbook.model.sessions import Rung

#: Why a connection was refused.
#:   slots        no connection slot for this role (also by role, database or pooler limit)
#:   password     wrong, missing, or for a role that does not exist
#:   role         the role does not exist, or may not log in
#:   database     there is no such database, or it takes no connections
#:   connect      the role lacks CONNECT on the database
#:   hba          no pg_hba.conf line lets us in
#:   replication  the role lacks REPLICATION
#:   starting     the server starts, stops or recovers
#:   tls          the encrypted connection could not be made
#:   name         the host name leads nowhere
#:   closed       nobody listens, or no route
#:   timeout      no answer in time
#:   lost         the server closed the connection half-way
#:   unknown      anything else
Refusal = Literal[
    "slots",
    "password",
    "role",
    "database",
    "connect",
    "hba",
    "replication",
    "starting",
    "tls",
    "name",
    "closed",
    "timeout",
    "lost",
    "unknown",
]

#: By SQLSTATE where it alone tells: the server's texts are translated, its codes are not.
_BY_STATE: dict[str, Refusal] = {
    "53300": "slots",
    "28P01": "password",
    "3D000": "database",
    "57P03": "starting",
}

#: By text, first match wins. 53300's texts on 12 to 18 and on RDS, PgBouncer's (08P01), then
#: the server's others, then libpq's own.
_TEXTS: tuple[tuple[str, Refusal], ...] = (
    (r"sorry, too many clients already", "slots"),
    (r"remaining connection slots are reserved", "slots"),
    (r"too many connections for (role|database)", "slots"),
    (r"number of requested standby connections exceeds", "slots"),
    (r"no more connections allowed", "slots"),
    (r"client connections exceeded", "slots"),
    (r"query_wait_timeout", "slots"),
    (r"server login has been failing", "slots"),
    (r"no pg_hba\.conf entry|pg_hba\.conf rejects", "hba"),
    (r"password authentication failed|no password supplied", "password"),
    (r"authentication failed", "password"),
    (r"role \S+ (does not exist|is not permitted to log in)", "role"),
    (r"REPLICATION attribute|replication role to start walsender", "replication"),
    (r"permission denied to start WAL sender", "replication"),
    (r"permission denied for database", "connect"),
    (r"database \S+ does not exist|not currently accepting connections", "database"),
    (r"the database system is", "starting"),
    (r"certificate|\bSSL\b|\bTLS\b", "tls"),
    (r"could not translate host name|Name or service not known", "name"),
    (r"Connection refused|No route to host|Network is unreachable|No such file", "closed"),
    (r"timeout expired|timed out|no answer within", "timeout"),
    (r"server closed the connection|Connection reset|SSL SYSCALL|EOF detected", "lost"),
)
_BY_TEXT = tuple((re.compile(pattern, re.IGNORECASE), kind) for pattern, kind in _TEXTS)

#: VERBOSE messages read `FATAL:  53300: sorry, …`; the severity may be translated.
_STATE = re.compile(r"(?<=:  )(?=[A-Z]*[0-9])([0-9A-Z]{5}): ")
_DETAIL_LINES = re.compile(r"^(LOCATION|SCHEMA NAME|TABLE NAME):.*$", re.MULTILINE)
_DENIED = re.compile(r"permission denied for (materialized view|[a-z]+) (\S+)")
#: What pg_monitor opens; pg_authid and its like stay a superuser's.
_MONITORED = ("pg_stat", "pg_ls_", "pg_show_", "pg_database_size", "pg_tablespace_size")
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_$]*")


class StalledLogin(Unreachable):
    """The login was not answered, or broken off: the server may be that full, or that busy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Door:
    """Where a connection was tried, in the inventory's words, for messages."""

    #: The inventory's name of the database, and the rung of the ladder.
    database: str
    rung: Rung
    host: str
    port: int
    dbname: str
    user: str

    @property
    def where(self) -> str:
        """Return `prod-db-01 (10.0.0.5:5432)`."""
        return f"{self.database} ({self.host}:{self.port})"

    @property
    def no_slot(self) -> str:
        """Return the beginning of a SlotRefused's message."""
        return f"{self.where} has no connection slot for {self.user!r}"


def classify_refusal(text: str, sqlstate: str | None = None) -> Refusal:
    """Return why a connection was refused, by SQLSTATE where there is one, else by text."""
    if sqlstate in _BY_STATE:
        return _BY_STATE[sqlstate]
    for pattern, kind in _BY_TEXT:
        if pattern.search(text):
            return kind
    # pg_hba.conf and unknown roles share 28000; in another language they cannot be told apart.
    return "role" if sqlstate and sqlstate.startswith("28") else "unknown"


def split_refusal(message: str) -> tuple[str, str | None]:
    """Return libpq's message as one line without the SQLSTATE in it, and that SQLSTATE.

    With several addresses behind one name libpq tells every attempt; the last one counts.
    """
    states = _STATE.findall(message)
    plain = _DETAIL_LINES.sub("", _STATE.sub("", message))
    return one_line(plain), states[-1] if states else None


def one_line(text: str) -> str:
    """Return a server's text on one line, with control characters made visible."""
    return visible(" ".join(text.split()))


def quote_name(name: str) -> str:
    """Return a role's name as it is written in SQL."""
    if _PLAIN_NAME.fullmatch(name):
        return name
    return '"' + name.replace('"', '""') + '"'


def _server_words(text: str) -> str:
    """Return what the server itself said of a refusal, without libpq's preamble."""
    return re.split(r"failed: (?:[^\W\d]+: +)?", text)[-1]


def refused(door: Door, text: str, sqlstate: str | None) -> DoorError:
    """Return our error for a refused connection."""
    kind = classify_refusal(text, sqlstate)
    said = _server_words(text)
    if kind == "slots":
        return SlotRefused(f"{door.no_slot}: {said}", sqlstate="53300")
    hints = {**_LOGIN_HINTS, **_LOCAL_LOGIN_HINTS} if door.rung == "local" else _LOGIN_HINTS
    if hint := hints.get(kind):
        message = f"{door.where} refused {door.user!r} on database {door.dbname!r}: {said}"
        error = MissingGrant if kind in {"connect", "replication"} else DatabaseLogin
        return error(message, hint=_fill(hint, door), sqlstate=sqlstate)
    reach = _LOCAL_REACH_HINTS if door.rung == "local" else _REACH_HINTS
    hint = reach.get(kind, reach["closed"])
    unreachable = StalledLogin if kind in {"timeout", "lost"} else Unreachable
    return unreachable(f"{door.where} cannot be reached: {said}", hint=_fill(hint, door))


#: `{…}` are a Door's fields; `{role}` and `{db}` are quoted for SQL.
_LOGIN_HINTS: dict[Refusal, str] = {
    "password": "check databases.{database}.{rung}: its user and where its password comes from",
    "role": "check databases.{database}.{rung}.user, or: CREATE ROLE {role} LOGIN",
    "database": "check databases.{database}.{rung}.dbname; `psql -l` lists the databases",
    "connect": "GRANT CONNECT ON DATABASE {db} TO {role}",
    "hba": "add a line for {role} and this machine's address to the server's pg_hba.conf, then"
    " reload it; check databases.{database}.connect.sslmode as well: a hostssl line wants TLS",
    "replication": "ALTER ROLE {role} REPLICATION",
}
_REACH_HINTS: dict[Refusal, str] = {
    "starting": "the server starts, stops or recovers: try again in a moment; its log says more",
    "tls": "check databases.{database}.connect.sslmode and sslrootcert against the server's"
    " certificate",
    "name": "check databases.{database}.connect.host, and this machine's DNS",
    "closed": "check that PostgreSQL runs on {host} and listens on port {port}, and that no"
    " firewall is in between: pg_isready -h {host} -p {port}",
    "timeout": "a firewall, a wrong address or a host under heavy load: pg_isready -h {host}"
    " -p {port}; databases.{database}.connect.connect_timeout says how long to wait",
    "lost": "something between here and {host}:{port} closes connections (a proxy, a failover),"
    " or the server is overwhelmed: its log says more",
}
#: Over the server's own socket, from its own host.
_PEER_HINT = (
    "the server's pg_hba.conf wants a line for it, above all that match it too: `local all {role}"
    " peer`; databases.{database}.local.os_user says who connects"
)
_LOCAL_LOGIN_HINTS: dict[Refusal, str] = dict.fromkeys(("password", "role", "hba"), _PEER_HINT)
_LOCAL_REACH_HINTS: dict[Refusal, str] = {
    "starting": _REACH_HINTS["starting"],
    "closed": "check databases.{database}.local.socket_dir and port: on the server's host,"
    " `ls /var/run/postgresql/.s.PGSQL.* /tmp/.s.PGSQL.*` shows the sockets that there are",
}


def _fill(hint: str, door: Door) -> str:
    return hint.format(
        database=door.database,
        rung=door.rung,
        host=door.host,
        port=door.port,
        role=quote_name(door.user),
        db=quote_name(door.dbname),
    )


def statement_failed(door: Door, text: str, sqlstate: str | None, more: str = "") -> DatabaseError:
    """Return our error for a statement that the server refused or broke off."""
    said = one_line(text)
    message = f"{door.database}: {said}"
    if sqlstate == "42501":
        return MissingGrant(message, hint=missing_grant(said, door.user), sqlstate=sqlstate)
    if sqlstate == "57014":
        hint = "the server is slow or the statement too big: try again, or raise the timeout"
        return DatabaseError(message, hint=hint, sqlstate=sqlstate)
    if sqlstate == "55P03":
        hint = "somebody holds the lock: `runbook diagnose` names who blocks whom"
        return DatabaseError(message, hint=hint, sqlstate=sqlstate)
    return DatabaseError(message, hint=one_line(more) or None, sqlstate=sqlstate)


def missing_grant(text: str, user: str) -> str:
    """Return the GRANT that mends `permission denied for …`; `text` is the server's."""
    role = quote_name(user)
    if match := _DENIED.search(text):
        kind, name = match[1], match[2]
        if name.startswith(_MONITORED):
            return f"GRANT pg_monitor TO {role}"
        if kind == "function":
            return f"GRANT EXECUTE ON FUNCTION {name} TO {role}"
        if kind == "schema":
            return f"GRANT USAGE ON SCHEMA {name} TO {role}"
        return f"GRANT SELECT ON {name} TO {role}"
    if "terminate" in text or "cancel" in text:
        return f"GRANT pg_signal_backend TO {role}"
    return f"grant {role} what the message names"
