"""The step `terminate`: leaked sessions, guarded, oldest first, until enough slots are free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from runbook.model.effects import Drive, Effect, Say, SignalSessions, ask
from runbook.model.leaks import LeakedSession, TerminationPlan
from runbook.model.plan import Result
from runbook.model.sessions import SessionId, Snapshot
from runbook.model.step import Bound, StepContext, StepType
from runbook.steps.terminate_args import TerminateArgs, slots_missing
from runbook.steps.terminate_batches import Progress, on_host, terminate
from runbook.steps.terminate_watch import Back, watch

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from runbook.model.fleet import Fleet

# ---- prepare -------------------------------------------------------------------------------


def prepare(args: TerminateArgs, context: StepContext) -> Drive[Result]:
    """Name every session that may be terminated, with the proof against it; change nothing."""
    snapshot, plan = yield from _look(args, context)
    missing = _missing_grants(snapshot)
    if missing:
        return Result(status="refused", summary=missing)
    slots_short = slots_missing(args, snapshot.used, snapshot.usable)
    need = max(plan.wanted, slots_short)
    sessions = _relieving(args, plan, slots_short)[: _cap(args, context)]
    ids = tuple(leaked.session.id for leaked in sessions)
    touches = SignalSessions(database=args.database, sessions=ids).footprint()
    summary = _prepared_summary(args, snapshot, plan, len(sessions))
    return Result(
        status="ok",
        summary=summary,
        data={"summary": summary, **_prepared_data(args, snapshot, plan, sessions, need)},
        touches=tuple(sorted(touches)),
        not_exercised=_not_exercised(plan, sessions),
    )


def _look(
    args: TerminateArgs, context: StepContext
) -> Generator[Effect[Any], Any, tuple[Snapshot, TerminationPlan]]:
    snapshot = yield from context.judge.examine(args.database, context.fleet)
    return snapshot, context.judge.leaks(snapshot, context.fleet, args.policy)


def _missing_grants(snapshot: Snapshot) -> str:
    """Return what our role lacks, with the GRANT that mends it; '' when it lacks nothing."""
    limits = snapshot.limits
    if limits.is_superuser:
        return ""
    if snapshot.processes is not None and snapshot.rung == "os":
        lacks_sudo = snapshot.processes.unseen[:1] if not limits.can_signal else ()
        return (
            f"{snapshot.database} has no connection left, and {lacks_sudo[0]}" if lacks_sudo else ""
        )
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


def _relieving(
    args: TerminateArgs, plan: TerminationPlan, slots_short: int
) -> tuple[LeakedSession, ...]:
    """Return the sessions whose end relieves what is short: the server, or a limit of its own."""
    if args.which == "blockers" or slots_short > 0:
        return plan.sessions
    short = {(limit.kind, limit.name) for limit in plan.short}
    return tuple(
        leaked
        for leaked in plan.sessions
        if short & {("role", leaked.session.role), ("database", leaked.session.database)}
    )


def _cap(args: TerminateArgs, context: StepContext) -> int:
    bound = context.fleet.database(args.database).max_terminated
    return min(args.max_sessions, bound or args.max_sessions)


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
        "blind": plan.blind,
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


def _not_exercised(plan: TerminationPlan, sessions: Sequence[LeakedSession]) -> tuple[str, ...]:
    if not sessions:
        return ()
    return (
        *([plan.blind] if plan.blind else []),
        "whether each session still is as seen when it is signalled; one that moved is left alone",
        "how many have to go: termination stops as soon as enough slots are free",
        "whether the sessions come straight back",
    )


# ---- act -----------------------------------------------------------------------------------


def act(args: TerminateArgs, context: StepContext) -> Drive[Result]:
    """Terminate what was shown and is still proved, in batches; then watch for newcomers.

    Everything is looked at anew first: only sessions that were shown, and that are leaked as of
    now as well, are signalled; the signalling statement checks each one yet again.
    """
    prepared: Mapping[str, Any] = context.given["prepared"]
    shown = {session["pid"]: session for session in prepared["sessions"]}
    if not shown:
        return Result(status="ok", summary=prepared["summary"], data=_nothing(prepared))
    yield from ask(Say(stage="looking", text=f"at {len(shown)} sessions again"))
    snapshot, plan = yield from _look(args, context)
    queue = _still_proved(plan, shown)
    before = {"used": snapshot.used, "usable": snapshot.usable, "at": ""}
    progress = Progress(args=args, before=before, after=dict(before), shown=shown)
    progress.blind = prepared.get("blind", "") or plan.blind
    progress.moved = [pid for pid in shown if pid not in {s.pid for s in queue}]
    yield from terminate(progress, queue)
    back = None if progress.trouble or progress.interrupted else (yield from watch(progress))
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
    """Return the sessions of the new plan, in its order, that were shown exactly as they are.

    Always as they were shown: a door may have opened (or closed) since, through which they bear
    other marks. Whoever signals them compares with what was shown, on the side where it was seen.
    """
    found = []
    for leaked in plan.sessions:
        now = leaked.session.id
        if now.pid not in shown:
            continue
        was = session_id(shown[now.pid])
        if was == now or (on_host(was) != on_host(now) and was.state == now.state):
            found.append(was)
    return found


def session_id(session: Mapping[str, Any]) -> SessionId:
    return SessionId(
        pid=session["pid"],
        backend_start=session["backend_start"] or "",
        state_change=session["state_change"] or "",
        state=session["state"] or "",
    )


# ---- result --------------------------------------------------------------------------------


_ADVICE = {
    "came_back": "the pool refills: terminating does not help; restart the service"
    " (runbook remediate --rolling-restart) or make its pool smaller",
    "partly_back": "some sessions came back: look again in a few minutes (runbook diagnose)",
}


def _result(progress: Progress, back: Back | None) -> Result:
    args = progress.args
    verdict: str = back.verdict if back else "interrupted"
    if not progress.trouble and not progress.terminated:
        verdict = "refused" if progress.denied else "nothing_to_do"
    ids = [session_id(progress.shown[pid]) for pid in progress.terminated + progress.in_doubt]
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
        "blind": progress.blind,
        "interrupted": progress.interrupted,
        "headroom_reached": not progress.short,
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


def _status(progress: Progress) -> Literal["ok", "failed", "refused", "unknown"]:
    if progress.in_doubt:
        return "unknown"
    if progress.trouble or progress.interrupted:
        return "failed"
    return "refused" if progress.denied and not progress.terminated else "ok"


def _summary(progress: Progress, data: Mapping[str, Any]) -> str:
    before, after = progress.before, progress.after
    parts = [
        f"{len(progress.terminated)} terminated",
        f"{before['used']} -> {after['used']} of {after['usable']} slots in use",
    ]
    if progress.moved:
        parts.append(f"{len(progress.moved)} left alone: not as shown any more")
    if progress.lingering:
        parts.append(f"{len(progress.lingering)} signalled and still there")
    if progress.interrupted:
        parts.append("interrupted: no further batch was begun")
    if progress.in_doubt:
        pids = ", ".join(map(str, progress.in_doubt))
        parts.append(f"whether {pids} were signalled is not known")
    if progress.denied:
        parts.append(f"{len(progress.denied)} not permitted: {progress.denial}")
    if data["trouble"]:
        parts.append(data["trouble"])
    elif progress.args.which == "leaked" and not data["headroom_reached"]:
        parts.append(f"{_not_reached(progress)}: no more are proved leaked")
    if data["advice"]:
        parts.append(data["advice"])
    if progress.blind and progress.terminated:
        parts.append(progress.blind)
    return "; ".join(parts)


def _not_reached(progress: Progress) -> str:
    """Say what lacks headroom: `20% headroom not reached`, `… of role app not reached`."""
    limits = [f"{kind} {name}" for kind, name in progress.short if kind != "slots"]
    of = f" of {', '.join(limits)}" if len(limits) == len(progress.short) else ""
    return f"{progress.args.headroom}% headroom{of} not reached"


def _by_hand(progress: Progress) -> tuple[str, ...]:
    check = f"runbook diagnose {progress.args.database}"
    pids = progress.in_doubt or progress.lingering
    if not pids:
        return (check,)
    columns = "pid, usename, state, backend_start, state_change"
    listed = ", ".join(map(str, pids))
    if any(on_host(session_id(progress.shown[pid])) for pid in pids):
        return check, f"ps -o pid,lstart,args -p {listed.replace(' ', '')}   # on the server's host"
    return check, f"SELECT {columns} FROM pg_stat_activity WHERE pid IN ({listed});"  # noqa: S608 - pids


def _bound(args: TerminateArgs, fleet: Fleet) -> Bound | None:
    most = fleet.database(args.database).max_terminated
    if most is None:
        return None
    return Bound(
        of=f"sessions of {args.database}",
        takes=min(args.max_sessions, most),
        most=most,
        hint="lower max_sessions of the steps, or raise max_terminated in the inventory",
    )


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
    undo="none: a session that was ended is gone, its application connects again",
    lock=lambda args: f"database {args.database}",
    bound=_bound,
    # The longest watch is the user's choice; everything else ends within seconds.
    default_timeout_s=4 * 3600.0,
    target_kind="database",
)
