"""An application on Django with persistent connections (CONN_MAX_AGE=None), one for each thread."""

from __future__ import annotations

import os
import threading
from typing import Any

import django
from django.conf import settings
from django.db import close_old_connections, connection

from scenarios.clients.telling import config, stay, tell


def main() -> None:
    """Serve from `kept` threads; `lost` threads have done one job and stay parked for ever."""
    given = config()
    settings.configure(DATABASES={"default": _database()}, USE_TZ=True)
    django.setup()
    lost = _threads(given.get("lost", 0))
    kept = _threads(given.get("kept", 0))
    tell(lost=lost, kept=kept)
    stay()


def _database() -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ["PGHOST"],
        "PORT": os.environ["PGPORT"],
        "NAME": os.environ["PGDATABASE"],
        "USER": os.environ["PGUSER"],
        "CONN_MAX_AGE": None,
        "OPTIONS": {"application_name": os.environ["PGAPPNAME"]},
    }


def _threads(count: int) -> list[int]:
    """Let `count` threads each do one request's work, and wait for more that never comes."""
    pids: list[int] = []
    done = threading.Barrier(count + 1)

    def request() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT name, left_over FROM stock WHERE id = %s", [4])
            cursor.fetchall()
        pids.append(connection.connection.info.backend_pid)
        close_old_connections()  # what Django does when a request ends
        done.wait()
        threading.Event().wait()

    for _ in range(count):
        threading.Thread(target=request, daemon=True).start()
    done.wait(60)
    return pids


if __name__ == "__main__":
    main()
