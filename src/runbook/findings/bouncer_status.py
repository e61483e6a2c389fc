"""How PgBouncers are: what their consoles say, whose clients they serve, what PostgreSQL sees."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

from runbook.findings import bouncer_settings as settings
from runbook.findings import snapshot as snapshots
from runbook.findings.attribution import attribute
from runbook.findings.bouncers import server_of
from runbook.findings.seats import bouncer_addresses
from runbook.findings.words import age, count
from runbook.model.bouncer_status import (
    BouncersReport,
    BouncerStatus,
    ClientGroup,
    DatabaseStatus,
    PoolStatus,
    SeenSessions,
    Trouble,
    report_of,
)
from runbook.model.effects import AskDatabase, AskPgBouncer, ConsoleAnswers, Drive, Together, ask
from runbook.model.errors import DatabaseError, DoorError
from runbook.model.sessions import Limits, PoolerLook, Snapshot
from runbook.model.sockets import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from runbook.findings.bouncers import Bouncer, Pool
    from runbook.findings.holders import Callers
    from runbook.model.effects import Answers
    from runbook.model.fleet import Fleet
    from runbook.model.sessions import Session

_SHOWS = ("servers", "clients", "pools", "databases", "users", "lists", "config", "state")
#: Without these nothing can be said of the pools; the others only refine it.
_NEEDED = ("servers", "clients", "pools", "databases", "config")
#: Seconds for all looks; one console takes some milliseconds, and who is away must not keep the
#: others' answers back.
_WITHIN_S = 15.0
#: Groups of waiting clients that a sentence names.
_NAMED = 3
#: What to do about what binds a pool.
_PAUSED = (
    "Somebody said PAUSE or KILL: make sure that no switchover or restart is under way; then, as"
    " one of its admin_users:"
)
_DISABLED = "Somebody said DISABLE; when that is over, as one of its admin_users:"
_NO_SERVER = (
    "It opens no further connection to PostgreSQL, and no limit binds: its log says why (a"
    " password, pg_hba.conf, a limit, an address). After a failed login it tries again every"
    " server_login_retry."
)
_MAX_CLIENT_CONN = (
    "Who has too many is among its clients above; then raise max_client_conn and its limit of open"
    " files, and RELOAD."
)
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]*")


def examine(target: str | None, fleet: Fleet) -> Drive[BouncersReport]:
    """Ask every console, and the servers behind them, side by side; then judge.

    Raises (through the drive):
        UsageError: when the inventory has none of that name, or none at all.
    """
    bouncers = fleet.pgbouncers_of(target)
    databases = tuple(dict.fromkeys(one.database for one in bouncers.values()))
    consoles = tuple(AskPgBouncer(pgbouncer=name, shows=_SHOWS) for name in bouncers)
    servers = tuple(AskDatabase(database=d, questions=snapshots.NEEDED) for d in databases)
    outcomes = yield from ask(Together(effects=(*consoles, *servers), within_s=_WITHIN_S))
    told = dict(zip(bouncers, outcomes, strict=False))
    seen = {
        name: _sessions_of(name, outcome)
        for name, outcome in zip(databases, outcomes[len(consoles) :], strict=True)
    }
    return judge(target, fleet, told, seen)


def _sessions_of(name: str, outcome: Answers | DoorError) -> Snapshot | DoorError:
    if isinstance(outcome, DoorError):
        return outcome
    try:
        return snapshots.assemble(name, outcome)
    except DatabaseError as error:
        return error


def judge(
    target: str | None,
    fleet: Fleet,
    told: Mapping[str, ConsoleAnswers | DoorError],
    seen: Mapping[str, Snapshot | DoorError],
) -> BouncersReport:
    """Return the report of these answers; of a look that failed, why."""
    known = fleet.inventory.pgbouncers
    servers = {name: _Server(name, outcome) for name, outcome in seen.items()}
    views = [
        _View(name, answer, servers[known[name].database], fleet) for name, answer in told.items()
    ]
    statuses = tuple(view.status() for view in views)
    return report_of(
        target,
        statuses,
        tuple(trouble for view in views for trouble in view.troubles()),
        settings.differences(statuses),
        tuple(
            dict.fromkeys(
                (
                    *(line for server in servers.values() for line in server.unseen()),
                    *(line for view in views for line in view.unseen()),
                )
            )
        ),
    )


class _Server:
    """A server behind PgBouncers: its sessions, or why they are not seen."""

    def __init__(self, name: str, seen: Snapshot | DoorError) -> None:
        self.name = name
        self.snapshot = seen if isinstance(seen, Snapshot) else None
        self._why = seen if isinstance(seen, DoorError) else None

    @property
    def sessions(self) -> dict[tuple[int, int], Session] | None:
        """Its client sessions by process id and port; None where they are not told."""
        if self.snapshot is None or any(s.hidden for s in self.snapshot.clients):
            return None
        return {
            (session.pid, session.client_port): session
            for session in self.snapshot.clients
            if session.client_port is not None
        }

    def unseen(self) -> Iterator[str]:
        """Yield why its own view is not told."""
        if self._why is not None:
            hint = f"; {self._why.hint}" if self._why.hint else ""
            yield f"{self.name}: what PostgreSQL sees of it was not told: {self._why.message}{hint}"
        elif self.sessions is None and self.snapshot is not None:
            role = self.snapshot.limits.role
            yield (
                f"{self.name}: {role!r} may not see other roles' sessions, so server connections"
                f' were not looked up there: GRANT pg_monitor TO "{role}"; as a superuser'
            )


class _View:
    """One PgBouncer: what its console told, with everything that is worked out of it."""

    def __init__(
        self, name: str, answer: ConsoleAnswers | DoorError, server: _Server, fleet: Fleet
    ) -> None:
        self.name, self._fleet, self._server = name, fleet, server
        self._declared = fleet.inventory.pgbouncers[name]
        self._answer = answer
        self._rows: Mapping[str, list[dict[str, Any]]] = {}
        self._bouncer: Bouncer | None = None
        self._callers: tuple[Callers, ...] = ()
        if isinstance(answer, DoorError):
            return
        self._rows = answer.rows
        look = PoolerLook(name=name, version=answer.version, rows=answer.rows)
        # Without the server's sessions: pools of other servers behind it belong here as well.
        attribution = attribute(_blind(self._declared.database, server, look), fleet)
        self._callers = attribution.callers
        self._bouncer = next(iter(attribution.bouncers), None)

    # ---- as it is

    def status(self) -> BouncerStatus:
        """Return everything that is known of it."""
        bouncer = self._bouncer
        if bouncer is None or isinstance(self._answer, DoorError):
            return BouncerStatus(
                name=self.name,
                database=self._declared.database,
                where=self._where,
                answers=False,
            )
        config = self._config
        return BouncerStatus(
            name=self.name,
            database=self._declared.database,
            where=self._where,
            answers=True,
            version=bouncer.version,
            max_client_conn=bouncer.max_client_conn,
            used_clients=bouncer.used_clients,
            pools=tuple(self._pool(pool) for pool in bouncer.pools),
            databases=tuple(self._databases()),
            settings=settings.of_note(config),
            remarks=settings.remarks(config, bouncer.version, bouncer.pools),
            strangers=self._strangers(),
        )

    @property
    def _where(self) -> str:
        host = self._declared.address
        if host is None and self._declared.host is not None:
            host = self._fleet.host(self._declared.host).address
        return f"{host or 'nowhere'}:{self._declared.port}"

    @property
    def _config(self) -> dict[str, str]:
        rows = self._rows.get("config", ())
        return {str(row.get("key")): str(row.get("value") or "") for row in rows}

    def _databases(self) -> Iterator[DatabaseStatus]:
        everything = any(
            row.get("key") == "paused" and row.get("value") in {"yes", 1, "1"}
            for row in self._rows.get("state", ())
        )
        for row in self._rows.get("databases", ()):
            if row.get("name") == "pgbouncer":
                continue
            place = f"{row.get('host') or 'local'}:{row.get('port') or ''}"
            yield DatabaseStatus(
                name=str(row.get("name")),
                behind=f"{place}/{row.get('database') or ''}",
                paused=everything or str(row.get("paused")) == "1",
                disabled=str(row.get("disabled")) == "1",
            )

    def _pool(self, pool: Pool) -> PoolStatus:
        most, setting = _most(pool)
        clients = [
            client
            for group in self._callers
            for client in group.clients
            if (client.database, client.user) == (pool.database, pool.user)
        ]
        return PoolStatus(
            database=pool.database,
            user=pool.user,
            mode=pool.mode,
            cl_active=pool.cl_active,
            cl_idle=sum(client.idle for client in clients),
            cl_waiting=pool.cl_waiting,
            maxwait_s=round(pool.maxwait_s, 3),
            sv_active=pool.sv_active,
            sv_idle=pool.sv_idle,
            servers=pool.servers,
            pool_size=pool.size,
            pool_size_setting=pool.size_setting,
            reserve=pool.reserve,
            max_db_connections=pool.max_db_connections,
            max_user_connections=pool.max_user_connections,
            most=most,
            most_setting=setting,
            binds=pool.binding,
            bound=pool.bound or None,
            clients=tuple(self._groups(pool)),
            in_postgresql=self._seen(pool),
        )

    def _groups(self, pool: Pool) -> Iterator[ClientGroup]:
        """Yield its clients by whom they belong to, those who wait first."""
        groups = []
        for group in self._callers:
            mine = [
                client
                for client in group.clients
                if (client.database, client.user) == (pool.database, pool.user)
            ]
            if mine:
                host = {seat.host.name for seat in group.seats}
                groups.append(
                    ClientGroup(
                        label=group.label,
                        service=group.service,
                        host=host.pop() if len(host) == 1 else None,
                        clients=len(mine),
                        waiting=sum(client.waiting for client in mine),
                        idle=sum(client.idle for client in mine),
                    )
                )
        yield from sorted(groups, key=lambda group: (-group.waiting, -group.clients))

    # ---- beside what PostgreSQL sees

    def _found(self, pool: Pool) -> tuple[list[Session], int] | None:
        """Return a pool's server connections found in PostgreSQL, and how many are not."""
        sessions, bouncer = self._server.sessions, self._bouncer
        if sessions is None or bouncer is None:
            return None
        mine = [
            (server.pid, -1 if server.unix else server.local_port)
            for server in bouncer.servers
            # One that is still logging in has no process id yet.
            if (server.database, server.user) == (pool.database, pool.user) and server.pid
        ]
        found = [sessions[key] for key in mine if key in sessions]
        if mine and not found and self._any_found(sessions):
            return None  # another server's pool
        return found, len(mine) - len(found)

    def _any_found(self, sessions: Mapping[tuple[int, int], Session]) -> bool:
        return self._bouncer is not None and any(
            key in sessions for key in server_of([self._bouncer])
        )

    def _seen(self, pool: Pool) -> SeenSessions | None:
        found = self._found(pool)
        if found is None:
            return None
        sessions, missing = found
        active = sum(s.state == "active" for s in sessions)
        idle = sum(s.idle for s in sessions)
        silent = sum(s.idle_in_transaction for s in sessions)
        return SeenSessions(
            active=active,
            idle=idle,
            idle_in_transaction=silent,
            other=len(sessions) - active - idle - silent,
            pids=tuple(sorted(s.pid for s in sessions)),
            missing=missing,
        )

    def _strangers(self) -> int:
        """Count sessions of its pools' roles from its address that are none of its connections."""
        sessions, bouncer = self._server.sessions, self._bouncer
        if sessions is None or bouncer is None:
            return 0
        every = [one for name, one in self._fleet.inventory.pgbouncers.items() if name != self.name]
        if any(other.host == self._declared.host for other in every):
            return 0  # two on one host cannot be told apart by their address
        mine = server_of([bouncer])
        homes = {
            address
            for address, name in bouncer_addresses(self._server.name, self._fleet, {}).items()
            if name == self.name
        }
        homes |= {_address(sessions[key]) for key in mine if key in sessions}
        roles = {(sessions[key].database, sessions[key].role) for key in mine if key in sessions}
        return sum(
            key not in mine and _address(s) in homes and (s.database, s.role) in roles
            for key, s in sessions.items()
        )

    # ---- what is wrong

    def troubles(self) -> Iterator[Trouble]:
        """Yield what is wrong here."""
        if isinstance(self._answer, DoorError):
            yield self._silent(self._answer)
            return
        lacking = [s for s in _NEEDED if s in self._answer.failed and s not in self._rows]
        if lacking:
            why = "; ".join(f"SHOW {s.upper()}: {self._answer.failed[s]}" for s in lacking)
            yield Trouble(
                kind="unseen",
                pgbouncer=self.name,
                said=f"its console does not tell all: {why}",
                hint="the user needs to be in its stats_users or admin_users",
            )
        pools = self._bouncer.pools if self._bouncer is not None else ()
        for pool in sorted(pools, key=lambda pool: (-pool.cl_waiting, -pool.maxwait_s)):
            if pool.stuck:
                yield self._stuck(pool)
        waiting = {pool.database for pool in pools if pool.stuck}
        for database in self._databases():
            if database.name not in waiting and (database.paused or database.disabled):
                yield self._switched_off(database)

    def _silent(self, error: DoorError) -> Trouble:
        said = error.message.removeprefix(f"PgBouncer {self.name}").removeprefix(":").strip()
        refused = isinstance(error, DatabaseError)
        return Trouble(
            kind="unseen" if refused else "unreachable",
            pgbouncer=self.name,
            said=said,
            hint=error.hint or "",
        )

    def _stuck(self, pool: Pool) -> Trouble:
        held = self._held_words(pool)
        if pool.binding == "disabled":
            said = f"{pool.name} is disabled: new clients are refused"
        elif pool.binding == "max_client_conn":
            said = f"new clients are refused: all {pool.bound} of max_client_conn are in use"
        else:
            waits = "client waits" if pool.cl_waiting == 1 else "clients wait"
            since = f"{pool.cl_waiting} {waits} up to {age(pool.maxwait_s)} in {pool.name}"
            said = f"{since} {_for_what(pool)}{f': {held}' if held else ''}"
        hint, command = self._remedy(pool)
        who = ", ".join(f"{g.label} ({g.waiting})" for g in self._groups(pool) if g.waiting)
        return Trouble(
            kind="stuck",
            pgbouncer=self.name,
            said=said,
            hint=f"waiting: {who}. {hint}" if who else hint,
            command=command,
        )

    def _held_words(self, pool: Pool) -> str:
        """Return what its server connections are at: `8 active, 2 idle in transaction`."""
        seen = self._seen(pool)
        if seen is None or pool.binding not in {
            "pool_size",
            "max_db_connections",
            "max_user_connections",
        }:
            return ""
        states = {
            "active": seen.active,
            "idle in transaction": seen.idle_in_transaction,
            "idle": seen.idle,
        }
        words = ", ".join(f"{number} {word}" for word, number in states.items() if number)
        return f"its {count(pool.servers, 'server connection')}: {words}" if words else ""

    def _remedy(self, pool: Pool) -> tuple[str, str | None]:
        database = _quoted(pool.database)
        look = f"runbook diagnose {shlex.quote(self._declared.database)}"
        if pool.binding == "paused":
            return _PAUSED, self.console(f"RESUME {database}")
        if pool.binding == "disabled":
            return _DISABLED, self.console(f"ENABLE {database}")
        if pool.binding == "no_server":
            return _NO_SERVER, look
        if pool.binding == "max_client_conn":
            return _MAX_CLIENT_CONN, look
        return "What holds them comes first, then the bound: the diagnosis names it.", look

    def _switched_off(self, database: DatabaseStatus) -> Trouble:
        word, back = ("disabled", "ENABLE") if database.disabled else ("paused", "RESUME")
        refused = "new clients are refused" if database.disabled else "its clients will wait"
        return Trouble(
            kind="paused",
            pgbouncer=self.name,
            said=f"database {database.name} is {word}: {refused}",
            hint="make sure that no switchover or restart is under way; then, as one of its"
            " admin_users:",
            command=self.console(f"{back} {_quoted(database.name)}"),
        )

    def console(self, command: str) -> str:
        """Return a psql command line for its console, quoted for a POSIX shell."""
        host, _, port = self._where.rpartition(":")
        who = ["-h", host, "-p", port, "-U", self._declared.admin.user]
        dbname = self._declared.admin.dbname or "pgbouncer"
        return shlex.join(["psql", *who, "-d", dbname, "-c", command])

    def unseen(self) -> Iterator[str]:
        """Yield what its console did not tell, or this version does not know."""
        if isinstance(self._answer, DoorError):
            return
        for show, why in self._answer.failed.items():
            # SHOW STATE came with 1.19; a long answer that was cut short is told here as well.
            if show == "state" and "does not know" in why:
                yield (
                    f"{self.name}: PgBouncer {self._answer.version} does not tell whether"
                    " everything is paused (PAUSE without a name); 1.19 does"
                )
            elif show in self._rows or show not in _NEEDED:
                yield f"{self.name}: SHOW {show.upper()}: {why}"
        strangers = self._strangers()
        if strangers:
            roles = count(strangers, "session")
            yield (
                f"{self.name}: PostgreSQL has {roles} of its pools' roles from its address that"
                " are none of its server connections: another program on that host, or opened"
                " between the two looks"
            )


