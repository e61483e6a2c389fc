"""Looks at roles: what each has set, what it is, who may alter it; one question, one row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runbook.model.effects import Answers, AskDatabase, Drive, Question, ask
from runbook.model.errors import DatabaseError
from runbook.model.fleet import Fleet
from runbook.model.role_settings import CONNECTION_LIMIT, PARAMETERS
from runbook.steps.doctor_roles import literal

#: Names that are offered when one was misspelled, and groups of sessions that are told apart.
_MOST_NAMES = 500
_MOST_GROUPS = 2000
#: Sessions that a role's limit counts: no walsenders, no parallel workers. NULL is what a role
#: without pg_monitor sees of others.
_COUNTED = "COALESCE(backend_type, 'client backend') = 'client backend'"

# Whether our role may alter another is the server's own rule (user.c, AlterRole and AlterRoleSet):
# CREATEROLE did for every ordinary role up to 15, and from 16 on only with the ADMIN OPTION.
# In CASE, so that the privilege that 15 would not ask for is not asked of it.
_SQL = """
SELECT pg_catalog.current_setting('server_version_num')::int AS version_num,
       pg_catalog.pg_is_in_recovery() AS in_recovery,
       pg_catalog.current_setting('max_connections')::int
       - pg_catalog.current_setting('superuser_reserved_connections')::int
       - COALESCE(pg_catalog.current_setting('reserved_connections', true), '0')::int AS usable,
       (SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
            'name', wanted.name, 'oid', r.oid::bigint, 'login', r.rolcanlogin,
            'superuser', r.rolsuper, 'replication', r.rolreplication, 'limit', r.rolconnlimit,
            'sessions', (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity a
                          WHERE a.usesysid = r.oid AND {counted}),
            'altered', CASE
                WHEN ours.rolsuper THEN true
                WHEN NOT ours.rolcreaterole THEN false
                WHEN pg_catalog.current_setting('server_version_num')::int >= 160000
                    THEN pg_catalog.pg_has_role(ours.oid, r.oid, 'MEMBER WITH ADMIN OPTION')
                ELSE true END,
            'creates', ours.rolcreaterole))
          FROM (VALUES {wanted}) AS wanted (name)
          LEFT JOIN pg_catalog.pg_roles r ON r.rolname = wanted.name
          LEFT JOIN pg_catalog.pg_roles ours ON ours.rolname = {ours}) AS roles,
       (SELECT pg_catalog.json_agg(n.rolname ORDER BY n.rolname)
          FROM (SELECT rolname::text FROM pg_catalog.pg_roles
                 WHERE rolcanlogin AND rolname ~ '^[ -~]+$'
                 ORDER BY rolname LIMIT {most_names}) AS n) AS names,
       (SELECT pg_catalog.json_agg(d.datname::text ORDER BY d.datname)
          FROM pg_catalog.pg_database d
         WHERE d.datallowconn AND d.datname ~ '^[ -~]+$') AS databases,
       (SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
            'role', r.rolname, 'database', d.datname, 'setting', set.config))
          FROM pg_catalog.pg_db_role_setting s
          LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
          LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
         CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) AS set (config)
         WHERE pg_catalog.split_part(set.config, '=', 1) IN ({parameters})
           AND (s.setrole = 0 OR r.rolname IN (SELECT w.name FROM (VALUES {wanted}) AS w (name)))
       ) AS settings,
       (SELECT pg_catalog.json_object_agg(p.name, p.reset_val || p.unit)
          FROM (SELECT name, COALESCE(unit, '') AS unit,
                       CASE WHEN source IN ('default', 'configuration file', 'command line',
                                            'environment variable', 'override')
                            THEN reset_val END AS reset_val
                  FROM pg_catalog.pg_settings WHERE name IN ({parameters})) AS p) AS server,
       (SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
            'role', g.usename, 'application', g.application_name, 'sessions', g.n))
          FROM (SELECT usename::text, application_name, pg_catalog.count(*) AS n
                  FROM pg_catalog.pg_stat_activity
                 WHERE usename IS NOT NULL AND pid <> pg_catalog.pg_backend_pid() AND {counted}
                 GROUP BY 1, 2 ORDER BY 3 DESC LIMIT {most_groups}) AS g) AS sessions"""


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleSeen:
    """One role as the catalogue has it."""

    name: str
    exists: bool
    login: bool = False
    superuser: bool = False
    replication: bool = False
    limit: int = -1
    sessions: int = 0
    #: Whether the role of `connect` may alter it, and whether that one has CREATEROLE.
    altered: bool = False
    creates: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RolesSeen:
    """What one look at a server has of roles and their settings."""

    version_num: int
    in_recovery: bool
    #: max_connections less both reserves.
    usable: int
    roles: Mapping[str, RoleSeen]
    #: Every role that may log in and every database, for what was misspelled.
    names: tuple[str, ...]
    databases: tuple[str, ...]
    #: (role, database, parameter) -> value; "" for a role or a database stands for all.
    settings: Mapping[tuple[str, str, str], str]
    #: Parameter -> what the server itself has; missing where our own session hides it.
    server: Mapping[str, str]
    #: (role, application_name, sessions)
    sessions: tuple[tuple[str, str, int], ...]

    @property
    def major(self) -> int:
        """17 of 170004."""
        return self.version_num // 10_000

    def own(self, role: str, name: str, in_database: str | None = None) -> str | None:
        """What the role itself has at this place, to the letter; None where it has nothing."""
        if name == CONNECTION_LIMIT:
            return str(self.roles[role].limit)
        return self.settings.get((role, in_database or "", name))

    def inherited(self, name: str) -> str:
        """What a role without a setting of its own gets, for people."""
        databases = [
            f"{value} in {database}"
            for (role, database, parameter), value in sorted(self.settings.items())
            if not role and database and parameter == name
        ]
        everywhere = self.settings.get(("", "", name)) or self.server.get(name)
        return ", ".join([everywhere or "the server's own", *databases])

    def effective(self, role: str, name: str) -> str | None:
        """What a new session of the role gets where no database says otherwise; None: not told."""
        own = self.own(role, name)
        return own if own is not None else self.settings.get(("", "", name), self.server.get(name))

    def overridden(self, role: str, name: str) -> tuple[str, ...]:
        """Return the databases in which the role has another setting, which goes before."""
        return tuple(
            database
            for (of, database, parameter) in sorted(self.settings)
            if of == role and database and parameter == name
        )


def look(database: str, roles: Sequence[str], fleet: Fleet) -> Drive[RolesSeen]:
    """Ask for some roles, with all that is set for them."""
    ours = fleet.database(database).connect.user
    sql = _SQL.format(
        wanted=", ".join(f"({literal(role)})" for role in roles) or "(NULL)",
        ours=literal(ours),
        parameters=", ".join(f"'{name}'" for name in PARAMETERS),
        counted=_COUNTED,
        most_names=_MOST_NAMES,
        most_groups=_MOST_GROUPS,
    )
    answers: Answers = yield from ask(
        AskDatabase(database=database, questions=(Question(name="roles", sql=sql),))
    )
    rows = answers.rows.get("roles")
    if not rows:
        why = answers.failed.get("roles", "there is no connection to be had")
        raise DatabaseError(f"{database}: its roles could not be looked at: {why}")
    return _seen(rows[0])


def _seen(row: Mapping[str, Any]) -> RolesSeen:
    return RolesSeen(
        version_num=row["version_num"],
        in_recovery=row["in_recovery"],
        usable=row["usable"],
        roles={fact["name"]: _role(fact) for fact in row["roles"] or () if fact["name"]},
        names=tuple(row["names"] or ()),
        databases=tuple(row["databases"] or ()),
        settings={_place(fact): _value(fact) for fact in row["settings"] or ()},
        server={name: value for name, value in (row["server"] or {}).items() if value},
        sessions=tuple(
            (fact["role"], fact["application"] or "", fact["sessions"])
            for fact in row["sessions"] or ()
        ),
    )


def _role(fact: Mapping[str, Any]) -> RoleSeen:
    if fact["oid"] is None:
        return RoleSeen(name=fact["name"], exists=False)
    return RoleSeen(
        name=fact["name"],
        exists=True,
        login=fact["login"],
        superuser=fact["superuser"],
        replication=fact["replication"],
        limit=fact["limit"],
        sessions=fact["sessions"],
        altered=bool(fact["altered"]),
        creates=bool(fact["creates"]),
    )


def _place(fact: Mapping[str, Any]) -> tuple[str, str, str]:
    name = str(fact["setting"]).partition("=")[0]
    return (fact["role"] or "", fact["database"] or "", name)


def _value(fact: Mapping[str, Any]) -> str:
    return str(fact["setting"]).partition("=")[2]
