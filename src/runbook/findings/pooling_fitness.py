"""What pooling by transaction would break: seen in statements, locks and sessions, or not seen."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runbook.findings import snapshot as snapshots
from runbook.findings.pooling_statements import traits_of
from runbook.findings.protection import QUESTION as ADVISORY_LOCKS
from runbook.findings.words import count as counted
from runbook.findings.words import identifier
from runbook.model.effects import AskDatabase, Drive, Question, ask
from runbook.model.pooling_fitness import FitnessEvidence, PoolingFitness

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from runbook.model.effects import Answers
    from runbook.model.fleet import Fleet
    from runbook.model.pooling_fitness import FitnessKind, Sureness
    from runbook.model.sessions import Session, Snapshot

#: Where pg_stat_statements is, and what it is told to keep.
PLACE = Question(
    name="statements-place",
    sql="""
SELECT pg_catalog.current_database() AS dbname,
       (SELECT n.nspname FROM pg_catalog.pg_extension e
          JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
         WHERE e.extname = 'pg_stat_statements') AS schema,
       pg_catalog.current_setting('pg_stat_statements.track', true) AS track,
       pg_catalog.current_setting('pg_stat_statements.track_utility', true) AS track_utility""",
)
#: Temporary tables that are there now, in the database that is asked.
TEMPORARY = Question(
    name="temporary-tables",
    sql="SELECT pg_catalog.count(*) AS tables FROM pg_catalog.pg_class"
    " WHERE relpersistence = 't' AND relkind IN ('r', 'v', 'S')",
)
#: Statements that are read at most, those with most calls first; pg_stat_statements has 5,000.
_MOST = 2000
_CHARACTERS = 400
#: Only what may matter is sent: the words are looked at again, with comments and literals gone.
_WORDS = (
    "[[:<:]](listen|prepare|execute|deallocate|declare|load|temp|temporary|pg_temp|set_config"
    "|currval|lastval|pg_advisory_lock|pg_advisory_lock_shared|pg_try_advisory_lock"
    "|pg_try_advisory_lock_shared|pg_advisory_unlock|pg_advisory_unlock_shared"
    "|pg_advisory_unlock_all)[[:>:]]"
)
#: SET is also a part of every UPDATE: there it does not stand at the beginning of anything.
_SET = "(^|;|[*]/|[[:cntrl:]])[[:space:]]*set[[:>:]]"

_NOT_TO_PREPARE = (
    "PgBouncer 1.21 with max_prepared_statements, or a driver that does not prepare (asyncpg:"
    " statement_cache_size=0; psycopg 3: prepare_threshold=None)"
)
#: What each kind would break, and what to do about it.
_BREAKS: dict[FitnessKind, tuple[str, str]] = {
    "listen": (
        "notifications arrive at a server connection that its listener does not have any more",
        "give the listener a connection of its own, straight to PostgreSQL",
    ),
    "set": (
        "the setting stays with the server connection, for whoever has it next",
        "SET LOCAL, ALTER ROLE … SET, or options in the connection string",
    ),
    "prepare": (
        "EXECUTE runs where nothing of that name is prepared",
        "let the driver prepare by the protocol, with PgBouncer 1.21 and max_prepared_statements",
    ),
    "advisory-lock": (
        "the lock stays with the server connection: its own client cannot release it any more",
        "pg_advisory_xact_lock(), or a connection of its own, straight to PostgreSQL",
    ),
    "temporary-table": (
        "the table is gone in the next transaction, or another client's",
        "create it in the transaction that uses it, ON COMMIT DROP",
    ),
    "cursor": (
        "FETCH runs where the cursor is not",
        "fetch within the transaction",
    ),
    "load": (
        "the library is loaded into one server connection alone",
        "session_preload_libraries",
    ),
    "driver": (
        "its driver prepares statements by the protocol: before 1.21 PgBouncer mixes them up",
        _NOT_TO_PREPARE,
    ),
    "sequence": (
        "outside of the transaction that has called nextval() it is another client's value",
        "INSERT … RETURNING",
    ),
}
_SURE: tuple[Sureness, ...] = ("certain", "likely", "weak")
#: From here on PgBouncer keeps statements that are prepared by the protocol apart.
_PREPARES_SINCE = (1, 21)
#: What nobody outside of a session can see, whatever they are granted.
_PREPARED_UNSEEN = (
    "statements that drivers prepare by the protocol: pg_prepared_statements shows a session its"
    " own alone. With PgBouncer before 1.21 drivers have to be told not to prepare"
)
_LISTENERS_UNSEEN = (
    "who listens: pg_listening_channels shows a session its own alone, and a LISTEN from before"
    " anything was counted is not found"
)


def examine(
    database: str,
    fleet: Fleet,
    *,
    dbname: str | None = None,
    service: str | None = None,
    pgbouncer_version: str | None = None,
) -> Drive[PoolingFitness]:
    """Look at a server's statements, locks and sessions, and judge them.

    Raises (through the drive):
        DoorError: when no rung of the ladder lets us in.
        DatabaseError: when who is connected was not answered.
    """
    first = (*snapshots.NEEDED, ADVISORY_LOCKS, PLACE, TEMPORARY)
    answers: Answers = yield from ask(AskDatabase(database=database, questions=first))
    seen = snapshots.assemble(database, answers)
    place = dict((seen.extra.get(PLACE.name) or [{}])[0])
    rows: dict[str, list[dict[str, Any]]] = {}
    failed = dict(seen.failed)
    if place.get("schema") and answers.processes is None:
        asked = (_statements(place["schema"]), _hidden(place["schema"]), _since(place["schema"]))
        more: Answers = yield from ask(AskDatabase(database=database, questions=asked))
        rows, failed = more.rows, {**failed, **more.failed}
    scope = Scope(
        fleet=fleet,
        database=database,
        dbname=dbname,
        service=service,
        prepares=_prepares(pgbouncer_version),
    )
    return judge(Look(snapshot=seen, place=place, rows=rows, failed=failed), scope)


def _statements(schema: str) -> Question:
    return Question(
        name="statements",
        sql=f"""
