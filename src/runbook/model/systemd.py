"""systemd as `systemctl show` tells it: parsed, and judged before and after a restart.

Every rule here was observed on systemd 252: `systemctl restart` exits with 0 for a unit that dies a
moment later, for one whose Condition does not hold, and for a glob that matches nothing. So the
exit code proves nothing; the InvocationID, the state and the restart counter do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from runbook.model.effects import UnitState

SYSTEMCTL = "/usr/bin/systemctl"

#: What one look asks for. systemd answers in its own order, and leaves out what it does not know.
SHOWN = (
    "Id",
    "LoadState",
    "LoadError",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "InvocationID",
    "MainPID",
    "NRestarts",
    "Result",
    "Type",
    "CanStart",
    "CanStop",
    "CanReload",
    "RefuseManualStart",
    "RefuseManualStop",
    "Job",
    "NeedDaemonReload",
    "ConditionResult",
    "ConditionTimestampMonotonic",
    "ExecMainCode",
    "ExecMainStatus",
    "ExecMainStartTimestampMonotonic",
    "ActiveEnterTimestampMonotonic",
    "TimeoutStartUSec",
    "TimeoutStopUSec",
    "RestartUSec",
    "StartLimitBurst",
    "StartLimitIntervalUSec",
)

#: Added to the unit's own stop and start timeouts before we stop waiting for `systemctl restart`.
GRACE_S = 15.0
#: Waited for a unit that sets no limit of its own (TimeoutStartSec=infinity).
UNLIMITED_S = 600.0

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(y|month|w|d|h|min|ms|us|s)")
_UNITS = {
    "y": 31557600.0,
    "month": 2629800.0,
    "w": 604800.0,
    "d": 86400.0,
    "h": 3600.0,
    "min": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
}
#: A name that means one unit: no glob, no option, nothing that a shell or sudo would read.
_UNIT_NAME = re.compile(r"[A-Za-z0-9_:.\\@][A-Za-z0-9_:.\\@-]{0,254}")

#: systemd.exec(5), "Process Exit Codes": the ones that a missing or broken program gives.
_EXEC_STATUS = {
    "200": "its working directory is missing",
    "203": "its program is missing or cannot be executed",
    "216": "its group does not exist",
    "217": "its user does not exist",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Unfit:
    """Why something must not be restarted, and what mends it."""

    problem: str
    hint: str = ""


#: up         the new process runs
#: pending    systemd is still at work: a job, or a start that has not ended
#: unchanged  the process from before still runs; no restart has happened
#: down       it is not running, or runs in a crash loop
Verdict = Literal["up", "pending", "unchanged", "down"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How a service stands at one look."""

    verdict: Verdict
    #: What changes with each start: the InvocationID, or what a status command prints.
    identity: str
    #: In words, for people.
    text: str


def show_argv(unit: str) -> tuple[str, ...]:
    """Return the argv that asks for a unit's properties."""
    return (SYSTEMCTL, "show", *(f"--property={name}" for name in SHOWN), "--", unit)


def restart_argv(unit: str) -> tuple[str, ...]:
    """Return the argv of a restart, the one that a sudoers rule must name to the byte."""
    return (SYSTEMCTL, "restart", unit)


