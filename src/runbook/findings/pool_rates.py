"""How much work comes in: transactions of each database, statements of each role, in a second.

PostgreSQL counts both since its start; two looks give what came between them. A backend reports
once a second at most, so a rate of a few transactions a second is known better over a long window.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runbook.findings.sessions import BYTES, text_of
from runbook.findings.words import identifier
from runbook.model.effects import Question

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runbook.model.effects import Answers

_AT = "extract(epoch FROM pg_catalog.clock_timestamp())::float8 AS at"

DATABASES = Question(
    name="pool-databases",
    sql=f"""
SELECT {BYTES.format("d.datname::text")} AS name, d.datname = current_database() AS ours,
       (d.xact_commit + d.xact_rollback)::float8 AS transactions, {_AT}
  FROM pg_catalog.pg_stat_database d
 WHERE d.datname IS NOT NULL""",  # noqa: S608 - a constant, made of constants
)

# The extension stands in a schema of anybody's choice, and what we call there runs with our rights.
# Only its own function is called, and only a superuser can have made one in C: whoever may create
# in that schema cannot put another one of the same arguments in its place.
EXTENSION = Question(
    name="pool-statements-extension",
    sql=f"""
SELECT {BYTES.format("n.nspname::text")} AS schema,
       pg_catalog.string_to_array(e.extversion, '.')::int[] >= ARRAY[1, 8] AS tells_execution,
       pg_catalog.string_to_array(e.extversion, '.')::int[] >= ARRAY[1, 9] AS tells_toplevel
  FROM pg_catalog.pg_extension e
  JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
  JOIN pg_catalog.pg_proc p ON p.pronamespace = n.oid AND p.proname = 'pg_stat_statements'
   AND p.proargtypes::text = '16'
  JOIN pg_catalog.pg_language l ON l.oid = p.prolang AND l.lanname = 'c'
 WHERE e.extname = 'pg_stat_statements' AND e.extversion ~ '^[0-9]{{1,4}}([.][0-9]{{1,4}})*$'""",  # noqa: S608 - a constant, made of constants
)
_STATEMENTS = "pool-statements"


def statements_question(answers: Answers) -> Question | None:
    """Return what asks for the statements of each role; None where the extension is not there.

    Without their texts: those are in a file of the server, which may be large.
    """
    rows = answers.rows.get(EXTENSION.name)
    if not rows:
        return None
    schema = text_of(rows[0]["schema"]) or ""
    time = "total_exec_time" if rows[0]["tells_execution"] else "total_time"
    only = "WHERE s.toplevel" if rows[0]["tells_toplevel"] else ""
    return Question(
        name=_STATEMENTS,
        sql=f"""
SELECT {BYTES.format("r.rolname::text")} AS name, s.calls, s.ms, {_AT}
  FROM (SELECT s.userid, sum(s.calls)::float8 AS calls, sum(s.{time})::float8 AS ms
          FROM {identifier(schema)}.pg_stat_statements(false) s {only}
         GROUP BY 1) AS s
  JOIN pg_catalog.pg_roles r ON r.oid = s.userid""",  # noqa: S608 - the schema's name is quoted
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """What came in between two looks, in a second."""

    #: Transactions, by database; runbook's own are taken out.
    transactions: dict[str, float] = field(default_factory=dict)
    #: Statements, and the milliseconds that all of them took in a second, by role.
    statements: dict[str, tuple[float, float]] = field(default_factory=dict)


def rates(before: Answers, after: Answers, asked: int) -> Rates:
    """Return the rates between two looks; `asked` is how often we have asked in between."""
    transactions = {
        name: max(0.0, more["transactions"] - (asked if row["ours"] else 0)) / seconds
        for name, row, more, seconds in _grown(before, after, DATABASES.name, "transactions")
    }
    statements = {
        name: (more["calls"] / seconds, more["ms"] / seconds)
        for name, _, more, seconds in _grown(before, after, _STATEMENTS, "calls", "ms")
    }
    return Rates(transactions=transactions, statements=statements)


def _grown(
    before: Answers, after: Answers, question: str, *columns: str
) -> Iterator[tuple[str, dict[str, Any], dict[str, float], float]]:
    """Yield each name's later row, by how much its columns grew, and the seconds in between.

    What has shrunk was reset meanwhile, or thrown out, and tells nothing.
    """
    then = {row["name"]: row for row in before.rows.get(question, ())}
    for row in after.rows.get(question, ()):
        earlier = then.get(row["name"])
        if earlier is None or row["at"] <= earlier["at"]:
            continue
        more = {column: row[column] - earlier[column] for column in columns}
        if min(more.values()) >= 0:
            yield text_of(row["name"]) or "", row, more, row["at"] - earlier["at"]


def unseen(first: Answers, last: Answers, role: str, database: str) -> Iterator[str]:
    """Tell why there are no statements of single roles, and what would mend it."""
    if first.processes is not None or last.processes is not None:
        return

    def why(name: str) -> str | None:
        return last.failed.get(name) or first.failed.get(name)

    if said := why(DATABASES.name):
        yield f"transactions in a second were not told: {said}"
    if said := why(_STATEMENTS) or why(EXTENSION.name):
        yield f"the statements of each role were not told: pg_stat_statements: {said}"
    elif not first.rows.get(EXTENSION.name):
        yield (
            f"the statements of each role are not told: pg_stat_statements is not in database"
            f" {database}, where {role} looks. As a superuser, there: CREATE EXTENSION"
            " pg_stat_statements (it must be in shared_preload_libraries)"
        )