SELECT pg_catalog.left(s.query, {_CHARACTERS}) AS query, s.calls,
       r.rolname::text AS role, d.datname::text AS database
  FROM {identifier(schema)}.pg_stat_statements s
  LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.userid
  LEFT JOIN pg_catalog.pg_database d ON d.oid = s.dbid
 WHERE s.query ~* '{_WORDS}' OR s.query ~* '{_SET}'
 ORDER BY s.calls DESC
 LIMIT {_MOST}""",  # noqa: S608 - constants, and a name of the catalogue's that is quoted
    )


def _hidden(schema: str) -> Question:
    return Question(
        name="statements-hidden",
        sql="SELECT pg_catalog.count(*) AS statements FROM"  # noqa: S608 - see above
        f" {identifier(schema)}.pg_stat_statements WHERE query = '<insufficient privilege>'",
    )


def _since(schema: str) -> Question:
    return Question(
        name="statements-since",
        sql="SELECT stats_reset::text AS since FROM"  # noqa: S608 - see above
        f" {identifier(schema)}.pg_stat_statements_info",
        min_version=140000,
    )


def _prepares(version: str | None) -> bool:
    parts = (version or "").split(".")[:2]
    return all(part.isdigit() for part in parts) and tuple(map(int, parts)) >= _PREPARES_SINCE


# ---- judging -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was seen of a server."""

    snapshot: Snapshot
    #: The row of PLACE; {} when it was not answered.
    place: Mapping[str, Any]
    #: Answers of pg_stat_statements, by question.
    rows: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Whose statements count."""

    fleet: Fleet
    database: str
    dbname: str | None = None
    service: str | None = None
    #: Whether the PgBouncer that is meant keeps prepared statements apart.
    prepares: bool = False

    @property
    def roles(self) -> tuple[str, ...]:
        """The services' roles, where every one declares its own; () is everybody."""
        if self.service is not None:
            declared = [self.fleet.service(self.service).role]
        else:
            services = self.fleet.services_of(self.database).values()
            declared = [service.role for service in services]
        roles = {role for role in declared if role is not None}
        return tuple(sorted(roles)) if None not in declared else ()

    @property
    def ours(self) -> frozenset[str]:
        """The roles that runbook itself logs in as."""
        known = self.fleet.inventory.databases.get(self.database)
        if known is None:
            return frozenset()
        doors = (known.connect, known.admin, known.rescue)
        return frozenset(door.user for door in doors if door is not None)

    def counts(self, role: str | None, database: str | None) -> bool:
        """Whether somebody's statement in some database counts."""
        if self.dbname is not None and database != self.dbname:
            return False
        return role in self.roles if self.roles else role not in self.ours


