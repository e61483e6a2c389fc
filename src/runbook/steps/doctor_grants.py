"""The doctor's look at rights and settings of a server, each with the statement that mends it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runbook.model.doctor import Check
from runbook.model.effects import RungTried
from runbook.model.sessions import Rung
from runbook.model.units import format_duration
from runbook.steps.doctor_roles import Login, facts_of, identifier, logins
from runbook.steps.doctor_rungs import as_superuser, row_of, tried
from runbook.steps.doctor_scope import Scope, Seen, Subject

#: reserved_connections came with PostgreSQL 16.
_RESERVES_SINCE = 160000
#: A password that expires within this is told: two weekly runs still see it.
_EXPIRES_WITHIN_S = 14 * 86400.0
#: Silence in a transaction after which a diagnosis calls it leaked, as `terminate` does.
_SILENCE = "5min"
_RELOAD = "\nSELECT pg_reload_conf();"


def judge(scope: Scope, seen: Seen) -> Iterator[Check]:
    """Yield what each role may, and the settings that matter here."""
    for name, database in scope.databases.items():
        subject = Subject(area="databases", name=name)
        row = row_of(name, scope, seen)
        if row is None:
            yield _unknown(subject, scope, seen)
            continue
        where = as_superuser(name, row)
        for login in logins(database):
            fact = facts_of(row, login.role, login.dbname)
            if fact is not None and fact["oid"] is not None:
                yield from _role(subject, login, fact, row, where)
        yield from _local(subject, scope, seen)
        yield from _walsenders(subject, scope, seen, where)
        yield from _settings(subject, row, where)


def _unknown(subject: Subject, scope: Scope, seen: Seen) -> Check:
    """No door gave an answer: with one open, that itself is what is wrong."""
    rungs: tuple[Rung, ...] = ("connect", "admin", "local", "rescue")
    for rung in rungs:
        answer = tried(subject.name, rung, scope, seen)
        if isinstance(answer, RungTried) and answer.verdict == "opened":
            said = f"{rung} opens, but what its role may could not be asked: {answer.said}"
            return subject.check("grants", "missing", said.rstrip(": "), answer.hint)
    return subject.check("grants", "skipped", "no door opens: what the roles may is not known")


# ---- one role ------------------------------------------------------------------------------


def _role(
    subject: Subject, login: Login, fact: Mapping[str, Any], row: Mapping[str, Any], where: str
) -> Iterator[Check]:
    if login.rung == "admin":
        yield _superuser(subject, login, fact, where)
    else:
        yield _member(subject, login, where, "pg_monitor", held=fact["reads_all"])
        yield _member(subject, login, where, "pg_signal_backend", held=fact["signals"])
    if login.rung == "connect" and row["version_num"] >= _RESERVES_SINCE:
        yield _reserve(subject, login, fact, row, where)
    if fact["expires_s"] is not None and 0 < fact["expires_s"] < _EXPIRES_WITHIN_S:
        yield _expires(subject, login, fact, where)


_WITHOUT = {
    "pg_monitor": "what other roles' sessions do is hidden, and nothing can be proved",
    "pg_signal_backend": "no session can be terminated",
}


def _member(subject: Subject, login: Login, where: str, group: str, *, held: bool) -> Check:
    label = f"{login.rung}-{group}"
    if held:
        return subject.check(label, "ok", f"{login.role} has {group}")
    said = f"{login.role} lacks {group}: {_WITHOUT[group]}"
    mend = f"GRANT {group} TO {identifier(login.role)};"
    return subject.check(label, "missing", said, where, mend)


def _superuser(subject: Subject, login: Login, fact: Mapping[str, Any], where: str) -> Check:
    if fact["superuser"]:
        return subject.check("admin-superuser", "ok", f"{login.role} is a superuser")
    said = f"{login.role} is no superuser: the slots reserved for superusers are closed to it"
    mend = f"ALTER ROLE {identifier(login.role)} SUPERUSER;"
    return subject.check("admin-superuser", "missing", said, where, mend)


def _reserve(
    subject: Subject, login: Login, fact: Mapping[str, Any], row: Mapping[str, Any], where: str
) -> Check:
    """Slots of its own for the everyday role: the gentlest way into a full server."""
    label, role = "connect-reserved", identifier(login.role)
    mends = []
    if not fact["reserved"]:
        mends.append(f"GRANT pg_use_reserved_connections TO {role};")
    if row["reserved"] == 0:
        mends.append("ALTER SYSTEM SET reserved_connections = 2;")
    if not mends or fact["superuser"]:
        return subject.check(label, "ok", f"{row['reserved']} slots are reserved for it")
    said = f"no slot is reserved for {login.role}: a full server refuses it as it refuses everybody"
    later = (
        "; the setting holds from the next restart of the server" if row["reserved"] == 0 else ""
    )
    return subject.check(label, "warning", said, f"{where}{later}", "\n".join(mends))


def _expires(subject: Subject, login: Login, fact: Mapping[str, Any], where: str) -> Check:
    said = f"the password of {login.role} expires in {format_duration(fact['expires_s'])}"
    mend = f"ALTER ROLE {identifier(login.role)} VALID UNTIL 'infinity';"
    return subject.check(f"{login.rung}-expires", "warning", said, where, mend)


def _local(subject: Subject, scope: Scope, seen: Seen) -> Iterator[Check]:
    """The server's own socket is there for its superuser; another role finds it full as well."""
    answer = tried(subject.name, "local", scope, seen)
    own = answer.limits if isinstance(answer, RungTried) else None
    if not own:
        return
    label, role = "local-superuser", own["role"]
    if own["is_superuser"]:
        yield subject.check(label, "ok", f"{role} is a superuser")
        return
    said = f"{role} is no superuser: the slots reserved for superusers are closed to it"
    hint = f"databases.{subject.name}.local.os_user should be whom the server runs as"
    yield subject.check(label, "missing", said, hint)


