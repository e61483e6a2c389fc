"""What the verbs of a PgBouncer are about: its entry, its place, what is before and behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from runbook.model.application_name import as_server_keeps
from runbook.model.bouncer_place import clients_of, server_behind
from runbook.model.effects import CommandOutcome, Drive, ReadCommand, ReadSql, ask
from runbook.model.errors import UsageError
from runbook.model.fleet import Fleet, ResolvedHost
from runbook.model.inventory import Closed, Credentials, Database, Name, PgBouncer, Secret, Service
from runbook.model.pgbouncer_host import version_in

Dbname = Annotated[str, Field(min_length=1, max_length=63)]


class BouncerArgs(Closed):
    """What the verbs have in common."""

    pgbouncer: Name = Field(description="the inventory's name of the PgBouncer")
    services: tuple[Name, ...] | str | None = Field(
        None,
        description="services that go through it, as a list or with commas; all of its"
        " database's, when left out",
    )
    databases: tuple[Dbname, ...] | str | None = Field(
        None,
        description="databases that can be reached through it, as a list or with commas; those in"
        " which the services have sessions, when left out",
    )


def beside(bouncer: Bouncer) -> dict[str, PgBouncer]:
    """Return other PgBouncers that stand before the same server, and have an auth_query."""
    return {name: e for name, e in same_server(bouncer).items() if e.auth is not None}


def same_server(bouncer: Bouncer) -> dict[str, PgBouncer]:
    """Return all other PgBouncers before the same server: they take slots of it as well."""
    fleet = bouncer.fleet
    server = fleet.same_server(bouncer.entry.database)
    every = fleet.inventory.pgbouncers
    return {n: e for n, e in every.items() if n != bouncer.name and e.database in server}


def words(value: Sequence[str] | str | None) -> tuple[str, ...]:
    """Return the items of a list that may be written with commas."""
    if value is None:
        return ()
    items = value.split(",") if isinstance(value, str) else value
    return tuple(item.strip() for item in items if item.strip())


@dataclass(frozen=True, kw_only=True)
class Bouncer:
    """One entry of `pgbouncers`, with what hangs on it."""

    name: str
    entry: PgBouncer
    database: Database
    host: ResolvedHost
    services: dict[str, Service]
    fleet: Fleet

    @property
    def auth(self) -> Credentials:
        """Return auth_query's role; `bouncer_of` has seen that there is one."""
        if self.entry.auth is None:
            raise UsageError(f"pgbouncers.{self.name} names no role for auth_query")
        return self.entry.auth

    def password(self, key: Literal["auth", "admin"]) -> Secret:
        """Return the reference to a role's password; `bouncer_of` has seen that there is one."""
        found = (self.auth if key == "auth" else self.entry.admin).password
        if found is None:
            raise UsageError(f"pgbouncers.{self.name}.{key} has no password")
        return found

    @property
    def clients(self) -> tuple[str, int]:
        """Return address and port by which app servers reach it."""
        return clients_of(self.name, self.fleet)

    @property
    def listens(self) -> int:
        """Return the port that it listens on: `port` may be one that is forwarded to it."""
        return self.entry.client_port or self.entry.port

    @property
    def upstream(self) -> tuple[str, int]:
        """Return address and port by which it reaches PostgreSQL."""
        return server_behind(self.name, self.fleet)

    @property
    def auth_file(self) -> str:
        """Return the path of userlist.txt: beside the configuration, and of this one alone."""
        folder, _, file = self.entry.config.rpartition("/")
        own = "" if file == "pgbouncer.ini" else f"{file.removesuffix('.ini')}."
        return f"{folder}/{own}userlist.txt"

    @property
    def dropin(self) -> str:
        """Return the path of the unit's drop-in."""
        return f"/etc/systemd/system/{self.entry.unit}.d/runbook.conf"


def bouncer_of(args: BouncerArgs, fleet: Fleet, *, auth: bool = True) -> Bouncer:
    """Return what a verb is about.

    Raises:
        UsageError: for a name that the inventory does not have, and a key that is missing.
    """
    name = args.pgbouncer
    entry = fleet.pgbouncer(name)
    if entry.host is None:
        raise UsageError(
            f"pgbouncers.{name} names no host to set it up on",
            hint=f"give pgbouncers.{name} a `host` of the inventory",
        )
    if auth and (entry.auth is None or entry.auth.password is None):
        raise UsageError(
            f"pgbouncers.{name} names no role for auth_query",
            hint=f"add pgbouncers.{name}.auth: {{user: pgbouncer_auth, password: {{file: …}}}}; the"
            " role is made, its password is yours to choose",
        )
    if auth and entry.admin.password is None:
        raise UsageError(
            f"pgbouncers.{name}.admin has no password, and the console wants one",
            hint=f"add pgbouncers.{name}.admin.password",
        )
    return Bouncer(
        name=name,
        entry=entry,
        database=fleet.database(entry.database),
        host=fleet.host(entry.host),
        services=_services(args, entry, fleet),
        fleet=fleet,
    )


