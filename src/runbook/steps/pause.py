"""`pause`: wait, until an interrupt at the longest."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, create_model

from runbook.model.effects import Drive, Say, Sleep, ask
from runbook.model.inventory import Closed
from runbook.model.plan import Result
from runbook.model.step import StepContext, StepType
from runbook.model.units import Duration, format_duration
from runbook.steps import nowhere

#: A run that waits longer than a day is two runs.
_LONGEST_S = 86_400.0


class _PauseBase(Closed):
    """How long to wait, and why."""

    reason: str = Field("", max_length=200, description="what is waited for; it is shown")


#: `for` is a word of Python's: a class body cannot name a field so, and playbooks shall.
PauseArgs = create_model(
    "PauseArgs",
    __base__=_PauseBase,
    __module__=__name__,
    **{"for": (Annotated[Duration, Field(gt=0, le=_LONGEST_S)], Field(description="how long"))},  # type: ignore[call-overload]
)


def act(args: _PauseBase, _ctx: StepContext) -> Drive[Result]:
    """Wait; what an interrupt cuts short ends the run between two steps."""
    seconds: float = getattr(args, "for")
    said = format_duration(seconds)
    why = f": {args.reason}" if args.reason else ""
    yield from ask(Say(stage="pausing", text=f"for {said}{why}"))
    if (yield from ask(Sleep(seconds=seconds, cut_short=True))):
        return Result(status="ok", summary=f"waited {said}", data={"seconds": seconds})
    return Result(
        status="failed",
        summary=f"did not wait the whole {said}: interrupted",
        data={"interrupted": True},
    )


PAUSE = StepType(
    verb="pause",
    summary="wait for a time; Ctrl-C cuts it short",
    args=PauseArgs,
    phases={"act": act},
    changes=lambda _args: False,
    targets=nowhere.targets,
    after_crash="repeat",
    # Longer than the longest pause: the step's own limit is `for`.
    default_timeout_s=_LONGEST_S + 600,
)
