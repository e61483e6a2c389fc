"""The doctor's look at PgBouncers: does the admin console answer what a diagnosis asks of it?"""

from __future__ import annotations

from collections.abc import Iterator

from runbook.model.doctor import Check
from runbook.model.effects import AskPgBouncer, ConsoleAnswers
from runbook.model.errors import DatabaseLogin, DoorError
from runbook.steps.doctor_scope import Scope, Seen, Subject
from runbook.steps.doctor_secrets import lost

#: Who may see the pools may see all that a diagnosis asks for; clients may be ten thousand rows.
_SHOWS = ("pools",)
_PLACE = "a line in its pgbouncer.ini (beside who is there already), then RELOAD on its console"


def looks(scope: Scope, _seen: Seen) -> Iterator[AskPgBouncer]:
    """Yield the console of each PgBouncer."""
    yield from (_look(name) for name in scope.pgbouncers)


def _look(name: str) -> AskPgBouncer:
    return AskPgBouncer(pgbouncer=name, shows=_SHOWS)


def judge(scope: Scope, seen: Seen) -> Iterator[Check]:
    """Yield one check for each console."""
    for name, bouncer in scope.pgbouncers.items():
        subject = Subject(area="pgbouncers", name=name)
        if lost(seen, bouncer.admin.password, f"pgbouncers.{name}.admin.password"):
            said = "its password is not to be had: see secrets"
            yield subject.check("console", "skipped", said)
            continue
        answered = seen.of(_look(name))
        if answered is not None:
            yield _console(subject, bouncer.admin.user, answered)


def _console(subject: Subject, user: str, answered: ConsoleAnswers | DoorError) -> Check:
    mend = f"stats_users = {user}"
    if isinstance(answered, DatabaseLogin) and "does not let" in answered.message:
        return subject.check("console", "missing", answered.message, _PLACE, mend)
    if isinstance(answered, DoorError):
        return subject.failed("console", answered)
    # A long answer that was cut short is an answer.
    failed = {show: why for show, why in answered.failed.items() if show not in answered.rows}
    if not failed:
        version = answered.version.removeprefix("PgBouncer ")
        return subject.check("console", "ok", f"PgBouncer {version} answers".replace("  ", " "))
    said = "; ".join(f"SHOW {show.upper()}: {why}" for show, why in failed.items())
    return subject.check("console", "missing", said, _PLACE, mend)
