"""The lab's app: a Flask shop on SQLAlchemy's real QueuePool that can be told to misbehave.

Each of gunicorn's two workers has its own pool. Whatever takes sessions (``n``) takes them in
the worker that happens to answer, and has taken them when it answers: the reply's ``taken``
says how many. Through the pool (``via=pool``) that may be fewer than asked for, never more
than the pool has left; ``via=detached`` goes past the pool, so ``taken`` is ``n``. Callers who
want an exact number on a host ask again for the rest: ``Lab.ask`` does.
"""
# The app runs on Debian's Python in the image; the checkout's venv has neither library.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Flask, jsonify, request
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool

if TYPE_CHECKING:
    from collections.abc import Callable

RUN_DIR = Path("/run/shop")  # emptied by systemd whenever the unit stops
BROKEN_UNTIL_RESTART = RUN_DIR / "broken"
BROKEN_FOR_GOOD = Path("/etc/shop/broken")
RELEASED = RUN_DIR / "released"
TOUCHED = RUN_DIR / "touched"
POOL_SIZE = int(os.environ.get("POOL_SIZE", "5"))
MAX_OVERFLOW = int(os.environ.get("MAX_OVERFLOW", "0"))
FOREVER = 10**9

# Nothing connects before the workers are forked, so each fills a pool of its own.
engine = create_engine(
    os.environ["DATABASE_URL"],
    future=True,
    poolclass=QueuePool,
    pool_size=POOL_SIZE,
    max_overflow=MAX_OVERFLOW,
    pool_timeout=float(os.environ.get("POOL_TIMEOUT", "2")),
    connect_args={
        "application_name": os.environ.get("APPLICATION_NAME", "shop"),
        "connect_timeout": 3,
    },
)
app = Flask(__name__)
leaked: list[Any] = []  # what nobody will ever return


def argument(name: str, default: float) -> float:
    """One numeric argument of the request's query string."""
    return float(request.args.get(name, default))


def take(n: int, via: str) -> list[Any]:
    """Up to `n` connections: out of the pool without waiting for it, or past the pool."""
    taken = []
    for _ in range(n):
        full = engine.pool.checkedout() >= POOL_SIZE + MAX_OVERFLOW
        if via == "pool" and full:
            break
        connection = engine.connect()
        if via == "detached":
            connection.detach()
        taken.append(connection)
    return taken


def reply(taken: list[Any], status: int = 200, **more: object) -> Any:
    """How many sessions were taken, and by which worker."""
    return jsonify(taken=len(taken), pid=os.getpid(), **more), status


def released_after(since: float) -> bool:
    """Whether /release was called in any worker after `since`."""
    return RELEASED.exists() and RELEASED.stat().st_mtime > since


def pause(seconds: float, since: float) -> None:
    """Sleep until `seconds` have passed since `since`, or /release was called."""
    while time.time() < since + seconds and not released_after(since):
        time.sleep(0.1)


def in_threads(taken: list[Any], work: Callable[[Any], None]) -> Any:
    """Answer at once, and let each connection do its work in a thread of its own."""

    def run(connection: Any) -> None:
        try:
            with connection:
                work(connection)
        except SQLAlchemyError as error:  # terminated from outside: that is what the lab is for
            app.logger.warning("work ended: %s", error)

    for connection in taken:
        threading.Thread(target=run, args=(connection,), daemon=True).start()
    return reply(taken)


def drop_leaks_on_release() -> None:
    """Close this worker's leaked sessions once /release was called in any worker."""
    since = time.time()
    pause(FOREVER, since)
    while leaked:
        leaked.pop().close()


def leave_a_mark() -> None:
    """Tell the lab's reset that this process is no longer as it was when it started."""
    if request.path != "/healthz":
        TOUCHED.touch()


def healthz() -> Any:
    """The process is up; says nothing of the database."""
    broken = BROKEN_UNTIL_RESTART.exists() or BROKEN_FOR_GOOD.exists()
    return jsonify(ok=not broken, pid=os.getpid()), 500 if broken else 200


