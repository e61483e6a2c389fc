"""The one restart of a host, and the watch over its new process.

The restart is asked for once. When its answer is lost, the host is looked at, never asked again.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from runbook.model.document import visible
from runbook.model.effects import (
    CommandOutcome,
    Drive,
    Effect,
    Interrupted,
    Note,
    Say,
    Sleep,
    Together,
    ask,
)
from runbook.model.errors import (
    CommandFailed,
    ConnectionLost,
    DoorError,
    NotStarted,
    Refused,
    StepFailed,
    Unreachable,
)
from runbook.model.plan import Status
from runbook.model.systemd import Standing
from runbook.model.units import format_duration
from runbook.steps.database_gate import row_of
from runbook.steps.rolling_crashed import boot_look, boot_of
from runbook.steps.rolling_draining import give_back, owe
from runbook.steps.rolling_journey import (
    Journey,
    Trouble,
    await_still,
    await_up,
    last_seen,
    look,
    moved,
    now,
)

#: Between two looks in the settle window. InvocationID and NRestarts only ever move on, so a
#: crash between two looks is still seen by the next.
_SETTLE_LOOK_S = 0.5
#: Looks that must agree before a restart whose answer was lost counts as never made.
_UNCHANGED_LOOKS = 3
_LONGEST_SAYING = 300


def restarting(journey: Journey) -> Drive[Trouble | None]:
    """Look once more, and ask for the restart."""
    trouble = yield from _look_before(journey)
    if trouble is not None:
        return trouble
    return (yield from ask_for_it(journey))


def ask_for_it(journey: Journey) -> Drive[Trouble | None]:
    """Ask for the restart of what the last look saw; `before` is what runs until then."""
    yield from _note_before(journey)
    change = journey.subject.manager.restart(journey.timeout_s)
    yield from ask(Say(stage="restarting", text=change.sentence()))
    try:
        yield from owe(journey, under_way=True)
        outcome = yield from ask(change)
    except (Unreachable, NotStarted, Refused) as error:
        with suppress(StepFailed):
            # Nothing was sent: a resume that looks for its traces would look in vain.
            yield from ask(Note(data={"stage": "drained", "restart_intended": False}))
        yield from _owe_no_restart(journey)
        return _untouched(error)
    except (ConnectionLost, CommandFailed) as error:
        return (yield from _find_out(journey, error.message))
    journey.asked = journey.in_doubt = True
    with suppress(StepFailed):
        yield from ask(Note(data={"exit_code": outcome.exit_code}))
    if outcome.ok:
        return None
    if outcome.exit_code < 0:
        return (yield from _find_out(journey, "the restart command was killed by a signal"))
    yield from _owe_no_restart(journey)
    return (yield from _explain(journey, outcome))


def stabilising(journey: Journey) -> Drive[Trouble | None]:
    """Wait for the new process; then watch it for the settle window."""
    yield from ask(Say(stage="stabilising", text="waiting for the new process"))
    trouble = yield from await_up(journey)
    if trouble is not None:
        return trouble
    settle = journey.subject.settings.settle
    until = (yield from now(journey)) + settle
    if settle:
        text = f"{journey.after[:12]} runs; watching it for {format_duration(settle)}"
        yield from ask(Say(stage="stabilising", text=text))
    while (left := until - (yield from now(journey))) > 0:
        yield from ask(Sleep(seconds=min(_SETTLE_LOOK_S, left)))
        standing = yield from look(journey)
        trouble = moved(journey, standing) if isinstance(standing, Standing) else None
        if trouble is not None:
            return trouble
    # The window must end with a look that succeeded.
    trouble = (yield from await_still(journey)) if settle else None
    journey.stable = trouble is None
    return trouble


def _look_before(journey: Journey) -> Drive[Trouble | None]:
    """Look once more: preflight may be minutes old, and somebody else may have been here."""
    manager = journey.subject.manager
    looks: tuple[Effect[Any], ...] = (manager.look(), boot_look(journey.subject.host.name))
    if journey.sessions is not None:
        looks = (*looks, journey.sessions.look())
    seen, boot, *rows = yield from ask(Together(effects=looks))  # type: ignore[arg-type]
    # The boot counts as well: a restart whose traces could not be told from a reboot's is not made.
    for outcome in (seen, boot, *rows):
        if isinstance(outcome, DoorError):
            return _untouched(outcome)
    unfit = manager.unfit(seen)
    if unfit is not None:
        why = f"nothing was restarted: {unfit.problem}"
        return Trouble(status="failed", why=why, hint=unfit.hint)
    journey.seen, journey.before = seen, manager.identity(seen)
    journey.boot_id = boot_of(boot)
    journey.first_row = row_of(rows[0]) if rows else {}
    journey.since = journey.first_row.get("now")
    if (yield from ask(Interrupted())):
        # What has not been asked for is not asked for any more.
        return (yield from give_back(journey, "somebody wants the run to stop", stopped=True))
    return None


def _note_before(journey: Journey) -> Drive[None]:
    """Keep what a later process needs to tell whether this restart was made."""
    note = {
        "stage": "restarting",
        # The journal's sentences have no secrets in them, so they may not be compared.
        "restart_intended": True,
        "before": journey.before,
        "fingerprint": journey.subject.manager.fingerprint(journey.seen),
        "since": journey.since,
        "boot_id": journey.boot_id,
        "first_row": journey.first_row,
        "drained": bool(journey.ours),
        "exit_code": None,
        # For whoever stops waiting for this host: the debts are told beside it.
        "by_hand": [
            *(journey.config.put_back_by_hand() if journey.config is not None else ()),
            *journey.subject.by_hand(journey.seen),
        ],
    }
    yield from ask(Note(data=note))


def _owe_no_restart(journey: Journey) -> Drive[None]:
    """The restart said no, or was never made: the way back need not wait for it."""
    with suppress(StepFailed, Refused):
        yield from owe(journey)


def _untouched(error: DoorError | Refused) -> Trouble:
    """The restart was certainly not made."""
    status: Status = "unreachable" if isinstance(error, Unreachable) else "failed"
    if isinstance(error, Refused):
        status = "refused"
    why = f"nothing was restarted: {error.message}"
    return Trouble(status=status, why=why, hint=error.hint or "")


def _find_out(journey: Journey, lost: str) -> Drive[Trouble | None]:
    """The answer to the restart was lost: look, until it is clear what happened."""
    journey.asked = journey.answer_lost = journey.in_doubt = True
    yield from ask(Say(stage="unknown", text=f"{lost}; looking at what happened"))
    limit = journey.subject.settings.gate.deadline
    deadline = (yield from now(journey)) + limit
    unchanged = 0
    while True:
        standing = yield from look(journey)
        if isinstance(standing, Standing):
            if standing.verdict == "up":
                journey.answer_lost = False
                return None
            if standing.verdict == "down":
                return Trouble(status="failed", why=f"{standing.text} ({lost})")
            unchanged = unchanged + 1 if standing.verdict == "unchanged" else 0
            if unchanged >= _UNCHANGED_LOOKS and journey.subject.manager.unchanged_is_final:
                why = f"{standing.text}: the restart never reached systemd ({lost})"
                return Trouble(status="failed", why=why)
        if (yield from now(journey)) >= deadline:
            return Trouble(status="unknown", why=f"{lost}; {last_seen(standing)}")
        yield from ask(Sleep(seconds=1.0))


def _explain(journey: Journey, outcome: CommandOutcome) -> Drive[Trouble]:
    """The restart said no: why, and how does the host stand now?"""
    said = visible(" ".join(outcome.stderr.split()))[:_LONGEST_SAYING]
    refused_by_sudo = said.startswith("sudo:")
    who = "sudo refused" if refused_by_sudo else f"the restart exited with {outcome.exit_code}"
    try:
        now = last_seen((yield from look(journey)))
    except StepFailed as error:
        now = error.message
    return Trouble(status="failed", why="; ".join(part for part in (who, said, now) if part))
