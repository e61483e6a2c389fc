"""Who somebody is, and what they may do: by a token, by a name in the configuration, by Slack."""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from runbook.model.errors import DoorError
from runbook.model.inventory import Secret
from runbook.model.serve_config import Person, Role

#: Each role may do what those before it may.
_ORDER: tuple[Role, ...] = ("viewer", "approver", "operator")
#: Seconds for which a token that was read counts as read: a page asks every second or so, and a
#: secret may come from a command. A token that was taken away ends its sessions this much later.
_READ_ANEW_S = 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """Somebody of the configuration."""

    name: str
    role: Role


def may(role: Role, needed: Role) -> bool:
    """Whether a role may do what another one is needed for."""
    return _ORDER.index(role) >= _ORDER.index(needed)


def by_slack(people: Mapping[str, Person], user: str) -> Known | None:
    """Return whose Slack id this is."""
    for name, person in people.items():
        if person.slack is not None and person.slack == user:
            return Known(name=name, role=person.role)
    return None


def by_name(people: Mapping[str, Person], name: str) -> Known | None:
    """Return somebody by their name in the configuration."""
    person = people.get(name)
    return None if person is None else Known(name=name, role=person.role)


class Tokens:
    """The tokens of the configuration's people; none of them is kept, only digests are."""

    def __init__(
        self,
        people: Mapping[str, Person],
        secret: Callable[[Secret], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._people = people
        self._secret = secret
        self._clock = clock
        self._lock = threading.Lock()
        self._read: dict[str, tuple[str | None, float]] = {}

    def whose(self, token: str) -> tuple[Known, str] | None:
        """Return whose token this is, and its digest; all are compared, in constant time."""
        given, found = digest(token), None
        for name, person in self._people.items():
            theirs = self.digest_of(name)
            if theirs is not None and hmac.compare_digest(given, theirs):
                found = Known(name=name, role=person.role), given
        return found

    def still(self, name: str, token: str) -> Known | None:
        """Return somebody, if the token of this digest is theirs still."""
        theirs = self.digest_of(name)
        if theirs is None or not hmac.compare_digest(token, theirs):
            return None
        return by_name(self._people, name)

    def digest_of(self, name: str) -> str | None:
        """Return the digest of somebody's token; None: they have none that could be read."""
        with self._lock:
            known = self._read.get(name)
        if known is None or self._clock() - known[1] > _READ_ANEW_S:
            known = (self._look(name), self._clock())
            with self._lock:
                self._read[name] = known
        return known[0]

    def _look(self, name: str) -> str | None:
        person = self._people.get(name)
        if person is None or person.token is None:
            return None
        try:
            token = self._secret(person.token)
        except DoorError:
            return None  # who has no token cannot sign in; the others can
        return digest(token) if token else None


def digest(token: str) -> str:
    """Return what is kept and compared in the place of a token."""
    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()
