"""Phrases that several findings share: counts, ages, commands for people to paste."""

from __future__ import annotations

import shlex
from collections import Counter
from typing import TYPE_CHECKING

from runbook.model.leaks import LeakPolicy
from runbook.model.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runbook.findings.view import View
    from runbook.model.diagnosis import Owner
    from runbook.model.sessions import Session

#: Characters of a statement that are quoted as evidence.
STATEMENT_WIDTH = 100


def count(number: int, noun: str) -> str:
    """Return `1 session`, `38 sessions`."""
    return f"{number} {noun if number == 1 else noun + 's'}"


def age(seconds: float | None) -> str:
    """Return an age for people; what is hidden from us is called unknown."""
    return format_duration(seconds) if seconds is not None else "an unknown time"


def bytes_words(number: float) -> str:
    """Return `512 kB`, `3.2 GB`: bytes for people, in powers of 1024 as PostgreSQL counts them."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(number) < 1024:
            return f"{number:.1f} {unit}" if unit != "bytes" else f"{number:.0f} bytes"
        number /= 1024
    return f"{number:.1f} TB"


def statement(query: str) -> str:
    """Return a statement in one short line; its characters are left to whoever prints it."""
    line = " ".join(query.split())
    return line if len(line) <= STATEMENT_WIDTH else line[: STATEMENT_WIDTH - 1] + "…"


def common_statements(sessions: Iterable[Session], most: int = 3) -> tuple[str, ...]:
    """Return the commonest last statements with their counts, one line each."""
    counted = Counter(statement(s.query) for s in sessions if s.query)
    return tuple(f"{number} x  {text}" for text, number in counted.most_common(most))


def whose(owners: tuple[Owner, ...]) -> str:
    """Return `shop on web-03 (38), billing on web-01 (4) and 2 more`."""
    named = [f"{owner.label} ({owner.concerned})" for owner in owners[:2]]
    more = f" and {len(owners) - 2} more" if len(owners) > 2 else ""
    return ", ".join(named) + more


def filled(view: View) -> str:
    """Return `97 of 97 slots in use`."""
    return f"{view.slots.used} of {view.slots.usable} slots in use"


def session_words(session: Session, view: View) -> str:
    """Return who and what a session is: `pid 812 (shop on web-01), idle for 4m 10s`."""
    holder = view.holder_of.get(session.pid)
    owner = holder.label if holder else (session.backend_type or "a hidden session")
    return (
        f"pid {session.pid} ({owner}), {session.state or 'hidden'} for {age(session.state_age_s)}"
    )


def remediate(view: View, flag: str) -> str:
    """Return the command that applies one remedy to this database."""
    command = f"runbook remediate {shlex.quote(view.target)} {flag}"
    silent_s = view.policy.idle_in_transaction_s
    if flag == "--terminate-idle" and silent_s != LeakPolicy().idle_in_transaction_s:
        # What was judged by another bound than the usual one must be terminated by the same.
        command += f" -p idle_in_transaction_over={silent_s:g}s"
    return command


def look_again(view: View) -> str:
    """Return the command that looks once more."""
    return f"runbook diagnose {shlex.quote(view.target)}"


def restart(view: View, owners: tuple[Owner, ...]) -> str:
    """Return the rolling restart of the largest owner's service; another look if none is known."""
    service = owners[0].service if owners else None
    if service is None:
        return look_again(view)
    return remediate(view, f"--rolling-restart --service {shlex.quote(service)}")


def psql(view: View, sql: str) -> str:
    """Return a psql command line for one statement, quoted for a POSIX shell."""
    if view.database is None:
        return shlex.join(["psql", "-c", sql])
    door = view.database.connect
    who = ["-h", door.host, "-p", str(door.port), "-U", door.user, "-d", door.dbname]
    return shlex.join(["psql", *who, "-c", sql])


def identifier(name: str) -> str:
    """Return a name quoted as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
