"""Signals sessions batch by batch, and looks after each one how many slots are free."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

from runbook.model.effects import (
    AskDatabase,
    Drive,
    Effect,
    Now,
    Question,
    Say,
    SignalSessions,
    Sleep,
    ask,
)
from runbook.model.errors import ConnectionLost, DoorError, MissingGrant
from runbook.steps.terminate_args import TerminateArgs, slots_missing

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from runbook.model.sessions import SessionId

#: A backend that is idle obeys within milliseconds; one that has not gone by then is told of.
_GONE_WITHIN_S = 2.0
#: Seconds before each look while sessions go; the last one repeats.
_LOOK_AGAIN_S = (0.005, 0.01, 0.02, 0.05)

#: Slots by the same arithmetic as `Limits.usable`, with the server's clock.
SLOTS = Question(
    name="slots",
    sql="""
SELECT count(*) FILTER (WHERE NOT coalesce(r.rolsuper, false)) AS used,
       greatest(0, current_setting('max_connections')::int
                   - current_setting('superuser_reserved_connections')::int
                   - coalesce(current_setting('reserved_connections', true)::int, 0)
                   - count(*) FILTER (WHERE r.rolsuper)) AS usable,
       (clock_timestamp() AT TIME ZONE 'UTC')::text AS at
  FROM pg_catalog.pg_stat_activity a
  LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
 WHERE a.backend_type = 'client backend' AND a.pid <> pg_catalog.pg_backend_pid()
""",
)

_LEFT = """
SELECT pid FROM pg_catalog.pg_stat_activity
 WHERE (pid, backend_start AT TIME ZONE 'UTC') IN ({pairs})
"""


@dataclass(kw_only=True)
class Progress:
    """What a termination has come to so far."""

    args: TerminateArgs
    before: dict[str, Any]
    after: dict[str, Any]
    #: As prepared, by pid.
    shown: Mapping[int, Mapping[str, Any]]
    terminated: list[int] = field(default_factory=list)
    moved: list[int] = field(default_factory=list)
    #: Signalled, and still there after the wait.
    lingering: list[int] = field(default_factory=list)
    #: Not to be signalled by our role, and the server's words with the GRANT.
    denied: list[int] = field(default_factory=list)
    denial: str = ""
    #: Of a batch whose connection broke while it was signalled.
    in_doubt: list[int] = field(default_factory=list)
    #: Sessions to end for the headroom of a full role's or database's own limit; 0 when the
    #: server's slots are what is short.
    own_limits: int = 0
    #: Why the work ended early, if it did.
    trouble: str = ""

    @property
    def need(self) -> int:
        short = slots_missing(self.args, self.after["used"], self.after["usable"])
        return max(short, self.own_limits - len(self.terminated))

    @property
    def enough(self) -> bool:
        return self.args.which == "leaked" and self.need <= 0


def terminate(progress: Progress, queue: Sequence[SessionId]) -> Drive[None]:
    """Signal batch by batch until enough slots are free, nothing is left, or something breaks."""
    if not queue:
        return
    args = progress.args
    batch_size = min(args.batch_max, max(1, len(queue) * args.batch_share // 100))
    try:
        progress.before = progress.after = yield from read_slots(args.database)
        waiting = list(queue)
        while waiting and not progress.enough:
            # The last batch takes no more than what is missing.
            room = batch_size if args.which == "blockers" else min(batch_size, progress.need)
            batch, waiting = waiting[:room], waiting[room:]
            yield from _one_batch(progress, batch)
    except DoorError as error:
        progress.trouble = words(error)


def words(error: DoorError) -> str:
    return error.message if error.hint is None else f"{error.message} ({error.hint})"


def _one_batch(progress: Progress, batch: Sequence[SessionId]) -> Drive[None]:
    database = progress.args.database
    # Until the answer is here, nobody knows which of these were signalled.
    progress.in_doubt = [session.pid for session in batch]
    try:
        signalled = yield from ask(SignalSessions(database=database, sessions=tuple(batch)))
    except MissingGrant as error:
        # These cannot be signalled by us; the others may well be.
        progress.denied += progress.in_doubt
        progress.in_doubt = []
        progress.denial = words(error)
        return
    except DoorError as error:
        if not isinstance(error, ConnectionLost):
            progress.in_doubt = []
        raise
    progress.in_doubt = []
    progress.terminated += signalled
    progress.moved += [s.pid for s in batch if s.pid not in signalled]
    yield from _until_gone(progress, [s for s in batch if s.pid in signalled])
    slots, count = progress.after, len(progress.terminated)
    text = f"{count} terminated; {slots['used']} of {slots['usable']} slots in use"
    yield from ask(Say(stage="terminating", text=text))


def _until_gone(progress: Progress, signalled: Sequence[SessionId]) -> Drive[None]:
    """Look until the signalled sessions are gone, at most 2 s; the slots are read along."""
    left_question = _left(signalled)
    questions = (SLOTS,) if left_question is None else (SLOTS, left_question)
    started = yield from ask(Now())
    for pause in chain(_LOOK_AGAIN_S, repeat(_LOOK_AGAIN_S[-1])):
        yield from ask(Sleep(seconds=pause))
        answers = yield from ask(AskDatabase(database=progress.args.database, questions=questions))
        if answers.rows.get("slots"):
            progress.after = answers.rows["slots"][0]
        left = [row["pid"] for row in answers.rows.get("left", [])]
        now = yield from ask(Now())
        if not left or now - started > _GONE_WITHIN_S:
            progress.lingering += left
            return


def read_slots(database: str) -> Generator[Effect[Any], Any, dict[str, Any]]:
    answers = yield from ask(AskDatabase(database=database, questions=(SLOTS,)))
    if "slots" not in answers.rows:
        raise DoorError(f"{database} does not tell its slots: {answers.failed.get('slots')}")
    return answers.rows["slots"][0]


def _left(sessions: Sequence[SessionId]) -> Question | None:
    """Return a question for the sessions that are still there."""
    pairs = ", ".join(f"({s.pid:d}, {timestamp(s.backend_start)})" for s in sessions)
    return Question(name="left", sql=_LEFT.format(pairs=pairs)) if pairs else None


def timestamp(text: str) -> str:
    """Return a server's UTC time as SQL.

    The text went through a journal, and a question has no parameters: it is read as a time and
    written anew, so that nothing else can come through.
    """
    moment = datetime.fromisoformat(text).replace(tzinfo=None)
    return f"timestamp '{moment.isoformat(sep=' ')}'"
