"""A thread that does one thing again and again: when it is due, or when it is woken."""

from __future__ import annotations

import threading
from collections.abc import Callable

from runbook.model.errors import RunbookError
from runbook.serve.log import Log, where

#: Seconds until the next try after one that failed.
_AFTER_TROUBLE_S = 5.0


class Loop:
    """Calls `step`, which returns the seconds until it wants to be called again."""

    def __init__(self, name: str, step: Callable[[], float], log: Log) -> None:
        self.name = name
        self._step = step
        self._log = log
        self._woken = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        #: Why the last step failed; empty when it did not.
        self.trouble = ""

    @property
    def alive(self) -> bool:
        """Whether it goes on; a loop that has ended is a defect to be seen."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Have the next step done now, or right after the one that goes on."""
        self._woken.set()

    def stop(self, timeout_s: float) -> bool:
        """Have it end after the step that goes on; return whether it did in time."""
        self._stopping = True
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while not self._stopping:
            self._woken.clear()
            pause_s = self._safely()
            self._woken.wait(pause_s)

    def _safely(self) -> float:
        """Do a step; what it raises is told once, and tried again."""
        try:
            pause_s = self._step()
        except RunbookError as error:
            return self._tell(error.message)
        except Exception as error:  # noqa: BLE001 - a defect in one step must not end the others
            return self._tell(f"defect: {where(error)}")
        if self.trouble:
            self._log.say("recovered", loop=self.name)
        self.trouble = ""
        return max(0.0, pause_s)

    def _tell(self, trouble: str) -> float:
        if trouble != self.trouble:
            self._log.say("trouble", loop=self.name, why=trouble)
        self.trouble = trouble
        return _AFTER_TROUBLE_S
