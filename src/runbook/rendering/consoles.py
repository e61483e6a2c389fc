"""The two consoles: results go to stdout, everything else to stderr."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@cache
def results() -> Console:
    """Return the console for what was asked for."""
    return _console(stderr=False)


@cache
def notes() -> Console:
    """Return the console for progress, questions, warnings."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    # No emoji codes, no automatic highlighting, no markup: text from a database or a host must
    # come out as it is. 100 columns when there is neither a terminal nor COLUMNS to ask; behind a
    # pager the terminal is still there to be asked, on stdin or stderr.
    console = Console(stderr=stderr, emoji=False, highlight=False, markup=False, soft_wrap=False)
    if "COLUMNS" not in os.environ and not any(map(os.isatty, (0, 1, 2))):
        console.width = max(console.width, 100)
    return console
