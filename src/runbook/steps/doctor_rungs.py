"""The doctor's look at the ladder into a database: does each rung open, and if not, why?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from runbook.model.doctor import Check
from runbook.model.effects import RungTried, TryRung
from runbook.model.errors import DoorError
from runbook.model.inventory import Database, Secret
from runbook.model.sessions import RUNGS, Rung
from runbook.steps.doctor_hosts import answers, lacks
from runbook.steps.doctor_roles import (
    Login,
    create_role,
    facts_of,
    identifier,
    logins,
    question,
    set_password,
)
from runbook.steps.doctor_scope import Scope, Seen, Subject
from runbook.steps.doctor_secrets import lost

_ADDRESS = re.compile(r"\"([0-9]+(?:\.[0-9]+){3}|[0-9a-fA-F]*:[0-9a-fA-F:.]*)\"")

#: What a rung is for, and so what it costs not to have it.
_SERVES: Mapping[Rung, str] = {
    "connect": "the everyday door, with which every run begins",
    "admin": "the way to the slots that are reserved for superusers",
    "local": "the way to the superusers' slots that needs no password, by the server's host",
    "rescue": "the only connection to be had when every slot is taken, the superusers' included",
    "os": "the view by the server's host of who holds the slots, when no connection opens at all",
}

#: The sudo rule without which a rung stays shut.
_RULES: Mapping[Rung, str] = {"local": "sudo-psql", "os": "sudo-sh"}


# ---- looks ---------------------------------------------------------------------------------


def first(scope: Scope, _seen: Seen) -> Iterator[TryRung]:
    """Yield the everyday door of each database."""
    yield from (_try(name, "connect", scope) for name in scope.databases)


def second(scope: Scope, seen: Seen) -> Iterator[TryRung]:
    """Yield the superuser's door, and the host's own view, which takes no connection."""
    yield from _wave(scope, seen, ("admin", "os"))


def third(scope: Scope, seen: Seen) -> Iterator[TryRung]:
    """Yield the local socket: one rung after the other, so that they never compete for a slot."""
    yield from _wave(scope, seen, ("local",))


def fourth(scope: Scope, seen: Seen) -> Iterator[TryRung]:
    """Yield the rescue door."""
    yield from _wave(scope, seen, ("rescue",))


def _wave(scope: Scope, seen: Seen, rungs: tuple[Rung, ...]) -> Iterator[TryRung]:
    for name, database in scope.databases.items():
        connect = tried(name, "connect", scope, seen)
        # Where connect finds no server there are no slots to compete for, and each rung may take
        # its whole time limit: all at once, then.
        shut = isinstance(connect, DoorError) or (connect is not None and connect.verdict == "shut")
        for rung in RUNGS if shut else rungs:
            if not _absent(database, rung) and not _unheard(database, rung, seen):
                yield _try(name, rung, scope)


def _try(name: str, rung: Rung, scope: Scope) -> TryRung:
    asked = None if rung == "os" else question(name, scope)
    return TryRung(database=name, rung=rung, limits=asked)


def tried(name: str, rung: Rung, scope: Scope, seen: Seen) -> RungTried | DoorError | None:
    """Return how a rung answered; None when it was not tried."""
    return seen.of(_try(name, rung, scope))


def row_of(name: str, scope: Scope, seen: Seen) -> Mapping[str, Any] | None:
    """Return what the server said over the first door that opened, if any did."""
    for rung in RUNGS:
        answer = tried(name, rung, scope, seen)
        if isinstance(answer, RungTried) and answer.limits:
            return answer.limits
    return None


def _absent(database: Database, rung: Rung) -> bool:
    declared: Mapping[Rung, object] = {
        "connect": database.connect,
        "admin": database.admin,
        "local": database.local,
        "rescue": database.rescue,
        "os": database.host,
    }
    return declared[rung] is None


def _unheard(database: Database, rung: Rung, seen: Seen) -> bool:
    """Whether a rung leads over a host that does not answer: that was waited for once already."""
    over_ssh = rung in {"local", "os"} and database.host is not None
    return over_ssh and not answers(seen, str(database.host))


# ---- judging -------------------------------------------------------------------------------


def judge(scope: Scope, seen: Seen) -> Iterator[Check]:
    """Yield one check for each rung of each database, declared or not."""
    for name, database in scope.databases.items():
        subject = Subject(area="databases", name=name)
        for rung in RUNGS:
            if _absent(database, rung):
                yield _undeclared(subject, rung, database)
            else:
                yield _rung(subject, rung, scope, seen)


def _rung(subject: Subject, rung: Rung, scope: Scope, seen: Seen) -> Check:
    name, database = subject.name, scope.databases[subject.name]
    label = f"rung-{rung}"
    first_to_mend = _hangs_on(name, rung, scope, seen)
    if first_to_mend:
        return subject.check(label, "skipped", first_to_mend)
    answer = tried(name, rung, scope, seen)
    if answer is None:
        return subject.check(label, "skipped", "it was not tried")
    if isinstance(answer, DoorError):
        return subject.failed(label, answer)
    return _answered(subject, rung, answer, database, row_of(name, scope, seen))


def _hangs_on(name: str, rung: Rung, scope: Scope, seen: Seen) -> str:
    """Say which other check comes first: one fault is told once; "" when the rung is its own."""
    database = scope.databases[name]
    if lost(seen, _password(database, rung), f"databases.{name}.{rung}.password"):
        return "its password is not to be had: see secrets"
    if _unheard(database, rung, seen):
        return f"{database.host} does not answer: see hosts"
    answer = tried(name, rung, scope, seen)
    if not isinstance(answer, RungTried) or answer.verdict != "shut":
        return ""
    if _as_connect(name, answer, scope, seen):
        return "does not open, as rung-connect: see there"
    rule = _RULES.get(rung)
    if rule and lacks(scope, seen, str(database.host), rule):
        return f"does not open: see {rule} of {database.host}"
    return ""


def _as_connect(name: str, answer: RungTried, scope: Scope, seen: Seen) -> bool:
    """Whether a rung is shut for the very reason of the first: a server that is gone, say."""
    first_rung = tried(name, "connect", scope, seen)
    return (
        answer.rung != "connect"
        and isinstance(first_rung, RungTried)
        and (first_rung.verdict, first_rung.said) == ("shut", answer.said)
    )


def _answered(
    subject: Subject,
    rung: Rung,
    answer: RungTried,
    database: Database,
    row: Mapping[str, Any] | None,
) -> Check:
    label, took = f"rung-{rung}", answer.seconds
    if answer.verdict == "opened":
        return subject.check(label, "ok", "opens", seconds=took)
    if answer.verdict == "absent":
        return _undeclared(subject, rung, database)
    no_walsenders = rung == "rescue" and row is not None and row["max_wal_senders"] == 0
    if answer.verdict == "full" and not no_walsenders:
        hint = f"see who holds the slots: runbook diagnose {subject.name}"
        # Said before the login, it tells nothing of the role and its password.
        tried = "too many clients already" not in answer.said and rung != "rescue"
        works = "works, and has no slot" if tried else "could not be tried: no slot"
        said = f"{works} at this moment: {answer.said}"
        return subject.check(label, "warning", said, hint, seconds=took)
    hint, mend = _remedy(rung, answer, subject.name, database, row)
    said = f"does not open: {answer.said.rstrip('.')}. It is {_SERVES[rung]}"
    return subject.check(label, "missing", said, hint, mend, seconds=took)


def _remedy(
    rung: Rung, answer: RungTried, name: str, database: Database, row: Mapping[str, Any] | None
) -> tuple[str, str]:
    """Return where the mend of a shut rung goes, and the mend; both may be empty."""
    login = next((login for login in logins(database) if login.rung == rung), None)
    if login is None:
        return answer.hint, ""
    where = as_superuser(name, row)
    statement = _by_catalogue(login, row)
    if statement:
        return where, statement
    if "pg_hba.conf" in answer.said:
        return _hba_place(name, database), _hba_line(login, answer.said)
    if "password" in answer.said:
        hint = (
            f"the secret of databases.{name}.{rung}.password is not the role's: put the right one"
        )
        return f"{hint} there, or give the role that one, {where}", set_password(login.role)
    return answer.hint, ""


def _by_catalogue(login: Login, row: Mapping[str, Any] | None) -> str:
    """Return the statement that mends what the catalogue says of a role; "" when it looks well."""
    fact = facts_of(row, login.role, login.dbname) if row else None
    if row is None or fact is None:
        return ""
    role = identifier(login.role)
    if fact["oid"] is None:
        return create_role(
            login.role, replication=login.rung == "rescue", superuser=login.rung == "admin"
        )
    faults = (
        (not fact["login"], f"ALTER ROLE {role} LOGIN;"),
        (
            login.rung == "rescue" and not (fact["replication"] or fact["superuser"]),
            f"ALTER ROLE {role} REPLICATION;",
        ),
        (
            login.rung == "rescue" and row["max_wal_senders"] == 0,
            "ALTER SYSTEM SET max_wal_senders = 10;\n-- then restart the server",
        ),
        (
            fact["expires_s"] is not None and fact["expires_s"] <= 0,
            f"ALTER ROLE {role} VALID UNTIL 'infinity';",
        ),
        (
            fact["has_database"] and not fact["connects"],
            f"GRANT CONNECT ON DATABASE {identifier(login.dbname)} TO {role};",
        ),
    )
    return "\n".join(statement for faulty, statement in faults if faulty)


def _hba_line(login: Login, said: str) -> str:
    """Return the line that lets this machine in, by the address that the server saw."""
    seen = _ADDRESS.search(said)
    network = f"{seen[1]}/{128 if ':' in seen[1] else 32}" if seen else "ADDRESS/32"
    names = (_hba_name(login.dbname), _hba_name(login.role))
    return f"host  {'  '.join(names)}  {network}  scram-sha-256"


def _hba_name(name: str) -> str:
    """Quoted, a name is no keyword (`all`, `replication`) and no group."""
    plain = re.fullmatch(r"[a-z_][a-z0-9_]*", name) and name not in {
        "all",
        "replication",
        "sameuser",
        "samerole",
        "samegroup",
    }
    return name if plain else '"' + name.replace('"', '""') + '"'


def _hba_place(name: str, database: Database) -> str:
    host = database.host or database.connect.host
    return (
        f"a line of pg_hba.conf on {host}, above any that rejects, and then, as a superuser of"
        f" {name}: SELECT pg_reload_conf();"
    )


def as_superuser(name: str, row: Mapping[str, Any] | None) -> str:
    """Say where a statement is run; a standby takes none."""
    if row is not None and row["in_recovery"]:
        return f"as a superuser of {name}'s primary, in psql ({name} is a standby)"
    return f"as a superuser of {name}, in psql"


def _password(database: Database, rung: Rung) -> Secret | None:
    credentials = {
        "connect": database.connect,
        "admin": database.admin,
        "rescue": database.rescue,
    }.get(rung)
    return None if credentials is None else credentials.password


# ---- rungs that the inventory does not have ------------------------------------------------


def _undeclared(subject: Subject, rung: Rung, database: Database) -> Check:
    name, label = subject.name, f"rung-{rung}"
    place = f"under databases.{name} in the inventory"
    if rung == "rescue":
        role = f"{database.connect.user}_rescue"
        return subject.check(
            label,
            "warning",
            f"is not declared; it is {_SERVES[rung]}",
            f"as a superuser of {name}, in psql; then {place}:"
            f" rescue: {{user: {role}, password: {{file: …}}}}",
            create_role(role, replication=True),
        )
    if rung == "os" or (rung == "local" and database.local is not None):
        said = f"no host is declared; it would give {_SERVES['os']}"
        hint = f"{place}, with the inventory host that it runs on; a managed server has none"
        return subject.check(label, "warning", said, hint, "host: NAME")
    return _no_superuser(subject, label, rung, database, place)


def _no_superuser(
    subject: Subject, label: str, rung: Rung, database: Database, place: str
) -> Check:
    """`admin` and `local` stand in for each other: one of them is enough, and one is told."""
    other: Rung = "local" if rung == "admin" else "admin"
    if not _absent(database, other):
        return subject.check(label, "ok", f"is not declared, and need not be: {other} is")
    told: Rung = "local" if database.host else "admin"
    if rung != told:
        return subject.check(label, "skipped", f"is not declared either: see rung-{told}")
    said = "neither admin nor local is declared: the superusers' slots cannot be used, and none of"
    mend = "local: {os_user: postgres}" if told == "local" else "admin: {user: …, password: …}"
    said = f"{said} their sessions can be terminated"
    return subject.check(label, "warning", said, place, mend)
