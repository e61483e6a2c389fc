"""Looks at many things at once, and waits for them no longer than it was told to."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from runbook.model.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runbook.model.effects import Observe

#: Looks at once: enough to hide the network's latency, few enough for one machine's descriptors.
MOST = 20


def side_by_side(
    effects: Sequence[Observe[Any]],
    look: Callable[[Observe[Any]], Any],
    within_s: float | None,
) -> tuple[Any, ...]:
    """Return each effect's outcome by `look`, in order.

    What has not ended within `within_s` seconds gives `Unreachable`; its thread is left to itself,
    and does not keep the process alive.

    Raises:
        Exception: what `look` raised first, if it did.
    """
    if len(effects) < 2 and within_s is None:
        return tuple(look(effect) for effect in effects)
    looks = _Looks(effects, look)
    looks.start()
    looks.done.wait(within_s)
    return looks.outcomes(within_s)


class _Looks:
    """Effects that wait for a thread, and outcomes that have come in."""

    def __init__(
        self, effects: Sequence[Observe[Any]], look: Callable[[Observe[Any]], Any]
    ) -> None:
        self.done = threading.Event()
        self._effects = effects
        self._look = look
        self._lock = threading.Lock()
        self._next = 0
        self._outcomes: dict[int, Any] = {}
        self._error: Exception | None = None

    def start(self) -> None:
        """Begin; with nothing to do, be done."""
        if not self._effects:
            self.done.set()
        for _ in range(min(MOST, len(self._effects))):
            threading.Thread(target=self._work, daemon=True).start()

    def outcomes(self, within_s: float | None) -> tuple[Any, ...]:
        """Return what has come in, and begin nothing more."""
        with self._lock:
            self._next = len(self._effects)
            if self._error is not None:
                raise self._error
            return tuple(
                self._outcomes.get(i, _too_late(effect, within_s))
                for i, effect in enumerate(self._effects)
            )

    def _work(self) -> None:
        while (number := self._take()) is not None:
            try:
                outcome = self._look(self._effects[number])
            except Exception as error:  # noqa: BLE001 - it is raised where the looks were asked for
                self._error = self._error or error
                self.done.set()
                return
            with self._lock:
                self._outcomes[number] = outcome
                if len(self._outcomes) == len(self._effects):
                    self.done.set()

    def _take(self) -> int | None:
        with self._lock:
            if self._next >= len(self._effects):
                return None
            self._next += 1
            return self._next - 1


def _too_late(effect: Observe[Any], within_s: float | None) -> Unreachable:
    host = getattr(effect, "host", None)
    return Unreachable(
        f"{host or effect.sentence()}: no answer within {within_s or 0:g}s",
        hint="the rest was not kept waiting for it",
    )
