"""What is known of one host on its way through a rolling restart, and looks at its process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from runbook.model.effects import Drive, Now, Sleep, Together, ask
from runbook.model.errors import DoorError
from runbook.model.plan import Crashed, Status
from runbook.model.systemd import Standing
from runbook.model.units import format_duration
from runbook.steps.database_gate import Sessions
from runbook.steps.rolling_files import Configuration
from runbook.steps.rolling_subject import Subject

#: Between two looks while something is awaited; each costs the host a few milliseconds.
LOOK_S = 0.25


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Why the host does not go on to the next stage."""

    status: Status
    why: str
    hint: str = ""
    #: Somebody wanted the run to stop, and the host was left as it was found.
    interrupted: bool = False
    #: `why` says already where the balancers have the host.
    placed: bool = False


@dataclass(kw_only=True)
class Journey:
    """What is known of one host on its way through the stages."""

    subject: Subject
    timeout_s: float
    sessions: Sessions | None
    before: str = ""
    after: str = ""
    #: The server's clock from before the restart, in its own words.
    since: str | None = None
    #: The last look that could be taken.
    seen: Any = None
    stages: list[dict[str, Any]] = field(default_factory=list)
    #: The clock, as it was last read; and at the beginning.
    now: float = 0.0
    began: float = 0.0
    #: The restart was asked for; its answer was lost; nothing has told yet what came of it.
    asked: bool = False
    answer_lost: bool = False
    in_doubt: bool = False
    #: The new process stayed up.
    stable: bool = False
    #: The last look in words, one that failed included.
    last_seen: str = ""
    #: Balancers that this run told to drain the host, and owes its return; those that had it out
    #: of rotation before, and keep it so.
    ours: tuple[str, ...] = ()
    kept_out: tuple[str, ...] = ()
    #: The host is back in rotation, by our hand.
    back: bool = False
    #: What an earlier process has left in the journal; and whether its restart was made.
    crashed: Crashed | None = None
    made_before: bool = False
    rebooted: bool = False
    #: The boot in which the restart was asked for.
    boot_id: str = ""
    #: The database gate's answers: before the restart, and the last one.
    first_row: dict[str, Any] = field(default_factory=dict)
    last_row: dict[str, Any] = field(default_factory=dict)
    #: What becomes of its settings; None leaves them as they are.
    config: Configuration | None = None


def now(journey: Journey) -> Drive[float]:
    """Read the clock, and keep what it said."""
    journey.now = yield from ask(Now())
    return journey.now


def look(journey: Journey) -> Drive[Standing | DoorError]:
    """Take one look; a host that cannot be seen is an answer too."""
    (outcome,) = yield from ask(Together(effects=(journey.subject.manager.look(),)))
    return judged(journey, outcome)


def judged(journey: Journey, outcome: Any) -> Standing | DoorError:
    """Return what a look says of the process; what it saw is kept."""
    standing: Standing | DoorError = outcome
    if not isinstance(outcome, DoorError):
        journey.seen = outcome
        standing = journey.subject.manager.standing(outcome, journey.before)
    journey.last_seen = last_seen(standing)
    if journey.asked and not journey.stable:
        journey.in_doubt = doubtful(journey, standing)
    return standing


def doubtful(journey: Journey, standing: Standing | DoorError) -> bool:
    """Whether a look leaves open what came of the restart."""
    if isinstance(standing, DoorError):
        return True
    return journey.answer_lost and standing.verdict not in {"up", "down"}


def last_seen(standing: Standing | DoorError) -> str:
    """Return a look in words, one that failed included."""
    if isinstance(standing, DoorError):
        return f"the host cannot be looked at: {standing.message}"
    return f"now {standing.text}"


def await_up(journey: Journey) -> Drive[Trouble | None]:
    """Wait until the new process runs."""
    limit = journey.subject.settings.gate.deadline
    deadline = (yield from now(journey)) + limit
    while True:
        standing = yield from look(journey)
        trouble = _not_up(journey, standing)
        if trouble is None and isinstance(standing, Standing) and standing.verdict == "up":
            journey.after = standing.identity
            return None
        if trouble is not None:
            return trouble
        if (yield from now(journey)) >= deadline:
            status: Status = "unknown" if isinstance(standing, DoorError) else "failed"
            text = f"not up within {format_duration(limit)}: {last_seen(standing)}"
            return Trouble(status=status, why=text)
        yield from ask(Sleep(seconds=LOOK_S))


def _not_up(journey: Journey, standing: Standing | DoorError) -> Trouble | None:
    """Return what no waiting would mend."""
    if isinstance(standing, DoorError):
        return None
    if standing.verdict == "down":
        return Trouble(status="failed", why=f"it did not come back: {standing.text}")
    if standing.verdict == "unchanged" and journey.subject.manager.unchanged_is_final:
        return Trouble(status="failed", why=f"the restart said it was done, but {standing.text}")
    return None


def await_still(journey: Journey) -> Drive[Trouble | None]:
    """Take looks until one succeeds, and judge that one."""
    deadline = (yield from now(journey)) + journey.subject.settings.gate.deadline
    while True:
        standing = yield from look(journey)
        if isinstance(standing, Standing):
            return moved(journey, standing)
        if (yield from now(journey)) >= deadline:
            return Trouble(status="unknown", why=last_seen(standing))
        yield from ask(Sleep(seconds=LOOK_S))


def moved(journey: Journey, standing: Standing) -> Trouble | None:
    """Say what happened to the process that was up."""
    if standing.verdict == "up" and standing.identity == journey.after:
        return None
    if standing.verdict == "up":
        return Trouble(
            status="failed",
            why="it runs, but as another process than the one that we started: it crashed, or"
            " somebody else restarted it",
        )
    return Trouble(status="failed", why=f"it came up, and did not stay: {standing.text}")
