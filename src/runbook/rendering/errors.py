"""Errors for people: the message, its place, the source line, and what to do next."""

from __future__ import annotations

import sys

from runbook.model.document import visible
from runbook.model.errors import InvalidDocument, RunbookError


def show_error(error: RunbookError) -> None:
    """Write an error to stderr, plainly: it must be readable wherever it lands."""
    print(error_text(error), file=sys.stderr)


def error_text(error: RunbookError, kind: str = "error") -> str:
    """Return an error as lines of text, safe for a terminal."""
    if isinstance(error, InvalidDocument):
        return _document_text(error, kind)
    lines = [f"{kind}: {_safe(error.message)}"]
    if error.hint:
        lines.append(f" hint: {_safe(error.hint)}")
    return "\n".join(lines)


def _document_text(error: InvalidDocument, kind: str) -> str:
    blocks = []
    for problem in error.problems:
        where = f"{problem.place}: " if problem.place else ""
        block = [f"{kind}: {where}{_safe(problem.message)}"]
        if problem.excerpt:
            block.append(problem.excerpt)
        if problem.hint:
            block.append(f" hint: {_safe(problem.hint)}")
        blocks.append("\n".join(block))
    count = len(error.problems)
    summary = [] if count == 1 else [f"{count} problems; nothing was touched."]
    return "\n".join([*blocks, *summary])


def _safe(text: str) -> str:
    """Keep our own line breaks; show every other control character instead of obeying it."""
    return "\n       ".join(visible(line) for line in text.split("\n"))
