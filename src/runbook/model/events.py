"""What happens in a run, in the past tense: written to the journal, shown as progress."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

#: planned        the plan was frozen                       data: plan, hash
#: task_started   a task began                              data: task (verb, phase, target)
#: said           a step told how far it is                 data: stage, text
#: intended       a Change is about to be made (synced first)  data: sentence, footprint
#: changed        a Change was made                         data: sentence, seconds, outcome
#: assumed        a Change was shown in a rehearsal         data: sentence, footprint
#: task_finished  a task ended                              data: result
#: asked          a confirmation was asked for              data: touches, hash
#: answered       ... and answered                          data: yes, by
#: noted          a task kept what a resume will need       data: what the step wrote
#:                without a task: a person's word to the run   data: what, by
#: owed           the run owes something to the world (synced)  data: an Obligation
#: paid           ... and does no longer                    data: key
#: interrupted    somebody asked it to stop                 data: by (a signal, a person)
#: resumed        another process took the run up           data: by, pid, choices
#: locked         a lock was taken, or stolen               data: lock, how, from
#: finished       the run ended                             data: status, reason
Kind = Literal[
    "planned",
    "task_started",
    "said",
    "intended",
    "changed",
    "assumed",
    "task_finished",
    "asked",
    "answered",
    "noted",
    "owed",
    "paid",
    "interrupted",
    "resumed",
    "locked",
    "finished",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One thing that happened; `at` is seconds since the epoch, `data` is JSON-able."""

    kind: Kind
    at: float
    task: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
