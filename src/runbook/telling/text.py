"""Text from hosts and databases as other systems may have it: one line, plain, without secrets."""

from __future__ import annotations

import unicodedata

from runbook.model.redaction import redacted

#: What a terminal, a chat or a reader's eye might obey or miss: controls, bidi overrides, zero
#: widths, lone surrogates, private and unassigned characters.
_OBEYED = {"Cc", "Cf", "Cs", "Co", "Cn"}
_BREAKS = {"Zl", "Zp"}
#: A line of a note: what is longer is in the report.
LINE = 300


def plain(text: object, most: int = LINE) -> str:
    """Return `text` on one line of at most so many characters, without controls and secrets.

    What looks like a secret goes before anything is cut: half a secret looks like none.
    """
    shown = "".join(_kept(char) for char in redacted(str(text)[:20_000]))
    return cut(" ".join(shown.split()), most)


def _kept(char: str) -> str:
    if char.isascii() and char.isprintable():
        return char
    category = unicodedata.category(char)
    if category in _BREAKS or char.isspace():
        return " "
    return "" if category in _OBEYED else char


def cut(text: str, most: int) -> str:
    """Return `text` in at most so many characters; an ellipsis stands for what was left out."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def listing(lines: list[str], most: int) -> list[str]:
    """Return so many lines as a list, and how many more there are."""
    shown = [f"- {line}" for line in lines[:most]]
    return [*shown, f"- … and {len(lines) - most} more"] if len(lines) > most else shown
