"""Reads SQL as far as safety needs it: its tokens, its placeholders, and what it may set off.

This is no parser. It tells code from literals and comments as PostgreSQL's own scanner does (with
standard_conforming_strings on, which our connections set), and errs on the side of refusing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Kind = Literal["code", "literal", "identifier", "comment"]

#: Functions that do something a READ ONLY transaction does not hold back, or that run SQL which
#: is hidden from us in a string. `*` stands for anything. PostgreSQL's own and contrib's.
SIDE_EFFECTS: tuple[str, ...] = (
    # signals to sessions and to the server
    "pg_terminate_backend",
    "pg_cancel_backend",
    "pg_reload_conf",
    "pg_rotate_logfile*",
    "pg_log_backend_memory_contexts",
    "pg_log_standby_snapshot",
    # write-ahead log, backups, replication
    "pg_switch_wal",
    "pg_switch_xlog",
    "pg_create_restore_point",
    "pg_backup_start",
    "pg_backup_stop",
    "pg_start_backup",
    "pg_stop_backup",
    "pg_promote",
    "pg_wal_replay_pause",
    "pg_wal_replay_resume",
    "pg_create_*_slot",
    "pg_copy_*_slot",
    "pg_drop_replication_slot",
    "pg_replication_slot_advance",
    "pg_replication_origin_*",
    "pg_logical_slot_get_*",
    "pg_logical_emit_message",
    "pg_sync_replication_slots",
    # locks and settings that outlive the statement
    "pg_advisory_*",
    "pg_try_advisory_*",
    "set_config",
    # statistics and caches
    "pg_stat_reset*",
    "pg_stat_statements_reset",
    "pg_stat_force_next_flush",
    "pg_clear_*_stats",
    "pg_restore_*_stats",
    "pg_prewarm",
    "autoprewarm_*",
    "pg_buffercache_evict*",
    "pg_truncate_visibility_map",
    "brin_*summarize*",
    "gin_clean_pending_list",
    # files, large objects, sequences, notifications
    "pg_read_file",
    "pg_read_binary_file",
    "pg_file_*",
    "pg_logdir_*",
    "lo_*",
    "loread",
    "lowrite",
    "nextval",
    "setval",
    "pg_notify",
    "pg_import_system_collations",
    "binary_upgrade_*",
    # SQL inside a string, here or on another server
    "dblink*",
    "query_to_xml*",
    "cursor_to_xml*",
    "ts_stat",
    "ts_rewrite",
    "crosstab*",
    "connectby",
    "xpath_table",
    "pg_sleep_until",
)

#: What a statement may begin with that is read only; everything else is refused.
_READING = ("select", "with", "values", "table", "show", "explain")

# PostgreSQL's scanner takes every character beyond ASCII for a letter. The sets name the ASCII
# characters that are left out: compiling the others as ranges takes 20 ms, at every start.
_LETTER = r"[^\x00-@\[-^`{-\x7f]"  # A-Z a-z _
_TAG = r"[^\x00-/:-@\[-^`{-\x7f]"  # those and 0-9
_NAME = r"[^\x00-\x23\x25-/:-@\[-^`{-\x7f]"  # those and $

_WORD = re.compile(f"{_LETTER}{_NAME}*")
_PLACEHOLDER = re.compile(r"%\(([A-Za-z_][A-Za-z0-9_]*)\)s")
_TOKEN = re.compile(
    rf"""
      (?P<line>--[^\r\n]*)
    | (?P<block>/\*)
    | (?P<dollar>\$(?:{_LETTER}{_TAG}*)?\$)
    | (?P<escaped>[eE]'(?:[^'\\]|\\.|'')*')
    | (?P<string>'(?:[^']|'')*')
    | (?P<unicode>[uU]&"(?:[^"]|"")*")
    | (?P<quoted>"(?:[^"]|"")*")
    | (?P<unclosed>['"])
    | (?P<word>{_LETTER}{_NAME}*|[0-9]+)
    """,
    re.VERBOSE | re.DOTALL,
)
_KINDS: Mapping[str, Kind] = {
    "line": "comment",
    "escaped": "literal",
    "string": "literal",
    "unicode": "identifier",
    "quoted": "identifier",
}


@dataclass(frozen=True, slots=True)
class Token:
    """A stretch of SQL of one kind; all of them in a row are the text again."""

    kind: Kind
    text: str


def tokens(sql: str) -> Iterator[Token]:
    """Yield the stretches of `sql`.

    Raises:
        ValueError: for a literal, quoted name or comment that does not end, and for a NUL.
    """
    if "\0" in sql:
        raise ValueError("the SQL holds a NUL character")
    position = start = 0
    while match := _TOKEN.search(sql, position):
        kind, end = _measure(sql, match)
        if kind != "code":
            if match.start() > start:
                yield Token("code", sql[start : match.start()])
            yield Token(kind, sql[match.start() : end])
            start = end
        position = end
    if start < len(sql):
        yield Token("code", sql[start:])


def _measure(sql: str, match: re.Match[str]) -> tuple[Kind, int]:
    """Return what the match begins, and where that ends."""
    group = match.lastgroup or ""
    if group == "word":
        return "code", match.end()
    if group == "block":
        return "comment", _end_of_block(sql, match.end())
    if group == "dollar":
        end = sql.find(match[0], match.end())
        if end < 0:
            raise ValueError(f"the SQL has an unclosed {match[0]}")
        return "literal", end + len(match[0])
    if group == "unclosed":
        raise ValueError(f"the SQL has an unclosed {match[0]}")
    return _KINDS[group], match.end()


def _end_of_block(sql: str, position: int) -> int:
    """Return where a block comment ends; PostgreSQL's nest."""
    depth = 1
    while depth:
        opens, closes = sql.find("/*", position), sql.find("*/", position)
        if closes < 0:
            raise ValueError("the SQL has an unclosed /*")
        inner = 0 <= opens < closes
        depth += 1 if inner else -1
        position = (opens if inner else closes) + 2
    return position


def single_statement(sql: str) -> str:
    """Return `sql` without the semicolon that may end it.

    Raises:
        ValueError: when there is no statement, or more than one.
    """
    kept: list[str] = []
    ended = False
    for token in tokens(sql):
        if token.kind == "comment":
            kept.append(" ")  # a comment counts as a blank, also between two words
            continue
        if ended and token.text.strip("; \t\r\n\f\v"):
            raise ValueError("the SQL has more than one statement: give each one a step of its own")
        if token.kind == "code" and ";" in token.text:
            before, _, after = token.text.partition(";")
            if after.strip("; \t\r\n\f\v"):
                raise ValueError(
                    "the SQL has more than one statement: give each one a step of its own"
                )
            kept.append(before)
            ended = True
        elif not ended:
            kept.append(token.text)
    statement = "".join(kept).strip()
    if not statement:
        raise ValueError("there is no SQL statement")
    return statement


def reading_statement(sql: str) -> str:
    """Return the one statement of `sql`, when nothing in it is known to change anything.

    PostgreSQL's READ ONLY transaction does the rest. Neither sees into functions that the
    database's owner wrote: a role without rights to change things is the guard against those.

    Raises:
        ValueError: for several statements, one that does not read, or a name in SIDE_EFFECTS.
    """
    statement = single_statement(sql)
    first = _WORD.search(statement)
    # An opening parenthesis may come before SELECT.
    if (
        first is None
        or first[0].lower() not in _READING
        or statement[: first.start()].strip("( \t\r\n")
    ):
        word = first[0] if first else statement[:20]
        raise ValueError(f"{word!r} does not begin a read-only statement ({', '.join(_READING)})")
    for name in _names(statement):
        if any(fnmatchcase(name, pattern) for pattern in SIDE_EFFECTS):
            raise ValueError(
                f"{name!r} has side effects that a READ ONLY transaction does not hold back"
            )
    return statement


def _names(statement: str) -> Iterator[str]:
    """Yield every identifier and keyword of a statement as PostgreSQL folds it."""
    for token in tokens(statement):
        if token.kind == "code":
            yield from (word.lower() for word in _WORD.findall(token.text))
        elif token.kind == "identifier":
            if token.text[0] in "uU":
                raise ValueError('U&"…" names are refused here: write the name as it is')
            # As an identifier of a function only its very spelling counts; folding errs to refuse.
            yield token.text[1:-1].replace('""', '"').lower()


def fill_in(sql: str, values: Mapping[str, str]) -> str:
    """Return `sql` with each `%(name)s` replaced by a value that is quoted SQL already.

    Every other `%` is left as it is: `LIKE 'a%'` needs no doubling.

    Raises:
        ValueError: for a name without a value, a value without a use, and for a placeholder
            inside quotes, where a quoted value would end the literal.
    """
    wanted = set(placeholders(sql))
    if missing := sorted(wanted - values.keys()):
        raise ValueError(f"the SQL asks for %({missing[0]})s, which has no value")
    if unused := sorted(values.keys() - wanted):
        raise ValueError(f"the parameter {unused[0]!r} is not used: write %({unused[0]})s")
    return "".join(
        _PLACEHOLDER.sub(lambda match: values[match[1]], token.text)
        if token.kind == "code"
        else token.text
        for token in tokens(sql)
    )


def placeholders(sql: str) -> tuple[str, ...]:
    """Return the names of the `%(name)s` in `sql`, once each, in order.

    Raises:
        ValueError: for a placeholder inside quotes.
    """
    found: dict[str, None] = {}
    for token in tokens(sql):
        names = _PLACEHOLDER.findall(token.text) if token.kind != "comment" else []
        if names and token.kind != "code":
            raise ValueError(
                f"%({names[0]})s stands inside quotes: leave them out, its value is quoted for you"
            )
        found.update(dict.fromkeys(names))
    return tuple(found)
