"""What every finding is made of: its name, its questions, and its judge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from runbook.findings.view import View
    from runbook.model.diagnosis import Finding
    from runbook.model.effects import Question

#: cause      may be why the database is saturated
#: also       is not the cause, but matters
#: runner_up  was looked at because of a resemblance, and is less likely
Weight = Literal["cause", "also", "runner_up"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What one judge says, and how much it matters."""

    finding: Finding
    weight: Weight
    #: The pids that it speaks of, where it names single sessions: what a finding earlier in the
    #: order accounts for is no evidence of another one.
    concerns: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class FindingType:
    """One cause: add a file with one of these, and a line in `findings/table.py`."""

    name: str
    #: What it is, in one line; the docs are made of these.
    summary: str
    judge: Callable[[View], Verdict | None]
    #: For `docs/causes.md`, in full sentences: how it looks to those whom it hits; how it is told
    #: from its neighbours, with the numbers that decide; what to do, now and for good.
    looks: str
    told_apart: str
    remedy: str
    #: What it asks of the server beyond `limits` and `sessions`.
    questions: tuple[Question, ...] = ()
