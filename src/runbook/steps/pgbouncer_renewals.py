"""What makes a PgBouncer anew without a pause: its settings, its server connections, one client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runbook.model.effects import Drive, Interrupted, Note, Now, Say, Sleep, TellPgBouncer, ask
from runbook.model.fleet import Fleet
from runbook.model.plan import Crashed, Result
from runbook.model.units import format_duration
from runbook.steps.pgbouncer_console import Seen, look

_LOOK_S = 0.25
#: How long server connections may take to be released, in transaction mode: most are within
#: milliseconds, and a report of a minute is not unheard of.
RECONNECT_WAIT_S = 60.0
#: Columns of SHOW DATABASES and SHOW USERS that count, and are no setting.
_COUNTS = ("current_connections", "current_client_connections", "paused", "disabled")
#: Changes that a sentence names; `data` has all of them.
_NAMED = 5


# ---- reload --------------------------------------------------------------------------------


def reload(fleet: Fleet, name: str, expect: Mapping[str, str]) -> Drive[Result]:
    """Have it read its files again, and tell by its settings what became of that.

    It answers RELOAD to a file with a mistake too, and says so in its log alone: what stands before
    the mistake holds, and every setting from there on falls to its default (measured on 1.18).
    """
    before = yield from look(name, "users")
    reply = yield from ask(TellPgBouncer(pgbouncer=name, command="RELOAD"))
    if not reply.ok:
        return Result(status="failed", summary=f"RELOAD {name}: {reply.said}")
    after = yield from look(name, "users")
    changed = _changed(_settings(before), _settings(after))
    lacking = {key: value for key, value in expect.items() if after.config.get(key) != value}
    fallen = [key for key, (_, new) in changed.items() if new == after.defaults.get(key)]
    data = {"changed": changed, "defaults": fallen, "version": after.version}
    words = _words(changed, fallen)
    if lacking:
        is_now = ", ".join(
            f"{key} is {after.config.get(key, 'unknown')!r} and not {value!r}"
            for key, value in lacking.items()
        )
        return Result(
            status="failed",
            summary=f"{name} was reloaded, and {is_now}; {words}",
            hint=_look_at_its_log(fleet, name),
            data=data,
        )
    hint = _look_at_its_log(fleet, name) if fallen or not changed else ""
    return Result(status="ok", summary=f"{name} was reloaded: {words}", hint=hint, data=data)


def _settings(seen: Seen) -> dict[str, str]:
    """Return everything that a file may set: `default_pool_size`, `shop.pool_size`, …."""
    found = dict(seen.config)
    for show in ("databases", "users"):
        for row in seen.rows.get(show, ()):
            for key, value in row.items():
                if key not in {*_COUNTS, "name"}:
                    found[f"{row.get('name')}.{key}"] = "" if value is None else str(value)
    return found


def _changed(before: dict[str, str], after: dict[str, str]) -> dict[str, list[str]]:
    """Return setting -> [before, after]; what comes and goes with clients is no setting."""
    return {
        key: [before[key], after[key]]
        for key in before
        if key in after and before[key] != after[key]
    }


def _words(changed: Mapping[str, list[str]], fallen: Sequence[str]) -> str:
    if not changed:
        return "no setting is different: its file says what held already, or cannot be read"
    named = [f"{key} {old or '-'} -> {new or '-'}" for key, (old, new) in changed.items()]
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    doubt = (
        f"; {', '.join(fallen[:_NAMED])} fell to the default, as every setting does from a mistake"
        " in the file on"
        if fallen
        else ""
    )
    return ", ".join(named[:_NAMED]) + more + doubt


def _look_at_its_log(fleet: Fleet, name: str) -> str:
    bouncer = fleet.pgbouncer(name)
    where = f" on {bouncer.host}" if bouncer.host else ""
    return f"its log says whether the file was read: journalctl -u {bouncer.unit} -n 20{where}"


# ---- reconnect -----------------------------------------------------------------------------


def reconnect(name: str, database: str, wait_s: float, crashed: Crashed | None) -> Drive[Result]:
    """Have every server connection renewed as it is released; wait until none is left of the old.

    No client notices. After a crash, what was old then is still what is waited for.
    """
    seen = yield from look(name, "servers")
    old = set(_known(crashed) or _servers(seen, database))
    if crashed is None or not crashed.changed:
        yield from ask(Note(data={"old": sorted(old)}))
        change = TellPgBouncer(pgbouncer=name, command="RECONNECT", subject=database)
        reply = yield from ask(change)
        if not reply.ok:
            return Result(status="failed", summary=f"RECONNECT {name} {database}: {reply.said}")
    left = yield from _renewed(name, database, old, wait_s)
    data = {"renewed": len(old) - left, "left": left}
    if left:
        return Result(
            status="failed",
            summary=f"{left} of {len(old)} server connections of {_of(name, database)} are the old"
            f" ones after {format_duration(wait_s)}: clients have them still",
            hint="they are closed as soon as their clients let go of them; in session mode that is"
            " when the client leaves",
            data=data,
        )
    return Result(
        status="ok",
        summary=f"{len(old)} server connections of {_of(name, database)} are gone, and new ones"
        " come as they are needed",
        data=data,
    )


def _of(name: str, database: str) -> str:
    return f"{name}/{database}" if database else name


def _known(crashed: Crashed | None) -> list[str]:
    return list(crashed.notes.get("old", ())) if crashed is not None else []


def _servers(seen: Seen, database: str) -> list[str]:
    """Return what tells one server connection from every other: a pointer is used again."""
    return [
        f"{row.get('ptr')} {row.get('remote_pid')} {row.get('connect_time')}"
        for row in seen.rows.get("servers", ())
        if database in {"", row.get("database")}
    ]


def _renewed(name: str, database: str, old: set[str], wait_s: float) -> Drive[int]:
    """Wait until none of the old ones is left, or the time is over; return how many are."""
    deadline = (yield from ask(Now())) + wait_s
    told = -1
    while True:
        left = len(old.intersection(_servers((yield from look(name, "servers")), database)))
        if not left or (yield from ask(Now())) >= deadline or (yield from ask(Interrupted())):
            return left
        if left != told:
            yield from ask(Say(stage="renewing", text=f"{left} of {len(old)} are left"))
            told = left
        yield from ask(Sleep(seconds=_LOOK_S))


# ---- kill_client ---------------------------------------------------------------------------

#: What a client is known by, beside its id.
_WHO = ("database", "user", "addr", "port", "application_name")


def client_of(seen: Seen, wanted: str) -> dict[str, Any] | None:
    """Return who a client is, by its id; None when there is none of that id."""
    for row in seen.rows.get("clients", ()):
        if str(row.get("id")) == wanted:
            return {key: row.get(key) for key in _WHO}
    return None


def client_words(client: Mapping[str, Any]) -> str:
    """Return `shop/app from 10.0.1.1:50000 (shop-web-01)`."""
    name = f" ({client['application_name']})" if client.get("application_name") else ""
    return f"{client['database']}/{client['user']} from {client['addr']}:{client['port']}{name}"


def kill_client(name: str, wanted: str, shown: Mapping[str, Any]) -> Drive[Result]:
    """Cut one client off, if it is still the one that was shown."""
    client = client_of((yield from look(name, "clients")), wanted)
    if client is None:
        return Result(status="ok", summary=f"client {wanted} is gone already: nothing is done")
    if client != dict(shown):
        return Result(
            status="failed",
            summary=f"nothing was done: client {wanted} is {client_words(client)} now",
        )
    change = TellPgBouncer(pgbouncer=name, command="KILL_CLIENT", subject=wanted)
    reply = yield from ask(change)
    if not reply.ok:
        return Result(status="failed", summary=f"KILL_CLIENT {wanted}: {reply.said}")
    if client_of((yield from look(name, "clients")), wanted) is not None:
        return Result(status="failed", summary=f"client {wanted} is still there")
    return Result(status="ok", summary=f"client {wanted} was cut off: {client_words(client)}")
