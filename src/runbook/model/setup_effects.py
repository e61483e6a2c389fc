"""Effects of setting a PgBouncer up: files with secrets in them, SQL as an administrator, a proof.

A secret is named here by its reference alone. The adapter fills it in, in memory: neither a step
nor a plan nor the journal ever holds one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from runbook.model.effects import Change, Observe, PutFile, Rows

if TYPE_CHECKING:
    from runbook.model.inventory import Secret


@dataclass(frozen=True, kw_only=True, slots=True)
class Hole:
    """A secret's place in a text."""

    secret: Secret
    #: Where the inventory has it: `pgbouncers.bouncer-01.auth.password`.
    where: str
    #: plain: the password. scram: what a server keeps in its place.
    as_what: Literal["plain", "scram"] = "scram"
    #: What makes the salt of `scram` this place's own; () makes a random one.
    salt_of: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class FilledDigest(Observe[str]):
    """The sha256 of a text with its holes filled in; the text itself goes nowhere.

    Compare it, and keep it nowhere: a weak password can be guessed by it.
    """

    content: str
    #: What stands in the text -> what goes there.
    holes: Mapping[str, Hole]

    def sentence(self) -> str:
        return f"fill in {', '.join(hole.where for hole in self.holes.values())}, and compare"


@dataclass(frozen=True, kw_only=True, slots=True)
class PutSecretFile(PutFile):
    """As PutFile; its holes are filled in on the way to the host's stdin.

    The footprint tells the text with its holes, and where their values are found.
    """

    holes: Mapping[str, Hole] = field(default_factory=dict)

    def footprint(self) -> frozenset[str]:
        filled = ", ".join(sorted(hole.where for hole in self.holes.values()))
        # A dataclass with slots is a class of its own, which super() alone does not find.
        lines = PutFile.footprint(self)
        return frozenset(
            f"{line} with {filled}" if f"write {self.path} " in line else line for line in lines
        )


#: Which doors lead in as an administrator, in the order in which they are tried.
AdminRung = Literal["admin", "local", "connect"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AdminLook(Observe[Rows]):
    """Run one statement of ours that only reads, in one database of a server, as a superuser.

    Raises (into the step): `DatabaseLogin` with what each door said, when none leads in as one.
    """

    database: str
    dbname: str
    sql: str
    parameters: tuple[tuple[str, Any], ...] = ()

    def sentence(self) -> str:
        return f"look at {self.dbname} of {self.database} as a superuser"


@dataclass(frozen=True, kw_only=True, slots=True)
class PasswordFits(Observe[bool]):
    """Whether the password that a reference leads to is the one that a role has."""

    database: str
    role: str
    hole: Hole

    def sentence(self) -> str:
        return f"compare {self.hole.where} with what role {self.role} has"


@dataclass(frozen=True, kw_only=True, slots=True)
class AdminSql(Change[Rows]):
    """Run statements of ours in one database of a server as a superuser, all or none of them.

    Never a playbook's SQL: what that calls would have all rights.
    """

    database: str
    dbname: str
    statements: tuple[str, ...]
    #: In plain words, all that they change; what is confirmed.
    shown: tuple[str, ...]
    parameters: tuple[tuple[str, Any], ...] = ()
    #: Parameters whose values are secrets.
    holes: Mapping[str, Hole] = field(default_factory=dict)
    timeout_s: float = 10.0

    def sentence(self) -> str:
        return f"on {self.database}, in {self.dbname}: {'; '.join(self.shown)}"

    def footprint(self) -> frozenset[str]:
        return frozenset(
            f"{self.database}, in {self.dbname}, as a superuser: {line}" for line in self.shown
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Through:
    """What a query through a PgBouncer told."""

    #: The server's own name for the session's role and database.
    role: str
    dbname: str
    #: The server process that answered.
    backend_pid: int
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class AskThroughPgBouncer(Observe[Through]):
    """Log in to a PgBouncer as the database's own `connect` role, and ask one thing through it."""

    pgbouncer: str
    dbname: str
    timeout_s: float = 10.0

    def sentence(self) -> str:
        return f"ask {self.dbname} through PgBouncer {self.pgbouncer}"
