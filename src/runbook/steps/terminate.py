"""The step `terminate`: leaked sessions, guarded, oldest first, until enough slots are free."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, repeat
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

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
from runbook.model.inventory import Closed, Name
from runbook.model.leaks import LeakedSession, LeakPolicy, TerminationPlan
from runbook.model.plan import Result
from runbook.model.sessions import SessionId, Snapshot
from runbook.model.step import StepContext, StepType
from runbook.model.units import Duration, Percent, format_duration

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from runbook.model.fleet import Fleet

#: A backend that is idle obeys within milliseconds; one that has not gone by then is told of.
_GONE_WITHIN_S = 2.0
#: Seconds before each look while sessions go; the last one repeats.
_LOOK_AGAIN_S = (0.005, 0.01, 0.02, 0.05)
#: Shares of the terminated sessions that came straight back (proposed in the facts, from how
#: pools behave): below the first they stay away; from the second on a pool refills.
_STAYED_AWAY, _CAME_BACK = 0.2, 0.8

#: Sessions that want slots again are told apart by these columns.
_GROUP = ("role", "database", "application_name", "client_addr")

#: Slots by the same arithmetic as `Limits.usable`, with the server's clock.
_SLOTS = Question(
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

_NEWCOMERS = """
SELECT coalesce(usename, '') AS role, coalesce(datname, '') AS database,
       coalesce(application_name, '') AS application_name,
       coalesce(host(client_addr), '') AS client_addr, count(*) AS sessions
  FROM pg_catalog.pg_stat_activity
 WHERE backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid()
   AND backend_start AT TIME ZONE 'UTC' > {since}
 GROUP BY 1, 2, 3, 4
