"""What a step may want of the world: effects, of two kinds, and what comes back.

A step is a generator: it yields an effect, the driver performs it through an adapter, and sends
the outcome back in. `Observe`s are performed in a rehearsal too; `Change`s are only shown there.
Inside a step, `outcome = yield from ask(effect)` is typed by the effect.

Every Change has a footprint: one line for each thing that it touches. What a run shows before it
is confirmed is the union of footprints, and the driver refuses a Change whose footprint was not
shown. So "nothing touched that was not shown" hangs on no step's discipline.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from runbook.model.processes import ServerProcesses
from runbook.model.sessions import Rung, SessionId

if TYPE_CHECKING:
    from runbook.model.inventory import Secret

OutcomeT = TypeVar("OutcomeT", covariant=True)  # noqa: PLC0105 - reads better without _co
T = TypeVar("T")


class Effect(Generic[OutcomeT]):
    """Something that a step wants of the world."""

    __slots__ = ()

    def sentence(self) -> str:
        """Say in one line, for people, what this effect is."""
        raise NotImplementedError


class Observe(Effect[OutcomeT]):
    """Looks, and changes nothing; performed in a rehearsal as well."""

    __slots__ = ()


class Change(Effect[OutcomeT]):
    """Changes the world; in a rehearsal it is shown, and never performed."""

    __slots__ = ()

    def footprint(self) -> frozenset[str]:
        """Return one line for each thing that this change touches."""
        raise NotImplementedError


#: A step at work: yields effects, is sent their outcomes, returns its result.
Drive = Generator[Effect[Any], Any, T]


def ask(effect: Effect[T]) -> Generator[Effect[Any], Any, T]:
    """Yield one effect and return its outcome, with the outcome's type."""
    outcome: T = yield effect
    return outcome


