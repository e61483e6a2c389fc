"""Counts failed attempts to sign in: after a few, an address has to wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

#: A person mistypes a few times; a program that guesses gets nowhere at this pace.
_FAILURES, _WINDOW_S = 10, 60.0
#: Addresses that are remembered; beyond these the oldest are forgotten.
_MOST = 10_000


class Throttle:
    """Failures of the last minute, by address; in memory."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failed: dict[str, list[float]] = {}

    def wait_s(self, address: str) -> float:
        """Return for how long nobody signs in from there; 0: they may."""
        with self._lock:
            recent = self._recent(address)
            if len(recent) < _FAILURES:
                return 0.0
            return max(0.0, recent[-_FAILURES] + _WINDOW_S - self._clock())

    def failed(self, address: str) -> None:
        """Count a failure."""
        with self._lock:
            recent = self._recent(address)
            self._failed.pop(address, None)
            self._failed[address] = [*recent[-_FAILURES:], self._clock()]
            while len(self._failed) > _MOST:
                del self._failed[next(iter(self._failed))]

    def _recent(self, address: str) -> list[float]:
        since = self._clock() - _WINDOW_S
        return [at for at in self._failed.get(address, ()) if at > since]
