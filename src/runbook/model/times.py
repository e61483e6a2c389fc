"""Moments in words that everybody who reads them understands alike: UTC, and it says so."""

from __future__ import annotations

import time


def utc(at: float) -> str:
    """Return the time of day, as in `02:18:31 UTC`."""
    return time.strftime("%H:%M:%S UTC", time.gmtime(at))


def utc_date(at: float) -> str:
    """Return date and time, as in `2026-11-23 02:18 UTC`."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))


def stamp(at: float) -> str:
    """Return what programs read, and a `<time datetime>` has: ISO 8601, whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
