"""Telling the outside of runs: what a recipient, a store and a claim are, as Protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from runbook.model.errors import DoorError
from runbook.model.intake import Told


class NotTold(DoorError):
    """A recipient did not take it, or did not say so."""

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        again: bool = True,
        after_s: float = 0.0,
        down: bool = False,
        unclear: bool = False,
    ) -> None:
        """`again`: another attempt may fare better, not before `after_s` seconds are over.

        `down`: nothing else that is for this recipient would fare better now. `unclear`: it may
        have arrived.
        """
        super().__init__(message, hint=hint)
        self.again = again
        self.after_s = after_s
        self.down = down
        self.unclear = unclear


class Sender(Protocol):
    """A recipient, as what is told sees it; used from one thread at a time."""

    def send(self, told: Told, within_s: float) -> str | None:
        """Tell one thing, within so many seconds; return what the recipient calls it, or None.

        `told.attempts` counts the attempts before this one: where there were any, one of them may
        have arrived without a word, and a sender that can look whether it did looks first. With
        attempts and no `told.why`, the process of the last one was lost.

        Raises:
            NotTold: when it did not arrive, as far as is known.
            DoorError: when it could not be tried, for want of a secret for instance.
        """

    def close(self) -> None:
        """Give back what is open."""


class ToldStore(Protocol):
    """Keeps what was told, and what is to be; on disk when a method returns."""

    def of(self, run_id: str, recipient: str) -> Mapping[str, Told]:
        """Return what one recipient was, or is to be, told of one run, by key."""

    def keep(self, told: Told) -> None:
        """Keep one thing as it is now, over what was kept under its run, recipient and key."""

    def pending(self) -> Sequence[Told]:
        """Return what is due still, the oldest first."""

    def given_up(self, limit: int = 50) -> Sequence[Told]:
        """Return what nobody tries to tell any more, the newest first."""

    def forget(self, before: float) -> None:
        """Forget what became due before a moment and is not due any more."""

    def close(self) -> None:
        """Let go of the file."""


class Claims(Protocol):
    """One process at a time tells a recipient of a run; freed when its process ends."""

    def hold(self, name: str) -> AbstractContextManager[None]:
        """Hold a claim while the context lasts; `Locked` when somebody else holds it."""
