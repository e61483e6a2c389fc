"""The secrets of a hook at this moment: a rotated one is taken without a restart."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from runbook.model.errors import SecretMissing
from runbook.model.inventory import Secret

#: Seconds that what a command has printed is good for: it may ask a server far away. A file or a
#: variable is simply read again.
_COMMAND_KEPT_S = 60.0
#: A caller that is refused may sign with a newer secret: then the command is asked anew, but not
#: more often than this, for anybody can be refused.
_COMMAND_ANEW_S = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What the references lead to: the values, and why others lead nowhere."""

    values: tuple[str, ...]
    missing: tuple[SecretMissing, ...] = ()
    #: Whether any of them might be older than what its reference gives now.
    kept: bool = False


class HookSecrets:
    """Follows references; blocks while a command runs, so never on the event loop."""

    def __init__(
        self, follow: Callable[[Secret], str], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._follow = follow
        self._now = now
        self._lock = threading.Lock()
        self._commands: dict[Secret, _Command] = {}

    def known(self, references: Sequence[Secret], *, anew: bool = False) -> Known:
        """Return the values of these references; `anew` asks commands again if they may be."""
        values: list[str] = []
        missing: list[SecretMissing] = []
        for reference in references:
            try:
                values.append(self._value(reference, anew=anew))
            except SecretMissing as error:
                missing.append(error)
        kept = any(reference.command is not None for reference in references)
        return Known(values=tuple(values), missing=tuple(missing), kept=kept)

    def _value(self, reference: Secret, *, anew: bool) -> str:
        if reference.command is None:
            return self._follow(reference)
        with self._lock:
            command = self._commands.setdefault(reference, _Command())
        return command.value(
            lambda: self._follow(reference),
            self._now,
            _COMMAND_ANEW_S if anew else _COMMAND_KEPT_S,
        )


@dataclass(kw_only=True)
class _Command:
    """What a command said last; one caller runs it, the others wait for what it says."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    said: str | SecretMissing | None = None
    at: float = 0.0

    def value(self, ask: Callable[[], str], now: Callable[[], float], kept_s: float) -> str:
        """Return what it said within the last `kept_s` seconds, or ask it."""
        with self.lock:
            # A command that failed is asked again soon: its store may be back.
            kept_s = _COMMAND_ANEW_S if isinstance(self.said, SecretMissing) else kept_s
            if self.said is None or now() - self.at > kept_s:
                self.said = _asked(ask)
                self.at = now()
            if isinstance(self.said, SecretMissing):
                raise self.said
            return self.said


def _asked(ask: Callable[[], str]) -> str | SecretMissing:
    try:
        return ask()
    except SecretMissing as error:
        return error
