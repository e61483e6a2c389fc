"""Every error a user can meet: what happened, where, and what to do next.

    RunbookError
    ├── UsageError                 exit 2   the command line, a selection, a parameter
    │   └── InvalidDocument        exit 2   a playbook or an inventory, all its problems at once
    ├── Refused                    exit 3   we stopped before anything changed
    │   ├── NotConfirmed           exit 3
    │   ├── ChangeInRehearsal      exit 3   a rehearsal's door was asked to change something
    │   └── Locked                 exit 5   somebody else holds the lock
    ├── StateUnknown               exit 4   a person must look
    ├── Interrupted                exit 130
    ├── StepFailed                 exit 1   a step judged that it did not succeed
    └── DoorError                  exit 1   the outside world did not answer as hoped
        ├── Unreachable                     no connection: nothing was done there
        │   ├── HostKeyRejected
        │   └── LoginRejected
        ├── ConnectionLost                  cut off half-way: what was asked may have happened
        ├── CommandFailed
        │   └── NotStarted                  no such program: nothing ran
        ├── SecretMissing
        └── DatabaseError
            ├── SlotRefused                 SQLSTATE 53300: no connection slot for this role
            ├── DatabaseLogin               wrong password, unknown role or database, pg_hba
            └── MissingGrant                SQLSTATE 42501

A message names the value and the place; a hint, where there is one, names the next thing to do.
Adapters raise `DoorError`s; nobody above them sees another library's exception.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runbook.model.document import Problem


class ExitCode:
    """The process exit codes, a promise to scripts (see docs/exit-codes.md)."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    UNKNOWN = 4
    LOCKED = 5
    WAITING = 6
    INTERRUPTED = 130


class RunbookError(Exception):
    """The root of the tree: `message` for what and where, `hint` for what to do next."""

    exit_code = ExitCode.FAILED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class UsageError(RunbookError):
    """The command line, a selection or a parameter is wrong; nothing was touched."""

    exit_code = ExitCode.USAGE


class InvalidDocument(UsageError):
    """A playbook or an inventory has problems; all of them are listed, each with its place."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Refused(RunbookError):
    """We stopped before anything changed."""

    exit_code = ExitCode.REFUSED


class NotConfirmed(Refused):
    """The change was shown, and the answer was no (or there was nobody to ask)."""


class ChangeInRehearsal(Refused):
    """A rehearsal's door was asked to change something: always a defect, never obeyed."""


class StateUnknown(RunbookError):
    """A change was asked for and its outcome could not be observed: a person must look."""

    exit_code = ExitCode.UNKNOWN


class Locked(Refused):
    """Another run works on the same service or database."""

    exit_code = ExitCode.LOCKED


class Interrupted(RunbookError):
    """Somebody pressed Ctrl-C, or the process was told to stop."""

    exit_code = ExitCode.INTERRUPTED


class StepFailed(RunbookError):
    """A step looked at the world and judged that it did not succeed."""


class DoorError(RunbookError):
    """The outside world did not answer as hoped."""


class Unreachable(DoorError):
    """No connection could be made: nothing was done there."""


class HostKeyRejected(Unreachable):
    """The host's key is unknown or differs from the one in known_hosts."""


class LoginRejected(Unreachable):
    """The host answered, and refused the login."""


class ConnectionLost(DoorError):
    """The connection was cut half-way: what was asked may or may not have happened."""


class CommandFailed(DoorError):
    """A command could not be run, or did not end in time."""


class NotStarted(CommandFailed):
    """The command's program could not be started: nothing ran."""


class SecretMissing(DoorError):
    """A secret's reference leads nowhere (environment variable, file or command)."""


class DatabaseError(DoorError):
    """PostgreSQL answered with an error, or not at all; `sqlstate` where the server gave one."""

    def __init__(
        self, message: str, *, hint: str | None = None, sqlstate: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.sqlstate = sqlstate


class SlotRefused(DatabaseError):
    """No connection slot for this role (SQLSTATE 53300); the text tells which limit was hit."""


class DatabaseLogin(DatabaseError):
    """Wrong password, unknown role or database, or no pg_hba.conf line lets us in."""


class MissingGrant(DatabaseError):
    """The role may not do this (SQLSTATE 42501); the hint is the GRANT that mends it."""
