"""All of `serve` together: what it opens, which threads it has, and how it stops."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.routing import BaseRoute

from runbook import __version__, wiring, wiring_serve
from runbook.engine.local_runs import LocalRuns
from runbook.model.errors import RunbookError
from runbook.model.intake import Entry, IncidentReader
from runbook.model.serve_config import Rule, ServeConfig
from runbook.model.source import Source
from runbook.model.times import stamp
from runbook.serve.app import create_app
from runbook.serve.context import Context
from runbook.serve.incidents import Incidents
from runbook.serve.intake import Intake
from runbook.serve.log import Log
from runbook.serve.loops import Loop
from runbook.serve.metrics import Metrics
from runbook.serve.open_runs import OpenRuns
from runbook.serve.reception import TakeAnswer
from runbook.serve.server import Server, bind, url_of
from runbook.serve.supervise import Supervisor

#: Seconds that a thread gets to finish its step when we stop; what it was at is on disk.
_STOP_S = 10.0


class Teller(Protocol):
    """Tells people of runs; see `runbook.telling`."""

    def step(self) -> float:
        """Tell what is due; return the seconds until it wants to be called again."""

    def pending(self) -> int:
        """Return how many things are due still."""

    def keep_no_run(self, entry: Entry, rule: Rule, why: str) -> None:
        """Keep, to be told, that an event led to no run; may be called from another thread."""

    def close(self) -> None:
        """Let go of what is open."""


@dataclass(frozen=True, kw_only=True)
class Doors:
    """What other rooms bring: who reads requests, tells people, shows pages."""

    sources: Mapping[str, Source]
    incidents: IncidentReader | None = None
    teller: Teller | None = None
    take_answer: TakeAnswer | None = None
    pages: Callable[[Context], Sequence[BaseRoute]] = field(default=lambda _context: ())


@contextmanager
def opened(
    config: ServeConfig, source: str, inventory: str | None, doors: Doors
) -> Iterator[tuple[Context, OpenRuns]]:
    """Open what `serve` works with, and close it after.

    Raises:
        DoorError: when journal or inbox cannot be opened.
    """
    inbox = wiring_serve.open_inbox(config)
    journal = wiring.open_journal()
    workers, locks = wiring.worker_processes(), wiring.run_locks()
    context = Context(
        config=config,
        source=source,
        load_fleet=lambda: wiring.load_fleet(inventory),
        inbox=inbox,
        journal=journal,
        runs=LocalRuns(journal, locks, who=wiring.who(), start=workers.start),
        secret=wiring_serve.secret,
        incidents=doors.incidents,
    )

    def at_work(run_id: str) -> bool:
        return workers.at_work(run_id) or locks.alive(run_id)

    try:
        yield context, OpenRuns(journal, at_work, start=workers.start)
    finally:
        inbox.close()
        journal.close()


class Service:
    """The threads and the web server."""

    def __init__(self, context: Context, open_runs: OpenRuns, doors: Doors, log: Log) -> None:
        self._context = context
        self._doors = doors
        self._log = log
        self._since = time.time()
        self.metrics = Metrics()
        self._incidents = Incidents(context.incidents)
        self._intake = Intake(
            context,
            incidents=self._incidents,
            working=open_runs.working,
            began=self._something_began,
            log=log,
            metrics=self.metrics,
            not_begun=self._not_begun,
        )
        self._supervisor = Supervisor(
            open_runs, close=context.runs.close, log=log, metrics=self.metrics
        )
        self._loops = {
            "intake": Loop("intake", self._intake.step, log),
            "supervise": Loop("supervise", self._supervisor.step, log),
        }
        if doors.teller is not None:
            self._loops["tell"] = Loop("tell", doors.teller.step, log)
        self._watch()

    def run(self, listener: socket.socket) -> None:
        """Serve until SIGTERM or SIGINT; queued events stay on disk, runs go on by themselves."""
        app = create_app(
            self._context,
            sources=self._doors.sources,
            log=self._log,
            metrics=self.metrics,
            health=self.health,
            accepted=self._loops["intake"].wake,
            take_answer=self._doors.take_answer,
            pages=self._doors.pages(self._context),
        )
        server = Server(app, self._log, lambda: self._started(listener))
        try:
            server.run_on(listener)
        finally:
            self._stop()

    def health(self) -> tuple[bool, Mapping[str, Any]]:
        """Return whether all is well, and what a person wants to know when it is not."""
        troubled = [n for n, loop in self._loops.items() if loop.trouble or not loop.alive]
        if self._intake.trouble:
            troubled.append("inventory")
        try:
            waiting: int | None = self._context.inbox.waiting()
            # Reading goes on when the disk is full.
            troubled += ["inbox"] if self._context.inbox.trouble() else []
        except RunbookError:
            waiting = None
            troubled.append("inbox")
        return not troubled, {
            "status": "trouble" if troubled else "ok",
            "trouble": troubled,
            "queued": waiting,
            "runs_left": list(self._supervisor.left),
            "version": __version__,
            "since": stamp(self._since),
        }

    def _something_began(self) -> None:
        for name in ("supervise", "tell"):
            if name in self._loops:
                self._loops[name].wake()

    def _not_begun(self, entry: Entry, rule: Rule, why: str) -> None:
        if self._doors.teller is not None:
            self._doors.teller.keep_no_run(entry, rule, why)
            self._loops["tell"].wake()

    def _watch(self) -> None:
        self.metrics.watch("runbook_queue_length", "Events queued", self._context.inbox.waiting)
        if self._doors.teller is not None:
            self.metrics.watch(
                "runbook_deliveries_due", "Things still to be told", self._doors.teller.pending
            )

    def _started(self, listener: socket.socket) -> None:
        for loop in self._loops.values():
            loop.start()
        self._log.say("listening", on=url_of(listener))

    def _stop(self) -> None:
        self._intake.stopping = True
        self._incidents.close()
        hanging = [loop.name for loop in self._loops.values() if not loop.stop(_STOP_S)]
        if hanging:
            self._log.say("not waited for", loops=", ".join(hanging))
        if self._doors.teller is not None and "tell" not in hanging:
            self._doors.teller.close()
        self._log.say("stopped")


def serve(
    config: ServeConfig,
    source: str,
    inventory: str | None,
    join: Callable[[ServeConfig], Doors],
    log: Log,
) -> None:
    """Open everything, listen, and serve until told to stop.

    Raises:
        Locked: when another `serve` has this state directory.
        DoorError: when it cannot begin.
    """
    with wiring_serve.only_serve():
        doors = join(config)
        with opened(config, source, inventory, doors) as (context, open_runs):
            listener = bind(config.listen.address, config.listen.port)
            Service(context, open_runs, doors, log).run(listener)
