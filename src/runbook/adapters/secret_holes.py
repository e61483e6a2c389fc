"""Fills secrets into a text's holes: in memory, right before it leaves."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from runbook.adapters.secrets import resolve
from runbook.model.errors import DoorError, SecretMissing
from runbook.model.host_files import sha256
from runbook.model.scram import salt_of, verifier
from runbook.model.setup_effects import FilledDigest, Hole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runbook.model.effects import Effect


def value_of(hole: Hole) -> str:
    """Return what goes into a hole.

    Raises:
        SecretMissing: the reference leads nowhere; the message says which one.
    """
    try:
        secret = resolve(hole.secret)
    except SecretMissing as error:
        raise SecretMissing(f"{hole.where}: {error.message}", hint=error.hint) from None
    if hole.as_what == "plain":
        return secret
    return verifier(secret, salt_of(*hole.salt_of) if hole.salt_of else os.urandom(16))


def filled(content: str, holes: Mapping[str, Hole]) -> str:
    """Return a PgBouncer's auth file with its holes filled in.

    Raises:
        SecretMissing: see `value_of`.
        DoorError: for a value that would end its line.
    """
    for mark, hole in holes.items():
        value = value_of(hole)
        if "\n" in value or "\r" in value or "\0" in value:
            raise DoorError(f"{hole.where}: a password of several lines fits into no auth file")
        content = content.replace(mark, value.replace('"', '""'))
    return content


class HolesDoor:
    """Performs FilledDigest."""

    def perform(self, effect: Effect[Any]) -> str:
        """Perform one effect; see `runbook.model.ports.Door`."""
        if not isinstance(effect, FilledDigest):
            raise TypeError(f"no effect on holes: {effect!r}")
        return sha256(filled(effect.content, effect.holes))

    def close(self) -> None:
        """Nothing is open."""
