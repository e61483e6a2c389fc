"""The web application of `serve`: hooks, health, figures, and the pages for browsers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio.to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from runbook.model.source import Source
from runbook.serve.context import Context
from runbook.serve.guard import Guard
from runbook.serve.hook_secrets import HookSecrets
from runbook.serve.hooks import Hooks
from runbook.serve.log import Log
from runbook.serve.metrics import Metrics
from runbook.serve.reception import Reception, TakeAnswer

#: Says how we are: (all is well, what to show).
Health = Callable[[], tuple[bool, Mapping[str, Any]]]


def create_app(
    context: Context,
    *,
    sources: Mapping[str, Source],
    log: Log,
    metrics: Metrics,
    health: Health,
    accepted: Callable[[], None] = lambda: None,
    take_answer: TakeAnswer | None = None,
    pages: Sequence[BaseRoute] = (),
) -> Starlette:
    """Return the application; `sources` read requests, `pages` are for people.

    `accepted` is called when there is something new in the inbox.
    """
    reception = Reception(context, sources, HookSecrets(context.secret), take_answer)
    hooks = Hooks(reception, log=log, metrics=metrics, accepted=accepted)

    async def healthz(_request: Request) -> Response:
        well, shown = await anyio.to_thread.run_sync(health)
        return JSONResponse(dict(shown), status_code=200 if well else 503)

    async def figures(_request: Request) -> Response:
        text = await anyio.to_thread.run_sync(metrics.text)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def defect(_request: Request, _error: Exception) -> Response:
        return Response(status_code=503)  # and the server's log has its place

    app = Starlette(
        routes=[
            Route("/hooks/{name}", hooks.post, methods=["POST"]),
            Route("/healthz", healthz),
            Route("/metrics", figures),
            *pages,
        ],
        middleware=[Middleware(Guard, listen=context.config.listen)],
        exception_handlers={Exception: defect},
    )
    # A hook's address is one; and a redirect would repeat the request's own words.
    app.router.redirect_slashes = False
    return app
