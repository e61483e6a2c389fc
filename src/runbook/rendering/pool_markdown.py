"""A pool plan as Markdown, for a ticket: everything in it is shown, nothing obeyed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook.rendering.diagnosis_markdown import code_block, escape
from runbook.rendering.pool_sums import Addition, addition
from runbook.rendering.pool_words import (
    HEADS,
    band_line,
    cells,
    host_lines,
    load_lines,
    seen_line,
    usable_line,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runbook.model.pool_plan import PoolPlan


def render(plan: PoolPlan) -> str:
    """Return the plan as Markdown: a heading, the sums, tables, the next command."""
    proposal = plan.proposal
    changed = any(service.changed for service in plan.services) and proposal.fits
    parts = [
        f"### {escape(plan.target)}: {escape(plan.title)}",
        escape(seen_line(plan)) + ".",
        f"**What if** {escape(', '.join(plan.what_if))}." if plan.what_if else "",
        _sum("The sum", addition(plan)),
        f"{escape(usable_line(plan))}. {escape(band_line(plan))}.",
        _services(plan),
        _section("What they need", load_lines(plan)),
        _section("On the hosts", host_lines(plan)),
        _sum("Proposed", addition(plan, proposed=True)) if changed else "",
        _section("Nothing fits", proposal.ways),
        _growth(plan),
        _section("What stands out", plan.notes),
        _section("Not seen", plan.unseen),
        f"**What to do.** {escape(plan.advice)}" if plan.advice else "",
        f"**Next:**\n\n{code_block(plan.command)}" if plan.command else "",
    ]
    return "\n\n".join(part for part in parts if part)


def _sum(title: str, sums: Addition) -> str:
    rows = [f"| {title} | hosts x processes x (size + overflow) | |", "|---|---:|---:|"]
    rows += [
        f"| {escape(term.label)} | {escape(term.how)} | {term.connections} |" for term in sums.terms
    ]
    rows.append(f"| **together** | | **{sums.together}** |")
    rows += [f"| {term.label} | | {term.connections} |" for term in sums.limits]
    rows.append(f"| | | {sums.outcome} |")
    return "\n".join(rows)


def _services(plan: PoolPlan) -> str:
    if not plan.services:
        return ""
    rows = [f"| {' | '.join(HEADS)} |", "|---" + "|---:" * (len(HEADS) - 1) + "|"]
    fits = plan.proposal.fits
    rows += [
        f"| {' | '.join(map(escape, cells(service, fits=fits)))} |" for service in plan.services
    ]
    return "\n".join(rows)


def _growth(plan: PoolPlan) -> str:
    if not plan.growth:
        return ""
    rows = ["| While it lasts | now | with the proposal | too many |", "|---|---:|---:|---:|"]
    rows += [
        f"| {escape(one.label)}{' (worst case)' if one.worst_case else ''} | {one.connections} |"
        f" {'' if one.proposed is None else one.proposed} | {one.over or ''} |"
        for one in plan.growth
    ]
    return "\n".join(rows)


def _section(title: str, lines: Iterable[str]) -> str:
    listed = [f"- {escape(line)}" for line in lines]
    return "\n".join([f"**{title}**\n", *listed]) if listed else ""
