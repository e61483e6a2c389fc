"""Resolves a secret's reference to its value: late, in memory only, never logged or written."""

from __future__ import annotations

import os
import shlex
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook.model.document import visible
from runbook.model.effects import SecretTried, TrySecret
from runbook.model.errors import SecretMissing
from runbook.model.redaction import spellings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runbook.model.effects import Effect
    from runbook.model.inventory import Secret

#: Seconds that a secret's command may take: a password manager may ask a server, not a person.
COMMAND_TIMEOUT_S = 10.0

#: No secret is longer: a bigger file is the wrong file.
_LARGEST = 64 * 1024


#: A crash leaves zeros in a file, and to a signature they are the same as no key at all: what is
#: made of these alone is no secret, and with it anybody would be let in.
_BLANK = "\0 \t\r\n"

#: The values that this process has used: in memory only, so that no text that is kept or shown
#: repeats one. See `used`.
_USED: set[str] = set()


def used() -> tuple[str, ...]:
    """Return the secrets that were resolved in this process, as text may spell them."""
    return _spelled(frozenset(_USED))


@lru_cache(maxsize=4)
def _spelled(values: frozenset[str]) -> tuple[str, ...]:
    return spellings(values)


def resolve(secret: Secret) -> str:
    """Return the secret's value, without the one line end that editors and `echo` add.

    A file that others can read is taken as it is: at 2:17 it is the way in, and what is wrong
    with its mode is for a check on a quiet day.

    Raises:
        SecretMissing: when the reference leads nowhere, to nothing, or to bytes that are no text;
            message and hint name the variable, the file or the command, never the value.
    """
    value = _value(secret)
    _USED.add(value)
    return value


def _value(secret: Secret) -> str:
    if secret.env is not None:
        return _from_environment(secret.env)
    if secret.file is not None:
        return _from_file(secret.file)
    return _from_command(secret.command or ())


def _from_environment(name: str) -> str:
    value = os.environ.get(name)
    if not value or not value.strip(_BLANK):
        state = "not set" if value is None else "empty"
        raise SecretMissing(
            f"the environment variable {visible(name)} is {state}",
            hint=f"export {visible(name)}=… before running runbook, or name a file or a command"
            " in the inventory",
        )
    return value


def _from_file(name: str) -> str:
    path = Path(name).expanduser()
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST + 1)
    except OSError as error:
        raise SecretMissing(
            f"the secret's file {visible(str(path))} cannot be read: {error.strerror}",
            hint=f"check that it exists and that you may read it: ls -l {shlex.quote(str(path))}",
        ) from None
    return _text(raw, f"the secret's file {visible(str(path))}")


def _from_command(argv: Sequence[str]) -> str:
    shown = visible(shlex.join(argv))
    hint = f"run it by hand, it must print the secret and exit with 0: {shown}"
    try:
        # Standard input stays closed: a command that asks a question would otherwise hang unseen.
        done = subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
    except OSError as error:
        raise SecretMissing(
            f"the secret's command cannot be run: {shown}: {error.strerror}", hint=hint
        ) from None
    except subprocess.TimeoutExpired:
        raise SecretMissing(
            f"the secret's command did not end within {COMMAND_TIMEOUT_S:g}s: {shown}", hint=hint
        ) from None
    if done.returncode != 0:
        # Its output is not repeated here: it may hold the secret, or half of it.
        raise SecretMissing(
            f"the secret's command exited with {done.returncode}: {shown}", hint=hint
        )
    return _text(done.stdout, f"the secret's command {shown}")


def _text(raw: bytes, source: str) -> str:
    if len(raw) > _LARGEST:
        raise SecretMissing(
            f"{source} gives more than {_LARGEST // 1024} KiB", hint="that is no password"
        )
    try:
        value = raw.decode()
    except UnicodeDecodeError:
        raise SecretMissing(f"{source} gives bytes that are no UTF-8 text") from None
    value = value.removesuffix("\n").removesuffix("\r")
    if not value.strip(_BLANK):
        raise SecretMissing(f"{source} gives nothing", hint="it must give the secret and no more")
    return value


class SecretsDoor:
    """Performs TrySecret: follows a reference to its value, and forgets the value."""

    def perform(self, effect: Effect[Any]) -> SecretTried:
        """Perform one effect; see `runbook.model.ports.Door`. Never raises for an answer."""
        if not isinstance(effect, TrySecret):
            raise TypeError(f"no effect on secrets: {effect!r}")
        try:
            _value(effect.secret)
        except SecretMissing as error:
            return SecretTried(found=False, said=error.message, hint=error.hint or "")
        said, hint = _seen_by_others(effect.secret.file) if effect.secret.file else ("", "")
        return SecretTried(found=True, said=said, hint=hint)

    def close(self) -> None:
        """Nothing is open."""


def _seen_by_others(name: str) -> tuple[str, str]:
    """Return a word about a secret's file that others may read or replace, and its remedy."""
    path = Path(name).expanduser()
    mode = path.stat().st_mode & 0o077
    if not mode:
        return "", ""
    shown = visible(str(path))
    return (
        f"{shown} is open to other users of this machine (mode {path.stat().st_mode & 0o777:04o})",
        f"chmod 600 {shlex.quote(shown)}",
    )
