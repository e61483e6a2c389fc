"""Lines of a report: wrapped by hand, so that nothing is cut off and no line ends in blanks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from runbook.rendering.safe import safe

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

#: Longer lines are hard to read, however wide the terminal.
WIDEST = 100
#: A terminal narrower than this gets lines of this width, and wraps them itself.
NARROWEST = 24


class Page:
    """Prints text that came from elsewhere as Text, made safe: no markup, no escape sequences."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.width = max(NARROWEST, min(console.width, WIDEST))
        #: Whether block characters can be written; a C locale gets ASCII.
        self.unicode = console.encoding.lower().startswith("utf")

    def blank(self) -> None:
        """Print an empty line."""
        self._console.print()

    def line(self, text: Text) -> None:
        """Print one line that is known to fit."""
        self._console.print(text, overflow="fold", crop=False)

    def unwrapped(self, text: Text) -> None:
        """Print one line as it is, however long."""
        self._console.print(text, soft_wrap=True)

    def heading(self, words: str) -> None:
        """Print a section's name after an empty line."""
        self.blank()
        self.line(Text(words, style="bold"))

    def wrapped(
        self, words: str, *, indent: int = 0, first: str | None = None, style: str = ""
    ) -> None:
        """Print words in as many lines as they take; `first` stands before the first of them."""
        before = first if first is not None else " " * indent
        shown = safe(words) if self.unicode else plain_ascii(safe(words))
        text = Text(shown, style=style)
        for row in text.wrap(self._console, self.width - indent, overflow="fold"):
            row.rstrip()
            self.line(Text(before).append_text(row))
            before = " " * indent

    def bullets(self, title: str, items: Iterable[str], *, blank: bool = True) -> None:
        """Print a section of short paragraphs; nothing at all when there are none."""
        listed = list(items)
        if not listed:
            return
        if blank:
            self.blank()
        self.line(Text(title, style="bold"))
        for item in listed:
            self.wrapped(item, indent=4, first="  - ")

    def flowed(self, parts: Iterable[Text]) -> None:
        """Print short parts side by side, in as many lines as they take."""
        row = Text("  ")
        for part in parts:
            if row.cell_len > 2 and row.cell_len + part.cell_len + 2 > self.width:
                self.line(row)
                row = Text("  ")
            row.append("  " if row.cell_len > 2 else "").append_text(part)
        self.line(row)

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print rows under heads: the first column wraps, the others are numbers at the right."""
        widths = [
            max(len(head), *(len(row[column]) for row in rows))
            for column, head in enumerate(heads)
            if column
        ]
        kept = [bool(head) and any(row[n + 1] for row in rows) for n, head in enumerate(heads[1:])]
        numbers = sum(width + 2 for width, keep in zip(widths, kept, strict=True) if keep)
        labels = [f"  {safe(row[0])}" for row in rows]
        label = min(self.width - numbers, max(cell_len(text) for text in [heads[0], *labels]))
        self._row(heads[0], heads[1:], (label, widths, kept), style="bold")
        for text, row in zip(labels, rows, strict=True):
            self._row(text, row[1:], (label, widths, kept))

    def _row(
        self,
        label: str,
        cells: Sequence[str],
        shape: tuple[int, list[int], list[bool]],
        style: str = "",
    ) -> None:
        width, widths, kept = shape
        first, *rest = Text(label, style=style).wrap(self._console, width, overflow="fold")
        first.rstrip()
        row = first + Text(" " * (width - first.cell_len))
        for cell, wide, keep in zip(cells, widths, kept, strict=True):
            if keep:
                row.append(f"  {cell:>{wide}}", style=style)
        row.rstrip()
        self.line(row)
        for more in rest:
            more.rstrip()
            self.line(Text("    ") + more)


def plain_ascii(text: str) -> str:
    """Return text for a C locale: what is beyond ASCII as an escape."""
    return text.encode("ascii", "backslashreplace").decode("ascii")
