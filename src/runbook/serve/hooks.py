"""`POST /hooks/NAME`: the one address that anybody outside may send something to."""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from runbook.model.alert import Received, Rejected
from runbook.serve.body import Bodies
from runbook.serve.log import Log, where
from runbook.serve.metrics import Metrics
from runbook.serve.reception import Outcome, Reception, headers_of

#: Requests that are judged and kept at the same time; they share commits, so that many are no
#: slower than one.
_AT_ONCE = 64
#: Seconds after which a caller that was answered 503 may come again.
_RETRY_AFTER_S = 30
_UNREAD = frozenset({408, 413, 415, 503})


class Hooks:
    """The endpoint; belongs to one event loop."""

    def __init__(
        self, reception: Reception, *, log: Log, metrics: Metrics, accepted: Callable[[], None]
    ) -> None:
        self._reception = reception
        self._log = log
        self._metrics = metrics
        self._accepted = accepted
        self._bodies = Bodies()
        self._threads = anyio.CapacityLimiter(_AT_ONCE)

    async def post(self, request: Request) -> Response:
        """Answer one request; what it says is in no answer."""
        began = time.perf_counter()
        name = request.path_params["name"]
        hook = self._reception.hooks.get(name)
        if hook is None:
            self._metrics.requests.labels("unknown", "404").inc()
            return Response(status_code=404, headers=_CLOSE)
        outcome = await self._outcome(name, request)
        seconds = time.perf_counter() - began
        self._tell(name, outcome, seconds)
        if outcome.new:
            self._accepted()
        return _response(outcome, people=hook.source == "slack")

    async def _outcome(self, name: str, request: Request) -> Outcome:
        headers = headers_of(request.headers.raw)
        hook = self._reception.hooks[name]
        try:
            self._reception.check_type(hook, headers)
            body = await self._bodies.read(request)
        except Rejected as error:
            return Outcome(status=error.status, why=error.why)
        received = Received(hook=name, headers=headers, body=body, at=self._reception.now())
        try:
            return await anyio.to_thread.run_sync(
                self._reception.take, received, limiter=self._threads
            )
        except Exception as error:  # noqa: BLE001 - a defect of ours: the caller comes again
            return Outcome(status=503, why=f"defect: {where(error)}")

    def _tell(self, name: str, outcome: Outcome, seconds: float) -> None:
        metrics = self._metrics
        metrics.requests.labels(name, str(outcome.status)).inc()
        metrics.seconds.labels(name).observe(seconds)
        metrics.accepted.labels(name).inc(outcome.new)
        metrics.duplicates.labels(name).inc(outcome.duplicates)
        self._log.say(
            "request",
            hook=name,
            status=outcome.status,
            ms=round(seconds * 1000, 1),
            new=outcome.new or None,
            duplicates=outcome.duplicates or None,
            why=outcome.why or None,
        )


#: What was not read is not waited for either.
_CLOSE = {"connection": "close"}


def _response(outcome: Outcome, *, people: bool) -> Response:
    headers = dict(_CLOSE) if outcome.status in _UNREAD else {}
    if outcome.status == 503:  # come again
        headers["retry-after"] = str(_RETRY_AFTER_S)
    if people and outcome.text:
        # Slack shows a body of status 200 to the person who typed, and calls others a failure.
        said = {"response_type": "ephemeral", "text": outcome.text}
        return JSONResponse(said, headers=headers)
    return Response(status_code=outcome.status, headers=headers)
