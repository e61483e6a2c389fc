"""Whether a rule's hours hold at a moment: days and times of day, over midnight too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from runbook.model.serve_config import Hours

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def within(hours: Hours, at: float) -> bool:
    """Whether `at`, in seconds since the epoch, is within the hours, where they are kept.

    `from: 22:00, to: 06:00` on `fri` goes on until Saturday at six: what counts is the day on which
    it begins. When clocks are set, the time of day that people see is what counts.

    Raises:
        ZoneInfoNotFoundError: for a time zone that this machine does not know; the configuration
            was checked for that.
    """
    # A machine without a database of time zones knows this one all the same.
    zone = UTC if hours.timezone == "UTC" else ZoneInfo(hours.timezone)
    local = datetime.fromtimestamp(at, zone)
    time, begins, ends = local.strftime("%H:%M"), hours.after, hours.to
    today = _DAYS[local.weekday()]
    yesterday = _DAYS[(local - timedelta(days=1)).weekday()]
    if begins < ends:
        return today in hours.days and begins <= time < ends
    # The same time twice is a whole day, from that time on.
    return (today in hours.days and time >= begins) or (yesterday in hours.days and time < ends)


def said(hours: Hours) -> str:
    """Return the hours in a few words."""
    days = "" if len(hours.days) == len(_DAYS) else f" on {', '.join(hours.days)}"
    return f"{hours.after} to {hours.to}{days} ({hours.timezone})"