# ---- outcomes ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandOutcome:
    """How a command ended."""

    exit_code: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether it exited with 0."""
        return self.exit_code == 0


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitState:
    """`systemctl show` of one unit, parsed; a property that systemd left out is ''."""

    properties: dict[str, str]

    def __getitem__(self, name: str) -> str:
        return self.properties.get(name, "")


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpReply:
    """An HTTP answer, or why there was none (`status` 0)."""

    status: int
    body: str
    error: str
    seconds: float
    #: False when the question itself could not be put: no such name, an untrusted certificate.
    asked: bool = True
    #: Header -> value, names in lower case; values of a header that came twice joined by ", ".
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class TcpReply:
    """Whether a TCP connection could be opened."""

    opened: bool
    #: Why it was not; "" when it was.
    error: str
    seconds: float
    #: The first line that the other side sent, when one was waited for.
    banner: str = ""
    #: False when the question itself could not be put: no such name.
    asked: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """The rows of one query, as mappings of JSON-able values."""

    rows: tuple[dict[str, Any], ...]
    truncated: bool = False


# ---- observes ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadCommand(Observe[CommandOutcome]):
    """Run an argv on a host that only reads (declared so by us, or by the playbook)."""

    host: str
    argv: tuple[str, ...]
    timeout_s: float = 30.0
    sudo: bool = False
    #: What the command reads; text of ours, never a secret.
    stdin: str = ""
    #: Bytes of each output stream that are kept; None is the door's own bound.
    keep_bytes: int | None = None

    def sentence(self) -> str:
        return f"on {self.host}: {shlex.join(self.argv)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ShowUnit(Observe[UnitState]):
    """Ask systemd for a unit's properties."""

    host: str
    unit: str

    def sentence(self) -> str:
        return f"on {self.host}: systemctl show {self.unit}"


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpGet(Observe[HttpReply]):
    """One HTTP GET from this machine; redirects are not followed. Never raises for an answer."""

    url: str
    timeout_s: float
    #: Sent along; never a secret.
    headers: tuple[tuple[str, str], ...] = ()
    #: Whether an https certificate must be valid; and a file of the authorities that count.
    verify: bool = True
    ca_file: str | None = None

    def sentence(self) -> str:
        return f"GET {self.url}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TcpConnect(Observe[TcpReply]):
    """Open a TCP connection from this machine, and close it. Never raises for an answer."""

    host: str
    port: int
    timeout_s: float
    #: Wait for a first line of the other side, as SMTP or SSH send one.
    banner: bool = False

    def sentence(self) -> str:
        return f"connect to {self.host}:{self.port}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A named query of the diagnosis: one statement, no parameters, rows as mappings.

    `min_version` is a server_version_num (140000 is PostgreSQL 14); older servers are not asked.
    """

    name: str
    sql: str
    min_version: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """What the server said to a set of questions, in one round trip, on one connection."""

    rows: dict[str, list[dict[str, Any]]]
    #: Which rung of the ladder let us in; see `Rung`.
    rung: Rung
    #: Rungs that refused before it: (rung, server's text).
    refusals: tuple[tuple[str, str], ...] = ()
    #: Questions that failed: name -> why (a missing grant, a timeout).
    failed: dict[str, str] = field(default_factory=dict)
    #: Seconds to get in, and to have all answers.
    connect_s: float = 0.0
    query_s: float = 0.0
    #: On the rung "os" there are no rows: this is all that there is.
    processes: ServerProcesses | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsoleAnswers:
    """What a PgBouncer's admin console said; rows by SHOW command, in lower case."""

    pgbouncer: str
    version: str
    #: `pools` -> the rows of SHOW POOLS, …: columns as that version has them, numbers as numbers.
    rows: dict[str, list[dict[str, Any]]]
    #: Commands that failed: name -> why.
    failed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsoleReply:
    """What a PgBouncer's console said to a command that changes something."""

    #: Whether it was carried out.
    ok: bool
    #: Its error, in its own words.
    said: str = ""
    #: False when it has begun, and not come back in time: a PAUSE goes on though nobody waits.
    came_back: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class RungTried:
    """How one rung of the ladder answered on its own."""

    rung: Rung
    #: opened: it lets us in. full: it works, and has no slot at this moment. shut: it would not
    #: open at 2:17 either. absent: the inventory declares none.
    verdict: Literal["opened", "full", "shut", "absent"]
    #: The server's or the host's own words, and what to do about them; "" when it opened.
    said: str = ""
    hint: str = ""
    seconds: float = 0.0
    #: What the role may, where it could be asked: the row of the question `limits`.
    limits: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SecretTried:
    """Whether a secret's reference leads to a value; the value itself is nowhere in it."""

    found: bool
    said: str = ""
    hint: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class AskDatabase(Observe[Answers]):
    """Put questions to a database, together, over one connection and in one round trip."""

    database: str
    questions: tuple[Question, ...]

    def sentence(self) -> str:
        return f"ask {self.database}: {', '.join(question.name for question in self.questions)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class AskPgBouncer(Observe[ConsoleAnswers]):
    """Put SHOW commands to a PgBouncer's admin console, over one connection."""

    pgbouncer: str
    #: `pools`, `clients`, …: what follows SHOW.
    shows: tuple[str, ...]
    timeout_s: float = 3.0

    def sentence(self) -> str:
        return f"ask PgBouncer {self.pgbouncer}: {', '.join(self.shows)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TryRung(Observe[RungTried]):
    """Try one rung of a database's ladder alone, and leave at once. Never raises for an answer."""

    database: str
    rung: Rung
    #: Asked when it opens, over the same connection; see `RungTried.limits`.
    limits: Question | None = None

    def sentence(self) -> str:
        return f"try the door {self.rung!r} of {self.database}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrySecret(Observe[SecretTried]):
    """Follow a secret's reference to its value, and forget the value. Never raises."""

    secret: Secret
    #: Where the inventory has it: `databases.db.connect.password`.
    where: str

    def sentence(self) -> str:
        return f"look whether {self.where} leads to a value"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadSql(Observe[Rows]):
    """Run one statement in a READ ONLY transaction; at most `limit` rows come back."""

    database: str
    sql: str
    parameters: tuple[tuple[str, Any], ...] = ()
    limit: int = 1000
    timeout_s: float = 10.0

    def sentence(self) -> str:
        return f"query {self.database}: {' '.join(self.sql.split())[:120]}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sleep(Observe[bool]):
    """Wait; the outcome is whether the whole time has passed.

    A wait on which nothing hangs (a watch after the work is done) may be `cut_short` by an
    interrupt; a wait for a host in flight is not.
    """

    seconds: float
    cut_short: bool = False

    def sentence(self) -> str:
        return f"wait {self.seconds:g}s"


