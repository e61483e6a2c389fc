"""A world in memory: doors that answer from a script and remember what they were asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runbook.model.effects import (
    ChangeCommand,
    CommandOutcome,
    Drive,
    Effect,
    ReadCommand,
    ask,
)
from runbook.model.inventory import Closed
from runbook.model.plan import Result
from runbook.model.step import StepContext, StepType

Answer = Callable[[Effect[Any]], Any]


def fine(effect: Effect[Any]) -> CommandOutcome:
    """Every command succeeds."""
    return CommandOutcome(exit_code=0, stdout="", stderr="", seconds=0.0)


class MemoryDoor:
    """A door that remembers; `answer` may raise."""

    def __init__(self, answer: Answer = fine) -> None:
        self.asked: list[Effect[Any]] = []
        self._answer = answer

    def perform(self, effect: Effect[Any]) -> Any:
        """Remember the effect and answer it."""
        self.asked.append(effect)
        return self._answer(effect)

    def close(self) -> None:
        """Nothing is open."""


class TouchArgs(Closed):
    """Which words are run, and which are shown beforehand."""

    words: tuple[str, ...] = ("a",)
    shown: tuple[str, ...] = ("a",)


def touch(host: str, word: str) -> ChangeCommand:
    """The change that the test step makes."""
    return ChangeCommand(host=host, argv=("touch", word))


def _prepare(args: TouchArgs, ctx: StepContext) -> Drive[Result]:
    yield from ask(ReadCommand(host=ctx.target, argv=("ls",)))
    lines = [line for word in args.shown for line in touch(ctx.target, word).footprint()]
    return Result(status="ok", touches=tuple(lines))


def _act(args: TouchArgs, ctx: StepContext) -> Drive[Result]:
    for word in args.words:
        yield from ask(touch(ctx.target, word))
    return Result(status="ok", summary="touched")


TOUCH = StepType(
    verb="touch",
    summary="Touch words on hosts.",
    args=TouchArgs,
    phases={"prepare": _prepare, "act": _act},
    changes=lambda _args: True,
    targets=lambda _args, fleet: fleet.select("all"),
    after_crash="ask",
    lock=lambda _args: "service shop",
)
