"""Incidents as they stand now, read in bounded time: PagerDuty down stops no remediation."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from runbook.model.errors import DoorError
from runbook.model.intake import IncidentNow, IncidentReader

#: Seconds that one look may take.
_LOOK_S = 8.0
#: Seconds that nobody is asked after a look that failed: events queue up behind each look.
_REST_S = 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Looked:
    """What a look came to: the incident, or why it is not known; neither where nobody was asked."""

    incident: IncidentNow | None = None
    why: str = ""


class Incidents:
    """Reads incidents; used from one thread."""

    def __init__(
        self,
        reader: IncidentReader | None,
        *,
        look_s: float = _LOOK_S,
        rest_s: float = _REST_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._look_s = look_s
        self._rest_s = rest_s
        self._clock = clock
        self._resting_until = 0.0
        #: A look that hangs keeps its thread, and the next one waits behind it.
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="incident")

    def look(self, incident_id: str | None) -> Looked:
        """Return an incident as it stands now; never raises, and never takes long."""
        if self._reader is None or incident_id is None:
            return Looked()
        if self._clock() < self._resting_until:
            return Looked(why="PagerDuty did not answer a moment ago")
        try:
            asked = self._pool.submit(self._reader.incident, incident_id)
            return Looked(incident=asked.result(timeout=self._look_s))
        except TimeoutError:
            asked.cancel()
            return self._rest(f"PagerDuty did not answer within {self._look_s:g} s")
        except DoorError as error:
            return self._rest(error.message)

    def close(self) -> None:
        """Wait for nobody."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _rest(self, why: str) -> Looked:
        self._resting_until = self._clock() + self._rest_s
        return Looked(why=why)