@dataclass(frozen=True, kw_only=True, slots=True)
class Now(Observe[float]):
    """A monotonic clock, in seconds: for deadlines, not for dates."""

    def sentence(self) -> str:
        return "look at the clock"


@dataclass(frozen=True, kw_only=True, slots=True)
class Together(Observe[tuple[Any, ...]]):
    """Perform several observes side by side; outcomes in order.

    An observe that fails gives its `DoorError` as its outcome: one dead host must not hide what
    the others say.
    """

    effects: tuple[Observe[Any], ...]
    #: Seconds for all of them; one that takes longer gives `Unreachable` as its outcome, and is
    #: left to itself. None waits for each as long as it takes.
    within_s: float | None = None

    def sentence(self) -> str:
        return f"{len(self.effects)} looks at once"


@dataclass(frozen=True, kw_only=True, slots=True)
class Say(Observe[None]):
    """Tell whoever watches how far the step is; `stage` is one word of the state machine."""

    stage: str
    text: str = ""

    def sentence(self) -> str:
        return f"{self.stage}: {self.text}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Note(Observe[None]):
    """Keep in the journal what a resume will need; on disk before the next Change is made.

    Later notes of a task lie over earlier ones, key by key; see `Crashed.notes`.
    """

    data: Mapping[str, Any]

    def sentence(self) -> str:
        return f"note {', '.join(self.data)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Owe(Observe[None]):
    """Write down, before the Change that causes it, what the run will owe; on disk on return.

    Raises (into the step): `Refused` when it cannot be kept. Then the change must not be made.
    """

    #: Unique in the run: `undrain app-1`.
    key: str
    what: str
    by_hand: tuple[str, ...] = ()
    #: What the phase `settle` needs.
    data: Mapping[str, Any] = field(default_factory=dict)

    def sentence(self) -> str:
        return f"owe: {self.what}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Paid(Observe[None]):
    """Write down that what was owed under `key` is owed no longer."""

    key: str

    def sentence(self) -> str:
        return f"paid: {self.key}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Interrupted(Observe[bool]):
    """Ask whether somebody wants the run to stop."""

    def sentence(self) -> str:
        return "look whether somebody wants it to stop"


# ---- changes -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class RestartUnit(Change[CommandOutcome]):
    """`systemctl restart UNIT`: one explicit unit, byte-identical to the sudoers rule."""

    host: str
    unit: str
    timeout_s: float
    #: Whether the host's changes go by sudo.
    sudo: bool = False

    def sentence(self) -> str:
        return f"on {self.host}: {_as_root(self.sudo)}systemctl restart {self.unit}"

    def footprint(self) -> frozenset[str]:
        return frozenset({f"{self.host}: {_as_root(self.sudo)}systemctl restart {self.unit}"})


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangeCommand(Change[CommandOutcome]):
    """Run an argv on a host that may change something."""

    host: str
    argv: tuple[str, ...]
    timeout_s: float = 60.0
    sudo: bool = False
    #: What the command reads; text of ours, never a secret.
    stdin: str = ""
    #: What people are shown in place of an argv that is plumbing, and of what goes in by stdin; it
    #: must tell all that matters.
    shown: str = ""

    def sentence(self) -> str:
        return f"on {self.host}: {self._told()}"

    def footprint(self) -> frozenset[str]:
        return frozenset({f"{self.host}: {self._told()}"})

    def _told(self) -> str:
        told = self.shown or shlex.join(self.argv) + _fed(self.stdin)
        return f"{_as_root(self.sudo)}{told}"


def _as_root(sudo: bool) -> str:
    """What runs as root must look like it wherever it is shown."""
    return "sudo " if sudo else ""


def _fed(stdin: str) -> str:
    """What a command reads is part of what it does: by its digest, as it may be long."""
    return f" < (sha256 {_digest(stdin)})" if stdin else ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True, slots=True)
