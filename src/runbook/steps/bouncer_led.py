"""Which hosts' connection strings lead to a PgBouncer now, whether they have sessions or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runbook.model.database_url import CannotLead, Endpoint, endpoint_of
from runbook.model.effects import Drive, Observe, Together, ask
from runbook.model.inventory import Service
from runbook.model.setting_text import CannotSet
from runbook.model.systemd import Unfit
from runbook.steps.bouncer_subject import Bouncer
from runbook.steps.rolling_files import environment_look, environment_of, file_look, seen_file
from runbook.steps.rolling_wanted import Wanted, url_alone


@dataclass(frozen=True, kw_only=True, slots=True)
class LedHere:
    """What the looks at `settings.url` came to."""

    #: Service -> its hosts whose string leads to it.
    hosts: Mapping[str, tuple[str, ...]]
    #: `shop on web-1` -> why that could not be seen.
    unseen: Mapping[str, str]


def led_here(
    bouncer: Bouncer, services: Mapping[str, Service], port: int | None = None
) -> Drive[LedHere]:
    """Look where each host of these services is led; one without `settings.url` is left out.

    `port` is another one than the inventory says: one at which it listened until now.
    """
    fleet = bouncer.fleet
    wanted = [
        url_alone(name, service, fleet.host(host))
        for name, service in services.items()
        if service.settings.url is not None
        for host in fleet.whole(service.hosts)
    ]
    looks = [tuple(_looks(each)) for each in wanted]
    effects = tuple(look for both in looks for look in both)
    if not effects:
        return LedHere(hosts={}, unseen={})
    outcomes = iter((yield from ask(Together(effects=effects))))
    hosts: dict[str, tuple[str, ...]] = {}
    unseen: dict[str, str] = {}
    for each, both in zip(wanted, looks, strict=True):
        found = _url(each, [next(outcomes) for _ in both])
        if isinstance(found, Unfit):
            unseen[f"{each.service} on {each.host.name}"] = found.problem
        elif found is not None and _leads(found, bouncer, port):
            hosts[each.service] = (*hosts.get(each.service, ()), each.host.name)
    return LedHere(hosts=hosts, unseen=unseen)


def _looks(wanted: Wanted) -> Iterator[Observe[Any]]:
    yield file_look(wanted, wanted.places[0].path)
    if wanted.drop_in:
        yield environment_look(wanted)


def _url(wanted: Wanted, outcomes: list[Any]) -> str | Unfit | None:
    place = wanted.places[0]
    seen = seen_file(outcomes[0], place.path, sudo=wanted.sudo)
    if isinstance(seen, Unfit):
        return seen
    told = environment_of(outcomes[1]) if wanted.drop_in else {}
    if isinstance(told, Unfit):
        return told
    try:
        return place.items[0].read(seen.content if seen.kind == "file" else None, told)
    except CannotSet:
        return None  # it has no such setting, so that it leads nowhere


def _leads(url: str, bouncer: Bouncer, other_port: int | None) -> bool:
    """Whether a string leads to it, by any of its names; of several hosts one is enough."""
    address, port = bouncer.clients
    port = other_port or port
    entry, host = bouncer.entry, bouncer.host
    names = {address, entry.address, host.address, host.name} - {None}
    try:
        now = endpoint_of(url)
    except CannotLead:
        return str(port) in url and any(str(name) in url for name in names)
    return any(now.same_as(Endpoint(host=str(name), port=port)) for name in names)
