"""`runbook diagnose --check`: one line, performance data and an exit code, as plugins give them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook.model.errors import SlotRefused
from runbook.rendering.safe import safe

if TYPE_CHECKING:
    from runbook.model.diagnosis import Diagnosis

OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3

_WORDS = {OK: "OK", WARNING: "WARNING", CRITICAL: "CRITICAL", UNKNOWN: "UNKNOWN"}
#: Causes by which clients are being refused or stuck now, however few slots are in use.
_HURTING = {"role-limit", "database-limit", "stalled-logins", "pooler-exhausted"}


def check(diagnosis: Diagnosis, *, warning: int, critical: int) -> tuple[str, int]:
    """Return the plugin's line and its exit code; thresholds are percent of the usable slots.

    A cause that was found is at least a warning: it will fill the slots, or already refuses some.
    """
    status = _status(diagnosis, warning, critical)
    slots = diagnosis.slots
    text = f"{diagnosis.target}: {slots.used} of {slots.usable} slots ({slots.percent}%)"
    if not diagnosis.healthy:
        text += f", {diagnosis.finding.cause}: {diagnosis.finding.title}"
    if diagnosis.replayed_from is not None:
        text += (
            f" (replayed from {diagnosis.replayed_from}, seen at {diagnosis.server.server_time})"
        )
    return f"{plugin_line(status, text)} | {_performance(diagnosis, warning, critical)}", status


def from_error(target: str, error: Exception) -> tuple[str, int]:
    """Return the plugin's line and exit code for a database that could not be asked.

    A refusal for want of a slot is the very thing that is watched for, and critical; anything
    else is unknown.
    """
    if isinstance(error, SlotRefused):
        text = f"{target}: no connection slot left, not even to look: {error}"
        return f"{plugin_line(CRITICAL, text)} | percent=100%;;;0;100", CRITICAL
    return unknown_line(target, error), UNKNOWN


def unknown_line(target: str, error: Exception) -> str:
    """Return the plugin's line for a database that could not be asked."""
    return plugin_line(UNKNOWN, f"{target}: {error}")


def _status(diagnosis: Diagnosis, warning: int, critical: int) -> int:
    percent = diagnosis.slots.percent
    if percent >= critical or diagnosis.finding.cause in _HURTING or _shut_out(diagnosis):
        return CRITICAL
    if percent >= warning or not diagnosis.healthy or diagnosis.silent_poolers:
        # Whoever comes through a PgBouncer that does not answer may not get in.
        return WARNING
    return OK


def _shut_out(diagnosis: Diagnosis) -> bool:
    """Whether the ordinary door was shut to us, for another reason than a limit of our own role."""
    own = "too many connections for role"
    return any(
        line.startswith("connect: ") and own not in line for line in diagnosis.server.refusals
    )


def plugin_line(status: int, text: str) -> str:
    """Return the words of a plugin's line."""
    # Everything after a bar is performance data: a bar in a name must not start it.
    return f"RUNBOOK {_WORDS[status]} - {safe(' '.join(text.split())).replace('|', '¦')}"


def _performance(diagnosis: Diagnosis, warning: int, critical: int) -> str:
    """Return label=value;warn;crit;min;max, blank-separated, as the plugin guidelines have it."""
    slots = diagnosis.slots
    warn, crit = (-(-slots.usable * percent // 100) for percent in (warning, critical))
    states = {count.name: count.sessions for count in diagnosis.by_state}
    waiting = states.get("waiting for a lock", 0)
    in_transaction = sum(
        n for state, n in states.items() if state.startswith("idle in transaction")
    )
    return (
        f"used={slots.used};{warn};{crit};0;{slots.usable}"
        f" percent={slots.percent}%;{warning};{critical};0;100"
        f" active={states.get('active', 0)} idle={states.get('idle', 0)}"
        f" idle_in_transaction={in_transaction} lock_waits={waiting}"
    )
