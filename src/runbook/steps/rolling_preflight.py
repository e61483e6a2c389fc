"""Preflight of a rolling restart: may this host be restarted, and could we prove that it worked?

It only looks. A host that is down is no reason to stop, it is why somebody restarts; a restart
that is not allowed, or whose success could not be seen, is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from runbook.model.effects import (
    CommandOutcome,
    Drive,
    Observe,
    ReadCommand,
    Rows,
    Together,
    UnitState,
    ask,
)
from runbook.model.errors import DoorError, Unreachable
from runbook.model.plan import Result
from runbook.model.step import StepContext
from runbook.model.sudo import LIST_ARGV
from runbook.model.systemd import Unfit, parse_span, start_limit_warning, start_seconds
from runbook.model.units import format_duration
from runbook.steps.database_gate import Sessions, row_of, unfit_database, unnamed_warning
from runbook.steps.draining import Rotation, count_left
from runbook.steps.rolling_args import RollingArgs
from runbook.steps.rolling_crashed import boot_look
from runbook.steps.rolling_files import RELOAD_ARGV, judged, looks, ways_back, writes
from runbook.steps.rolling_settings import shown_settings
from runbook.steps.rolling_subject import Subject, subject_of
from runbook.steps.sudo_proof import sudo_unfit

_LOOK_TIMEOUT_S = 15.0

DRAIN = ("draining, and the way back into rotation",)
NOT_EXERCISED = (
    "the restarts themselves",
    "the watch for crash loops",
    "the gates after a restart",
    "recovery of a host that does not come back",
)


@dataclass(kw_only=True)
class _Found:
    """What preflight has seen of one host so far."""

    subject: Subject
    seen: Any
    data: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    healthy: bool = False
    #: Footprints of its settings: what is written before the restart, and put back after it.
    writes: tuple[str, ...] = ()
    ways_back: tuple[str, ...] = ()
    #: It is neither written to nor restarted.
    left_alone: bool = False


def preflight(args: RollingArgs, ctx: StepContext) -> Drive[Result]:
    """Look at one host and say whether it is fit; `data` is what the restart builds on."""
    subject = subject_of(args, ctx.fleet, ctx.target)
    try:
        seen = yield from ask(subject.manager.look())
    except Unreachable as error:
        return Result(status="unreachable", summary=error.message, hint=error.hint or "")
    except DoorError as error:
        return Result(status="refused", summary=error.message, hint=error.hint or "")
    unfit = subject.manager.unfit(seen)
    if unfit is not None:
        return _refused(subject, seen, unfit)
    found = _Found(subject=subject, seen=seen)
    unfit = yield from _look_around(found)
    if unfit is None:
        unfit = yield from _look_at_settings(found, ctx.run_id)
    if unfit is not None:
        return _refused(subject, seen, unfit)
    return _fit(found)


def _look_around(found: _Found) -> Drive[Unfit | None]:
    """Ask everything else at once: sudo, the boot, the gates, the database."""
    subject = found.subject
    sessions = subject.sessions()
    if isinstance(sessions, Unfit):
        return sessions
    looks: dict[str, Observe[Any]] = {"boot": boot_look(subject.host.name)}
    if subject.host.sudo:
        looks["sudo"] = _read(subject, LIST_ARGV)
    if sessions is not None:
        looks["database"] = sessions.look()
    outcomes = yield from ask(Together(effects=(*looks.values(), *subject.gates.looks())))
    named = dict(zip(looks, outcomes, strict=False))
    _judge_boot(found, named["boot"])
    problem = _judge_gates(found, outcomes[len(looks) :])
    if problem is None and subject.host.sudo:
        problem = sudo_unfit(subject.host, named["sudo"], _argvs(subject))
    if problem is None and sessions is not None:
        problem = _judge_database(found, sessions, named["database"])
    if problem is None and subject.rotation is not None:
        problem = yield from _look_at_balancers(found, subject.rotation)
    return problem


def _read(subject: Subject, argv: tuple[str, ...]) -> ReadCommand:
    return ReadCommand(host=subject.host.name, argv=argv, timeout_s=_LOOK_TIMEOUT_S)


def _argvs(subject: Subject) -> tuple[tuple[str, ...], ...]:
    """Return what sudo must allow to the byte."""
    reload = subject.wanted is not None and subject.wanted.drop_in
    return (subject.manager.restart_argv(), *((RELOAD_ARGV,) if reload else ()))


def _look_at_settings(found: _Found, run_id: str) -> Drive[Unfit | None]:
    """What would become of the files that hold its settings?"""
    wanted = found.subject.wanted
    if wanted is None:
        return None
    outcomes = yield from ask(Together(effects=looks(wanted)))
    looked = judged(wanted, outcomes, run_id)
    if isinstance(looked, Unfit):
        return looked
    found.data["settings"] = shown_settings(looked)
    found.writes, found.ways_back = writes(wanted, looked, run_id), ways_back(wanted, looked)
    found.left_alone = not looked.wishes
    return None


def _judge_boot(found: _Found, outcome: CommandOutcome | DoorError) -> None:
    """Note which boot this is: a reboot would change every identity as well."""
    lines = outcome.stdout.split() if isinstance(outcome, CommandOutcome) else []
    found.data["boot_id"] = lines[0] if len(lines) > 1 else ""
    if len(lines) > 1 and isinstance(found.seen, UnitState):
        unit = found.subject.manager.restart_argv()[-1]
        warning = start_limit_warning(unit, found.seen, float(lines[1]))
        found.warnings += [warning] if warning else []


def _judge_gates(found: _Found, outcomes: tuple[Any, ...]) -> Unfit | None:
    subject, gates = found.subject, found.subject.gates
    unfit = gates.unaskable(outcomes)
    if unfit is not None:
        return unfit
    found.data["gates"] = gates.answers(outcomes)
    why = subject.manager.down(found.seen) or gates.problem(outcomes)
    found.healthy = why is None
    found.data["ill"] = why or ""
    if not gates:
        found.warnings.append(f"{subject.name} declares no gates: running counts as healthy")
    return None


def _look_at_balancers(found: _Found, rotation: Rotation) -> Drive[Unfit | None]:
    """Would draining work: sudo on the balancers' hosts, their answers, the count that is left?"""
    argvs = {each.name: each.sudo_argvs() for each in rotation.balancers}
    with_sudo = {name: asked for name, asked in argvs.items() if asked}
    listings = tuple(
        ReadCommand(host=name, argv=LIST_ARGV, timeout_s=_LOOK_TIMEOUT_S) for name in with_sudo
    )
    counter = (rotation.counter,) if rotation.counter is not None else ()
    places = rotation.looks()
    outcomes = yield from ask(Together(effects=(*listings, *places, *counter)))
    for name, listing in zip(with_sudo, outcomes, strict=False):
        host = rotation.fleet.host(name)
        unfit = sudo_unfit(host, listing, with_sudo[name])
        if unfit is not None:
            return Unfit(problem=f"on {name}, {unfit.problem}", hint=unfit.hint)
    seen = outcomes[len(listings) :]
    unfit = _judge_places(found, rotation, seen[: len(places)])
    count = count_left(seen[-1]) if counter and unfit is None else 0
    if isinstance(count, str):
        hint = "services.NAME.drain.connections in the inventory is one argv that prints a number"
        unfit = Unfit(problem=count, hint=hint)
    return unfit


