"""`grants`: look whether our role is a member of roles, before anything that hangs on them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from runbook.model.effects import Drive, ReadSql, ask
from runbook.model.fleet import Fleet
from runbook.model.inventory import Closed, Name
from runbook.model.plan import Result
from runbook.model.step import StepContext, StepType

Role = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]{0,62}$")]

#: MEMBER and not USAGE: who does not inherit has the role after SET ROLE. A role that the server
#: does not know would make pg_has_role itself an error.
_SQL = """\
SELECT pg_catalog.quote_ident(current_user) AS ours,
       EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = %(role)s) AS known,
       COALESCE((SELECT pg_catalog.pg_has_role(current_user, oid, 'MEMBER')
                   FROM pg_catalog.pg_roles WHERE rolname = %(role)s), false) AS held"""


class GrantsArgs(Closed):
    """The roles that ours has to be a member of."""

    database: Name = Field(description="the inventory's name of the database")
    roles: Annotated[tuple[Role, ...], Field(min_length=1, max_length=50)] = Field(
        description="roles that ours must be a member of, as in pg_signal_backend"
    )


def act(args: GrantsArgs, _ctx: StepContext) -> Drive[Result]:
    """Ask for each role; the first words of a refusal are what is missing, its hint mends it."""
    missing: list[str] = []
    unknown: list[str] = []
    ours = ""
    for role in args.roles:
        look = ReadSql(database=args.database, sql=_SQL, parameters=(("role", role),))
        row = (yield from ask(look)).rows[0]
        ours = str(row["ours"])
        if not row["known"]:
            unknown.append(role)
        elif not row["held"]:
            missing.append(role)
    data = {"role": ours, "missing": missing, "unknown": unknown}
    if not missing and not unknown:
        held = ", ".join(args.roles)
        return Result(status="ok", summary=f"{ours} is a member of {held}", data=data)
    return Result(
        status="refused",
        summary=_said(args.database, ours, missing, unknown),
        hint=f"GRANT {', '.join(missing)} TO {ours};" if missing else "",
        data=data,
    )


def _said(database: str, ours: str, missing: list[str], unknown: list[str]) -> str:
    parts = [f"{ours} is no member of {', '.join(missing)}"] if missing else []
    parts += [f"the server has no role {', '.join(unknown)}"] if unknown else []
    return f"{'; '.join(parts)} (on {database})"


def _targets(args: GrantsArgs, fleet: Fleet) -> tuple[str, ...]:
    fleet.database(args.database)
    return (args.database,)


GRANTS = StepType(
    verb="grants",
    summary="look whether our role is a member of roles; a run that needs them is refused",
    args=GrantsArgs,
    phases={"act": act},
    changes=lambda _args: False,
    targets=_targets,
    after_crash="repeat",
    target_kind="database",
)