class SignalSessions(Change[tuple[int, ...]]):
    """Terminate backends, each re-checked and signalled in one statement.

    A session that moved since it was seen (another state, another state_change) is left alone.
    The outcome is the pids that were signalled.
    """

    database: str
    sessions: tuple[SessionId, ...]

    def sentence(self) -> str:
        pids = ", ".join(str(session.pid) for session in self.sessions)
        return f"on {self.database}: terminate backends {pids}"

    def footprint(self) -> frozenset[str]:
        return frozenset(
            f"{self.database}: terminate backend {session.pid} started {session.backend_start}"
            for session in self.sessions
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangeSql(Change[Rows]):
    """Run one statement that may change something, in autocommit."""

    database: str
    sql: str
    parameters: tuple[tuple[str, Any], ...] = ()
    timeout_s: float = 30.0
    #: Only for statements that are runbook's own and call nothing of anybody's: it goes through
    #: the inventory's `admin` or `local` door, with a superuser's rights, in one transaction.
    as_admin: bool = False

    def sentence(self) -> str:
        return f"on {self._where}: {' '.join(self.sql.split())[:200]}"

    def footprint(self) -> frozenset[str]:
        values = f" {list(self.parameters)}" if self.parameters or not self.as_admin else ""
        return frozenset({f"{self._where}: {' '.join(self.sql.split())}{values}"})

    @property
    def _where(self) -> str:
        return f"{self.database} (as admin)" if self.as_admin else self.database


#: What a PgBouncer may be told. Not KILL, which cuts clients off in the middle of their work, nor
#: SUSPEND, WAIT_CLOSE, SHUTDOWN: those are for whoever runs it.
ConsoleCommand = Literal[
    "PAUSE", "RESUME", "RELOAD", "RECONNECT", "KILL_CLIENT", "DISABLE", "ENABLE"
]


@dataclass(frozen=True, kw_only=True, slots=True)
class TellPgBouncer(Change[ConsoleReply]):
    """Put one command to a PgBouncer's admin console."""

    pgbouncer: str
    command: ConsoleCommand
    #: A database's name, or a client's id; "" is all of it.
    subject: str = ""
    timeout_s: float = 5.0

    def sentence(self) -> str:
        return f"on PgBouncer {self.pgbouncer}: {self._told()}"

    def footprint(self) -> frozenset[str]:
        return frozenset({f"PgBouncer {self.pgbouncer}: {self._told()}"})

    def _told(self) -> str:
        return f"{self.command} {self.subject}".strip()


@dataclass(frozen=True, kw_only=True, slots=True)
class PutFile(Change[CommandOutcome]):
    """Write a small file on a host, whole or not at all, if it is still as it was shown.

    The new content is written beside the old one and moved over it. The exit code is 0 when it
    was written, 3 when the file is no longer as `expected` says, anything else when it could not be
    written; in both cases the file is as it was, and stderr says why.
    """

    host: str
    path: str
    content: str
    #: The sha256 of what is replaced, "" for a file that is not there yet.
    expected: str
    #: Where the old content is kept; None keeps none.
    backup: str | None = None
    #: As in chmod and chown; None leaves them as they are.
    mode: str | None = None
    owner: str | None = None
    sudo: bool = False
    #: Whether a symbolic link is followed to the file that is written; else it is refused.
    follow: bool = False
    timeout_s: float = 30.0
    #: What people are told of what changes in it, without a secret; or why it is written.
    shown: str = ""

    def sentence(self) -> str:
        return f"on {self.host}: {_as_root(self.sudo)}write {self.path}"

    def footprint(self) -> frozenset[str]:
        as_what = [self.shown] if self.shown else []
        as_what += [f"sha256 {_digest(self.content)}"]
        as_what += [f"mode {self.mode}"] if self.mode else []
        as_what += [f"owner {self.owner}"] if self.owner else []
        on = f"{self.host}: {_as_root(self.sudo)}"
        lines = {f"{on}write {self.path} ({', '.join(as_what)})"}
        if self.backup and self.expected:
            lines.add(f"{on}keep what {self.path} was as {self.backup}")
        return frozenset(lines)


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpPost(Change[HttpReply]):
    """One POST from this machine, to tell somebody something. Never raises for an answer."""

    #: The address, or where the inventory or the playbook says that it is found: webhooks' URLs
    #: are secrets.
    url: str | Secret
    #: What people are shown in its place.
    shown: str
    body: str
    content_type: str = "application/json"
    timeout_s: float = 10.0

    def sentence(self) -> str:
        return f"POST to {self.shown}"

    def footprint(self) -> frozenset[str]:
        return frozenset({f"POST to {self.shown}"})
