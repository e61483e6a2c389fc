"""Being told to stop: whatever way it comes, the drill is removed, and removed undisturbed."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    Handler = Callable[[int, FrameType | None], None] | signal.Handlers

_TOLD = (signal.SIGTERM, signal.SIGHUP)


class ToldToStopError(KeyboardInterrupt):
    """A signal for us alone: unlike a Ctrl-C, it did not reach the commands in our terminal."""


@contextmanager
def stop_signals_raised() -> Iterator[None]:
    """Turn the signals that would end us at once into an exception, as Ctrl-C is one."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise ToldToStopError

    with _handled(_TOLD, interrupt):
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore further signals to stop while something is brought to its end."""
    with _handled((signal.SIGINT, *_TOLD), signal.SIG_IGN):
        yield


@contextmanager
def _handled(numbers: tuple[signal.Signals, ...], handler: Handler) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers, and only it is interrupted
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