def _judge_places(found: _Found, rotation: Rotation, outcomes: tuple[Any, ...]) -> Unfit | None:
    """A host that somebody else took out of rotation stays out, and counts as not available."""
    sights = rotation.sights(outcomes)
    silent = next((sight for sight in sights if sight.place == "unknown"), None)
    if silent is not None:
        return Unfit(problem=str(silent), hint=silent.hint)
    away = [sight for sight in sights if sight.place != "in"]
    if away and found.healthy:
        found.healthy, found.data["ill"], found.data["away"] = False, str(away[0]), True
    found.warnings += [
        f"{sight} already, before this run: it is left so, and not put back"
        for sight in sights
        if sight.place == "out"
    ]
    found.warnings += [
        f"{each.name} does not tell where it has a host: the exit codes of drain and undrain count"
        for each in rotation.balancers
        if not each.tells
    ]
    found.data["rotation"] = {sight.balancer: sight.text for sight in sights}
    return None


def _judge_database(found: _Found, sessions: Sessions, outcome: Rows | DoorError) -> Unfit | None:
    if isinstance(outcome, DoorError):
        return Unfit(
            problem=f"the database gate cannot be asked: {outcome.message}",
            hint=outcome.hint or f"runbook diagnose {sessions.database}",
        )
    row = row_of(outcome)
    unfit = unfit_database(row, sessions, host_up=found.healthy)
    if unfit is None:
        warning = unnamed_warning(row, sessions, host_up=found.healthy)
        found.warnings += [warning] if warning else []
    found.data["database"] = {
        "name": sessions.database,
        "by": str(sessions),
        **{key: row.get(key) for key in ("used", "usable", "sessions")},
    }
    return unfit


def _fit(found: _Found) -> Result:
    subject, manager = found.subject, found.subject.manager
    timeout = manager.restart_timeout(found.seen)
    found.warnings += _settle_warning(found)
    data = {
        **found.data,
        "healthy": found.healthy,
        "baseline": manager.baseline(found.seen),
        "identity": manager.identity(found.seen),
        "timeouts": {"restart_s": timeout},
        "warnings": found.warnings,
    }
    already = "not available" if found.data.get("away") else "down"
    touches = (*subject.footprint(before=found.writes), *found.ways_back)
    if found.left_alone:
        touches = ()
    state = "healthy" if found.healthy else f"{already} already: {found.data['ill']}"
    return Result(
        status="ok",
        summary=f"fit; {state}",
        data=data,
        touches=touches,
        not_exercised=NOT_EXERCISED if subject.rotation is None else (*DRAIN, *NOT_EXERCISED),
    )


def _settle_warning(found: _Found) -> list[str]:
    """A crash loop shows itself only after a start and systemd's pause before the next."""
    settle = found.subject.settings.settle
    if not isinstance(found.seen, UnitState) or settle == 0:
        return []
    needed = start_seconds(found.seen) + (parse_span(found.seen["RestartUSec"]) or 0.0)
    if settle > needed:
        return []
    return [
        (
            f"settle {format_duration(settle)} does not exceed a start and systemd's pause before"
            f" the next ({format_duration(needed)}): a crash loop may pass unseen"
        )
    ]


def _refused(subject: Subject, seen: Any, unfit: Unfit) -> Result:
    looks = subject.manager.by_hand(seen)[:1]
    return Result(status="refused", summary=unfit.problem, hint=unfit.hint, by_hand=looks)
