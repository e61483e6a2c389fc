"""What `command`, `shell` and `script` share: an argv on hosts, run once, judged by its exit code.

All three are Changes, unless they say `read_only: true`: nobody but the playbook's author knows
what a command does. For the same reason nobody but a person can say whether one that lost its
process has run.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import Field

from runbook.model.document import visible
from runbook.model.effects import ChangeCommand, CommandOutcome, Drive, ReadCommand, ask
from runbook.model.errors import CommandFailed, ConnectionLost, NotStarted
from runbook.model.fleet import Fleet, ResolvedHost
from runbook.model.inventory import Closed
from runbook.model.plan import Result
from runbook.model.step import StepContext, StepType
from runbook.model.units import Duration
from runbook.steps.service_manager import on_host

#: Characters of each stream that a result keeps: enough to read, little enough for a journal.
_KEPT = 16_000

#: A variable's name as every shell takes it; `env` would take others, and a shell drop them.
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class RunArgs(Closed):
    """What every verb that runs something is given."""

    hosts: str = Field(description="a selector")
    read_only: bool = Field(False, description="it changes nothing: a rehearsal runs it as well")
    sudo: bool = Field(False, description="run it with `sudo -n`")
    timeout: Duration = Field(
        60.0, description="for each host; a change is not killed when it takes longer"
    )
    ok_exit_codes: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    repeatable: bool = Field(
        False,
        description="it may run twice: `retry` is allowed, and a resumed run does it again unasked",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Errand:
    """What a verb runs on a host; `${host.…}` in its words is not yet filled in."""

    argv: tuple[str, ...]
    #: Variables that it finds in its environment.
    env: Mapping[str, str] = field(default_factory=dict)
    #: Sent to it as it is.
    stdin: str = ""
    #: Plumbing that is run in front of the argv, and which nobody needs to read.
    wrap: tuple[str, ...] = ()
    #: What people are shown after the argv, and what they type after it to run it by hand.
    shown_more: str = ""
    by_hand_more: str = ""

    def words(self) -> tuple[str, ...]:
        """Return all that the host's values are filled in to."""
        return (*self.argv, *self.env.values())

    def on(self, fleet: Fleet, host: ResolvedHost) -> Errand:
        """Return it with one host's values filled in."""
        return replace(
            self,
            argv=tuple(fleet.expand(word, host) for word in self.argv),
            env={name: fleet.expand(value, host) for name, value in self.env.items()},
        )

    @property
    def variables(self) -> tuple[str, ...]:
        """The words that set its environment."""
        values = (f"{name}={value}" for name, value in self.env.items())
        return ("env", *values) if self.env else ()

    @property
    def whole(self) -> tuple[str, ...]:
        """All words that are run."""
        return (*self.variables, *self.wrap, *self.argv)

    @property
    def readable(self) -> tuple[str, ...]:
        """What a person would run in their place."""
        return (*self.variables, *self.argv)


def running_verb(
    verb: str, summary: str, args: type[RunArgs], errand: Callable[[Any], Errand], **more: Any
) -> StepType:
    """Return the step type of a verb that runs what `errand` makes of its arguments."""
    runner = _Runner(errand)
    return StepType(
        verb=verb,
        summary=summary,
        args=args,
        phases={"prepare": runner.prepare, "act": runner.act},
        changes=lambda given: not given.read_only,
        targets=runner.targets,
        # Nobody but the playbook's author knows whether it may run twice.
        after_crash="ask",
        undo="none: what it changes is known to its author alone",
        target_kind="host",
        repeatable=lambda given: given.repeatable,
        **more,
    )


@dataclass(frozen=True, slots=True)
class _Runner:
    errand: Callable[[Any], Errand]

    def prepare(self, args: RunArgs, ctx: StepContext) -> Drive[Result]:
        """Say what would run; nothing is asked of the host."""
        change = _change(args, ctx, self._on(args, ctx))
        yield from ()
        touches = tuple(sorted(change.footprint()))
        return Result(status="ok", summary=change.sentence(), touches=touches)

    def act(self, args: RunArgs, ctx: StepContext) -> Drive[Result]:
        """Run it on one host, once."""
        errand = self._on(args, ctx)
        if args.read_only:
            return judge(args, (yield from ask(_look(args, ctx, errand))))
        try:
            outcome = yield from ask(_change(args, ctx, errand))
        except NotStarted as error:
            return Result(status="failed", summary=error.message, hint=error.hint or "")
        except (ConnectionLost, CommandFailed) as error:
            return Result(
                status="unknown",
                summary=error.message,
                hint=error.hint or "",
                by_hand=(_by_hand(args, ctx, errand),),
            )
        return judge(args, outcome)

    def targets(self, args: RunArgs, fleet: Fleet) -> tuple[str, ...]:
        """Return the hosts, in the inventory's order; every word is filled in once.

        Raises:
            UsageError: for a selector or a word that does not fit the inventory.
        """
        names = fleet.select(args.hosts)
        words = self.errand(args).words()
        for name in names:
            for word in words:
                fleet.expand(word, fleet.host(name))
        return names

    def _on(self, args: RunArgs, ctx: StepContext) -> Errand:
        return self.errand(args).on(ctx.fleet, ctx.fleet.host(ctx.target))


def judge(args: RunArgs, outcome: CommandOutcome) -> Result:
    """Return what a command's exit code and its last line say."""
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


def _look(args: RunArgs, ctx: StepContext, errand: Errand) -> ReadCommand:
    return ReadCommand(
        host=ctx.target,
        argv=errand.whole,
        timeout_s=args.timeout,
        sudo=args.sudo,
        stdin=errand.stdin,
    )


def _change(args: RunArgs, ctx: StepContext, errand: Errand) -> ChangeCommand:
    shown = shlex.join(errand.readable) + errand.shown_more if errand.wrap else ""
    return ChangeCommand(
        host=ctx.target,
        argv=errand.whole,
        timeout_s=args.timeout,
        sudo=args.sudo,
        stdin=errand.stdin,
        shown=shown,
    )


def _by_hand(args: RunArgs, ctx: StepContext, errand: Errand) -> str:
    sudo = ("sudo",) if args.sudo else ()
    return on_host(ctx.fleet.host(ctx.target), (*sudo, *errand.readable)) + errand.by_hand_more
