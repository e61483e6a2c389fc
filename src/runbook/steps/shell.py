"""`shell`: one line for `sh` on hosts; values reach it as words and variables, never as text."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints, model_validator

from runbook.model.inventory import Word
from runbook.model.step import NEVER_PASTED
from runbook.steps.running_argv import VARIABLE, Errand, RunArgs, running_verb

#: One word of an argv may have 128 KiB on Linux; a line of that size is a script.
_LONGEST = 16_384

Variable = Annotated[str, StringConstraints(pattern=f"^{VARIABLE.pattern}$")]


class ShellArgs(RunArgs):
    """One line for a shell on some hosts."""

    line: Annotated[str, StringConstraints(min_length=1, max_length=_LONGEST)] = Field(
        description="what `sh -c` runs, as it is written; ${…} is refused in it"
    )
    args: tuple[Word, ...] = Field((), description='words that the line finds as "$1", "$2", …')
    env: dict[Variable, Word] = Field(
        default_factory=dict, description="variables that the line finds in its environment"
    )

    @model_validator(mode="before")
    @classmethod
    def _values_are_never_pasted(cls, given: Any) -> Any:
        # Before anything is filled in: afterwards a pasted value cannot be told from the line.
        refuse_placeholders(given, "line")
        return given


def refuse_placeholders(given: Any, key: str) -> None:
    """Refuse `${…}` in text that a shell or another interpreter will read as its own.

    The reader of playbooks refuses it at its place, see `StepType.literal`; this is the last guard.

    Raises:
        ValueError: with the way to do it.
    """
    text = given.get(key) if isinstance(given, dict) else None
    if isinstance(text, str) and "${" in text:
        raise ValueError(f"{key!r} holds ${{…}}: {NEVER_PASTED}")


def _errand(args: ShellArgs) -> Errand:
    # The word after the line is $0: what the shell calls itself in its complaints.
    return Errand(argv=("sh", "-c", args.line, "sh", *args.args), env=args.env)


SHELL = running_verb(
    "shell",
    'run one line with `sh -c` on hosts; values come as "$1" and "$NAME", never pasted',
    ShellArgs,
    _errand,
    literal=("line",),
)
