"""Run-time parameters of a role: which there are, what their values mean, the statements that set.

A value is kept as PostgreSQL's own text (`5min`): that is what stands in the catalogue, and what an
undo has to put back to the letter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from runbook.model.document import nearest, quoted
from runbook.model.units import parse_duration

#: The line of `ALTER ROLE … CONNECTION LIMIT`, which is no run-time parameter; -1 is no limit.
CONNECTION_LIMIT = "connection_limit"
NO_LIMIT = "-1"
RESET = "reset"

Unit = Literal["ms", "s", ""]


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleParameter:
    """One run-time parameter that may be set for a role."""

    name: str
    #: What a bare number of it counts: milliseconds, seconds, or nothing.
    unit: Unit
    #: The first major version that knows it.
    since: int
    #: What it does to a session, and what the application sees, in one sentence.
    effect: str


_ENDS = "pools notice when they next use it: they need a pre-ping or a retry"

#: Closed: what else a role may have set belongs to the application, not to an on-call engineer.
#: Every one of them may be set by whoever may alter the role (they are PGC_USERSET).
PARAMETERS: Mapping[str, RoleParameter] = {
    parameter.name: parameter
    for parameter in (
        RoleParameter(
            name="idle_in_transaction_session_timeout",
            unit="ms",
            since=10,
            effect="a session that is silent in a transaction for this long is ended (25P03) and"
            " its transaction rolled back, so its locks go too; a batch job that computes between"
            " two statements is ended as well",
        ),
        RoleParameter(
            name="idle_session_timeout",
            unit="ms",
            since=14,
            effect="a session that is idle outside of a transaction for this long is ended (57P05);"
            f" {_ENDS}",
        ),
        RoleParameter(
            name="transaction_timeout",
            unit="ms",
            since=17,
            effect="a transaction that takes longer than this is ended with its session (25P04),"
            " at work or not: long reports, migrations and dumps of this role as well",
        ),
        RoleParameter(
            name="statement_timeout",
            unit="ms",
            since=10,
            effect="a statement that takes longer than this is cancelled (57014), the session"
            " stays; long reports and CREATE INDEX of this role are cancelled as well",
        ),
        RoleParameter(
            name="lock_timeout",
            unit="ms",
            since=10,
            effect="a statement that waits for a lock for longer than this fails (55P03), the"
            " session stays",
        ),
        RoleParameter(
            name="tcp_keepalives_idle",
            unit="s",
            since=10,
            effect="a client that is silent for this long is asked by the kernel whether its host"
            " is there; a living one notices nothing, and its firewall keeps the connection",
        ),
        RoleParameter(
            name="tcp_keepalives_interval",
            unit="s",
            since=10,
            effect="the pause between two such questions",
        ),
        RoleParameter(
            name="tcp_keepalives_count",
            unit="",
            since=10,
            effect="so many questions without an answer, and the session of a dead host is ended;"
            " so is that of a network that was away for as long",
        ),
        RoleParameter(
            name="tcp_user_timeout",
            unit="ms",
            since=12,
            effect="a session whose answer is not taken by its host for this long is ended; so is"
            " that of a network that was away for as long",
        ),
        RoleParameter(
            name="client_connection_check_interval",
            unit="ms",
            since=14,
            effect="while a statement runs, the server looks this often whether its client has"
            " gone, and then cancels it",
        ),
    )
}
LIMIT_EFFECT = (
    "a session past this many of the role is refused (53300, 'too many connections for role'):"
    " one that leaks stands in its own way, and no longer in everybody's"
)
NAMES = (*PARAMETERS, CONNECTION_LIMIT)

_MS = {"us": Decimal("0.001"), "ms": Decimal(1), "s": Decimal(1000), "min": Decimal(60_000)}
_MS |= {"h": Decimal(3_600_000), "d": Decimal(86_400_000)}
_TEXT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(us|ms|s|min|h|d)?\s*")
#: What an earlier value may look like that is put back: PostgreSQL's own numbers and units, and
#: nothing that would have to be quoted.
_PLAIN = re.compile(r"[0-9A-Za-z.+ -]{1,40}")
_LINE = re.compile(r"(?P<role>.{1,63})\.(?P<name>[a-z_]{1,63})\s*=\s*(?P<value>[^=]{1,40})")
#: PostgreSQL's timeouts are integers of 32 bits.
_MOST = 2_147_483_647
#: More than any server has slots.
_MOST_SLOTS = 262_143


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleSetting:
    """What one parameter of one role shall be; None takes the role's own setting away."""

    role: str
    name: str
    value: str | None

    @property
    def key(self) -> str:
        """`shop.idle_session_timeout`."""
        return f"{self.role}.{self.name}"

    @property
    def line(self) -> str:
        """As `parse_line` reads it back, word for word with `exactly`."""
        return f"{self.key}={RESET if self.value is None else self.value}"


