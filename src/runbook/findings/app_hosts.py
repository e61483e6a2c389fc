"""The app hosts as witnesses: which of the server's connections they still hold, and who there."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runbook.findings import orphans
from runbook.findings.sockets import client_end
from runbook.findings.view import TIGHT
from runbook.findings.witness import Told, Witness
from runbook.model.effects import ReadCommand
from runbook.model.errors import DoorError
from runbook.model.sessions import LaterLook
from runbook.model.sockets import (
    ARGV,
    KEPT_BYTES,
    MOST_PORTS,
    parse_sockets,
    sockets_script,
    unanswered,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runbook.findings.view import View
    from runbook.model.effects import Observe
    from runbook.model.sessions import Snapshot
    from runbook.model.sockets import HostSockets

#: Hosts that are asked: twenty are asked at once, so this is two rounds of some 0.3 s each.
MOST_HOSTS = 40
#: Seconds that one host may take: `ss` with processes walks all of /proc, 50,000 sockets in 1 s.
TIMEOUT_S = 3.0


def looks(view: View) -> tuple[Observe[Any], ...]:
    """Ask the hosts of the services that use this server, once slots are tight or a pool is over.

    Else nobody needs to know, and a healthy fleet is left in peace.
    """
    over = any(h.budget is not None and len(h.sessions) > h.budget for h in view.holders)
    if view.slots.percent < TIGHT and not over:
        return ()
    return whoever_holds(view)


def whoever_holds(view: View) -> tuple[ReadCommand, ...]:
    """Return the looks at the hosts that hold sessions, tight or not."""
    return _ask(view, hosts_of(view)[:MOST_HOSTS])


def hosts_of(view: View) -> tuple[str, ...]:
    """Return the hosts to ask: those with most sessions first.

    Those without any are asked as well when there are sessions that nobody owns: they may be theirs
    under another address.
    """
    held = [seat.host.name for holder in view.holders for seat in holder.seats]
    unowned = any(not holder.seats for holder in view.holders)
    return tuple(dict.fromkeys([*held, *(s.host.name for s in view.seats if unowned)]))


def again(view: View) -> tuple[Observe[Any], ...]:
    """Ask once more those hosts that had no socket for a silent session."""
    return _ask(view, dict.fromkeys(candidate.host for candidate in orphans.candidates(view)))


def _ask(view: View, hosts: Iterable[str]) -> tuple[ReadCommand, ...]:
    clients = {end[1] for session in view.clients if (end := client_end(session))}
    if len(clients) > MOST_PORTS:
        return ()
    server, ports = orphans.server_address(view), orphans.server_ports(view)
    return tuple(
        ReadCommand(
            host=host,
            argv=ARGV,
            stdin=sockets_script(host, server, clients, ports, local=view.fleet.host(host).local),
            timeout_s=TIMEOUT_S,
            keep_bytes=KEPT_BYTES,
        )
        for host in hosts
    )


def take(snapshot: Snapshot, told: tuple[Told, ...]) -> Snapshot:
    """Add what the hosts told; one that did not answer tells why."""
    return replace(snapshot, hosts=tuple(map(_sockets, told)))


def take_again(snapshot: Snapshot, told: tuple[Told, ...]) -> Snapshot:
    """Add what the hosts told the second time."""
    later = snapshot.later or LaterLook(after_s=0.0, error="the server was not asked again")
    return replace(snapshot, later=replace(later, hosts=tuple(map(_sockets, told))))


def _sockets(told: Told) -> HostSockets:
    if isinstance(told.outcome, DoorError):
        host: str = told.look.host  # type: ignore[attr-defined]  # a ReadCommand
        return unanswered(host, _why(told.outcome, host))
    return parse_sockets(told.outcome.stdout)


def _why(error: DoorError, host: str) -> str:
    """Return why a host did not answer, without its name: hosts are listed before their reason."""
    return re.sub(rf"^{re.escape(host)}( \([^)]*\))?: ", "", error.message)


def unseen(view: View) -> tuple[str, ...]:
    """Return what the app hosts did not tell, each with what would mend it."""
    silent: dict[str, list[str]] = defaultdict(list)
    for host in view.snapshot.hosts:
        if host.error:
            silent[f"who holds their connections was not told: {host.error}"].append(host.host)
        elif host.forwards:
            silent[f"a missing socket proves nothing there: {host.forwards}"].append(host.host)
        if host.sudoers:
            silent[f"which process holds a connection is not shown; {_rule(host)}"].append(
                host.host
            )
    left_out = hosts_of(view)[MOST_HOSTS:] if view.snapshot.hosts else ()
    if left_out:
        silent[f"not asked for their connections: {MOST_HOSTS} hosts at most are"] = list(left_out)
    return tuple(f"{_listed(hosts)}: {what}" for what, hosts in silent.items())


def _rule(host: HostSockets) -> str:
    return f"a line for its sudoers: {host.sudoers}"


def _listed(hosts: list[str]) -> str:
    more = f" and {len(hosts) - 3} more" if len(hosts) > 3 else ""
    return ", ".join(hosts[:3]) + more


WITNESS = Witness(name="app-hosts", looks=looks, take=take, by_ssh=True)
AGAIN = Witness(name="app-hosts-again", looks=again, take=take_again, stage="later", by_ssh=True)
