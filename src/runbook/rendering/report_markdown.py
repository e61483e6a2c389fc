"""A report on a run as Markdown, for a postmortem: everything in it is shown, nothing obeyed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runbook.rendering.diagnosis_markdown import escape
from runbook.rendering.report_sections import (
    Block,
    Chart,
    Facts,
    Lines,
    Output,
    Table,
    Timeline,
    sections,
    title,
    verdict,
)
from runbook.rendering.safe import safe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from runbook.model.history import History

#: Cells of a row of the timeline.
_WIDTH = 40


def render(history: History) -> str:
    """Return the report: a heading, then a section for everything that there is to say."""
    parts = [f"# {escape(title(history))}: {escape(verdict(history))}"]
    for section in sections(history):
        parts.append(f"## {section.title}")
        parts += [text for block in section.blocks if (text := _block(block))]
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:  # noqa: PLR0911 - a table of forms
    match block:
        case Facts(rows=rows):
            return "\n".join(f"- **{_inline(name)}**: {_inline(value)}" for name, value in rows)
        case Table():
            return _table(block)
        case Lines(lines=lines, commands=True):
            return _fenced(lines)
        case Lines(lines=lines):
            return "\n".join(f"- {escape(line)}" for line in lines)
        case Output(title=name, text=text):
            return f"{escape(name)}\n\n{_fenced(text.splitlines())}"
        case Timeline():
            return _fenced(timeline_rows(block))
        case Chart():
            return ""  # the facts beside it say the same


def _table(table: Table) -> str:
    lines = [_cells(table.head), "|" + "---|" * len(table.head)]
    lines += [_cells([_inline(cell) for cell in row]) for row in table.rows]
    left_out = f"\n\n… and {table.left_out} more" if table.left_out else ""
    return "\n".join(lines) + left_out


def _cells(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _inline(text: str) -> str:
    """Escape text that begins no line: a number there begins no list."""
    return escape(f"x {text}").removeprefix("x").strip()


def _fenced(lines: Iterable[str]) -> str:
    """Return a block in which every line stands as it is; its fence is longer than any inside."""
    shown = [safe(line) for line in lines]
    longest = max((len(run) for line in shown for run in re.findall(r"`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([fence, *shown, fence])


def timeline_rows(timeline: Timeline) -> Iterator[str]:
    """Yield a timeline in plain letters: one line a target, a letter for each stage, ! for bad."""
    names = [safe(name) for name, _ in timeline.rows]
    width = min(max(map(len, names), default=0), 32)
    for name, (_, bars) in zip(names, timeline.rows, strict=True):
        cells = [" "] * _WIDTH
        for bar in bars:
            first = min(int(bar.start * _WIDTH), _WIDTH - 1)
            last = max(first + 1, round(bar.end * _WIDTH))
            cells[first:last] = ["!" if bar.bad else safe(bar.name)[:1] or "?"] * (last - first)
        yield f"{name:<{width}} |{''.join(cells[:_WIDTH])}|"
    if timeline.left_out:
        yield f"... and {timeline.left_out} more"
    stages = dict.fromkeys(safe(bar.name) for _, bars in timeline.rows for bar in bars)
    yield f"0 s to {timeline.seconds:.0f} s; " + ", ".join(f"{n[:1]} {n}" for n in stages)
