"""Customers of the shop, and the load balancer before it: a little steady traffic, counted.

    python -m runbook.drill.traffic --dir STATE

A request goes to the next server; one that cannot be reached passes it on to the one after, as a
load balancer does with a request that is safe to repeat. A request has failed when no server
answered it well.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from runbook.drill.cluster import HOST
from runbook.drill.processes import write_atomically, write_pid_file
from runbook.drill.state import Layout, load

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NAME = "traffic"
_CUSTOMERS = 4
_PAUSE_S = 0.2
_TIMEOUT_S = 5.0


def get(port: int, path: str, *, timeout: float = _TIMEOUT_S) -> tuple[int, str]:
    """Fetch one page of one app server; (0, reason) when it cannot be reached."""
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error)
    finally:
        connection.close()


class Balancer:
    """Spreads requests over the servers, and counts what became of them."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._count = len(ports)
        self._next: Iterator[int] = itertools.cycle(ports)
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter(sent=0, failed=0, moved=0)

    def request(self) -> None:
        """Send one request, to another server when the first cannot be reached."""
        status, moved = 0, 0
        for attempt in range(self._count):
            status, _ = get(self._pick(), "/order")
            if status:
                break
            moved = attempt + 1
        with self._lock:
            self.counts.update(sent=1, failed=int(status != 200), moved=moved)

    def _pick(self) -> int:
        with self._lock:
            return next(self._next)

    def snapshot(self) -> dict[str, int]:
        """Return the counts of one moment."""
        with self._lock:
            return dict(self.counts)


def _shop_around(balancer: Balancer, stopping: threading.Event) -> None:
    while not stopping.wait(_PAUSE_S):
        balancer.request()


def run(root: Path) -> None:
    """Send traffic until SIGTERM, or until the drill's state directory is gone."""
    layout = Layout(root=root)
    drill = load(root)
    if drill is None:
        return
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    balancer = Balancer([app.port for app in drill.apps])
    for _ in range(_CUSTOMERS):
        threading.Thread(target=_shop_around, args=(balancer, stopping), daemon=True).start()
    write_pid_file(layout.pid_file(NAME))
    while layout.marker.exists() and not stopping.wait(0.2):
        _publish(layout, balancer)


def _publish(layout: Layout, balancer: Balancer) -> None:
    try:
        write_atomically(layout.traffic_counts, json.dumps(balancer.snapshot()))
    except FileNotFoundError:
        return  # the drill is being removed


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="traffic", description="the drill's traffic")
    parser.add_argument("--dir", type=Path, required=True, help="the drill's state directory")
    run(parser.parse_args(argv).dir)


if __name__ == "__main__":
    main()
