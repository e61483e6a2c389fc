"""HTTP/1.1 as uvicorn has it, without patience for a caller who never says what it wants."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

#: Seconds that a request's head may take, from the connection or from the answer before it.
HEAD_S = 10.0
#: Connections beyond `limit_concurrency`, to be answered 503 once they ask. What is more is closed
#: at once: who opens connections and says nothing would take all the files that a process has.
REFUSED = 300


class Prompt(H11Protocol):
    """Closes a connection whose next request has not begun in time; uvicorn would hold it."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        if len(self.connections) > (self.limit_concurrency or 0) + REFUSED:
            transport.abort()
            return
        self._expect()

    def on_response_complete(self) -> None:
        """Begin to wait for the next one."""
        super().on_response_complete()
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        if self._late is not None:
            self._late.cancel()
        super().connection_lost(exc)

    def _expect(self) -> None:
        if self._late is not None:
            self._late.cancel()
        self._late = self.loop.call_later(HEAD_S, self._give_up)

    def _give_up(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()
