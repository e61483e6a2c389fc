"""One host of a rolling restart: drained, restarted, proved restarted, watched, gated, put back.

    draining -> configuring -> restarting -> stabilising -> gating -> db_gating -> undraining -> ok

Where settings were put and the host does not come back healthy, `reverting` follows: they are put
back, and it is restarted once more.

The restart is asked for once. When its answer is lost, the host is looked at, never asked again:
the identity (systemd's InvocationID, or what the status command prints) tells what happened. So it
is when a whole process was lost: `observing` goes first then, see `rolling_crashed`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from runbook.model.effects import Drive
from runbook.model.errors import StepFailed
from runbook.model.plan import Crashed, Result
from runbook.model.step import StepContext
from runbook.model.systemd import Unfit
from runbook.model.units import format_duration
from runbook.steps.rolling_args import RollingArgs
from runbook.steps.rolling_crashed import observing
from runbook.steps.rolling_draining import draining, undraining
from runbook.steps.rolling_gating import database_gating, gating
from runbook.steps.rolling_journey import Journey, Trouble, now
from runbook.steps.rolling_restarting import restarting, stabilising
from runbook.steps.rolling_reverting import noted, reverting
from runbook.steps.rolling_settings import configuration_of, configuring
from runbook.steps.rolling_subject import subject_of

_Stage = Callable[[Journey], Drive[Trouble | None]]


def restart(args: RollingArgs, ctx: StepContext) -> Drive[Result]:
    """Take one host through every stage and say how it ended."""
    subject = subject_of(args, ctx.fleet, ctx.target)
    sessions = subject.sessions()
    if isinstance(sessions, Unfit):
        why = f"nothing was restarted: {sessions.problem}"
        return Result(status="failed", summary=why, hint=sessions.hint)
    timeout_s = float(ctx.given["prepared"]["timeouts"]["restart_s"])
    left = ctx.given.get("crashed")
    crashed = Crashed(**left) if left else None
    config = configuration_of(subject.wanted, ctx.given["prepared"], ctx.run_id, crashed)
    if config is not None and config.left_alone:
        return Result(status="ok", summary=config.left_alone, data={"settings": config.data()})
    journey = Journey(
        subject=subject, timeout_s=timeout_s, sessions=sessions, crashed=crashed, config=config
    )
    return (yield from travel(journey))


def travel(journey: Journey) -> Drive[Result]:
    """Take a host through every stage that is for it, and say how it ended."""
    yield from _read_clock(journey)
    journey.began = journey.now
    for name, stage in _STAGES:
        if _passed_over(journey, name):
            continue
        trouble = yield from _pass(journey, name, stage)
        if name == "observing" and noted(journey) is not None:
            return _ended(journey, (yield from _gone_back(journey, trouble)), "reverting")
        if trouble is not None:
            if name != "undraining":
                trouble = yield from _taken_back(journey, trouble, name)
            return _ended(journey, trouble, name)
    return _ended(journey, None, "")


def _gone_back(journey: Journey, trouble: Trouble | None) -> Drive[Trouble]:
    """An earlier process was putting the settings back: finish that, and nothing else."""
    stage = str((noted(journey) or {}).get("stage", ""))
    why = f"it did not come back healthy with its new settings (in the stage {stage})"
    failed = Trouble(status="failed", why=why)
    if trouble is None:
        return (yield from _taken_back(journey, failed, stage))
    # The one restart after them was made, and what came of it is seen.
    why = f"{why}; restarted with its old ones: {trouble.why}"
    return replace(trouble, why=why)


def _taken_back(journey: Journey, trouble: Trouble, stage: str) -> Drive[Trouble]:
    """Put back what was set, where that is known to be right."""
    config = journey.config
    if config is None or not config.ours:
        return trouble
    if trouble.status in {"unreachable", "unknown"}:
        # Nobody sees what the host does: what is put back blindly may hit a healthy process.
        why = f"{trouble.why}; {config.paths(config.ours)} may hold the new setting there"
        return replace(trouble, status="unknown", why=why)

    def stage_back(journey: Journey) -> Drive[Trouble | None]:
        return (yield from reverting(journey, config, trouble, stage))

    ended = yield from _pass(journey, "reverting", stage_back)
    return ended or trouble


def _passed_over(journey: Journey, stage: str) -> bool:
    """Whether a stage has nothing to do for this host."""
    match stage:
        case "observing":
            return journey.crashed is None
        case "draining":
            return journey.made_before or journey.subject.rotation is None
        case "configuring":
            return journey.made_before or journey.config is None
        case "restarting":
            return journey.made_before
        case "undraining":
            return journey.subject.rotation is None
    return False


def _pass(journey: Journey, name: str, stage: _Stage) -> Drive[Trouble | None]:
    """Go through one stage, and note how long it took; what it was at is kept out of time, too."""
    started = journey.now
    try:
        trouble = yield from stage(journey)
    except StepFailed as error:
        trouble = _cut_short(journey, name, error)
    yield from _read_clock(journey)
    seconds = round(journey.now - started, 3)
    journey.stages.append({"stage": name, "seconds": seconds})
    return trouble


def _read_clock(journey: Journey) -> Drive[None]:
    """Read the clock for the record; past the step's time limit its last reading stands."""
    with suppress(StepFailed):
        yield from now(journey)


