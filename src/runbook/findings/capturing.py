"""From a snapshot to a capture that may be shared: what judging needs, and nothing beyond it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from runbook.findings.masking import masked
from runbook.findings.seats import same_server
from runbook.model.capture import Capture, to_plain
from runbook.model.inventory import Inventory
from runbook.model.redaction import OUT, SECRET_KEY, redacted
from runbook.model.templates import placeholders

if TYPE_CHECKING:
    from runbook.model.fleet import Fleet, ResolvedHost
    from runbook.model.inventory import Database, PgBouncer, Service
    from runbook.model.sessions import Snapshot

#: Columns that hold statements, of whichever question or console.
_STATEMENTS = frozenset({"query", "last_query", "statement", "sql"})
#: Where somebody keeps their keys.
_KEY_FILE = re.compile(r"\S*/\.ssh/\S+")


def capture(snapshot: Snapshot, fleet: Fleet, *, saved_at: str, version: str) -> dict[str, Any]:
    """Return a snapshot as a capture in plain JSON values, with no secret in it.

    Of the inventory it has the hosts, and what belongs to the snapshot's server: no secret, no
    reference to one, nothing of how hosts are logged in to, and of the hosts' vars only those that
    name sessions. Passwords that stand in text from clients, servers and hosts are taken out.
    """
    whole = Capture(
        runbook_version=version,
        saved_at=saved_at,
        snapshot=snapshot,
        inventory=excerpt(snapshot.database, fleet),
    )
    plain = to_plain(whole)
    return {**plain, "snapshot": cleaned(plain["snapshot"], without=_private(fleet))}


def excerpt(target: str, fleet: Fleet) -> Inventory:
    """Return the part of an inventory that a diagnosis of `target` looks at."""
    names = same_server(target, fleet)
    known = fleet.inventory
    services = {n: s for n, s in known.services.items() if s.database in names}
    wanted = _vars_that_name_sessions(services)
    return Inventory.model_validate(
        {
            "version": 1,
            "hosts": {host.name: _host(host, wanted) for host in fleet.hosts.values()},
            "databases": {n: _database(d) for n, d in known.databases.items() if n in names},
            "services": {name: _service(name, s, fleet) for name, s in services.items()},
            "pgbouncers": {
                n: _bouncer(b) for n, b in known.pgbouncers.items() if b.database in names
            },
        }
    )


def cleaned(value: Any, key: str = "", *, without: tuple[str, ...] = ()) -> Any:
    """Return plain JSON values with statements masked, and without what may be a secret."""
    if isinstance(value, dict):
        if SECRET_KEY.search(str(value.get("key", ""))):  # a setting, as PgBouncer lists them
            value = {**value, "value": OUT, "default": OUT}
        return {name: cleaned(item, str(name), without=without) for name, item in value.items()}
    if isinstance(value, list):
        return [cleaned(item, key, without=without) for item in value]
    if not isinstance(value, str) or not value:
        return value
    if SECRET_KEY.search(key):
        return OUT
    return _without_secrets(masked(value) if key in _STATEMENTS else value, without)


def _without_secrets(text: str, private: tuple[str, ...]) -> str:
    for words in private:
        text = text.replace(words, OUT)
    return _KEY_FILE.sub(OUT, redacted(text))


def _private(fleet: Fleet) -> tuple[str, ...]:
    """Return the inventory's own words that errors may repeat: where secrets and keys are kept."""
    known = fleet.inventory
    doors = [door for d in known.databases.values() for door in (d.connect, d.admin, d.rescue)]
    doors += [bouncer.admin for bouncer in known.pgbouncers.values()]
    secrets = [door.password for door in doors if door is not None and door.password is not None]
    words = {word for secret in secrets for word in (secret.env, secret.file)}
    words |= {" ".join(secret.command) for secret in secrets if secret.command}
    for host in fleet.hosts.values():
        jump = (host.ssh.jump or "").rpartition("@")[2].partition(":")[0]
        words |= {host.ssh.identity_file, host.ssh.known_hosts, host.ssh.jump, jump}
    # The longest first: one may be a part of another.
    return tuple(sorted((word for word in words if word), key=len, reverse=True))


def _vars_that_name_sessions(services: dict[str, Service]) -> set[str]:
    named = [name for s in services.values() for name in placeholders(s.application_name or "")]
    return {name.removeprefix("host.vars.") for name in named if name.startswith("host.vars.")}


def _host(host: ResolvedHost, wanted: set[str]) -> dict[str, Any]:
    return {
        "address": host.address,
        "connection": "local" if host.local else "ssh",
        "groups": host.groups,
        "vars": {name: value for name, value in host.vars.items() if name in wanted},
    }


def _database(database: Database) -> dict[str, Any]:
    connect = database.connect
    return {
        "host": database.host,
        "connect": {
            "host": connect.host,
            "port": connect.port,
            "dbname": connect.dbname,
            "user": connect.user,
        },
        "protect": database.protect.model_dump(),
        "max_terminated": database.max_terminated,
    }


def _service(name: str, service: Service, fleet: Fleet) -> dict[str, Any]:
    given = service.model_dump(include={"unit", "database", "role", "application_name", "pool"})
    if "=" in service.hosts:  # it compares vars, which are left out
        return {**given, "hosts": ", ".join(host.name for host in fleet.service_hosts(name))}
    return {**given, "hosts": service.hosts}


def _bouncer(bouncer: PgBouncer) -> dict[str, Any]:
    return {
        "host": bouncer.host,
        "database": bouncer.database,
        "port": bouncer.port,
        "admin": {"user": bouncer.admin.user},
    }