@dataclass(kw_only=True)
class _Seen:
    """What was seen of one kind in one place."""

    sure: Sureness
    count: int = 0
    roles: set[str] = field(default_factory=set)
    databases: set[str] = field(default_factory=set)
    sample: str = ""

    def add(self, count: int, role: str | None, database: str | None, sample: str) -> None:
        if not self.sample:
            self.sample = sample
        self.count += count
        self.roles |= {role} if role else set()
        self.databases |= {database} if database else set()


def judge(look: Look, scope: Scope) -> PoolingFitness:
    """Say what pooling by transaction would break, and propose the mode."""
    evidence = [*_from_statements(look, scope), *_from_sessions(look, scope)]
    evidence += [*_from_locks(look, scope), *_from_tables(look)]
    if scope.prepares:
        evidence = [each for each in evidence if each.kind != "driver"]
    evidence.sort(key=lambda each: (_SURE.index(each.sure), -each.count))
    against = [each for each in evidence if each.decides]
    unknown = tuple(_unknown(look, scope))
    readable = bool(look.rows.get("statements-hidden")) and not _hidden_count(look)
    since = (look.rows.get("statements-since") or [{}])[0].get("since")
    return PoolingFitness(
        database=scope.database,
        dbname=scope.dbname,
        service=scope.service,
        roles=scope.roles,
        mode="session" if against else "transaction",
        sure=against[0].sure if against else ("likely" if readable else "weak"),
        verdict=_verdict(against, readable=readable),
        evidence=tuple(evidence),
        unknown=unknown,
        since=since,
    )


def _verdict(against: list[FitnessEvidence], *, readable: bool) -> str:
    if not against:
        if readable:
            return "transaction: nothing that was seen speaks against it"
        return "transaction: nothing was seen that speaks against it, and little could be seen"
    kinds = list(dict.fromkeys(each.kind for each in against))
    first = against[0]
    others = f"; also {', '.join(kinds[1:])}" if len(kinds) > 1 else ""
    return (
        f"session: {first.kind} ({counted(first.count, first.unit[:-1])} in {first.seen_in}):"
        f" {first.breaks}"
        f"{others}"
    )


def _evidence(
    seen: Mapping[tuple[FitnessKind, Sureness], _Seen], where: Any, unit: Any
) -> Iterator[FitnessEvidence]:
    for (kind, sure), each in seen.items():
        breaks, remedy = _BREAKS[kind]
        yield FitnessEvidence(
            kind=kind,
            breaks=breaks,
            seen_in=where,
            count=each.count,
            unit=unit,
            roles=tuple(sorted(each.roles)),
            databases=tuple(sorted(each.databases)),
            sample=each.sample,
            sure=sure,
            remedy=remedy,
        )


def _from_statements(look: Look, scope: Scope) -> Iterator[FitnessEvidence]:
    """What pg_stat_statements has counted; its rows come with most calls first."""
    rows = (
        (row["query"] or "", row["calls"], row["role"], row["database"])
        for row in look.rows.get("statements", ())
        if scope.counts(row["role"], row["database"])
    )
    yield from _evidence(_collected(rows), "pg_stat_statements", "calls")


