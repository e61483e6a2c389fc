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
from runbook.model.leaks import missing
from runbook.steps.terminate_args import TerminateArgs, slots_missing

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence

    from runbook.model.effects import Answers
    from runbook.model.sessions import SessionId

#: A backend that is idle obeys within milliseconds; one that has not gone by then is told of.
_GONE_WITHIN_S = 2.0
#: Seconds before each look while sessions go; the last one repeats.
_LOOK_AGAIN_S = (0.005, 0.01, 0.02, 0.05)
#: Rungs that keep no connection: each look climbs the whole ladder anew, and every rung of it is
#: one more login for a server that has too many. After two quick looks it is asked more slowly.
_LOGS_IN_ANEW = frozenset({"local", "rescue", "os"})
_QUICK_LOOKS, _CLIMB_AGAIN_S = 2, 0.5

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

#: Roles' and databases' own limits, and how many sessions count against each: superusers never do,
#: and a limit of 0 keeps everyone out on purpose.
LIMITS = Question(
    name="own-limits",
    sql="""
WITH held AS (
    SELECT a.usesysid, a.datid
      FROM pg_catalog.pg_stat_activity a JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
     WHERE a.backend_type = 'client backend' AND a.pid <> pg_catalog.pg_backend_pid()
       AND NOT r.rolsuper
)
SELECT 'role' AS kind, rolname::text AS name, rolconnlimit AS connlimit,
       (SELECT count(*) FROM held WHERE usesysid = r.oid) AS used
  FROM pg_catalog.pg_roles r WHERE rolconnlimit > 0 AND NOT rolsuper
UNION ALL
SELECT 'database', datname::text, datconnlimit,
       (SELECT count(*) FROM held WHERE datid = d.oid)
  FROM pg_catalog.pg_database d WHERE datconnlimit > 0 AND datallowconn
""",
)

#: Sessions that are exactly as they were when a signal to them was asked for.
_UNTOUCHED = """
SELECT a.pid, coalesce(r.rolsuper, false) AS superuser,
       pg_catalog.pg_has_role(a.usesysid, 'USAGE')
       OR pg_catalog.pg_has_role('pg_signal_backend', 'USAGE') AS granted,
       pg_catalog.quote_ident(current_user) AS us
  FROM pg_catalog.pg_stat_activity a LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
 WHERE (a.pid, a.backend_start AT TIME ZONE 'UTC', a.state_change AT TIME ZONE 'UTC')
       IN ({triples})
"""

#: What lacks headroom: ("slots", ""), ("role", NAME) or ("database", NAME).
Bound = tuple[str, str]
_SLOTS: Bound = ("slots", "")

