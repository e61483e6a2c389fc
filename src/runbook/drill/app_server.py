"""An app server of the shop: a local process with a real connection pool, and a bug in its reports.

    python -m runbook.drill.app_server --dir STATE --name app-3 --port 20003 --db-port 20000 --leak

GET /healthz    the process answers; costs nothing
GET /ready      the database answers, through the pool
GET /order      an order, through the pool: the traffic
GET /report     a report, on a connection of its own; with --leak it forgets to close it
GET /leaked     the server processes (pids) behind the forgotten connections: the drill's own
                knowledge, by which it judges what was terminated
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from runbook.drill.cluster import APP_ROLE, DATABASE, HOST
from runbook.drill.processes import write_pid_file
from runbook.drill.state import Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

POOL_MIN = 2
POOL_MAX = 4

_ORDER_SQL = "SELECT id, customer, cents, pg_sleep(0.01)::text FROM orders WHERE id = %s"
_REPORT_SQL = "SELECT customer, sum(cents) FROM orders GROUP BY customer ORDER BY 2 DESC"


@dataclass(kw_only=True)
class Shop:
    """The app: its pool, and the connections that its reports have forgotten."""

    pool: ConnectionPool[psycopg.Connection[Any]]
    conninfo: dict[str, Any]
    leaks: bool
    forgotten: list[psycopg.Connection[Any]] = field(default_factory=list)

    def ready(self) -> str:
        with self.pool.connection(timeout=1.0) as connection:
            connection.execute("SELECT 1")
        return "ready"

    def order(self) -> str:
        with self.pool.connection() as connection:
            row = connection.execute(_ORDER_SQL, [random.randint(1, 500)]).fetchone()  # noqa: S311
        return json.dumps(row)

    def report(self) -> str:
        connection = psycopg.connect(**self.conninfo)
        rows = connection.execute(_REPORT_SQL).fetchall()
        connection.commit()
        if self.leaks:
            # The bug: something still refers to it, so that nobody ever closes it.
            self.forgotten.append(connection)
        else:
            connection.close()
        return json.dumps(rows[:3], default=str)

    def routes(self) -> dict[str, Callable[[], str]]:
        return {
            "/healthz": healthy,
            "/ready": self.ready,
            "/order": self.order,
            "/report": self.report,
            "/leaked": self.leaked,
        }

    def leaked(self) -> str:
        return json.dumps([connection.info.backend_pid for connection in list(self.forgotten)])


def healthy() -> str:
    """Answer: that is all there is to it."""
    return "ok"


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    #: Seconds for a client to say something.
    timeout = 2.0
    routes: ClassVar[dict[str, Callable[[], str]]] = {}

    def do_GET(self) -> None:
        action = self.routes.get(self.path)
        if action is None:
            self._answer(404, "no such page")
            return
        try:
            self._answer(200, action())
        except (psycopg.Error, PoolTimeout) as error:
            self._answer(503, f"the database does not answer: {error}")

    def _answer(self, status: int, text: str) -> None:
        body = f"{text}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Keep quiet: the traffic would fill the disk of a drill that is left running."""


class Server(ThreadingHTTPServer):
    """Finishes the requests in flight when it is closed."""

    daemon_threads = False
    block_on_close = True
    request_queue_size = 64


def serve(args: argparse.Namespace) -> None:
    """Serve until SIGTERM, or until the drill's state directory is gone."""
    layout = Layout(root=args.dir)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    with Server((HOST, args.port), Handler) as server:
        shop = _open_shop(args, layout)
        Handler.routes = shop.routes()
        write_pid_file(layout.pid_file(args.name))
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        # An orphan of a drill that was removed under it must not run for ever.
        while layout.marker.exists() and not stopping.wait(0.5):
            pass
        server.shutdown()
    shop.pool.close(timeout=1.0)


def _open_shop(args: argparse.Namespace, layout: Layout) -> Shop:
    conninfo = {
        "host": HOST,
        "port": args.db_port,
        "dbname": DATABASE,
        "user": APP_ROLE,
        "password": layout.secret(APP_ROLE).read_text(encoding="utf-8"),
        "application_name": f"shop-{args.name}",
        "connect_timeout": 2,
        "sslmode": "disable",
        "gssencmode": "disable",
    }
    pool: ConnectionPool[psycopg.Connection[Any]] = ConnectionPool(
        kwargs=conninfo,
        min_size=POOL_MIN,
        max_size=POOL_MAX,
        name=args.name,
        timeout=2.0,
        # A drill that is left running for hours must stay as it is.
        max_idle=86_400.0,
        max_lifetime=86_400.0,
        # Short, lest the growing pauses between attempts outlast the incident.
        reconnect_timeout=5.0,
        open=True,
    )
    return Shop(pool=pool, conninfo=conninfo, leaks=args.leak)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="app_server", description="an app server of the drill")
    parser.add_argument("--dir", type=Path, required=True, help="the drill's state directory")
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--db-port", type=int, required=True)
    parser.add_argument("--leak", action="store_true", help="reports forget their connections")
    serve(parser.parse_args(argv))


if __name__ == "__main__":
    main()
