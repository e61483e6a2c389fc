"""The verb `doctor`: on a quiet day, would every door open, and is every right there?

It looks and never changes anything. All looks of one stage are taken side by side; what hangs on
an answer waits for the next stage, so that a dead host is waited for once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import TYPE_CHECKING, Any

from pydantic import Field

from runbook.model.doctor import Check, DoctorReport, report_of
from runbook.model.effects import Observe, Together, ask
from runbook.model.inventory import Closed, Name
from runbook.model.plan import Result
from runbook.model.step import StepContext, StepType
from runbook.steps import (
    doctor_grants,
    doctor_hosts,
    doctor_inventory,
    doctor_pgbouncers,
    doctor_rungs,
    doctor_secrets,
    doctor_services,
)
from runbook.steps.doctor_scope import Scope, Seen, scope_of

if TYPE_CHECKING:
    from runbook.model.effects import Drive
    from runbook.model.fleet import Fleet

_Looks = Callable[[Scope, Seen], Iterable[Observe[Any]]]

#: What is looked at, stage by stage.
_STAGES: tuple[tuple[_Looks, ...], ...] = (
    (
        doctor_secrets.looks,
        doctor_rungs.first,
        doctor_pgbouncers.looks,
        doctor_hosts.first,
        doctor_services.first,
    ),
    (doctor_rungs.second, doctor_hosts.second, doctor_services.second),
    (doctor_rungs.third,),
    (doctor_rungs.fourth,),
)

#: Who judges what was seen.
_JUDGES: tuple[Callable[[Scope, Seen], Iterable[Check]], ...] = (
    doctor_inventory.judge,
    doctor_secrets.judge,
    doctor_rungs.judge,
    doctor_grants.judge,
    doctor_hosts.judge,
    doctor_services.judge,
    doctor_pgbouncers.judge,
)


class DoctorArgs(Closed):
    """What `doctor` takes."""

    database: Name | None = Field(
        None, description="this database and what belongs to it; everything, when left out"
    )


def examine(database: str | None, fleet: Fleet) -> Drive[DoctorReport]:
    """Look at everything that belongs to a database (None: at all there is), and judge it.

    Raises:
        UsageError: when the inventory has no such database.
    """
    scope, seen = scope_of(database, fleet), Seen()
    for stage in _STAGES:
        looks = seen.new(chain.from_iterable(part(scope, seen) for part in stage))
        if looks:
            outcomes = yield from ask(Together(effects=looks))
            seen.outcomes.update(zip(looks, outcomes, strict=True))
    checks = chain.from_iterable(judge(scope, seen) for judge in _JUDGES)
    return report_of(database, tuple(checks))


def _act(args: DoctorArgs, context: StepContext) -> Drive[Result]:
    report = yield from examine(args.database, context.fleet)
    return Result(
        # A playbook that begins with the doctor ends there when something is missing.
        status="ok" if report.well else "failed",
        summary=report.verdict,
        hint="" if report.well else _how_to_see(args.database),
        data={"report": report.model_dump(mode="json")},
    )


def _how_to_see(database: str | None) -> str:
    return f"runbook doctor{f' {database}' if database else ''} lists what mends each"


def _targets(args: DoctorArgs, fleet: Fleet) -> tuple[str, ...]:
    scope_of(args.database, fleet)  # an unknown name is an error, with the nearest one
    return (args.database or "inventory",)


DOCTOR = StepType(
    verb="doctor",
    summary="Say whether every door would open, and what mends those that would not.",
    args=DoctorArgs,
    phases={"act": _act},
    changes=lambda _args: False,
    targets=_targets,
    after_crash="repeat",
    default_timeout_s=180.0,
)
