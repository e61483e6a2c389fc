"""The floor of `bench serve`: the same web server, which reads a body and answers 202."""

from __future__ import annotations

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


async def _take(request: Request) -> Response:
    await request.body()
    return Response(status_code=202)


def main() -> None:
    """Serve on the port that is given."""
    app = Starlette(routes=[Route("/hooks/pd", _take, methods=["POST"])])
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        http="h11",
        loop="asyncio",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