def ready() -> Any:
    """The pool can serve a connection and the database answers."""
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except SQLAlchemyError as error:
        return jsonify(ok=False, error=str(error)), 503
    return jsonify(ok=True)


def warm() -> Any:
    """Take n connections and return them: a healthy, full pool of idle sessions."""
    taken = take(int(argument("n", POOL_SIZE)), "pool")
    for connection in taken:
        connection.execute(text("SELECT count(*) FROM items"))
    for connection in taken:
        connection.close()
    return reply(taken)


def leak() -> Any:
    """Never return n connections: how=detached (past the pool), in_transaction or committed."""
    how = request.args.get("how", "detached")
    taken = take(int(argument("n", 1)), "detached" if how == "detached" else "pool")
    for connection in taken:
        connection.execute(text("SELECT name FROM items WHERE id = 7"))
        if how != "in_transaction":
            connection.commit()
    if taken and not leaked:
        threading.Thread(target=drop_leaks_on_release, daemon=True).start()
    leaked.extend(taken)
    return reply(taken, how=how)


def hold() -> Any:
    """Hold the lock of one row (id) in an idle transaction for some seconds."""
    seconds, row, since = argument("seconds", FOREVER), int(argument("id", 1)), time.time()
    taken = take(1, request.args.get("via", "pool"))
    for connection in taken:  # before the answer, so that whoever comes next has to wait
        connection.execute(text("SELECT * FROM items WHERE id = :id FOR UPDATE"), {"id": row})
    return in_threads(taken, lambda _: pause(seconds, since))


def lock() -> Any:
    """Let n sessions wait for the lock of one row (id)."""
    row = int(argument("id", 1))

    def work(connection: Any) -> None:
        statement = text("UPDATE items SET stock = stock - 1 WHERE id = :id")
        connection.execute(statement, {"id": row})
        connection.commit()

    return in_threads(take(int(argument("n", 1)), request.args.get("via", "pool")), work)


def slow() -> Any:
    """Run n queries that take so many seconds each."""
    seconds = argument("seconds", 60)

    def work(connection: Any) -> None:
        statement = text("SELECT count(*), pg_sleep(:s) FROM (SELECT 1 FROM items LIMIT 1) AS i")
        connection.execute(statement, {"s": seconds})

    return in_threads(take(int(argument("n", 1)), request.args.get("via", "pool")), work)


def surge() -> Any:
    """Keep n sessions busy with short queries, one after the other, for some seconds."""
    seconds, since = argument("seconds", 30), time.time()

    def work(connection: Any) -> None:
        while time.time() < since + seconds and not released_after(since):
            connection.execute(text("SELECT pg_sleep(0.05), sum(stock) FROM items"))
            connection.commit()

    return in_threads(take(int(argument("n", 1)), request.args.get("via", "pool")), work)


def broken() -> Any:
    """Make /healthz of every worker answer 500 until the unit is restarted (or on=0)."""
    if argument("on", 1):
        BROKEN_UNTIL_RESTART.touch()
    else:
        BROKEN_UNTIL_RESTART.unlink(missing_ok=True)
    return jsonify(broken=BROKEN_UNTIL_RESTART.exists())


def release() -> Any:
    """End all leaks and all work, in every worker, within a fifth of a second."""
    RELEASED.touch()
    return jsonify(released=True)


def pool() -> Any:
    """What this worker's pool says of itself."""
    return jsonify(pid=os.getpid(), status=engine.pool.status(), leaked=len(leaked))


app.before_request(leave_a_mark)
for view in (healthz, ready, pool):
    app.add_url_rule(f"/{view.__name__}", view_func=view, methods=["GET"])
for view in (warm, leak, hold, lock, slow, surge, broken, release):
    app.add_url_rule(f"/{view.__name__}", view_func=view, methods=["POST"])
