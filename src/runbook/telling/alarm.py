"""When a check that looks by itself tells PagerDuty: on a change, and now and then while it lasts.

ok          resolves what it has triggered; the first time as well: who knows what a state
            directory that was lost had triggered
critical    triggers; warning too, where that is wanted. Else a warning leaves an alert as it
            is: between the two thresholds it is neither over nor new
unknown     leaves the alert as it is; several in a row trigger one: a database that nobody can
            ask is no smaller trouble, and one look that fails is none yet
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

Severity = Literal["critical", "warning", "error"]
Status = Literal["ok", "warning", "critical", "unknown"]

#: Seconds after which an alert that lasts is sent again: one that somebody has closed comes back.
REFRESH_S = 3600.0
#: Looks in a row that nobody could answer before that is an alert.
UNKNOWN_IN_A_ROW = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarm:
    """What was sent last of one database."""

    #: None: nothing was ever sent, as far as is known.
    open: bool | None = None
    severity: str = ""
    sent_at: float = 0.0
    #: Looks in a row that nobody could answer.
    unknown: int = 0

    def as_data(self) -> dict[str, Any]:
        """Return it as it is kept."""
        return asdict(self)


def alarm_from(data: Mapping[str, Any] | None) -> Alarm:
    """Return what `as_data` wrote; a fresh one where that cannot be read."""
    known = {each.name for each in fields(Alarm)}
    try:
        return Alarm(**{key: value for key, value in (data or {}).items() if key in known})
    except TypeError:
        return Alarm()


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What is to be sent now; and what is kept once that was sent, and if it was not."""

    action: Literal["trigger", "resolve"] | None
    severity: Severity | None
    kept: Alarm
    if_not_sent: Alarm


def decide(alarm: Alarm, status: Status, now: float, *, warnings: bool = False) -> Decision:
    """Return what is to be sent of a look's outcome; `now` in seconds since the epoch."""
    unknown = alarm.unknown + 1 if status == "unknown" else 0
    counted = replace(alarm, unknown=unknown)
    severity = _severity(counted, status, warnings=warnings)
    if severity is not None and _is_news(alarm, severity, now):
        sent = replace(counted, open=True, severity=severity, sent_at=now)
        return Decision(action="trigger", severity=severity, kept=sent, if_not_sent=counted)
    if status == "ok" and alarm.open is not False:
        sent = Alarm(open=False, sent_at=now)
        return Decision(action="resolve", severity=None, kept=sent, if_not_sent=counted)
    return Decision(action=None, severity=None, kept=counted, if_not_sent=counted)


def _severity(alarm: Alarm, status: Status, *, warnings: bool) -> Severity | None:
    if status == "critical":
        return "critical"
    if status == "warning" and warnings:
        return "warning"
    # An alert that is open says more than that nobody could look.
    enough = alarm.unknown >= UNKNOWN_IN_A_ROW
    if status == "unknown" and enough and (not alarm.open or alarm.severity == "error"):
        return "error"
    return None


def _is_news(alarm: Alarm, severity: Severity, now: float) -> bool:
    # A clock that was set back must not silence it.
    lasts = alarm.open and alarm.severity == severity and 0 <= now - alarm.sent_at < REFRESH_S
    return not lasts