def _blind(database: str, server: _Server, look: PoolerLook) -> Snapshot:
    """Return a snapshot with a console in it, and without sessions."""
    limits = server.snapshot.limits if server.snapshot is not None else _NO_LIMITS
    return Snapshot(database=database, limits=limits, sessions=(), poolers=(look,))


#: Of a server that could not be asked: names are then taken as a new server keeps them.
_NO_LIMITS = Limits(
    version_num=180000,
    version="",
    max_connections=0,
    superuser_reserved=0,
    reserved=0,
    max_wal_senders=0,
    in_recovery=False,
    role="",
    can_read_all=False,
    can_signal=False,
    is_superuser=False,
    server_time="",
)


def _most(pool: Pool) -> tuple[int, str]:
    """Return how many server connections a pool may come to, and by which bound."""
    size = (pool.size + pool.reserve, pool.size_setting + (" + reserve" if pool.reserve else ""))
    bounds: Iterable[tuple[int, str]] = (
        size,
        (pool.max_db_connections, "max_db_connections"),
        (pool.max_user_connections, "max_user_connections"),
    )
    return min((bound for bound in bounds if bound[0] > 0), default=(0, ""))


def _for_what(pool: Pool) -> str:
    match pool.binding:
        case "pool_size":
            return f"for pool_size {pool.bound} ({pool.setting})"
        case "max_db_connections" | "max_user_connections":
            return f"for {pool.setting} {pool.bound}"
        case "paused":
            return "because it is paused"
        case "no_server":
            return "for a server connection that PostgreSQL does not give"
    return "for a reason that its console does not tell"


def _quoted(name: str) -> str:
    """Return a name as the console reads it."""
    return name if _PLAIN_NAME.fullmatch(name) else '"' + name.replace('"', '""') + '"'


def _address(session: Session) -> str:
    return plain(session.client_addr or "local")