def _from_sessions(look: Look, scope: Scope) -> Iterator[FitnessEvidence]:
    """What the sessions that are there now have said last."""
    rows = ((s.query, 1, s.role, s.database) for s in _sessions(look, scope))
    yield from _evidence(_collected(rows), "pg_stat_activity", "sessions")


def _collected(
    rows: Iterable[tuple[str, int, str | None, str | None]],
) -> dict[tuple[FitnessKind, Sureness], _Seen]:
    found: dict[tuple[FitnessKind, Sureness], _Seen] = {}
    for query, calls, role, database in rows:
        for trait in traits_of(query):
            key = (trait.kind, trait.sure)
            found.setdefault(key, _Seen(sure=trait.sure)).add(calls, role, database, trait.sample)
    return found


def _sessions(look: Look, scope: Scope) -> list[Session]:
    clients = look.snapshot.clients
    return [s for s in clients if not s.hidden and scope.counts(s.role, s.database)]


def _from_locks(look: Look, scope: Scope) -> Iterator[FitnessEvidence]:
    """An advisory lock of a session that is idle outside a transaction outlives transactions."""
    holders = {row["pid"] for row in look.snapshot.extra.get(ADVISORY_LOCKS.name, ())}
    found: dict[tuple[FitnessKind, Sureness], _Seen] = defaultdict(lambda: _Seen(sure="weak"))
    for session in _sessions(look, scope):
        if session.pid in holders:
            sure: Sureness = "certain" if session.idle else "weak"
            found["advisory-lock", sure].add(1, session.role, session.database, "")
    yield from _evidence(found, "pg_locks", "sessions")


def _from_tables(look: Look) -> Iterator[FitnessEvidence]:
    """Whose a temporary table is, and whether its transaction is over, is not told."""
    tables = int((look.snapshot.extra.get(TEMPORARY.name) or [{"tables": 0}])[0]["tables"])
    if tables:
        seen = _Seen(sure="weak")
        seen.add(tables, None, look.place.get("dbname"), "")
        yield from _evidence({("temporary-table", "weak"): seen}, "pg_class", "tables")


def _hidden_count(look: Look) -> int:
    return int((look.rows.get("statements-hidden") or [{"statements": 0}])[0]["statements"])


def _unknown(look: Look, scope: Scope) -> Iterator[str]:
    """Yield what was not seen, and what would show it."""
    yield from _unread(look)
    if any(session.hidden for session in look.snapshot.clients):
        role = look.snapshot.limits.role
        yield f"other roles' sessions: GRANT pg_monitor TO {identifier(role)}; as a superuser"
    if scope.service is not None and not scope.roles:
        yield (
            f"what is {scope.service}'s: the inventory does not say which role it logs in as"
            f" (services.{scope.service}.role), so that everybody's statements count"
        )
    if not scope.prepares:
        yield _PREPARED_UNSEEN
    yield _LISTENERS_UNSEEN


def _unread(look: Look) -> Iterator[str]:
    """Yield what pg_stat_statements does not tell."""
    place, role = look.place, look.snapshot.limits.role
    if "statements" in look.failed:
        yield f"what was run so far: {look.failed['statements']}"
    elif not place.get("schema"):
        where = f" in {place['dbname']}" if place.get("dbname") else ""
        yield (
            f"what was run so far: pg_stat_statements is not there{where}. With it in"
            " shared_preload_libraries: CREATE EXTENSION pg_stat_statements, and a week of work"
        )
    else:
        if hidden := _hidden_count(look):
            yield (
                f"{counted(hidden, 'statement')} of other roles in pg_stat_statements:"
                f" GRANT pg_read_all_stats TO {identifier(role)}; as a superuser"
            )
        if place.get("track_utility") == "off":
            yield "LISTEN, SET and the like: pg_stat_statements.track_utility is off"
        if place.get("track") == "none":
            yield "what was run so far: pg_stat_statements.track is none"
        yield "what runs within functions and procedures: only what clients send was read"