_LEFT = """
SELECT pid FROM pg_catalog.pg_stat_activity
 WHERE (pid, backend_start AT TIME ZONE 'UTC') IN ({pairs})
"""
_LEFT_BY_PID = "SELECT pid FROM pg_catalog.pg_stat_activity WHERE pid IN ({pids})"


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
    #: Signalled, and not seen to be gone.
    lingering: list[int] = field(default_factory=list)
    #: Not to be signalled by our role, and the server's words with the GRANT.
    denied: list[int] = field(default_factory=list)
    denial: str = ""
    #: Of a batch whose connection broke while it was signalled.
    in_doubt: list[int] = field(default_factory=list)
    #: Roles' and databases' own limits, as the server told them last.
    limits: Sequence[Mapping[str, Any]] = ()
    #: Whether an interrupt kept sessions from being ended that were still to go.
    interrupted: bool = False
    #: Why the work ended early, if it did.
    trouble: str = ""
    #: What could not be seen of the sessions when they were chosen, in words; "" when all was.
    blind: str = ""
    #: Our own clock when the first batch went out.
    began: float = 0.0

    @property
    def short(self) -> dict[Bound, int]:
        """How many sessions are to go for the headroom, by what is short of it.

        A limit counts if any of the shown sessions does against it: no other can be relieved.
        """
        found = {_SLOTS: slots_missing(self.args, self.after["used"], self.after["usable"])}
        concerned = {bound for pid in self.shown for bound in self._bounds(pid)}
        for row in self.limits:
            bound = (row["kind"], row["name"])
            if bound in concerned:
                found[bound] = missing(row["connlimit"], row["used"], self.args.headroom)
        return {bound: count for bound, count in found.items() if count > 0}

    def seen_gone(self, pids: Sequence[int]) -> None:
        """Count signalled sessions as terminated, each once."""
        gone = [pid for pid in self.lingering if pid in pids]
        self.terminated += gone
        self.lingering = [pid for pid in self.lingering if pid not in gone]

    def look(self, answers: Answers) -> bool:
        """Take down the slots in use, by the server's word or its host's; False without either."""
        if answers.processes is not None:
            seen = answers.processes
            self.after = {"used": seen.used, "usable": seen.usable, "at": seen.at}
            # A host does not tell them, and those that were told before are no longer true.
            self.limits = ()
            return True
        if not answers.rows.get(SLOTS.name):
            return False
        self.after = answers.rows[SLOTS.name][0]
        self.limits = answers.rows.get(LIMITS.name, self.limits)
        return True

    def next_batch(self, waiting: Sequence[SessionId], most: int) -> list[SessionId]:
        """Return the next sessions, at most `most`: only those that relieve what is short."""
        if self.args.which == "blockers":
            return list(waiting[:most])
        left = self.short
        batch: list[SessionId] = []
        for session in waiting:
            bounds = self._bounds(session.pid)
            if any(left.get(bound, 0) > 0 for bound in bounds):
                batch.append(session)
                # It counts against all of its bounds, whichever of them it was taken for.
                left = {bound: count - (bound in bounds) for bound, count in left.items()}
            if len(batch) == most:
                break
        return batch

    def _bounds(self, pid: int) -> tuple[Bound, ...]:
        session = self.shown[pid]
        return (_SLOTS, ("role", session["role"]), ("database", session["database"]))