def parse_show(text: str) -> UnitState:
    """Parse `k=v` lines; lines without `=` are left out."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return UnitState(properties={key: value for key, _, value in pairs})


def parse_span(text: str) -> float | None:
    """Return the seconds of `1min 30s`, `100ms` or `0`; None for `infinity` and anything else."""
    if text.strip() == "0":
        return 0.0
    parts = _SPAN.findall(text)
    if not parts or _SPAN.sub("", text).strip():
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def start_attempts(state: UnitState) -> dict[str, str]:
    """Return what every start of a unit changes, one that its Condition stops included.

    The InvocationID alone is not enough: a start that is skipped leaves the old one.
    """
    return {key: state[key] for key in ("InvocationID", "ConditionTimestampMonotonic")}


def action_argv(action: str, unit: str) -> tuple[str, ...]:
    """Return the one argv of `start`, `stop`, `reload` or `restart`, as a sudoers rule names it."""
    return (SYSTEMCTL, action, unit)


def restart_timeout(state: UnitState) -> float:
    """Return how long a restart of this unit may take: stop + start + grace, in seconds."""
    limits = (parse_span(state["TimeoutStopUSec"]), parse_span(state["TimeoutStartUSec"]))
    return sum(UNLIMITED_S if limit is None else limit for limit in limits) + GRACE_S


def unit_name_problem(unit: str) -> Unfit | None:
    """Say why `unit` does not name exactly one unit (a glob restarts nothing, with exit code 0)."""
    if _UNIT_NAME.fullmatch(unit):
        return None
    return Unfit(
        problem=f"{unit!r} does not name one unit",
        hint="name the unit itself, without patterns or options, as in shop.service",
    )


def restart_problem(unit: str, state: UnitState) -> Unfit | None:
    """Say why `unit` must not be restarted as it stands, or None."""
    return _not_loaded(unit, state) or _not_restartable(unit, state) or _not_now(unit, state)


def start_problem(unit: str, state: UnitState) -> Unfit | None:
    """Say why `unit` must not be started as it stands, or None."""
    return (
        _not_loaded(unit, state)
        or _forbidden(unit, state, "Start", "started")
        or _not_now(unit, state)
    )


def stop_problem(unit: str, state: UnitState) -> Unfit | None:
    """Say why `unit` must not be stopped as it stands, or None; a masked unit may be stopped."""
    loaded = None if state["LoadState"] == "masked" else _not_loaded(unit, state)
    return loaded or _forbidden(unit, state, "Stop", "stopped") or _at_work(unit, state)


def reload_problem(unit: str, state: UnitState) -> Unfit | None:
    """Say why `unit` cannot be reloaded as it stands, or None."""
    problem = _not_loaded(unit, state) or _not_now(unit, state)
    if problem is None and state["CanReload"] == "no":
        return Unfit(
            problem=f"{unit} cannot be reloaded (CanReload=no): it has no ExecReload",
            hint="restart it instead",
        )
    if problem is None and not running(state):
        return Unfit(
            problem=f"{unit} does not run ({state['ActiveState']}/{state['SubState']})",
            hint="start it instead",
        )
    return problem


def _not_loaded(unit: str, state: UnitState) -> Unfit | None:
    match state["LoadState"]:
        case "loaded":
            return None
        case "masked":
            return Unfit(
                problem=f"{unit} is masked: it can be stopped, and not started again",
                hint=f"unmask it: sudo systemctl unmask {unit}",
            )
        case "not-found" | "":
            return Unfit(
                problem=f"systemd has no unit {unit}",
                hint="systemctl list-units --type=service --all shows the names; the inventory's"
                " key is services.NAME.unit",
            )
        case other:
            error = state["LoadError"].strip('" ')
            return Unfit(
                problem=f"{unit} cannot be loaded ({other}{': ' if error else ''}{error})",
                hint=f"systemd-analyze verify {unit} names the line that is wrong",
            )


def _not_restartable(unit: str, state: UnitState) -> Unfit | None:
    if not state["Type"]:
        return Unfit(
            problem=f"{unit} ({state['Id'] or 'unknown'}) is no service",
            hint="name the .service unit; sockets, timers and targets are not restarted",
        )
    return _forbidden(unit, state, "Stop", "stopped") or _forbidden(unit, state, "Start", "started")


def _forbidden(unit: str, state: UnitState, verb: str, does: str) -> Unfit | None:
    if state[f"RefuseManual{verb}"] == "yes":
        return Unfit(
            problem=f"{unit} must not be {does} by hand (RefuseManual{verb}=yes)",
            hint="restart the unit that it belongs to instead",
        )
    if state[f"Can{verb}"] == "no":
        return Unfit(
            problem=f"{unit} cannot be {does} (Can{verb}=no)", hint=f"systemctl status {unit}"
        )
    return None


def _at_work(unit: str, state: UnitState) -> Unfit | None:
    if not job_pending(state):
        return None
    return Unfit(
        problem=f"systemd is at work on {unit} already (job {state['Job']},"
        f" {state['ActiveState']}/{state['SubState']})",
        hint="somebody else may be restarting it; systemctl list-jobs shows what is under way",
    )


def _not_now(unit: str, state: UnitState) -> Unfit | None:
    busy = _at_work(unit, state)
    if busy is not None:
        return busy
    if state["NeedDaemonReload"] == "yes":
        return Unfit(
            problem=f"the unit file of {unit} changed on disk and is not loaded: a restart would"
            " run the old one",
            hint="sudo systemctl daemon-reload, then look again",
        )
    return None


def job_pending(state: UnitState) -> bool:
    """Whether systemd has a job queued or running for the unit."""
    return state["Job"] not in {"", "0"}


def running(state: UnitState) -> bool:
    """Whether the unit does its work: active and running (a oneshot: exited)."""
    return state["ActiveState"] == "active" and state["SubState"] in _good_substates(state)


def standing(state: UnitState, before: str) -> Standing:
    """Judge a look taken after a restart was asked for.

    Args:
        state: what systemd says now.
        before: the InvocationID from before the restart, "" if the unit had none.
    """
    identity = state["InvocationID"]

    def verdict(word: Verdict, text: str) -> Standing:
        return Standing(verdict=word, identity=identity, text=text)

    if state["LoadState"] != "loaded":
        return verdict("down", f"the unit is {state['LoadState'] or 'gone'}")
    if crash_looping(state, before):
        return verdict("down", f"crash loop: {_why_down(state)}")
    if job_pending(state) or _in_motion(state):
        return verdict("pending", f"{state['ActiveState']}/{state['SubState']}")
    # Inactive units keep the InvocationID of their last start: a restart whose Condition does not
    # hold stops the old process and starts none.
    if before and identity == before and state["ActiveState"] == "active":
        return verdict("unchanged", "the process from before still runs: nothing was restarted")
    if running(state):
        return verdict("up", f"{state['ActiveState']}/{state['SubState']}")
    return verdict("down", _why_down(state))


def crash_looping(state: UnitState, before: str) -> bool:
    """Whether systemd had to start the new process again.

    NRestarts starts at 0 with every manual restart, so it is compared with 0; on the invocation
    from before it counts older mishaps and proves nothing.
    """
    if state["SubState"].startswith("auto-restart"):
        return True
    return state["InvocationID"] != before and state["NRestarts"] not in {"", "0"}


def start_limit_hit(state: UnitState) -> bool:
    """Whether systemd refuses further starts until `systemctl reset-failed`."""
    return state["Result"] == "start-limit-hit"


def mending_hint(unit: str, state: UnitState) -> str:
    """Return what helps a unit that did not come back as it should; "" when nothing is known."""
    if start_limit_hit(state):
        return (
            f"systemd starts it no more until `systemctl reset-failed {unit}`: it was started"
            f" {state['StartLimitBurst']} times in {state['StartLimitIntervalUSec']}, restarts by"
            " hand included"
        )
    if state["ConditionResult"] == "no" and state["ActiveState"] == "inactive":
        return f"`systemctl status {unit}` names the Condition that does not hold"
    if state["Result"] == "timeout":
        return (
            f"it did not say that it is ready within its start timeout"
            f" ({state['TimeoutStartUSec']}): Type={state['Type']} waits for it"
        )
    if state["ExecMainStatus"] in _EXEC_STATUS:
        return f"`systemctl cat {unit}` shows the command that it tries to run"
    if state["SubState"].startswith("auto-restart") or state["NRestarts"] not in {"", "0"}:
        return f"it ends by itself, again and again: `journalctl -u {unit}` says why"
    return ""


def start_limit_warning(unit: str, state: UnitState, uptime_s: float) -> str | None:
    """Warn when a start is so recent that the start limit may leave a healthy unit failed.

    Manual restarts count: with the default of 5 in 10s the sixth leaves the unit failed.

    Args:
        unit: its name.
        state: what systemd says.
        uptime_s: the host's monotonic clock, in seconds.
    """
    burst, interval = state["StartLimitBurst"], parse_span(state["StartLimitIntervalUSec"])
    entered = _seconds(state["ActiveEnterTimestampMonotonic"])
    if not interval or not burst.isdigit() or int(burst) == 0 or not entered:
        return None
    age = uptime_s - entered
    if age > interval:
        return None
    return (
        f"{unit} started {max(age, 0):.0f}s ago, and systemd allows {burst} starts in"
        f" {interval:g}s: if it ends as start-limit-hit, `systemctl reset-failed {unit}` first"
    )


def start_seconds(state: UnitState) -> float:
    """Return how long the last start took, from exec to active; 0 when systemd cannot tell."""
    began = _seconds(state["ExecMainStartTimestampMonotonic"])
    entered = _seconds(state["ActiveEnterTimestampMonotonic"])
    return max(0.0, entered - began) if began and entered else 0.0


def up_seconds(state: UnitState, uptime_s: float) -> float | None:
    """Return for how long the unit has been active, by the host's monotonic clock.

    None when systemd does not tell, or the clock is not the one that systemd goes by (a container
    may be shown an uptime of its own).
    """
    entered = _seconds(state["ActiveEnterTimestampMonotonic"])
    return uptime_s - entered if 0 < entered <= uptime_s else None


def _seconds(microseconds: str) -> float:
    return int(microseconds) / 1e6 if microseconds.isdigit() else 0.0


def _good_substates(state: UnitState) -> tuple[str, ...]:
    return ("exited", "running") if state["Type"] == "oneshot" else ("running",)


def _in_motion(state: UnitState) -> bool:
    return state["ActiveState"] in {"activating", "deactivating", "reloading", "refreshing"}


def _why_down(state: UnitState) -> str:
    words = [f"{state['ActiveState'] or 'unknown'}/{state['SubState'] or 'unknown'}"]
    if state["ConditionResult"] == "no" and state["ActiveState"] == "inactive":
        words.append("a Condition of the unit does not hold, so systemd skipped the start")
    if state["Result"] not in {"", "success"}:
        words.append(f"result {state['Result']}")
    if state["ExecMainStatus"] not in {"", "0"}:
        meaning = _EXEC_STATUS.get(state["ExecMainStatus"])
        words.append(f"exit status {state['ExecMainStatus']}" + (f", {meaning}" if meaning else ""))
    if state["NRestarts"] not in {"", "0"}:
        words.append(f"started again {state['NRestarts']} times by systemd")
    return "; ".join(words)
