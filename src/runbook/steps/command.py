"""`command`: run one argv on hosts; a Change, unless it says `read_only: true`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from runbook.model.document import visible
from runbook.model.effects import ChangeCommand, CommandOutcome, Drive, ReadCommand, ask
from runbook.model.errors import CommandFailed, ConnectionLost, NotStarted
from runbook.model.fleet import Fleet
from runbook.model.inventory import Argv, Closed
from runbook.model.plan import Result
from runbook.model.step import StepContext, StepType
from runbook.model.units import Duration
from runbook.steps.service_manager import on_host

#: Characters of each stream that a result keeps: enough to read, little enough for a journal.
_KEPT = 16_000


class CommandArgs(Closed):
    """One argv on some hosts."""

    hosts: str = Field(description="a selector")
    argv: Argv = Field(description="the command and its arguments; ${host.name} is filled in")
    read_only: bool = Field(False, description="it changes nothing: a rehearsal runs it as well")
    sudo: bool = Field(False, description="run it with `sudo -n`")
    timeout: Duration = 60.0
    ok_exit_codes: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)


def prepare(args: CommandArgs, ctx: StepContext) -> Drive[Result]:
    """Say what would run; nothing is asked of the host."""
    change = _change(args, ctx)
    yield from ()
    return Result(status="ok", summary=change.sentence(), touches=tuple(sorted(change.footprint())))


def act(args: CommandArgs, ctx: StepContext) -> Drive[Result]:
    """Run it on one host, once."""
    if args.read_only:
        look = ReadCommand(
            host=ctx.target, argv=_argv(args, ctx), timeout_s=args.timeout, sudo=args.sudo
        )
        return _judge(args, (yield from ask(look)))
    try:
        outcome = yield from ask(_change(args, ctx))
    except NotStarted as error:
        return Result(status="failed", summary=error.message, hint=error.hint or "")
    except (ConnectionLost, CommandFailed) as error:
        host = ctx.fleet.host(ctx.target)
        sudo = ("sudo",) if args.sudo else ()
        by_hand = (on_host(host, (*sudo, *_argv(args, ctx))),)
        return Result(
            status="unknown", summary=error.message, hint=error.hint or "", by_hand=by_hand
        )
    return _judge(args, outcome)


def targets(args: CommandArgs, fleet: Fleet) -> tuple[str, ...]:
    """Return the hosts, in the inventory's order; every argv is filled in once.

    Raises:
        UsageError: for a selector or an argv that does not fit the inventory.
    """
    names = fleet.select(args.hosts)
    for name in names:
        for word in args.argv:
            fleet.expand(word, fleet.host(name))
    return names


def _argv(args: CommandArgs, ctx: StepContext) -> tuple[str, ...]:
    host = ctx.fleet.host(ctx.target)
    return tuple(ctx.fleet.expand(word, host) for word in args.argv)


def _change(args: CommandArgs, ctx: StepContext) -> ChangeCommand:
    return ChangeCommand(
        host=ctx.target, argv=_argv(args, ctx), timeout_s=args.timeout, sudo=args.sudo
    )


def _judge(args: CommandArgs, outcome: CommandOutcome) -> Result:
    good = outcome.exit_code in args.ok_exit_codes
    said = (outcome.stdout if good else outcome.stderr or outcome.stdout).strip()
    last = visible(said.rpartition("\n")[2])[:200]
    return Result(
        status="ok" if good else "failed",
        summary=f"exit code {outcome.exit_code}" + (f": {last}" if last else ""),
        data={
            "exit_code": outcome.exit_code,
            "stdout": outcome.stdout[:_KEPT],
            "stderr": outcome.stderr[:_KEPT],
            "seconds": round(outcome.seconds, 3),
        },
    )


COMMAND = StepType(
    verb="command",
    summary="run one command on hosts, as an argv and never through a shell of ours",
    args=CommandArgs,
    phases={"prepare": prepare, "act": act},
    changes=lambda args: not args.read_only,
    targets=targets,
    after_crash="ask",
)
