"""The most that was ever seen: a look's peaks with those of earlier looks laid over them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from runbook.model.diagnosis import Diagnosis
from runbook.model.pool_facts import HostUse, OtherUse, PoolFacts, ServiceUse


@dataclass(kw_only=True)
class _Peaks:
    """The largest counts of earlier looks."""

    since: str
    server: int = 0
    services: Counter[str] = field(default_factory=Counter)
    busy: Counter[str] = field(default_factory=Counter)
    hosts: Counter[tuple[str, str]] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)


def with_earlier(facts: PoolFacts, earlier: Iterable[PoolFacts | Diagnosis]) -> PoolFacts:
    """Return facts whose peaks take in earlier looks at the same server.

    Only what there still is gets a peak: a service or a host that is gone holds nothing. Of a
    service that a PgBouncer stands before by now, what it held without one says nothing.
    """
    peaks = _Peaks(since=facts.at)
    for look in earlier:
        if isinstance(look, Diagnosis):
            _take_diagnosis(peaks, look)
        else:
            _take_facts(peaks, look)
    if peaks.since >= facts.at:
        return facts
    server = facts.server.model_copy(
        update={"peak": max(facts.server.peak, peaks.server)},
    )
    behind = facts.behind_bouncer
    return facts.model_copy(
        update={
            "peak_since": peaks.since,
            "server": server,
            "services": tuple(
                use if use.service in behind else _service(use, peaks) for use in facts.services
            ),
            "others": tuple(_other(use, peaks) for use in facts.others),
        }
    )


def _service(use: ServiceUse, peaks: _Peaks) -> ServiceUse:
    busy = use.busy_peak
    return use.model_copy(
        update={
            "peak": max(use.peak, peaks.services[use.service]),
            "busy_peak": busy if busy is None else max(busy, peaks.busy[use.service]),
            "hosts": tuple(_host(use.service, host, peaks) for host in use.hosts),
        }
    )


def _host(service: str, use: HostUse, peaks: _Peaks) -> HostUse:
    return use.model_copy(update={"peak": max(use.peak, peaks.hosts[service, use.host])})


def _other(use: OtherUse, peaks: _Peaks) -> OtherUse:
    return use.model_copy(update={"peak": max(use.peak, peaks.others[use.label])})


def _take_facts(peaks: _Peaks, look: PoolFacts) -> None:
    peaks.since = min(peaks.since, look.at)
    peaks.server = max(peaks.server, look.server.peak)
    for use in look.services:
        peaks.services[use.service] = max(peaks.services[use.service], use.peak)
        peaks.busy[use.service] = max(peaks.busy[use.service], use.busy_peak or 0)
        for host in use.hosts:
            key = (use.service, host.host)
            peaks.hosts[key] = max(peaks.hosts[key], host.peak)
    for other in look.others:
        peaks.others[other.label] = max(peaks.others[other.label], other.peak)


def _take_diagnosis(peaks: _Peaks, look: Diagnosis) -> None:
    """Take in one moment's sessions; what came through a PgBouncer is not the service's own."""
    peaks.since = min(peaks.since, look.server.server_time)
    peaks.server = max(peaks.server, look.slots.used + look.slots.superuser_sessions)
    services: Counter[str] = Counter()
    busy: Counter[str] = Counter()
    hosts: Counter[tuple[str, str]] = Counter()
    for pool in look.pools:
        busy[pool.service] += pool.active + pool.idle_in_transaction
        if pool.pgbouncer is None:
            services[pool.service] += pool.sessions
            hosts[pool.service, pool.host] += pool.sessions
    peaks.services |= services
    peaks.busy |= busy
    peaks.hosts |= hosts
