"""Reads a request's body: raw, bounded in size, in time, and over all requests together."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

from runbook.model.alert import Rejected

#: Bytes. PagerDuty sends 55 KB at most, and drops beyond 256 KB itself.
LARGEST = 256 * 1024
#: Seconds. Who sends slower than this is no sender of alerts.
DEADLINE_S = 5.0
#: Bytes of all bodies that are being read: nobody fills the memory by calling often.
_TOGETHER = 64 * 1024 * 1024


class Bodies:
    """Knows how much is being held at this moment; belongs to one event loop."""

    def __init__(
        self,
        *,
        largest: int = LARGEST,
        deadline_s: float = DEADLINE_S,
        together: int = _TOGETHER,
    ) -> None:
        self._largest = largest
        self._deadline_s = deadline_s
        self._together = together
        self._held = 0

    async def read(self, request: Request) -> bytes:
        """Return the whole body.

        Raises:
            Rejected: with 413 as soon as it is known to be too large, 408 when it takes too long,
                503 when too much is being read already, 400 when the caller has gone.
        """
        told = request.headers.get("content-length", "")
        if told.isdecimal() and (len(told) > 9 or int(told) > self._largest):
            raise Rejected(413, f"a body of {told[:20]} bytes")
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._gather(request)
        except TimeoutError:
            raise Rejected(408, f"its body took more than {self._deadline_s:g} s") from None
        except ClientDisconnect:
            raise Rejected(400, "the caller has gone") from None

    async def _gather(self, request: Request) -> bytes:
        chunks: list[bytes] = []
        size = 0
        try:
            async for chunk in request.stream():
                size += len(chunk)
                self._held += len(chunk)
                if size > self._largest:
                    raise Rejected(413, f"a body of more than {self._largest} bytes")
                if self._held > self._together:
                    raise Rejected(503, "too many bodies are being read")
                chunks.append(chunk)
            return b"".join(chunks)
        finally:
            self._held -= size
