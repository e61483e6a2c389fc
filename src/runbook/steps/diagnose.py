"""The verb `diagnose`: put all questions to a database at once, and name the cause."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from runbook.model.inventory import Closed, Name
from runbook.model.leaks import LeakPolicy
from runbook.model.plan import Result
from runbook.model.step import StepContext, StepType
from runbook.model.units import Duration

if TYPE_CHECKING:
    from runbook.model.effects import Drive
    from runbook.model.fleet import Fleet


class DiagnoseArgs(Closed):
    """What `diagnose` takes."""

    database: Name
    hosts: bool = Field(
        True, description="look at app hosts' sockets and the server's processes, over SSH"
    )
    idle_in_transaction: Duration = Field(
        300.0, description="in a transaction without a word for this long counts as leaked"
    )


def _act(args: DiagnoseArgs, context: StepContext) -> Drive[Result]:
    snapshot = yield from context.judge.examine(args.database, context.fleet, hosts=args.hosts)
    policy = LeakPolicy(idle_in_transaction_s=args.idle_in_transaction)
    diagnosis = context.judge.diagnose(snapshot, context.fleet, policy)
    return Result(
        status="ok",
        summary=diagnosis.finding.title,
        data={"diagnosis": diagnosis.model_dump(mode="json")},
    )


def _targets(args: DiagnoseArgs, fleet: Fleet) -> tuple[str, ...]:
    fleet.database(args.database)  # an unknown name is an error, with the nearest one
    return (args.database,)


DIAGNOSE = StepType(
    verb="diagnose",
    summary="Say why a database is out of connections: the cause, its owners, the evidence.",
    args=DiagnoseArgs,
    phases={"act": _act},
    changes=lambda _args: False,
    targets=_targets,
    after_crash="repeat",
    default_timeout_s=60.0,
)
