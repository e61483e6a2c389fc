"""A change of a text file as people may see it: a unified diff, bounded, without its secrets."""

from __future__ import annotations

import difflib
import re
from typing import Any

#: Lines of a diff that are shown and kept: more than anybody reads before a confirmation.
_MOST_LINES = 400
#: Characters of one line: a minified file is one line.
_LONGEST_LINE = 400
#: Lines on both sides together that are compared: beyond it comparing takes seconds, and what
#: comes of it is longer than anybody reads.
_MOST_COMPARED = 4000
_CONTEXT = 3


def shown_diff(before: str, after: str, old: str, new: str) -> list[str]:
    """Return the lines of a diff between two texts; `before` and `after` are their names."""
    a, b = masked(old).splitlines(), masked(new).splitlines()
    if a == b:
        same = "a value that is not shown here changes (it looks like a secret)"
        ends = "only its line ends change"
        return [] if old == new else [ends if _without_ends(old, new) else same]
    start, end = _common(a, b)
    if len(a) + len(b) - 2 * (start + end) > _MOST_COMPARED:
        gone, come = len(a) - start - end, len(b) - start - end
        return [f"--- {before}", f"+++ {after}", f"{gone} lines become {come}, too many to show"]
    # What is the same at both ends costs nothing to leave out, but for the context.
    skip, tail = max(0, start - _CONTEXT), max(0, end - _CONTEXT)
    lines = difflib.unified_diff(
        a[skip : len(a) - tail], b[skip : len(b) - tail], before, after, lineterm="", n=_CONTEXT
    )
    return _bounded([_renumbered(line, skip) for line in lines])


def _without_ends(old: str, new: str) -> bool:
    return old.splitlines() == new.splitlines()


def _common(a: list[str], b: list[str]) -> tuple[int, int]:
    """Return how many lines are the same at the beginning, and at the end."""
    most = min(len(a), len(b))
    start = next((i for i in range(most) if a[i] != b[i]), most)
    end = next((i for i in range(most - start) if a[-1 - i] != b[-1 - i]), most - start)
    return start, end


def _renumbered(line: str, skipped: int) -> str:
    if not line.startswith("@@ "):
        return line
    return re.sub(r"(?<=[-+])\d+", lambda match: str(int(match[0]) + skipped), line)


def _bounded(lines: list[str]) -> list[str]:
    cut = [line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}…" for line in lines]
    if len(cut) <= _MOST_LINES:
        return cut
    left = len(cut) - _MOST_LINES
    return [*cut[:_MOST_LINES], f"[{left} more lines of the diff are not shown]"]


#: Words after which a value is nobody's business; what is left of it is `…`. Every repetition is
#: bounded: a file may be one line of a megabyte.
_SECRET = re.compile(
    r"""(?ix)
    (?P<key> (?:passw(?:or)?d|passphrase|secret|token|api_?key|access_?key|private_?key
        |credential|webhook) [\w.-]{0,40} ["']? \s{0,40} [:=]{1,3} \s{0,40} ) (?P<value> \S.* )
    | (?P<scheme> :// [^\s:/@]{0,100} : ) (?P<password> [^\s@]{1,200} ) (?=@)
    | (?P<bearer> \b(?:bearer|basic) \s{1,10} ) (?P<credentials> [A-Za-z0-9._~+/=-]{8,} )
    """
)
_KEY_BEGINS = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_KEY_ENDS = re.compile(r"-----END [A-Z ]*PRIVATE KEY-----")


def masked(text: str) -> str:
    """Return a file's text with what looks like a secret replaced by …, line for line.

    No pattern knows every secret. This one is for the screen and the journal; a file that holds
    secrets is better written by what keeps them.
    """
    inside_key = False
    lines = []
    for line in text.split("\n"):
        ends = bool(_KEY_ENDS.search(line))
        if inside_key and not ends:
            lines.append("…")
            continue
        inside_key = not ends and bool(_KEY_BEGINS.search(line))
        lines.append(_SECRET.sub(_hidden, line))
    return "\n".join(lines)


def _hidden(match: re.Match[str]) -> str:
    kept: Any = match["key"] or match["scheme"] or match["bearer"]
    return f"{kept}…"
