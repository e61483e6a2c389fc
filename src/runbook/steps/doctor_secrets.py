"""The doctor's look at secrets: does each reference lead to a value that only we can read?"""

from __future__ import annotations

from collections.abc import Iterator

from runbook.model.doctor import Check
from runbook.model.effects import SecretTried, TrySecret
from runbook.model.errors import DoorError
from runbook.model.inventory import Secret
from runbook.steps.doctor_scope import Scope, Seen, Subject


def looks(scope: Scope, _seen: Seen) -> Iterator[TrySecret]:
    """Yield a look at every secret in scope."""
    for where, secret in _secrets(scope):
        yield TrySecret(secret=secret, where=where)


def judge(scope: Scope, seen: Seen) -> Iterator[Check]:
    """Yield one check for each secret."""
    for where, secret in _secrets(scope):
        tried = seen.of(TrySecret(secret=secret, where=where))
        if tried is not None:
            yield _check(Subject(area="secrets", name=where), tried)


def lost(seen: Seen, secret: Secret | None, where: str) -> bool:
    """Whether a secret was looked for in vain: the door that needs it is not to blame."""
    if secret is None:
        return False
    tried = seen.of(TrySecret(secret=secret, where=where))
    return isinstance(tried, DoorError) or (tried is not None and not tried.found)


def _check(subject: Subject, tried: SecretTried | DoorError) -> Check:
    if isinstance(tried, DoorError):
        return subject.failed("secret", tried)
    if not tried.found:
        return subject.check("secret", "missing", tried.said, tried.hint)
    if tried.said:
        # It leads to a value, and there is a word to say about it: a file that others can read.
        return subject.check("secret", "warning", tried.said, mend=tried.hint)
    return subject.check("secret", "ok", "leads to a value")


def _secrets(scope: Scope) -> Iterator[tuple[str, Secret]]:
    """Yield the place of each secret in the inventory, and its reference."""
    for name, database in scope.databases.items():
        roles = (("connect", database.connect), ("admin", database.admin))
        for key, role in (*roles, ("rescue", database.rescue)):
            if role is not None and role.password is not None:
                yield f"databases.{name}.{key}.password", role.password
    for name, bouncer in scope.pgbouncers.items():
        if bouncer.admin.password is not None:
            yield f"pgbouncers.{name}.admin.password", bouncer.admin.password
