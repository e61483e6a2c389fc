"""Statements that leave something behind in their session: told by their words, values masked.

A statement is read after `masking.masked`: comments are gone, literals are '…', so no word in them
can be taken for a command. What is judged is the head of each statement, or a function's name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runbook.findings.masking import masked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runbook.model.pooling_fitness import FitnessKind, Sureness

#: Settings that PgBouncer itself keeps for each client, and sets again (doc/config.md): SET of one
#: of them breaks nothing. `SET NAMES` is client_encoding, `SET TIME ZONE` is TimeZone.
_CARRIED = (
    "application_name|client_encoding|datestyle|timezone|standard_conforming_strings|names"
    r"|time\szone"
)
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_PLAIN_NAME = re.compile(r'"[A-Za-z_][A-Za-z0-9_$]*"')
_BLANKS = re.compile(r"\s+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Trait:
    """One thing that a statement leaves behind."""

    kind: FitnessKind
    sure: Sureness
    #: The statement in one line, its values masked.
    sample: str


@dataclass(frozen=True, slots=True)
class _Rule:
    kind: FitnessKind
    pattern: re.Pattern[str]
    sure: Sureness = "certain"


def _rule(kind: FitnessKind, pattern: str, sure: Sureness = "certain") -> _Rule:
    return _Rule(kind, re.compile(pattern, re.IGNORECASE), sure)


_TEMPORARY = r"(?:(?:global|local)\s)?temp(?:orary)?\s"
_CREATE_TEMPORARY = rf"^create\s(?:or\sreplace\s)?{_TEMPORARY}"
#: By the end of its transaction it is gone.
_NOT_DROPPED = r"(?!.*\bon\scommit\sdrop\b)"
#: Each fits a statement in one line, blanks single; of each kind the first that fits is taken.
_RULES = (
    _rule("listen", r"^listen\b"),
    _rule(
        "set",
        rf"^set\s(?!(?:session\s)?(?:local|transaction|constraints|{_CARRIED})\b)",
    ),
    # Which setting, and whether for the transaction alone, is masked, or not there any more.
    _rule("set", r"\bset_config\s?\((?!.*,\s?true\s?\))", "weak"),
    _rule("prepare", r"^prepare\s(?!transaction\b)"),
    _rule("prepare", r"^execute\s"),
    # Drivers name what they have prepared by the protocol (psycopg 3: _pg3_0) when they drop it.
    _rule("driver", r"^deallocate\s", "likely"),
    # asyncpg's pool begins so when it takes a connection back; and it prepares all that it runs.
    _rule("driver", r"^select\spg_advisory_unlock_all\s?\(", "likely"),
    _rule("advisory-lock", r"\bpg_(?:try_)?advisory_lock(?:_shared)?\s?\("),
    _rule("advisory-lock", r"\bpg_advisory_unlock(?:_shared)?\s?\("),
    _rule("temporary-table", _CREATE_TEMPORARY + _NOT_DROPPED),
    _rule("temporary-table", rf"^create\s(?:table|view|sequence)\s[^(]*\bpg_temp\.{_NOT_DROPPED}"),
    _rule("temporary-table", rf"(?<!insert\s)\binto\s{_TEMPORARY}(?!from\b)(?:table\s)?[\w\"]"),
    _rule("cursor", r"^declare\b.*\bwith\s+hold\b"),
    _rule("load", r"^load\s+'"),
    _rule("sequence", r"\b(?:currval|lastval)\s*\(", "weak"),
)


def traits_of(sql: str) -> Iterator[Trait]:
    """Yield what a text of one or more statements leaves behind in its session, each kind once."""
    found: dict[FitnessKind, Trait] = {}
    for statement in _statements(sql):
        for rule in _RULES:
            if rule.kind not in found and rule.pattern.search(statement):
                found[rule.kind] = Trait(
                    kind=rule.kind, sure=rule.sure, sample=_sample(rule.kind, statement)
                )
    yield from found.values()


def _statements(sql: str) -> Iterator[str]:
    """Yield each statement in one line; quoted names are plain, or nothing that a rule fits."""
    text = _QUOTED.sub(lambda m: m[0][1:-1] if _is_function(sql, m[0]) else '"…"', masked(sql))
    for statement in text.split(";"):
        line = _BLANKS.sub(" ", statement).strip()
        if line:
            yield line


def _is_function(sql: str, name: str) -> bool:
    """Whether a quoted name is one that is called: `"pg_advisory_lock"(1)` is that function."""
    if not _PLAIN_NAME.fullmatch(name):
        return False
    return re.search(re.escape(name) + r"\s*\(", sql) is not None


def _sample(kind: FitnessKind, statement: str) -> str:
    """Return a statement to show; of a SET the value goes, which may stand there without quotes."""
    if kind == "set" and statement[:3].lower() == "set":
        statement = re.split(r"\s*=\s*|\s+to\s+", statement, maxsplit=1, flags=re.IGNORECASE)[0]
        return f"{_line(statement)} = …"
    return _line(statement)


def _line(text: str) -> str:
    line = _BLANKS.sub(" ", text).strip()
    return line if len(line) <= 120 else line[:119] + "…"
