"""A diagnosis for an incident's timeline: Markdown that shows text from clients as it is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runbook.rendering.diagnosis_text import process_lines, replayed, since_line
from runbook.rendering.poolers import pooler_lines
from runbook.rendering.safe import safe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runbook.model.diagnosis import Diagnosis, Owner

#: What Markdown, HTML or a chat gives a meaning to.
_MARKUP = re.compile(r"([\\`*_{}\[\]()<>#|~!&$])")
#: Mentions and bare links wake people up, or lead them away: a word joiner takes them apart.
_MENTION = re.compile(r"@(?=\w)")
_LINK = re.compile(r"(?i)\b(https?|ftp|mailto|www)(?=[:.])")
_WORD_JOINER = "\u2060"


def render(diagnosis: Diagnosis) -> str:
    """Return the diagnosis as Markdown: a heading, the arithmetic, tables, the next command."""
    finding = diagnosis.finding
    parts = [
        f"### {escape(diagnosis.target)}: {escape(finding.title)}",
        f"**{finding.cause}**, {finding.confidence}: {escape(finding.because)}",
        escape(replayed(diagnosis)) if diagnosis.replayed_from is not None else "",
        _arithmetic(diagnosis),
        _since(diagnosis),
        _states(diagnosis),
        _owners(finding.owners),
        _section("Processes", process_lines(finding)),
        _section("Evidence", finding.evidence),
        _section("PgBouncer", pooler_lines(diagnosis)),
        _section("Also", (f"{f.title} ({f.confidence})" for f in diagnosis.also)),
        _section("Less likely", (f"{f.title}: {f.because}" for f in diagnosis.runners_up)),
        _section("Not seen", diagnosis.unseen),
        f"**What to do.** {escape(finding.advice)}" if finding.advice else "",
        f"**Next:**\n\n{code_block(finding.command)}" if finding.command else "",
    ]
    return "\n\n".join(part for part in parts if part)


def escape(text: str) -> str:
    """Return text that Markdown shows letter by letter, on one line, and that mentions nobody."""
    # `\x1b` and its like are shown by an escape of their own: safe() first, markup after.
    line = _MARKUP.sub(r"\\\1", " ".join(safe(text).split()))
    line = _MENTION.sub("@" + _WORD_JOINER, line)
    line = _LINK.sub(lambda match: match[0] + _WORD_JOINER, line)
    # A number with a point, a dash or a plus at the start of a line would begin a list.
    return re.sub(r"^(\d+)([.)])|^([-+=])", r"\1\\\2\3", line)


def code_block(text: str) -> str:
    """Return a fenced block; the fence is longer than any run of backticks inside."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{safe(text)}\n{fence}"


def _arithmetic(diagnosis: Diagnosis) -> str:
    slots, server = diagnosis.slots, diagnosis.server
    return (
        f"{slots.used} of {slots.usable} usable slots in use ({slots.percent}%):"
        f" max\\_connections {slots.max_connections}, reserved"
        f" {slots.superuser_reserved + slots.reserved}, held by superusers"
        f" {slots.superuser_sessions}. PostgreSQL {escape(server.version)},"
        f" seen at {escape(server.server_time)}."
    )


def _states(diagnosis: Diagnosis) -> str:
    return "States: " + ", ".join(f"{c.sessions} {escape(c.name)}" for c in diagnosis.by_state)


def _since(diagnosis: Diagnosis) -> str:
    if diagnosis.since is None:
        return ""
    lines = [since_line(diagnosis, diagnosis.since), *diagnosis.since.notes]
    return ". ".join(escape(line) for line in lines) + "."


def _section(title: str, lines: Iterable[str]) -> str:
    listed = [f"- {escape(line)}" for line in lines]
    return "\n".join([f"**{title}**\n", *listed]) if listed else ""


def _owners(owners: tuple[Owner, ...]) -> str:
    if not owners:
        return ""
    rows = ["| Whose | Sessions | Pool | Concerned |", "|---|---:|---:|---:|"]
    rows += [
        f"| {escape(owner.label)} | {owner.sessions} |"
        f" {'?' if owner.budget is None else owner.budget} | {owner.concerned} |"
        for owner in owners
    ]
    return "\n".join(rows)