def parse_line(text: str, *, exactly: bool = False) -> RoleSetting:
    """Return what `ROLE.NAME=VALUE` says: a duration with its unit, a count, or `reset`.

    With `exactly` the value is PostgreSQL's own text, as the catalogue had it.

    Raises:
        ValueError: for anything else.
    """
    match = _LINE.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{quoted(text)} is no ROLE.NAME=VALUE, as in shop.idle_session_timeout=30m"
        )
    name = _known(match["name"])
    value = match["value"].strip()
    if exactly:
        return RoleSetting(role=match["role"], name=name, value=_as_it_was(name, value))
    return RoleSetting(role=match["role"], name=name, value=typed(name, value))


def typed(name: str, value: object) -> str | None:
    """Return a value as people write it (`5m`, 24, `reset`) as PostgreSQL's text.

    Raises:
        ValueError: for a duration without a unit, and for what is out of PostgreSQL's bounds.
    """
    if value is None or value == RESET:
        return NO_LIMIT if name == CONNECTION_LIMIT else None
    if name == CONNECTION_LIMIT:
        return _limit(value)
    unit = PARAMETERS[_known(name)].unit
    if unit == "":
        return str(_count(name, value))
    if isinstance(value, str) and value.endswith("min"):
        value = value.removesuffix("in")  # as PostgreSQL writes what we write as 5m
    milliseconds = round(parse_duration(value) * 1000)
    if unit == "s" and milliseconds % 1000:
        raise ValueError(f"{name}: {quoted(str(value))} is no whole number of seconds")
    if milliseconds > _MOST:
        raise ValueError(f"{name}: {quoted(str(value))} is more than PostgreSQL can count")
    return written(milliseconds)


def written(milliseconds: int) -> str:
    """Return a duration in PostgreSQL's units: `5min`, `90s`, `0`."""
    for unit, size in (("h", 3_600_000), ("min", 60_000), ("s", 1000)):
        if milliseconds and milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms" if milliseconds else "0"


def measure(name: str, text: str | None) -> Decimal | None:
    """Return what PostgreSQL's text of a value comes to, so that two of them can be compared.

    Milliseconds for durations; None for no value, and for text that no number can be read from.
    """
    if text is None:
        return None
    if name == CONNECTION_LIMIT:
        return Decimal(text)
    match = _TEXT.fullmatch(text)
    if match is None:
        return None
    unit = PARAMETERS[name].unit
    if unit == "":
        return Decimal(match[1])
    return Decimal(match[1]) * _MS[match[2] or unit]


def same(name: str, one: str | None, other: str | None) -> bool:
    """Whether two texts mean the same value: `300000` is `5min`."""
    if one == other:
        return True
    measured = measure(name, one)
    return measured is not None and measured == measure(name, other)


def statement(setting: RoleSetting, in_database: str | None = None) -> str:
    """Return the one statement that makes it so; names quoted, the value checked."""
    role = identifier(setting.role)
    if setting.name == CONNECTION_LIMIT:
        limit = _as_it_was(setting.name, setting.value or NO_LIMIT)
        return f"ALTER ROLE {role} CONNECTION LIMIT {limit}"
    where = f" IN DATABASE {identifier(in_database)}" if in_database else ""
    if setting.value is None:
        return f"ALTER ROLE {role}{where} RESET {setting.name}"
    value = _as_it_was(setting.name, setting.value)
    return f"ALTER ROLE {role}{where} SET {setting.name} = '{value}'"


def identifier(name: str) -> str:
    """Return a name in double quotes."""
    return '"' + name.replace('"', '""') + '"'


def _known(name: str) -> str:
    if name in NAMES:
        return name
    near = nearest(name, NAMES)
    meant = f": did you mean {near!r}?" if near else f": these may be set: {', '.join(NAMES)}"
    raise ValueError(f"{quoted(name)} is no parameter that is set for a role here{meant}")


def _as_it_was(name: str, value: str) -> str | None:
    if value == RESET:
        return NO_LIMIT if name == CONNECTION_LIMIT else None
    if name == CONNECTION_LIMIT:
        # A limit of 0 is nothing that we set, and may have been there.
        return value if value in {NO_LIMIT, "0"} else _limit(value)
    if not _PLAIN.fullmatch(value):
        raise ValueError(f"{name}: {quoted(value)} is nothing that PostgreSQL could have there")
    return value


def _limit(value: object) -> str:
    if value == NO_LIMIT or (value == -1 and not isinstance(value, bool)):
        return NO_LIMIT
    count = _count(CONNECTION_LIMIT, value)
    if not 1 <= count <= _MOST_SLOTS:
        raise ValueError(f"{CONNECTION_LIMIT}: {count} is not between 1 and {_MOST_SLOTS:,}")
    return str(count)


def _count(name: str, value: object) -> int:
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,9}", str(value)):
        raise ValueError(f"{name}: {quoted(str(value))} is no whole number of 0 or more")
    return int(str(value))
