"""One rung of the ladder on its own, for a quiet day; and what is said when the last one fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from runbook.adapters.postgres_ladder import Entry, Ladder, NoDoor
from runbook.model.effects import Answers, Question, RungTried
from runbook.model.errors import DatabaseError, DoorError, SlotRefused, Unreachable

if TYPE_CHECKING:
    from runbook.adapters.postgres_talk import Talk
    from runbook.model.sessions import Rung

#: How questions are put over a way in that opened.
_Ask = Callable[[Entry, Sequence[Question]], Answers]


def try_rung(ladder: Ladder, rung: Rung, limits: Question | None, ask: _Ask) -> RungTried:
    """Try one rung alone, and leave at once; an answer is never raised."""
    started = time.monotonic()
    opener = ladder.rungs.get(rung)
    if rung == "os":
        tried = _try_host(ladder)
    elif opener is None:
        tried = RungTried(rung=rung, verdict="absent")
    else:
        tried = _try_connection(rung, opener, limits, ask)
    return RungTried(
        rung=rung,
        verdict=tried.verdict,
        said=tried.said,
        hint=tried.hint,
        limits=tried.limits,
        seconds=time.monotonic() - started,
    )


def _try_connection(
    rung: Rung, opener: Callable[[], Talk], limits: Question | None, ask: _Ask
) -> RungTried:
    try:
        talk = opener()
    except SlotRefused as error:
        return RungTried(rung=rung, verdict="full", said=error.message, hint=error.hint or "")
    except DoorError as error:
        return _shut(rung, error)
    try:
        rows = _limits(Entry(talk=talk, rung=rung, refusals=(), seconds=0.0), limits, ask)
    except DoorError as error:
        return _shut(rung, error)
    finally:
        talk.close()
    return RungTried(rung=rung, verdict="opened", limits=rows)


def _limits(entry: Entry, limits: Question | None, ask: _Ask) -> dict[str, Any] | None:
    if limits is None:
        return None
    answers = ask(entry, (limits,))
    rows = answers.rows.get(limits.name)
    if not rows:
        raise DatabaseError(f"connected, and then: {answers.failed.get(limits.name, 'no answer')}")
    return rows[0]


def _try_host(ladder: Ladder) -> RungTried:
    host = ladder.host
    if host is None:
        return RungTried(rung="os", verdict="absent")
    try:
        processes = host.look()
    except DoorError as error:
        return _shut("os", error)
    if not processes.as_owner:
        # It shows titles to anybody; what it is there for, ending sessions, it does not do so.
        said = processes.unseen[0] if processes.unseen else ""
        return RungTried(rung="os", verdict="shut", said=said, hint=host.sudoers_rule)
    return RungTried(rung="os", verdict="opened")


def _shut(rung: Rung, error: DoorError) -> RungTried:
    return RungTried(rung=rung, verdict="shut", said=error.message, hint=error.hint or "")


def without_host(shut: NoDoor, error: DoorError) -> DoorError:
    """Return the error of a ladder of which not even the last rung, the host, told anything."""
    hint = f" ({error.hint})" if error.hint else ""
    message = f"{shut.error.message}; os: {error.message}{hint}"
    if isinstance(shut.error, SlotRefused):
        return SlotRefused(message, hint=shut.error.hint, sqlstate=shut.error.sqlstate)
    return Unreachable(message, hint=shut.error.hint)