# ---- the server ----------------------------------------------------------------------------


def _walsenders(subject: Subject, scope: Scope, seen: Seen, where: str) -> Iterator[Check]:
    """The rescue door takes a standby's slot: one should be left when it has."""
    answer = tried(subject.name, "rescue", scope, seen)
    own = answer.limits if isinstance(answer, RungTried) else None
    if not own:
        return
    # Asked over the rescue door, our own walsender is among those in use.
    most, used = own["max_wal_senders"], own["wal_senders"]
    label = "rescue-walsenders"
    if used < most:
        yield subject.check(label, "ok", f"{most - used} of {most} walsender slots were left")
        return
    said = (
        f"the rescue door took the last of {most} walsender slots: a standby or a backup that comes"
        " a moment earlier shuts it"
    )
    mend = f"ALTER SYSTEM SET max_wal_senders = {most + 2};"
    hint = f"{where}; it holds from the next restart of the server"
    yield subject.check(label, "warning", said, hint, mend)


def _settings(subject: Subject, row: Mapping[str, Any], where: str) -> Iterator[Check]:
    """Only what this tool lives by; all of it can be done without."""
    settings = (
        (
            "track_activities",
            row["track_activities"],
            "track_activities is off: no session's state is seen, so nothing can be proved",
            f"ALTER SYSTEM SET track_activities = on;{_RELOAD}",
        ),
        (
            "superuser_reserved_connections",
            row["superuser_reserved"] > 0,
            "no slot is reserved for superusers: a full server shuts them out as well",
            "ALTER SYSTEM SET superuser_reserved_connections = 3;\n-- then restart the server",
        ),
        (
            "idle_in_transaction_session_timeout",
            row["idle_in_transaction_ends"],
            "a session may stay idle in a transaction, with its slot and its locks, for good",
            f"ALTER SYSTEM SET idle_in_transaction_session_timeout = '{_SILENCE}';{_RELOAD}",
        ),
    )
    for name, well, said, mend in settings:
        if well:
            yield subject.check(name, "ok", "set")
        else:
            yield subject.check(name, "warning", said, where, mend)
