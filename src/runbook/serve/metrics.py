"""Figures for Prometheus, in a registry of our own: what came in, what it led to, what waits."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

#: Seconds; around the 50 ms that an acceptance may take, and the 5 s that a caller waits.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """Labels are names of the configuration, never of a request: their number is bounded."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter(
            "runbook_hook_requests", "Requests to hooks, by what they were answered", "hook status"
        )
        self.accepted = self._counter("runbook_events_accepted", "New events on disk", "hook")
        self.duplicates = self._counter(
            "runbook_events_duplicate", "Events that came again, and were taken once", "hook"
        )
        self.settled = self._counter(
            "runbook_events_settled", "Events by what became of them", "state"
        )
        self.begun = self._counter("runbook_runs_begun", "Runs that rules have begun", "rule")
        self.seconds = Histogram(
            "runbook_hook_seconds",
            "Seconds from a request's first byte to its answer",
            ["hook"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.left = Gauge(
            "runbook_runs_left",
            "Runs whose process died after a change was intended: a person resumes them",
            registry=self.registry,
        )

    def watch(self, name: str, help_: str, read: Callable[[], float]) -> None:
        """Have a figure read whenever somebody asks; nan when it cannot be."""

        def safely() -> float:
            from runbook.model.errors import RunbookError

            try:
                return float(read())
            except RunbookError:
                return float("nan")

        Gauge(name, help_, registry=self.registry).set_function(safely)

    def text(self) -> bytes:
        """Return all figures in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, help_: str, labels: str) -> Counter:
        return Counter(name, help_, labels.split(), registry=self.registry)