def _services(args: BouncerArgs, entry: PgBouncer, fleet: Fleet) -> dict[str, Service]:
    own = fleet.services_of(entry.database)
    chosen = words(args.services)
    for name in chosen:
        service = fleet.service(name)
        if name not in own:
            raise UsageError(
                f"service {name!r} uses database {service.database!r}, and PgBouncer"
                f" {args.pgbouncer!r} stands before {entry.database!r}",
                hint="name a service of that database",
            )
    return {name: own[name] for name in chosen or own}


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """What the server tells of its limits, and of who uses it for what."""

    usable: int
    server_version: int
    databases: tuple[str, ...]
    roles: tuple[str, ...]
    #: Why `databases` are what they are, for people.
    why: str
    version: tuple[int, int] | None
    #: Services that are not meant this time and led through it already: wholly, or some hosts.
    inside: frozenset[str] = frozenset()
    partly: frozenset[str] = frozenset()


_LIMITS = """\
SELECT pg_catalog.current_setting('max_connections')::int
       - pg_catalog.current_setting('superuser_reserved_connections')::int
       - COALESCE(pg_catalog.current_setting('reserved_connections', true)::int, 0) AS usable,
       pg_catalog.current_setting('server_version_num')::int AS version"""
_USERS = """\
SELECT DISTINCT datname::pg_catalog.text AS dbname, usename::pg_catalog.text AS role,
       application_name AS application
  FROM pg_catalog.pg_stat_activity
 WHERE datname IS NOT NULL AND usename IS NOT NULL"""
#: What tells the version without any right: of what is there, else of what would come.
_VERSION = """\
PATH=$PATH:/usr/sbin
pgbouncer --version 2>/dev/null || LC_ALL=C apt-cache policy pgbouncer 2>/dev/null \\
  | sed -n 's/^  Candidate: /PgBouncer /p'
"""


def survey(args: BouncerArgs, bouncer: Bouncer) -> Drive[Survey]:
    """Ask the server once, and the host for PgBouncer's version."""
    name = bouncer.entry.database
    limits = (yield from ask(ReadSql(database=name, sql=_LIMITS))).rows[0]
    users = (yield from ask(ReadSql(database=name, sql=_USERS, limit=5000))).rows
    told: CommandOutcome = yield from ask(
        ReadCommand(host=bouncer.host.name, argv=("sh", "-c", _VERSION), timeout_s=30.0)
    )
    by_host = applications_by_host(bouncer, int(limits["version"]))
    names = frozenset(name for own in by_host.values() for name in own)
    # auth_query's own session bears the name of the client for which it looked something up.
    own_role = bouncer.entry.auth.user if bouncer.entry.auth is not None else None
    theirs = [row for row in users if belongs(row, names, bouncer) and row["role"] != own_role]
    found = tuple(sorted({str(row["dbname"]) for row in theirs}))
    given = words(args.databases)
    databases, why = given, "as given"
    if not given:
        databases, why = found, "where its services have sessions"
    if not databases:
        databases, why = (bouncer.database.connect.dbname,), "of connect: no session was seen"
    return Survey(
        usable=int(limits["usable"]),
        server_version=int(limits["version"]),
        databases=tuple(dict.fromkeys(databases)),
        roles=tuple(sorted({str(row["role"]) for row in theirs})),
        why=why,
        version=version_in(told.stdout),
    )


def applications_by_host(
    bouncer: Bouncer, version: int = 0, *, within_limit: bool = False
) -> dict[str, frozenset[str]]:
    """Return the application names on each app server; none where a service declares none."""
    fleet = bouncer.fleet
    names: dict[str, frozenset[str]] = {}
    for service in bouncer.services.values():
        beyond = fleet.beyond_limit(service.hosts) if within_limit else ()
        for host in (host for host in fleet.whole(service.hosts) if host not in beyond):
            own = names.get(host, frozenset())
            if service.application_name is not None:
                name = fleet.expand(service.application_name, fleet.host(host))
                own |= {name, as_server_keeps(name, version)}
            names[host] = own
    return names


def belongs(row: Mapping[str, Any], names: frozenset[str], bouncer: Bouncer) -> bool:
    """Whether a session is of one of the services: by its role, else by its name."""
    if any(service.role == row["role"] for service in bouncer.services.values()):
        return True
    # PgBouncer's application_name_add_host puts ` - address:port` behind it.
    application = str(row["application"])
    return application in names or application.rpartition(" - ")[0] in names
