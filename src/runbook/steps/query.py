"""The step `query`: one SQL statement of a playbook, read only or as a change."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from runbook.model.effects import ChangeSql, Drive, ReadSql, Rows, ask
from runbook.model.fleet import Fleet
from runbook.model.inventory import Closed, Name
from runbook.model.plan import Result
from runbook.model.sql_guard import fill_in, reading_statement, single_statement
from runbook.model.step import StepContext, StepType
from runbook.model.units import Duration

#: What a parameter of the statement may be; it is quoted on its way in, never pasted.
Value = str | int | float | bool | None


class QueryArgs(Closed):
    """What `query` is given."""

    database: Name = Field(description="the inventory's name of the database")
    sql: str = Field(description="one statement; %(name)s stands for a parameter, without quotes")
    parameters: dict[str, Value] = Field(
        default_factory=dict, description="values by name; each must be used"
    )
    read_only: bool = Field(
        False,
        description="it only reads: run in rehearsals too, in a READ ONLY transaction, and refused"
        " when it calls a function with side effects",
    )
    limit: Annotated[int, Field(ge=1, le=100_000)] = Field(
        1000, description="rows to bring back at most"
    )
    timeout: Duration = Field(10.0, description="how long the statement may take")

    @model_validator(mode="after")
    def _one_sound_statement(self) -> Self:
        check = reading_statement if self.read_only else single_statement
        fill_in(check(self.sql), dict.fromkeys(self.parameters, "NULL"))
        return self

    @property
    def change(self) -> ChangeSql:
        """Return the change that this is when it does not only read."""
        return ChangeSql(
            database=self.database,
            sql=self.sql,
            parameters=tuple(self.parameters.items()),
            timeout_s=self.timeout,
        )


def prepare(args: QueryArgs, _context: StepContext) -> Drive[Result]:
    """Show the statement; there is nothing to look at before it runs."""
    yield from ()
    return Result(
        status="ok",
        summary=args.change.sentence(),
        touches=tuple(sorted(args.change.footprint())),
        not_exercised=("the statement itself: what it would change is not known before it runs",),
    )


def act(args: QueryArgs, _context: StepContext) -> Drive[Result]:
    """Run the statement; `data` has its rows."""
    if not args.read_only:
        rows = yield from ask(args.change)
        return _result(rows, touches=tuple(sorted(args.change.footprint())))
    rows = yield from ask(
        ReadSql(
            database=args.database,
            sql=args.sql,
            parameters=tuple(args.parameters.items()),
            limit=args.limit,
            timeout_s=args.timeout,
        )
    )
    return _result(rows)


def _result(rows: Rows, touches: tuple[str, ...] = ()) -> Result:
    count = len(rows.rows)
    more = ", and there are more" if rows.truncated else ""
    return Result(
        status="ok",
        summary=f"{count} row{'' if count == 1 else 's'}{more}",
        data={"rows": list(rows.rows), "truncated": rows.truncated},
        touches=touches,
    )


def _targets(args: QueryArgs, _fleet: Fleet) -> tuple[str, ...]:
    return (args.database,)


QUERY = StepType(
    verb="query",
    summary="Run one SQL statement; a change unless it says `read_only: true`.",
    args=QueryArgs,
    phases={"prepare": prepare, "act": act},
    changes=lambda args: not args.read_only,
    targets=_targets,
    # Nobody but the playbook's author knows whether it may run twice.
    after_crash="ask",
    undo="none: what the statement changes is known to its author alone",
    lock=lambda args: None if args.read_only else f"database {args.database}",
    target_kind="database",
)
