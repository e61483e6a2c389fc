"""Health gates: the question that each one asks, and the judge of its answer."""

from __future__ import annotations

import re

from runbook.model.document import visible
from runbook.model.effects import HttpGet, HttpReply
from runbook.model.errors import UsageError
from runbook.model.fleet import Fleet, ResolvedHost
from runbook.model.inventory import HttpGate, Service
from runbook.model.units import format_duration

_URL = re.compile(
    r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:(?P<port>\d{1,5}))?([/?][^\s#]*)?",
    re.ASCII,
)
#: No gate waits less than this for an answer, however near its deadline is.
_SHORTEST_S = 0.2
_SHOWN_BODY = 60


def gate_looks(
    service: Service, host: ResolvedHost, fleet: Fleet, *, at_most_s: float | None = None
) -> tuple[HttpGet, ...]:
    """Return the questions of a service's gates for one host, in order.

    Raises:
        UsageError: when a gate's URL names what the inventory does not have, or is no URL.
    """
    return tuple(
        HttpGet(url=_url(gate, host, fleet), timeout_s=_timeout(gate, at_most_s))
        for gate in _http(service)
    )


def gate_problem(
    service: Service, looks: tuple[HttpGet, ...], replies: tuple[HttpReply, ...]
) -> str | None:
    """Return the first gate that did not answer well, in words; None when all did."""
    for gate, look, reply in zip(_http(service), looks, replies, strict=True):
        problem = _problem(gate, reply)
        if problem is not None:
            return f"{problem} ({look.url})"
    return None


def unaskable(looks: tuple[HttpGet, ...], replies: tuple[HttpReply, ...]) -> str | None:
    """Return the first gate that could not even be asked: no restart of ours would mend that."""
    for look, reply in zip(looks, replies, strict=True):
        if not reply.asked:
            return f"the gate {look.url} cannot be asked: {reply.error}"
    return None


def answer_in_words(reply: HttpReply) -> str:
    """Return `200 in 12 ms`, or why there was no answer."""
    if reply.status == 0:
        return visible(reply.error)
    return f"{reply.status} in {format_duration(reply.seconds)}"


def _http(service: Service) -> tuple[HttpGate, ...]:
    return tuple(gate.http for gate in service.gates if gate.http is not None)


def _problem(gate: HttpGate, reply: HttpReply) -> str | None:
    if reply.status == 0:
        return visible(reply.error)
    if reply.status != gate.status:
        said = visible(" ".join(reply.body.split())[:_SHOWN_BODY])
        return f"answered {reply.status}, not {gate.status}" + (f": {said}" if said else "")
    if gate.contains is not None and gate.contains not in reply.body:
        return f"answered {reply.status}, without {gate.contains!r} in the body"
    return None


def _timeout(gate: HttpGate, at_most_s: float | None) -> float:
    if at_most_s is None:
        return gate.timeout
    return max(_SHORTEST_S, min(gate.timeout, at_most_s))


def _url(gate: HttpGate, host: ResolvedHost, fleet: Fleet) -> str:
    url = fleet.expand(gate.url, host)
    match = _URL.fullmatch(url)
    if match is None or not 0 < int(match["port"] or 80) < 65536:
        raise UsageError(
            f"the gate's URL for {host.name} cannot be used: {visible(url)!r}",
            hint="write it as http://${host.address}:8000/healthz; an IPv6 address stands in []",
        )
    return url