def _cut_short(journey: Journey, stage: str, error: StepFailed) -> Trouble:
    """The step's own time limit has come: no further look is possible, so the last one counts."""
    hint = "let the step's `timeout` be longer: every stage has a deadline of its own"
    if stage == "reverting":
        why = f"{error.message}, while its settings were put back; {journey.last_seen}"
        return Trouble(status="unknown", why=why, hint=hint)
    if not journey.asked:
        return Trouble(status="failed", why=f"nothing was restarted: {error.message}", hint=hint)
    if journey.in_doubt:
        why = f"{error.message}; the restart was asked for, and what came of it was not seen"
        return Trouble(status="unknown", why=why, hint=hint)
    why = f"{error.message}, in the stage {stage}; {journey.last_seen}"
    return Trouble(status="failed", why=why, hint=hint)


_STAGES: tuple[tuple[str, _Stage], ...] = (
    ("observing", observing),
    ("draining", draining),
    ("configuring", configuring),
    ("restarting", restarting),
    ("stabilising", stabilising),
    ("gating", gating),
    ("db_gating", database_gating),
    ("undraining", undraining),
)


# ---- the end -------------------------------------------------------------------------------


def _ended(journey: Journey, trouble: Trouble | None, stage: str) -> Result:
    subject = journey.subject
    if trouble is None:
        return Result(
            status="ok",
            summary=_proof(journey),
            data=_data(journey),
            touches=_touches(journey),
            by_hand=journey.config.undo() if journey.config is not None else (),
        )
    stopped = {"interrupted": True} if trouble.interrupted else {}
    return Result(
        status=trouble.status,
        summary=trouble.why + ("" if trouble.placed else _drained_still(journey)),
        hint=trouble.hint or subject.manager.hint(journey.seen),
        data={**_data(journey), "stage": stage, **stopped},
        touches=_touches(journey),
        by_hand=(
            *(journey.config.put_back_by_hand() if journey.config is not None else ()),
            *subject.by_hand(journey.seen, journey.ours),
        ),
    )


def _touches(journey: Journey) -> tuple[str, ...]:
    made = journey.config.touched if journey.config is not None else ()
    return journey.subject.footprint(before=tuple(made))


def _data(journey: Journey) -> dict[str, Any]:
    config = {} if journey.config is None else {"settings": journey.config.data()}
    return {
        **config,
        "seconds": round(journey.now - journey.began, 3),
        "stages": journey.stages,
        "invocation_before": journey.before,
        "invocation_after": journey.after,
        "old_backends": journey.last_row.get("old"),
        "sessions_before": journey.first_row.get("sessions"),
        "sessions": journey.last_row.get("sessions"),
        "slots_before": _slots(journey.first_row),
        "slots": _slots(journey.last_row),
        "drained": list(journey.ours),
        "kept_out": list(journey.kept_out),
    }


def _drained_still(journey: Journey) -> str:
    """Say that the host gets no traffic, where that is so."""
    return f"; it stays drained in {', '.join(journey.ours)}" if journey.ours else ""


def _proof(journey: Journey) -> str:
    """Say what makes us sure that it was restarted and is well."""
    config = journey.config
    parts = [config.proof()] if config is not None else []
    return ", ".join([*parts, *_restart_proof(journey), *_whereabouts(journey)])


def _restart_proof(journey: Journey) -> list[str]:
    parts = ["a new process"]
    if journey.rebooted:
        parts = ["the host has rebooted since its restart was asked for: a new process"]
    elif journey.made_before:
        parts = ["a new process, of a restart that an earlier process asked for"]
    if journey.subject.settings.settle:
        parts.append(f"stable for {format_duration(journey.subject.settings.settle)}")
    if journey.subject.service.gates:
        times = journey.subject.settings.gate.successes
        parts.append(f"healthy {times} times in a row" if times > 1 else "healthy")
    if journey.last_row:
        before, now = journey.first_row.get("sessions"), journey.last_row.get("sessions")
        # Where there were none, none can be gone: the name may be declared wrongly.
        if before or now:
            parts.append(f"old backends gone ({before} sessions before, {now} now)")
    return parts


def _whereabouts(journey: Journey) -> list[str]:
    """Say where its balancers have the host now."""
    back = ["back in rotation"] if journey.back else []
    kept = ", ".join(journey.kept_out)
    return [*back, f"out of rotation in {kept} as before this run"] if kept else back


def _slots(row: dict[str, Any]) -> dict[str, Any] | None:
    """Return the server's slots as one of the gate's answers had them."""
    return {"used": row["used"], "usable": row["usable"]} if row else None
