"""`check`: ask gates until they are answered well, and say so; it changes nothing.

The same gates that an inventory declares for a service, asked by a playbook: of hosts, or of
nothing but a URL or a database. Asked once, or until the deadline.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from runbook.model.effects import Drive, Say, Together, ask
from runbook.model.errors import UsageError
from runbook.model.fleet import Fleet
from runbook.model.inventory import (
    Closed,
    CommandGate,
    Gate,
    HttpGate,
    Name,
    ReleasedGate,
    SqlGate,
    SystemdGate,
    TcpGate,
)
from runbook.model.plan import Result
from runbook.model.step import StepContext, StepType
from runbook.model.systemd import Unfit
from runbook.model.units import Duration, format_duration
from runbook.steps.gate import Seat
from runbook.steps.gate_asking import Asked, Patience, Sample, until_good
from runbook.steps.gates import KINDS, Gates, bound

#: The target of a check that belongs to no host and no database.
HERE = "here"


class CheckArgs(Closed):
    """Gates, where they are asked, and for how long."""

    http: HttpGate | None = None
    tcp: TcpGate | None = None
    systemd: SystemdGate | None = None
    command: CommandGate | None = None
    sql: SqlGate | None = None
    pg_released: ReleasedGate | None = None
    service: Name | None = Field(
        None,
        description="a service: its own gates where none is given here; its hosts, unit and"
        " database where they are left out",
    )
    hosts: str | None = Field(None, description="a selector: the gates are asked for each host")
    successes: Annotated[int, Field(ge=1, le=100)] = Field(
        1, description="consecutive good answers; one bad answer starts the count anew"
    )
    interval: Duration = Field(2.0, description="the pause between two good answers")
    deadline: Duration | None = Field(
        None, description="how long to wait; without it, the first bad answer is the result"
    )
    settle: Duration = Field(
        0.0, description="how long the answers must have been good without a break"
    )

    @model_validator(mode="after")
    def _something_to_ask(self) -> Self:
        if self.service is None and not self.given:
            raise ValueError(f"a check asks something: {', '.join(KINDS)}, or a service's gates")
        return self

    @property
    def given(self) -> tuple[Gate, ...]:
        """Return the gates that are given here, in the table's order."""
        asked = {kind: getattr(self, kind) for kind in KINDS}
        return tuple(Gate(**{kind: gate}) for kind, gate in asked.items() if gate is not None)


def act(args: CheckArgs, ctx: StepContext) -> Drive[Result]:
    """Ask the gates of one target until they are good, or for as long as it may take."""
    gates = _gates(args, ctx.fleet, ctx.target)
    last: list[Any] = []

    def sample(left_s: float | None) -> Drive[Sample[Unfit]]:
        # Only the first asking ends it for good: a name server may fail later on, and come back.
        first = not last
        last[:] = yield from ask(Together(effects=gates.looks(left_s)))
        stop = gates.unaskable(last) if first else None
        return Sample(problem=gates.problem(last), stop=stop)

    patience = Patience(
        successes=args.successes,
        interval=args.interval,
        deadline=args.deadline,
        settle=args.settle,
    )
    yield from ask(Say(stage="checking", text="; ".join(each.sentence() for each in gates.each)))
    asked = yield from until_good(patience, sample, stage="checking")
    return _result(args, gates, asked, last)


def targets(args: CheckArgs, fleet: Fleet) -> tuple[str, ...]:
    """Return the hosts; else the database that is asked; else `here`. All gates are filled in.

    Raises:
        UsageError: for a selector, a service or a gate that does not fit the inventory.
    """
    if args.hosts is not None:
        names = fleet.select(args.hosts)
    elif args.service is not None:
        names = fleet.select(fleet.service(args.service).hosts)
    else:
        asked = args.sql or args.pg_released
        names = ((asked.database if asked else None) or HERE,)
    for name in names:
        _gates(args, fleet, name)
    return names


def _gates(args: CheckArgs, fleet: Fleet, target: str) -> Gates:
    on_hosts = args.hosts is not None or args.service is not None
    host = fleet.host(target) if on_hosts else None
    if args.service is None:
        return bound(args.given, Seat(fleet=fleet, host=host))
    service = fleet.service(args.service)
    gates = args.given or service.gates
    if not gates:
        raise UsageError(
            f"{args.service} declares no gates, and the check gives none",
            hint="services.NAME.gates in the inventory, or a gate in the step itself",
        )
    unit = (service.unit or args.service) if service.manager == "systemd" else None
    return bound(gates, Seat(fleet=fleet, host=host, unit=unit, database=service.database))


def _result(args: CheckArgs, gates: Gates, asked: Asked[Unfit], last: list[Any]) -> Result:
    data = {
        "passed": asked.passed,
        "answers": gates.answers(last),
        "attempts": asked.attempts,
        "good_in_a_row": asked.good,
        "seconds": round(asked.seconds, 3),
    }
    by_hand = tuple(gate.by_hand() for gate in gates.each)
    if asked.passed:
        return Result(status="ok", summary=_well(args, gates, last), data=data)
    hint = ""
    why = asked.problem or f"only {asked.good} of {args.successes} good answers in a row by then"
    if asked.stop is not None:
        why, hint = asked.stop.problem, asked.stop.hint
    elif args.deadline is not None:
        why = f"not well within {format_duration(args.deadline)}: {why}"
    return Result(status="failed", summary=why, hint=hint, data=data, by_hand=by_hand)


def _well(args: CheckArgs, gates: Gates, last: list[Any]) -> str:
    answers = "; ".join(gate.answer(own) for gate, own in gates.pairs(last))
    return answers + (f", {args.successes} times in a row" if args.successes > 1 else "")


CHECK = StepType(
    verb="check",
    summary="ask gates (http, tcp, systemd, command, sql, pg_released) until all is well",
    args=CheckArgs,
    phases={"act": act},
    changes=lambda _args: False,
    targets=targets,
    after_crash="repeat",
    # Its own deadline bounds it; this only has to be longer than any that makes sense.
    default_timeout_s=24 * 3600.0,
)
