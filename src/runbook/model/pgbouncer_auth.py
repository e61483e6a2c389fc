"""What `auth_query` needs in PostgreSQL: one role, one schema, one function, and nothing more.

PgBouncer asks the function for the SCRAM secret of whoever logs in, and uses that login's own keys
towards the server: no application's password is ever written down on PgBouncer's host.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runbook.model.document import visible

#: A schema that nobody else has a reason to use.
SCHEMA = "runbook_pgbouncer"
FUNCTION = "user_lookup"
#: The parameter of the statements below that is the role's password, as a server keeps it.
VERIFIER = "verifier"

#: No superuser's and no replication role's secret leaves the server this way: who has those logs in
#: to PostgreSQL itself. A password that has run out is none.
BODY = """
  SELECT s.usename::pg_catalog.text, s.passwd::pg_catalog.text
    FROM pg_catalog.pg_shadow AS s
   WHERE s.usename = i_username
     AND NOT s.usesuper
     AND NOT s.userepl
     AND (s.valuntil IS NULL OR s.valuntil > pg_catalog.now())
"""
AUTH_QUERY = f"SELECT uname, phash FROM {SCHEMA}.{FUNCTION}($1)"  # noqa: S608 - two constants

_SIGNATURE = f"{SCHEMA}.{FUNCTION}(pg_catalog.text)"

_CREATE = (
    f"CREATE FUNCTION {SCHEMA}.{FUNCTION}(IN i_username pg_catalog.text,"
    " OUT uname pg_catalog.text, OUT phash pg_catalog.text) RETURNS record"
    " LANGUAGE sql STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp"
    f" AS $runbook${BODY}$runbook$"
)

#: One row: the role as it is, and what of the rest is as it should be.
LOOK = """\
SELECT pg_catalog.pg_is_in_recovery() AS standby,
       r.oid IS NOT NULL AS role,
       COALESCE(r.rolcanlogin, false) AS login,
       COALESCE(r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication
                OR r.rolbypassrls, false) AS mighty,
       EXISTS (SELECT FROM pg_catalog.pg_auth_members AS m WHERE m.member = r.oid) AS member,
       n.oid IS NOT NULL AS schema,
       COALESCE(no.rolsuper, false) AS schema_sound,
       COALESCE(pg_catalog.has_schema_privilege(r.oid, n.oid, 'USAGE'), false) AS usage,
       p.oid IS NOT NULL AS function,
       COALESCE(po.rolsuper AND p.prosecdef AND p.prosrc = %(body)s
                AND p.proconfig = ARRAY['search_path=pg_catalog, pg_temp'], false) AS sound,
       COALESCE(pg_catalog.has_function_privilege(r.oid, p.oid, 'EXECUTE'), false) AS execute,
       COALESCE((SELECT pg_catalog.bool_or(a.grantee NOT IN (p.proowner, r.oid))
                   FROM pg_catalog.aclexplode(COALESCE(p.proacl,
                        pg_catalog.acldefault('f', p.proowner))) AS a), false) AS open_to_others,
       pg_catalog.array_to_json(ARRAY(SELECT g.rolname::pg_catalog.text
               FROM pg_catalog.aclexplode(p.proacl) AS a
               JOIN pg_catalog.pg_roles AS g ON g.oid = a.grantee
              WHERE a.grantee <> p.proowner AND a.grantee IS DISTINCT FROM r.oid
              ORDER BY 1))::pg_catalog.text AS granted
  FROM (SELECT 1) AS one
  LEFT JOIN pg_catalog.pg_roles AS r ON r.rolname = %(role)s
  LEFT JOIN pg_catalog.pg_namespace AS n ON n.nspname = %(schema)s
  LEFT JOIN pg_catalog.pg_roles AS no ON no.oid = n.nspowner
  LEFT JOIN pg_catalog.pg_proc AS p ON p.pronamespace = n.oid AND p.proname = %(function)s
  LEFT JOIN pg_catalog.pg_roles AS po ON po.oid = p.proowner"""


def look_for(role: str) -> tuple[tuple[str, Any], ...]:
    """Return the parameters of LOOK."""
    return (("role", role), ("body", BODY), ("schema", SCHEMA), ("function", FUNCTION))


@dataclass(frozen=True, kw_only=True, slots=True)
class AuthSeen:
    """What of it there is in one database."""

    dbname: str
    row: Mapping[str, Any]
    #: Whether the role has the password that the inventory leads to; None: not compared.
    password_fits: bool | None = None

    @property
    def function_sound(self) -> bool:
        """Whether the function is ours, to the letter, and open to the role alone."""
        row = self.row
        own = row["schema_sound"] and row["sound"] and not row["open_to_others"]
        return bool(own and row["usage"] and row["execute"])

    def problem(self, role: str) -> tuple[str, str] | None:
        """Say why nothing may be built on what there is, and what to do about it."""
        row = self.row
        if row["standby"]:
            return "the server is a standby: roles are made on its primary", "name the primary"
        if row["mighty"] or row["member"]:
            more = "is a member of other roles" if row["member"] else "has rights of its own"
            why = f"role {role} {more}, and auth_query's role needs none"
            return why, "name a role in auth.user that is for nothing else"
        if row["schema"] and not row["schema_sound"]:
            why = f"schema {SCHEMA} of {self.dbname} belongs to somebody who is no superuser"
            return why, f"look at what it is; DROP SCHEMA {SCHEMA} CASCADE where it is nothing"
        granted = json.loads(row["granted"])
        if granted:
            names = ", ".join(visible(name) for name in granted)
            revoke = f"REVOKE EXECUTE ON FUNCTION {SCHEMA}.{FUNCTION}(text) FROM "
            revoke += ", ".join(visible(identifier(name)) for name in granted)
            why = f"function {SCHEMA}.{FUNCTION} of {self.dbname} is granted to {names}, too"
            return (
                why,
                f"somebody's logins may need it; where nobody's do, in {self.dbname}: {revoke}",
            )
        return None


def make_role(role: str, *, exists: bool) -> str:
    """Return the statement that makes the role, or gives it its login and password."""
    verb = "ALTER" if exists else "CREATE"
    return f"{verb} ROLE {identifier(role)} LOGIN PASSWORD %({VERIFIER})s"


def make_function(role: str, *, schema_exists: bool) -> tuple[str, ...]:
    """Return the statements that put the function there, for that role alone."""
    name = identifier(role)
    return (
        *(() if schema_exists else (f"CREATE SCHEMA {SCHEMA}",)),
        f"REVOKE ALL ON SCHEMA {SCHEMA} FROM PUBLIC",
        f"GRANT USAGE ON SCHEMA {SCHEMA} TO {name}",
        f"DROP FUNCTION IF EXISTS {_SIGNATURE}",
        _CREATE,
        f"REVOKE ALL ON FUNCTION {_SIGNATURE} FROM PUBLIC",
        f"GRANT EXECUTE ON FUNCTION {_SIGNATURE} TO {name}",
    )


def drop_function() -> tuple[str, ...]:
    """Return the statements that take it away; whatever else is in the schema keeps it there."""
    return (f"DROP FUNCTION IF EXISTS {_SIGNATURE}", f"DROP SCHEMA IF EXISTS {SCHEMA}")


def drop_role(role: str) -> str:
    """Return the statement that takes the role away; what hangs on it keeps it there."""
    return f"DROP ROLE IF EXISTS {identifier(role)}"


def identifier(name: str) -> str:
    """Return a name as SQL, always quoted."""
    if "\0" in name:
        raise ValueError("a name cannot hold a NUL character")
    return '"' + name.replace('"', '""') + '"'
