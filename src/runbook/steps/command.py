"""`command`: run one argv on hosts; a Change, unless it says `read_only: true`."""

from __future__ import annotations

from pydantic import Field

from runbook.model.inventory import Argv
from runbook.steps.running_argv import Errand, RunArgs, running_verb


class CommandArgs(RunArgs):
    """One argv on some hosts."""

    argv: Argv = Field(description="the command and its arguments; ${host.name} is filled in")


def _errand(args: CommandArgs) -> Errand:
    return Errand(argv=args.argv)


COMMAND = running_verb(
    "command",
    "run one command on hosts, as an argv and never through a shell of ours",
    CommandArgs,
    _errand,
)