def terminate(progress: Progress, queue: Sequence[SessionId]) -> Drive[None]:
    """Signal batch by batch until enough slots are free, nothing is left, or something breaks."""
    if not queue:
        return
    args = progress.args
    batch_size = min(args.batch_max, max(1, len(queue) * args.batch_share // 100))
    try:
        progress.began = yield from ask(Now())
        yield from _read_bounds(progress)
        progress.before = progress.after
        waiting = list(queue)
        while batch := progress.next_batch(waiting, batch_size):
            waiting = [session for session in waiting if session not in batch]
            yield from _one_batch(progress, batch)
            # A batch is seen to its end; an interrupt begins no further one.
            if not (yield from ask(Sleep(seconds=0.0, cut_short=True))):
                progress.interrupted = bool(progress.next_batch(waiting, batch_size))
                break
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
        progress.in_doubt = []
        yield from _sort_out(progress, batch, words(error))
        return
    except DoorError as error:
        if not isinstance(error, ConnectionLost):
            progress.in_doubt = []
        raise
    progress.in_doubt = []
    # A signal is a request: they count as terminated once they are seen to be gone.
    progress.lingering += signalled
    yield from _sort_out(progress, [s for s in batch if s.pid not in signalled])
    yield from _until_gone(progress, [s for s in batch if s.pid in signalled])
    slots, count = progress.after, len(progress.terminated)
    text = f"{count} terminated; {slots['used']} of {slots['usable']} slots in use"
    yield from ask(Say(stage="terminating", text=text))


def _sort_out(progress: Progress, spared: Sequence[SessionId], denial: str = "") -> Drive[None]:
    """Tell sessions that moved from those that the server would not let us signal.

    Who was not signalled, and is exactly as it was, was denied.
    """
    pids = [session.pid for session in spared]
    # Until the server says which is which, all are taken for what is likelier.
    (progress.denied if denial else progress.moved).extend(pids)
    progress.denial = denial or progress.denial
    # Those that were seen by the host were compared there: all were denied, or each has moved.
    spared = [session for session in spared if not on_host(session)]
    pids = [session.pid for session in spared]
    question = _untouched(spared)
    if question is None:
        return
    answers = yield from ask(AskDatabase(database=progress.args.database, questions=(question,)))
    rows = answers.rows.get(question.name)
    if rows is None:
        return
    denied = [row["pid"] for row in rows]
    progress.denied = [p for p in progress.denied if p not in pids] + denied
    progress.moved = [p for p in progress.moved if p not in denied + pids]
    progress.moved += [pid for pid in pids if pid not in denied]
    if rows:
        progress.denial = denial or _why_denied(rows)


def _why_denied(rows: Iterable[Mapping[str, Any]]) -> str:
    reasons = {
        "a superuser's session needs a superuser"
        if row["superuser"]
        else "the server's provider does not let this role"
        if row["granted"]
        else f"GRANT pg_signal_backend TO {row['us']};"
        for row in rows
    }
    return "; ".join(sorted(reasons))


def _until_gone(progress: Progress, signalled: Sequence[SessionId]) -> Drive[None]:
    """Look until the signalled sessions are gone, at most 2 s; the slots are read along."""
    left_question = _left(signalled)
    questions = (SLOTS, LIMITS) if left_question is None else (SLOTS, LIMITS, left_question)
    started = yield from ask(Now())
    slow = 0.0
    for polls, pause in enumerate(chain(_LOOK_AGAIN_S, repeat(_LOOK_AGAIN_S[-1])), start=1):
        yield from ask(Sleep(seconds=max(pause, slow)))
        answers = yield from ask(AskDatabase(database=progress.args.database, questions=questions))
        progress.look(answers)
        left = _still_there(signalled, answers)
        if left is not None:
            progress.seen_gone([s.pid for s in signalled if s.pid not in left])
        if polls >= _QUICK_LOOKS and answers.rung in _LOGS_IN_ANEW:
            slow = _CLIMB_AGAIN_S
        now = yield from ask(Now())
        if not left or now - started > _GONE_WITHIN_S:
            return


def _read_bounds(progress: Progress) -> Generator[Effect[Any], Any, None]:
    database = progress.args.database
    answers = yield from ask(AskDatabase(database=database, questions=(SLOTS, LIMITS)))
    for question in (SLOTS, LIMITS):
        if question.name not in answers.rows and answers.processes is None:
            why = answers.failed.get(question.name)
            raise DoorError(f"{database} does not tell its {question.name}: {why}")
    progress.look(answers)


def on_host(session: SessionId) -> bool:
    """Whether a session was seen by the server's host alone, and bears its marks."""
    return session.backend_start.startswith("ticks ")


def _still_there(signalled: Sequence[SessionId], answers: Answers) -> set[int] | None:
    """Return the pids that are still there; None when it was not told."""
    if answers.processes is not None:
        began = {p.pid: p.backend_start for p in answers.processes.processes}
        return {
            s.pid
            for s in signalled
            if s.pid in began and (not on_host(s) or began[s.pid] == s.backend_start)
        }
    if "left" not in answers.rows:
        return None
    return {row["pid"] for row in answers.rows["left"]}


def _untouched(sessions: Sequence[SessionId]) -> Question | None:
    """Return a question for the sessions that have not moved since they were looked at."""
    triples = ", ".join(
        f"({s.pid:d}, {timestamp(s.backend_start)}, {timestamp(s.state_change)})"
        for s in sessions
        if s.backend_start and s.state_change
    )
    return Question(name="untouched", sql=_UNTOUCHED.format(triples=triples)) if triples else None


def _left(sessions: Sequence[SessionId]) -> Question | None:
    """Return a question for the sessions that are still there."""
    seen = [s for s in sessions if not on_host(s)]
    pairs = ", ".join(f"({s.pid:d}, {timestamp(s.backend_start)})" for s in seen)
    # Ticks mean nothing to the server; a pid that was signalled a moment ago is not reused yet.
    pids = ", ".join(f"{s.pid:d}" for s in sessions if on_host(s))
    parts = ([_LEFT.format(pairs=pairs)] if pairs else []) + (
        [_LEFT_BY_PID.format(pids=pids)] if pids else []
    )
    return Question(name="left", sql=" UNION ALL ".join(parts)) if parts else None


def timestamp(text: str) -> str:
    """Return a server's UTC time as SQL.

    The text went through a journal, and a question has no parameters: it is read as a time and
    written anew, so that nothing else can come through.
    """
    moment = datetime.fromisoformat(text).replace(tzinfo=None)
    return f"timestamp '{moment.isoformat(sep=' ')}'"