"""


class TerminateArgs(Closed):
    """What `terminate` is given."""

    database: Name = Field(description="the inventory's name of the database")
    which: Literal["leaked", "blockers"] = Field(
        "leaked", description="sessions that are proved leaked, or the roots of lock pile-ups"
    )
    idle_in_transaction_over: Duration = Field(
        300.0, description="in a transaction without a word for this long counts as leaked"
    )
    headroom: Percent = Field(20, description="stop when this share of the usable slots is free")
    max_sessions: Annotated[int, Field(ge=1)] = Field(
        100, description="no more than this in one run; the inventory's max_terminated also holds"
    )
    batch_max: Annotated[int, Field(ge=1)] = Field(10, description="sessions in one batch, at most")
    batch_share: Percent = Field(10, description="of the whole list in one batch, at most")
    watch: tuple[Duration, ...] = Field(
        (15.0, 60.0), description="when to look for sessions that came back; [] does not look"
    )

    @property
    def policy(self) -> LeakPolicy:
        """Return what counts as leaked."""
        return LeakPolicy(
            idle_in_transaction_s=self.idle_in_transaction_over,
            headroom_percent=self.headroom,
            max_sessions=self.max_sessions,
            which=self.which,
        )


# ---- prepare -------------------------------------------------------------------------------


def prepare(args: TerminateArgs, context: StepContext) -> Drive[Result]:
    """Name every session that may be terminated, with the proof against it; change nothing."""
    snapshot, plan = yield from _look(args, context)
    missing = _missing_grants(snapshot)
    if missing:
        return Result(status="refused", summary=missing)
    sessions = plan.sessions[: _cap(args, context)]
    need = _need(args, snapshot.used, snapshot.usable)
    if args.which == "leaked" and need <= 0:
        sessions = ()
    ids = tuple(leaked.session.id for leaked in sessions)
    touches = SignalSessions(database=args.database, sessions=ids).footprint()
    return Result(
        status="ok",
        summary=_prepared_summary(args, snapshot, plan, len(sessions)),
        data=_prepared_data(args, snapshot, plan, sessions, need),
        touches=tuple(sorted(touches)),
        not_exercised=_not_exercised(sessions),
    )


def _look(
    args: TerminateArgs, context: StepContext
) -> Generator[Effect[Any], Any, tuple[Snapshot, TerminationPlan]]:
    questions = context.judge.questions()
    answers = yield from ask(AskDatabase(database=args.database, questions=questions))
    snapshot = context.judge.snapshot(args.database, answers)
    return snapshot, context.judge.leaks(snapshot, context.fleet, args.policy)


def _missing_grants(snapshot: Snapshot) -> str:
    """Return what our role lacks, with the GRANT that mends it; '' when it lacks nothing."""
    limits = snapshot.limits
    if limits.is_superuser:
        return ""
    role = '"' + limits.role.replace('"', '""') + '"'
    lacks = []
    if not limits.can_read_all:
        lacks.append(("see other roles' sessions", f"GRANT pg_monitor TO {role};"))
    if not limits.can_signal:
        lacks.append(("terminate sessions", f"GRANT pg_signal_backend TO {role};"))
    if not lacks:
        return ""
    what = " nor ".join(thing for thing, _ in lacks)
    grants = " ".join(grant for _, grant in lacks)
    return f"{limits.role!r} may not {what} on {snapshot.database}: {grants}"


def _cap(args: TerminateArgs, context: StepContext) -> int:
    bound = context.fleet.database(args.database).max_terminated
    return min(args.max_sessions, bound or args.max_sessions)


def _need(args: TerminateArgs, used: int, usable: int) -> int:
    """Return how many slots are missing for the wanted headroom; 0 or less when there is enough."""
    wanted_free = -(-usable * args.headroom // 100)
    return wanted_free - (usable - used)


def _prepared_summary(
    args: TerminateArgs, snapshot: Snapshot, plan: TerminationPlan, count: int
) -> str:
    used, usable = snapshot.used, snapshot.usable
    slots = f"{used} of {usable} slots in use"
    if count:
        aim = "" if args.which == "blockers" else f", until {args.headroom}% are free"
        return f"{count} {_sessions(args, count)} may be terminated{aim}; {slots}"
    if plan.sessions:
        return f"nothing to terminate: {args.headroom}% of the slots are free already; {slots}"
    spared = sum(len(entry.pids) for entry in plan.spared)
    return (
        f"nothing to terminate: no {_sessions(args, 1)} is proved; {spared} spared,"
        f" {len(plan.suspects)} only suspected; {slots}"
    )


def _sessions(args: TerminateArgs, count: int) -> str:
    kind = "leaked session" if args.which == "leaked" else "blocking session"
    return kind if count == 1 else f"{kind}s"


def _prepared_data(
    args: TerminateArgs,
    snapshot: Snapshot,
    plan: TerminationPlan,
    sessions: Sequence[LeakedSession],
    need: int,
) -> dict[str, Any]:
    return {
        "database": args.database,
        "which": args.which,
        "sessions": [_session_data(leaked) for leaked in sessions],
        "spared": [{"reason": s.reason, "pids": list(s.pids)} for s in plan.spared],
        "suspects": [_session_data(leaked) for leaked in plan.suspects],
        "over_the_cap": len(plan.sessions) - len(sessions) if sessions else 0,
        "used": snapshot.used,
        "usable": snapshot.usable,
        "wanted": max(0, need),
        "max": snapshot.limits.max_connections,
        "rung": snapshot.rung,
        "server_time": snapshot.limits.server_time,
    }


def _session_data(leaked: LeakedSession) -> dict[str, Any]:
    session = leaked.session
    return {
        "pid": session.pid,
        "backend_start": session.backend_start,
        "state_change": session.state_change,
        "state": session.state,
        "rule": leaked.rule,
        "proof": leaked.proof,
        "owner": leaked.owner,
        "role": session.role,
        "database": session.database,
        "application_name": session.application_name,
        "client_addr": session.client_addr,
        "age_s": session.age_s,
        "xact_age_s": session.xact_age_s,
        "state_age_s": session.state_age_s,
        "query": session.query,
    }


def _not_exercised(sessions: Sequence[LeakedSession]) -> tuple[str, ...]:
    if not sessions:
        return ()
    return (
        "whether each session still is as seen when it is signalled; one that moved is left alone",
        "how many have to go: termination stops as soon as enough slots are free",
        "whether the sessions come straight back",
    )


# ---- act -----------------------------------------------------------------------------------


@dataclass(kw_only=True)
class _Progress:
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
    #: Why the work ended early, if it did.
    trouble: str = ""

    @property
    def need(self) -> int:
        return _need(self.args, self.after["used"], self.after["usable"])

    @property
    def enough(self) -> bool:
        return self.args.which == "leaked" and self.need <= 0


def act(args: TerminateArgs, context: StepContext) -> Drive[Result]:
    """Terminate what was shown and is still proved, in batches; then watch for newcomers.

    Everything is looked at anew first: only sessions that were shown, and that are leaked as of
    now as well, are signalled; the signalling statement checks each one yet again.
    """
    prepared: Mapping[str, Any] = context.given["prepared"]
    shown = {session["pid"]: session for session in prepared["sessions"]}
    if not shown:
        return Result(status="ok", summary="nothing to terminate", data=_nothing(prepared))
    yield from ask(Say(stage="looking", text=f"at {len(shown)} sessions again"))
    snapshot, plan = yield from _look(args, context)
    queue = _still_proved(plan, shown)
    before = {"used": snapshot.used, "usable": snapshot.usable, "at": ""}
    progress = _Progress(args=args, before=before, after=dict(before), shown=shown)
    progress.moved = [pid for pid in shown if pid not in {s.pid for s in queue}]
    yield from _terminate(progress, queue)
    back = None if progress.trouble else (yield from _watch(progress))
    return _result(progress, back)


def _nothing(prepared: Mapping[str, Any]) -> dict[str, Any]:
    slots = {"used": prepared["used"], "usable": prepared["usable"]}
    return {
        "verdict": "nothing_to_do",
        "terminated": [],
        "moved": [],
        "before": slots,
        "after": slots,
        "spared": prepared["spared"],
        "suspects": prepared["suspects"],
    }


def _still_proved(plan: TerminationPlan, shown: Mapping[int, Mapping[str, Any]]) -> list[SessionId]:
    """Return the sessions of the new plan, in its order, that were shown exactly as they are."""
    ids = (leaked.session.id for leaked in plan.sessions)
    return [i for i in ids if i.pid in shown and _shown_id(shown[i.pid]) == i]


def _shown_id(session: Mapping[str, Any]) -> SessionId:
    return SessionId(
        pid=session["pid"],
        backend_start=session["backend_start"] or "",
        state_change=session["state_change"] or "",
        state=session["state"] or "",
    )


def _terminate(progress: _Progress, queue: Sequence[SessionId]) -> Drive[None]:
    """Signal batch by batch until enough slots are free, nothing is left, or something breaks."""
    if not queue:
        return
    args = progress.args
    batch_size = min(args.batch_max, max(1, len(queue) * args.batch_share // 100))
    try:
        progress.before = progress.after = yield from _slots(args.database)
        waiting = list(queue)
        while waiting and not progress.enough:
            # The last batch takes no more than what is missing.
            room = batch_size if args.which == "blockers" else min(batch_size, progress.need)
            batch, waiting = waiting[:room], waiting[room:]
            yield from _one_batch(progress, batch)
    except DoorError as error:
        progress.trouble = _words(error)


def _words(error: DoorError) -> str:
    return error.message if error.hint is None else f"{error.message} ({error.hint})"


def _one_batch(progress: _Progress, batch: Sequence[SessionId]) -> Drive[None]:
    database = progress.args.database
    # Until the answer is here, nobody knows which of these were signalled.
    progress.in_doubt = [session.pid for session in batch]
    try:
        signalled = yield from ask(SignalSessions(database=database, sessions=tuple(batch)))
    except MissingGrant as error:
        # These cannot be signalled by us; the others may well be.
        progress.denied += progress.in_doubt
        progress.in_doubt = []
        progress.denial = _words(error)
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


def _until_gone(progress: _Progress, signalled: Sequence[SessionId]) -> Drive[None]:
    """Look until the signalled sessions are gone, at most 2 s; the slots are read along."""
    left_question = _left(signalled)
    questions = (_SLOTS,) if left_question is None else (_SLOTS, left_question)
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


def _slots(database: str) -> Generator[Effect[Any], Any, dict[str, Any]]:
    answers = yield from ask(AskDatabase(database=database, questions=(_SLOTS,)))
    if "slots" not in answers.rows:
        raise DoorError(f"{database} does not tell its slots: {answers.failed.get('slots')}")
    return answers.rows["slots"][0]


def _left(sessions: Sequence[SessionId]) -> Question | None:
    """Return a question for the sessions that are still there."""
    pairs = ", ".join(f"({s.pid:d}, {_timestamp(s.backend_start)})" for s in sessions)
    return Question(name="left", sql=_LEFT.format(pairs=pairs)) if pairs else None


def _timestamp(text: str) -> str:
    """Return a server's UTC time as SQL.

    The text went through a journal, and a question has no parameters: it is read as a time and
    written anew, so that nothing else can come through.
    """
    moment = datetime.fromisoformat(text).replace(tzinfo=None)
    return f"timestamp '{moment.isoformat(sep=' ')}'"


# ---- watch ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Back:
    """Sessions that came back, by owner, and what that means."""

    verdict: Literal["stayed_away", "came_back", "partly_back", "not_watched"]
    owners: dict[str, dict[str, int]]
    after_s: float = 0.0
    trouble: str = ""


def _watch(progress: _Progress) -> Generator[Effect[Any], Any, _Back]:
    """Count sessions that began after the termination, at each of the wanted moments."""
    back = _Back(verdict="not_watched", owners={})
    waited = 0.0
    for moment in sorted(progress.args.watch) if progress.terminated else ():
        text = f"until {format_duration(moment)} after, for sessions that come straight back"
        yield from ask(Say(stage="watching", text=text))
        yield from ask(Sleep(seconds=max(0.0, moment - waited)))
        waited = moment
        try:
            back = yield from _count_back(progress, moment)
        except DoorError as error:
            return _Back(
                verdict=back.verdict, owners=back.owners, after_s=moment, trouble=error.message
            )
        if back.verdict != "partly_back":
            break
    return back


def _count_back(progress: _Progress, moment: float) -> Generator[Effect[Any], Any, _Back]:
    newcomers = Question(
        name="newcomers", sql=_NEWCOMERS.format(since=_timestamp(progress.before["at"]))
    )
    answers = yield from ask(
        AskDatabase(database=progress.args.database, questions=(_SLOTS, newcomers))
    )
    if "newcomers" not in answers.rows or "slots" not in answers.rows:
        raise DoorError("; ".join(answers.failed.values()))
    progress.after = answers.rows["slots"][0]
    new = {tuple(row[key] for key in _GROUP): row["sessions"] for row in answers.rows["newcomers"]}
    return _judge_back(progress, new, moment)


def _judge_back(progress: _Progress, new: Mapping[tuple[Any, ...], int], moment: float) -> _Back:
    """Compare newcomers with the terminated, group by group; what a group has beyond is its own."""
    gone = [progress.shown[pid] for pid in progress.terminated]
    groups = Counter(tuple(session[key] or "" for key in _GROUP) for session in gone)
    owner_of = {tuple(s[key] or "" for key in _GROUP): s["owner"] for s in gone}
    owners: dict[str, dict[str, int]] = {}
    for group, count in groups.items():
        owner = owners.setdefault(owner_of[group], {"terminated": 0, "came_back": 0})
        owner["terminated"] += count
        owner["came_back"] += min(count, new.get(group, 0))
    share = sum(o["came_back"] for o in owners.values()) / len(gone)
    verdict: Literal["stayed_away", "came_back", "partly_back"] = "partly_back"
    if share < _STAYED_AWAY:
        verdict = "stayed_away"
    elif share >= _CAME_BACK:
        verdict = "came_back"
    return _Back(verdict=verdict, owners=owners, after_s=moment)


# ---- result --------------------------------------------------------------------------------

_ADVICE = {
    "came_back": "the pool refills: terminating does not help; restart the service"
    " (runbook remediate --rolling-restart) or make its pool smaller",
    "partly_back": "some sessions came back: look again in a few minutes (runbook diagnose)",
}


def _result(progress: _Progress, back: _Back | None) -> Result:
    args = progress.args
    verdict: str = back.verdict if back else "interrupted"
    if not progress.trouble and not progress.terminated:
        verdict = "refused" if progress.denied else "nothing_to_do"
    ids = [_shown_id(progress.shown[pid]) for pid in progress.terminated + progress.in_doubt]
    data = {
        "verdict": verdict,
        "advice": _ADVICE.get(verdict, ""),
        "terminated": list(progress.terminated),
        "moved": progress.moved,
        "lingering": progress.lingering,
        "denied": progress.denied,
        "in_doubt": progress.in_doubt,
        "before": progress.before,
        "after": progress.after,
        "headroom_reached": _need(args, progress.after["used"], progress.after["usable"]) <= 0,
        "came_back": back.owners if back else {},
        "watched_s": back.after_s if back else 0.0,
        "trouble": progress.trouble or (back.trouble if back else ""),
    }
    return Result(
        status=_status(progress),
        summary=_summary(progress, data),
        data=data,
        touches=tuple(
            sorted(SignalSessions(database=args.database, sessions=tuple(ids)).footprint())
        ),
        by_hand=_by_hand(progress),
    )


def _status(progress: _Progress) -> Literal["ok", "failed", "refused", "unknown"]:
    if progress.in_doubt:
        return "unknown"
    if progress.trouble:
        return "failed"
    return "refused" if progress.denied and not progress.terminated else "ok"


def _summary(progress: _Progress, data: Mapping[str, Any]) -> str:
    before, after = progress.before, progress.after
    parts = [
        f"{len(progress.terminated)} terminated",
        f"{before['used']} -> {after['used']} of {after['usable']} slots in use",
    ]
    if progress.moved:
        parts.append(f"{len(progress.moved)} left alone: not as shown any more")
    if progress.lingering:
        parts.append(f"{len(progress.lingering)} signalled and still there")
    if progress.in_doubt:
        pids = ", ".join(map(str, progress.in_doubt))
        parts.append(f"whether {pids} were signalled is not known")
    if progress.denied:
        parts.append(f"{len(progress.denied)} not permitted: {progress.denial}")
    if data["trouble"]:
        parts.append(data["trouble"])
    elif progress.args.which == "leaked" and not data["headroom_reached"]:
        parts.append(f"{progress.args.headroom}% headroom not reached: no more are proved leaked")
    if data["advice"]:
        parts.append(data["advice"])
    return "; ".join(parts)


def _by_hand(progress: _Progress) -> tuple[str, ...]:
    check = f"runbook diagnose {progress.args.database}"
    pids = progress.in_doubt or progress.lingering
    if not pids:
        return (check,)
    columns = "pid, usename, state, backend_start, state_change"
    listed = ", ".join(map(str, pids))
    return check, f"SELECT {columns} FROM pg_stat_activity WHERE pid IN ({listed});"  # noqa: S608 - pids


def _targets(args: TerminateArgs, _fleet: Fleet) -> tuple[str, ...]:
    return (args.database,)


TERMINATE = StepType(
    verb="terminate",
    summary="Terminate leaked sessions (or the roots of lock pile-ups), each re-checked first.",
    args=TerminateArgs,
    phases={"prepare": prepare, "act": act},
    changes=lambda _args: True,
    targets=_targets,
    # Repeating is safe: a session that is gone or moved is not signalled again.
    after_crash="repeat",
    lock=lambda args: f"database {args.database}",
)
