"""Listens while a run works: to what other processes have written to its journal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from runbook.model.events import Event

#: Seconds between two looks: soon enough for a person who has asked a run to stop, and one read
#: of an index each.
_EVERY_S = 1.0


class Mailbox(Protocol):
    """Where others leave word for a run."""

    def news(self) -> Sequence[Event]:
        """Return what others have appended to the run since this was last asked.

        Raises:
            DoorError: when it cannot be read.
        """


@contextmanager
def listening(look: Callable[[], None]) -> Iterator[None]:
    """Call `look` every second, in a thread of its own, for as long as the context lasts."""
    over = threading.Event()

    def listen() -> None:
        while not over.wait(_EVERY_S):
            look()

    thread = threading.Thread(target=listen, name="runbook-listening", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
