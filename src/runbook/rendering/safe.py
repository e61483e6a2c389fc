"""Text from a database or a host, made safe to show: nothing in it is obeyed, nothing is hidden."""

from __future__ import annotations

import unicodedata

# Shown as escapes: control characters (Cc), format characters such as bidi overrides and
# zero-width ones (Cf), lone surrogates (Cs), private and unassigned ones (Co, Cn), line and
# paragraph separators (Zl, Zp). All of them can move, reorder or hide what a person reads.
_UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
#: Marks that follow one letter; beyond these they pile up over the lines around.
_MARKS_AT_MOST = 3


def safe(text: str) -> str:
    r"""Return `text` on one line, with everything a terminal might obey written as an escape.

    A tab becomes `\t`, ESC `\x1b`, a right-to-left override `\u202e`; backslashes stay single, so
    what is shown is for reading, not for parsing.
    """
    if text.isascii() and text.isprintable():
        return text
    shown, marks = [], 0
    for char in text:
        category = unicodedata.category(char)
        marks = marks + 1 if category in {"Mn", "Me"} else 0
        unsafe = category in _UNSAFE or marks > _MARKS_AT_MOST
        shown.append(_escaped(char) if unsafe else char)
    return "".join(shown)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
